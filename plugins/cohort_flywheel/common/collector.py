"""Run Python's garbage collector less often while rows stream."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def seldom_collecting() -> Iterator[None]:
    """Collect garbage after 50,000 new containers, not 700: rows have no cycles, and a task's process has many objects.

    Measured at 100,000 players, µs of CPU a player: columns of the graph 1.6 in place of 3.6, enrich without its
    requests 13 in place of 16.5. The setting is process-wide; a task of Airflow has its own process.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], 50_000), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
