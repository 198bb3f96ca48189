"""Log the progress of a long task."""

from __future__ import annotations

import time
from logging import Logger
from typing import Any


class Progress:
    """Log the number of things done, the rate, and the time left of `total`, at most every `every` seconds."""

    def __init__(self, log: Logger | Any, things: str, total: int | None = None, every: float = 5.0) -> None:
        self._log = log
        self._things = things
        self._total = total
        self._every = every
        self._start = self._logged = time.monotonic()
        self.done = 0

    def add(self, number: int) -> None:
        self.done += number
        now = time.monotonic()
        if now - self._logged >= self._every:
            self._logged = now
            rate = self.done / (now - self._start)
            left = f", {(self._total - self.done) / rate:,.0f} s left" if self._total else ""
            self._log.info("%s %s so far, %s per second%s", f"{self.done:,}", self._things, f"{rate:,.0f}", left)
