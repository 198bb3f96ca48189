"""Write contacts to a segment file and a rejects file; both are streamed, and deterministic for the same players."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.segment.contacts import Contact, Reject
from cohort_flywheel.segment.outputs import CombinedParts, PartFile, SegmentCounts, SegmentPart, Shard

if TYPE_CHECKING:
    from _csv import Writer as CsvWriter


class Layout(NamedTuple):
    """The format of a destination's segment file: `LAYOUT` of its `layout` module."""

    #: The maximum size of one import, in bytes.
    max_bytes: int
    #: The header row, from the names of the attributes.
    header: Callable[[list[str]], list[str]]
    #: The cells of one contact, in the order of the header.
    row: Callable[[Contact], list[str]]
    #: The first column whose value the destination refuses, or None.
    refused_column: Callable[[Contact], str | None]


def write_segment(
    judged: Iterable[Contact | Reject],
    columns: list[str],
    layout: Layout,
    rows_path: Path,
    rejects_path: Path,
    exclude: Callable[[Contact], Reject | None] | None = None,
) -> SegmentCounts:
    """Write both files; return the last sum of every report, `members = rows + rejects`, with the reasons.

    `exclude` returns a reject for a contact that does not become a row.
    """
    rows, reasons = 0, Counter[str]()
    with _csv(rows_path) as rows_file, _csv(rejects_path) as rejects_file:
        segment = csv.writer(rows_file, lineterminator="\n")
        # up to Python 3.12 a lone carriage return is quoted only if the line terminator has one
        rejects = csv.writer(rejects_file, lineterminator="\r\n")
        segment.writerow(layout.header(columns))
        rejects.writerow(("playerId", "reason", "column"))
        for outcome in judged:
            if isinstance(outcome, Contact):
                reject = _reject(outcome, layout, exclude)
                if reject is None:
                    _write_row(layout.row(outcome), rows_file, segment)
                    rows += 1
                    continue
                outcome = reject
            rejects.writerow(outcome)
            reasons[outcome.reason] += 1
    return SegmentCounts(members=rows + reasons.total(), rows=rows, rejects=dict(sorted(reasons.items())))


def _write_row(cells: list[str], file: IO[str], writer: CsvWriter) -> None:
    """Write a row as csv.writer does, which takes four times as long to find that no cell needs quotes."""
    line = ",".join(cells)
    if '"' in line or "\n" in line or "\r" in line or line.count(",") >= len(cells) or not line:
        writer.writerow(cells)
    else:
        file.write(line + "\n")


def _reject(contact: Contact, layout: Layout, exclude: Callable[[Contact], Reject | None] | None) -> Reject | None:
    """Return why a contact does not become a row, or None."""
    if column := layout.refused_column(contact):
        return Reject(contact.player_id, "bad_value", column)
    return exclude(contact) if exclude else None


def combine(parts: Iterable[SegmentPart], shards: Sequence[Shard], max_bytes: int) -> CombinedParts:
    """Combine the parts of all shards: sums of the counts, and a digest of the digests.

    Raises FlywheelError unless there is exactly one part per shard, of the same extract, with all of its members, and
    for a segment that is too large for the destination.
    """
    mine = sorted((part for part in parts if part.index < len(shards)), key=lambda part: part.index)
    expected = [(shard.index, shard.of, shard.members) for shard in shards]
    if [(part.index, part.of, part.members) for part in mine] != expected:
        raise FlywheelError(
            f"the {len(mine)} parts are not those of the {len(shards)} shards of the extract: clear enrich with"
            " downstream",
            code=Code.FILE_CHANGED,
        )
    size = sum(part.bytes for part in mine)
    if size > max_bytes:
        raise FlywheelError(
            f"the segment has {size:,} bytes, and the destination takes {max_bytes:,} in one import: choose a stricter"
            " threshold, or carry fewer attributes",
            code=Code.SEGMENT_FORM,
        )
    return CombinedParts(
        members=sum(part.members for part in mine),
        rows=sum(part.rows for part in mine),
        rejects=_sum(part.rejects for part in mine),
        records=sum(part.records for part in mine),
        records_without=_sum(part.records_without for part in mine),
        bytes=size,
        sha256=hashlib.sha256("".join(f"{part.sha256}\n" for part in mine).encode()).hexdigest(),
        do_not_contact=max(part.do_not_contact for part in mine),
        matched_keys=[part.matched_key for part in mine if part.matched_key],
        parts=[PartFile(s3_key=part.s3_key, sha256=part.sha256) for part in mine],
    )


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums by key, with zeros, in the order of the keys."""
    total = Counter[str]()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _csv(path: Path) -> IO[str]:
    # newline="" keeps the line endings of csv.writer on every system
    return path.open("w", encoding="utf-8", newline="")
