"""The ids of recipients that cleanup may remove."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


#: The recipients that are removed between two checks for new runs; a new run takes longer until its import.
BATCH = 100


class Recipients:
    """Ids of recipients, on disk: they can exceed a worker's memory."""

    def __init__(self, folder: Path) -> None:
        self._db = sqlite3.connect(folder / "recipients.sqlite")
        self._db.execute("CREATE TABLE recipient (id TEXT PRIMARY KEY) WITHOUT ROWID")

    def close(self) -> None:
        self._db.close()

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM recipient").fetchone()[0])

    def add(self, ids: Iterable[str]) -> None:
        self._db.executemany("INSERT OR IGNORE INTO recipient VALUES (?)", ((each,) for each in ids))

    def remove(self, ids: Iterable[str]) -> None:
        self._db.executemany("DELETE FROM recipient WHERE id = ?", ((each,) for each in ids))

    def clear(self) -> None:
        self._db.execute("DELETE FROM recipient")

    def batches(self) -> Iterator[list[str]]:
        """All ids in order, in batches; a batch may be removed before the next is read."""
        last = ""
        while batch := [
            row[0]
            for row in self._db.execute("SELECT id FROM recipient WHERE id > ? ORDER BY id LIMIT ?", (last, BATCH))
        ]:
            yield batch
            last = batch[-1]
