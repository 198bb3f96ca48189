"""The one error that a person is meant to read."""

from __future__ import annotations


class FlywheelError(ValueError):
    """A sentence: what is wrong, where, and what to write instead. Trying again does not help.

    Its text may be logged, so it never holds a playerId, an address or a name.
    """
