"""Python's garbage collector, called less often while rows stream."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def seldom_collecting() -> Iterator[None]:
    """Look for cycles after 50,000 new containers and not after 700: rows have none, and the looking costs a third.

    Process-wide, as the collector is; a task of Airflow is a process of its own.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], 50_000), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
