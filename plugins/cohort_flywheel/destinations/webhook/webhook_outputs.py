"""The outputs of the tasks of this destination."""

from __future__ import annotations

from cohort_flywheel.common.records import Record
from cohort_flywheel.destinations.import_result import ImportResult


class SentSegment(Record):
    """An import: its number of batches, and the numbers of members and of leavers that were sent."""

    segment_name: str
    import_id: str
    batches: int
    set_in: int
    set_out: int


class WebhookImport(ImportResult):
    """A segment of the receiver."""

    segment_name: str
    import_id: str
    set_in: int
    set_out: int
