"""One run: its as-of, plan, names, lock, state, result and report."""
