"""Sensors of the jobs that a destination runs."""
