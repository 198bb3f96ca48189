"""Triggers: the waiting half of the sensors."""
