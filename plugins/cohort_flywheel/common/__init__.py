"""Helpers that several features use."""
