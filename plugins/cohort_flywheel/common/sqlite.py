"""SQLite for lists on a worker's disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from itertools import batched
from typing import Any

#: The values of one statement, at most.
MAX_VALUES = 500


def execute_in(connection: sqlite3.Connection, statement: str, values: Iterable[str]) -> list[Any]:
    """Run a statement that ends with `IN`, for MAX_VALUES values at a time; return its rows.

    Values that are asked for together take a third of the time of single ones.
    """
    return [
        row
        for some in batched(values, MAX_VALUES)
        for row in connection.execute(f"{statement} ({', '.join('?' * len(some))})", some)
    ]
