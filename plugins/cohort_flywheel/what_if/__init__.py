"""Counts of members for other thresholds, from snapshots."""
