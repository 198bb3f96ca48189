"""How far a long task is, in its log."""

from __future__ import annotations

import time
from logging import Logger
from typing import Any


class Progress:
    """Says how many things were done and how fast, at most every `every` seconds."""

    def __init__(self, log: Logger | Any, things: str, every: float = 5.0) -> None:
        self._log, self._things, self._every = log, things, every
        self._start = self._said = time.monotonic()
        self.done = 0

    def add(self, number: int) -> None:
        self.done += number
        now = time.monotonic()
        if now - self._said >= self._every:
            self._said = now
            rate = self.done / (now - self._start)
            self._log.info("%s %s so far, %s a second", f"{self.done:,}", self._things, f"{rate:,.0f}")
