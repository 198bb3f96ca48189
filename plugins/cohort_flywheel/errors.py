"""The error that a user can fix."""

from __future__ import annotations


class FlywheelError(ValueError):
    """What is wrong, where, and what to write instead. A retry does not help.

    The text may be logged: it never holds a playerId, an address or a name.

    :param message: the sentence.
    :param code: the stable code of cause and remedy, as in `CF-PLAN-07`; the text begins with it, and the
        runbook (docs/reference/runbook.md) is keyed by it.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(f"{code}: {message}" if code else message)
        self.code = code
