"""Lists that may be longer than a worker's memory: each is a table of a temporary database, with one column, `text`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from itertools import batched

from cohort_flywheel.hooks.s3 import S3Hook, lines
from cohort_flywheel.segment.contacts import read_do_not_contact

#: The table of the do-not-contact list's entries.
ENTRIES = "entry"


def make_list(listed: sqlite3.Connection, table: str) -> None:
    """Make an empty list, where there is none; empty the one that there is."""
    listed.execute(f"DROP TABLE IF EXISTS {table}")
    listed.execute(f"CREATE TABLE {table} (text TEXT PRIMARY KEY) WITHOUT ROWID")


def add_to_list(listed: sqlite3.Connection, table: str, texts: Iterable[str]) -> int:
    """Add what is not listed yet; returns how many were."""
    sentence = f"INSERT OR IGNORE INTO {table} VALUES (?)"  # noqa: S608 - a name of ours
    return listed.executemany(sentence, ((each,) for each in texts)).rowcount


def is_listed(table: str, text: str, listed: sqlite3.Connection) -> bool:
    sentence = f"SELECT 1 FROM {table} WHERE text = ?"  # noqa: S608 - a name of ours
    return listed.execute(sentence, (text,)).fetchone() is not None


def load_do_not_contact(s3: S3Hook, bucket: str, key: str | None, listed: sqlite3.Connection) -> int:
    """Make the list ENTRIES of the do-not-contact list, an empty one for the key None; returns its lines' number."""
    make_list(listed, ENTRIES)
    number, line = 0, 1
    for some in batched(lines(s3, bucket, key) if key else (), 10_000):
        add_to_list(listed, ENTRIES, read_do_not_contact(list(some), line))
        line += len(some)
        number += sum(1 for each in some if each.strip())
    return number
