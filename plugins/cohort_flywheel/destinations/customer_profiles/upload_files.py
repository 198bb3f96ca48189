"""The files of upload jobs, on a worker's disk."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from cohort_flywheel.destinations.customer_profiles import layout


class UploadFiles:
    """The files of upload jobs, each within the size limit of a job; without rows there are no files.

    :param folder: where the files are written.
    :param kind: `in` or `out`.
    :param header: the first line of each file.
    """

    def __init__(self, folder: Path, kind: str, header: list[str]) -> None:
        self._folder = folder
        self.kind = kind
        self.header = header
        self.paths: list[Path] = []
        self.rows = 0
        self._file: IO[bytes] | None = None
        self._bytes = 0
        self._line = csv.writer(_Encoded(), lineterminator="\n").writerow  # returns what `write` does

    def add(self, row: list[str]) -> None:
        line = self._line(row)
        if self._file is None or self._bytes + len(line) > layout.MAX_UPLOAD_BYTES:
            self.close()
            self.paths.append(self._folder / f"{self.kind}_{len(self.paths):04d}.csv")
            self._file = self.paths[-1].open("wb")
            self._bytes = self._file.write(self._line(self.header))
        self._bytes += self._file.write(line)
        self.rows += 1

    def write_members(self, rows: Iterable[list[str]]) -> Iterator[str]:
        """Add rows of the segment file; yields the playerId of each."""
        for row in rows:
            self.add(layout.upload_row(row))
            yield row[1]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class _Encoded:
    def write(self, text: str) -> bytes:
        return text.encode()
