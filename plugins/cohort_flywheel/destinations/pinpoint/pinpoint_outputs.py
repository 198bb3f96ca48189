"""The outputs of the tasks of this destination."""

from __future__ import annotations

from cohort_flywheel.common.records import Record
from cohort_flywheel.destinations.import_result import ImportResult


class PinpointImportJob(Record):
    """An import job; `adopted` is true if an earlier attempt has created it."""

    job_id: str
    adopted: bool


class PinpointImport(ImportResult):
    """A segment of Pinpoint."""

    job_id: str
    segment_version: int | None
