"""Contacts in, a segment file and a rejects file out; both stream, and both are the same for the same players."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Protocol

from cohort_flywheel.contacts import Contact, Reject
from cohort_flywheel.errors import FlywheelError


class Layout(Protocol):
    """What a module of `layouts` offers."""

    MAX_BYTES: int

    def header(self, columns: list[str]) -> list[str]: ...
    def row(self, contact: Contact) -> list[str]: ...
    def refused_column(self, contact: Contact) -> str | None: ...


def write_segment(
    judged: Iterable[Contact | Reject],
    columns: list[str],
    layout: Layout,
    rows_path: Path,
    rejects_path: Path,
) -> dict[str, int | dict[str, int]]:
    """Write both files; return the second sum of every report, `members = rows + rejects`, with the reasons.

    Raises FlywheelError for a file that the destination would refuse for its size.
    """
    rows, reasons = 0, Counter[str]()
    with _csv(rows_path) as rows_file, _csv(rejects_path) as rejects_file:
        segment = csv.writer(rows_file, lineterminator="\n")
        # up to Python 3.12 a lone carriage return is quoted only where the line's end has one
        rejects = csv.writer(rejects_file, lineterminator="\r\n")
        segment.writerow(layout.header(columns))
        rejects.writerow(("playerId", "reason", "column"))
        for outcome in judged:
            if isinstance(outcome, Contact) and (column := layout.refused_column(outcome)):
                outcome = Reject(outcome.player_id, "bad_value", column)
            if isinstance(outcome, Contact):
                segment.writerow(layout.row(outcome))
                rows += 1
            else:
                rejects.writerow(outcome)
                reasons[outcome.reason] += 1
    size = rows_path.stat().st_size
    if size > layout.MAX_BYTES:
        raise FlywheelError(
            f"the segment file has {size:,} bytes, and the destination takes {layout.MAX_BYTES:,} in one import:"
            " choose a stricter threshold, or carry fewer attributes"
        )
    return {"members": rows + reasons.total(), "rows": rows, "rejects": dict(sorted(reasons.items()))}


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _csv(path: Path) -> IO[str]:
    # newline="": csv.writer's own line endings are kept on every system
    return path.open("w", encoding="utf-8", newline="")
