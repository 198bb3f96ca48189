"""What the state bucket keeps of a run: the ids in its lock, and the result of a verified segment."""

from __future__ import annotations

from cohort_flywheel.common.records import Record
from cohort_flywheel.destinations.import_result import ImportedSegment
from cohort_flywheel.runs.as_of import Instant


class RunIds(Record):
    """The ids of a run of a DAG, which a lock and a result name."""

    dag_id: str
    run_id: str


class LastRun(RunIds):
    """The last run that worked on a name, and the number of runs that have worked on it."""

    generation: int


class Result(Record):
    """The verified segment of a cohort, threshold and as-of. `snapshot` is a key, or None."""

    as_of: Instant
    members: int
    rows: int
    s3_url: str
    snapshot: str | None
    imported: ImportedSegment
    run: RunIds
