"""Cleanup of old artifacts, and erasure of players."""
