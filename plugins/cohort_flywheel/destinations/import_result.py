"""What every destination returns of an import."""

from __future__ import annotations

from pydantic import ConfigDict

from cohort_flywheel.common.records import Record
from cohort_flywheel.segment.outputs import Segment


class ImportedSegment(Record):
    """What a destination has returned of an import, whichever version wrote it; `segment_id` names the segment."""

    model_config = ConfigDict(extra="allow")

    segment_id: str | None = None


class ImportResult(ImportedSegment):
    """The output of `verify_segment`; a destination adds keys of its own, which the report shows.

    `segment_size` is the destination's own count. A campaign needs the `segment_id`.
    """

    segment_size: int


class RecordedImport(ImportResult):
    """The output of `record_result`; `result_key` is None for a run that has no result."""

    result_key: str | None


def import_content(name: str, segment: Segment) -> dict[str, str]:
    """Return what an import is recognized by: the run's name and the digest of its segment file."""
    return {"name": name, "sha256": segment.sha256}
