"""Lists on disk, because they can exceed a worker's memory: tables of a temporary database, with a column `text`."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import batched
from pathlib import Path

from cohort_flywheel.common.sqlite import execute_in
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, lines
from cohort_flywheel.segment.contacts import entry_forms

#: The table of the do-not-contact entries: each form, and its `line`.
ENTRIES = "entry"
#: The table of the lines that match a player.
MATCHED = "matched"


def make_list(listed: sqlite3.Connection, table: str) -> None:
    """Create an empty list, or empty an existing one."""
    listed.execute(f"DROP TABLE IF EXISTS {table}")
    listed.execute(f"CREATE TABLE {table} (text TEXT PRIMARY KEY) WITHOUT ROWID")


def add_to_list(listed: sqlite3.Connection, table: str, texts: Iterable[str]) -> int:
    """Add texts that are not listed yet; return their number."""
    sentence = f"INSERT OR IGNORE INTO {table} VALUES (?)"  # noqa: S608 - a name of ours
    return listed.executemany(sentence, ((each,) for each in texts)).rowcount


def is_listed(table: str, text: str, listed: sqlite3.Connection) -> bool:
    sentence = f"SELECT 1 FROM {table} WHERE text = ?"  # noqa: S608 - a name of ours
    return listed.execute(sentence, (text,)).fetchone() is not None


def find_listed(table: str, texts: Iterable[str], listed: sqlite3.Connection) -> set[str]:
    """Return those of some texts that are listed."""
    statement = f"SELECT text FROM {table} WHERE text IN"  # noqa: S608 - a name of ours
    return {text for (text,) in execute_in(listed, statement, texts)}


def load_do_not_contact(s3: S3Hook, bucket: str, key: str | None, listed: sqlite3.Connection) -> int:
    """Fill ENTRIES from the do-not-contact list, and empty MATCHED; return the number of lines with an entry.

    The key None means an empty list.
    """
    make_list(listed, MATCHED)
    listed.execute(f"DROP TABLE IF EXISTS {ENTRIES}")
    listed.execute(f"CREATE TABLE {ENTRIES} (text TEXT, line INTEGER, PRIMARY KEY (text, line)) WITHOUT ROWID")
    number = 0
    for some in batched(enumerate(lines(s3, bucket, key) if key else (), start=1), 10_000):
        entries = [(forms, line) for line, text in some if (forms := entry_forms(text, line))]
        pairs = ((form, line) for forms, line in entries for form in forms)
        listed.executemany(f"INSERT INTO {ENTRIES} VALUES (?, ?)", pairs)  # noqa: S608 - a name of ours
        number += len(entries)
    return number


def match_entries(forms: Iterable[str], listed: sqlite3.Connection) -> None:
    """Add the lines of the list that have one of these texts to MATCHED."""
    statement = f"INSERT OR IGNORE INTO {MATCHED} SELECT line FROM {ENTRIES} WHERE text IN"  # noqa: S608 - names of ours
    execute_in(listed, statement, forms)


def write_matched(listed: sqlite3.Connection, path: Path) -> int:
    """Write only the numbers of the lines that match a player; return how many there are."""
    number = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("line\n")
        for (line,) in listed.execute(f"SELECT text FROM {MATCHED} ORDER BY text"):  # noqa: S608 - a name of ours
            file.write(f"{line}\n")
            number += 1
    return number


def count_matched(s3: S3Hook, bucket: str, keys: Iterable[str], listed: sqlite3.Connection) -> int:
    """Count the lines in files of `write_matched`; a line in several of them counts once."""
    make_list(listed, MATCHED)
    return sum(add_to_list(listed, MATCHED, _read_matched(s3, bucket, key)) for key in keys)


def _read_matched(s3: S3Hook, bucket: str, key: str) -> Iterator[str]:
    found = lines(s3, bucket, key)
    try:
        next(found, None)  # the header
    except FlywheelError:
        raise FlywheelError(
            f"s3://{bucket}/{key} is gone or has changed since it was made: clear the task that makes it, with"
            " downstream",
            code=Code.FILE_CHANGED,
        ) from None
    yield from (line.decode() for line in found)
