"""What the state bucket keeps of a run: the ids in its lock, and the result of a verified segment."""

from __future__ import annotations

from pydantic import Field

from cohort_flywheel.common.records import Record
from cohort_flywheel.destinations.import_result import ImportedSegment
from cohort_flywheel.runs.as_of import Instant
from cohort_flywheel.segment.outputs import LimitResult


class RunIds(Record):
    """The ids of a run of a DAG, which a lock and a result name."""

    dag_id: str
    run_id: str


class LastRun(RunIds):
    """The last run that worked on a name, and the number of runs that have worked on it."""

    generation: int


class Result(Record):
    """The verified segment of a cohort, threshold and as-of. `snapshot` is a key, or None.

    `threshold_from` is as in the plan, empty in a result of an earlier version; `started_by` is a user, or None.
    """

    as_of: Instant
    members: int
    rows: int
    s3_url: str
    snapshot: str | None
    imported: ImportedSegment
    run: RunIds
    rejects: dict[str, int] = Field(default_factory=dict)
    limits: list[LimitResult] = Field(default_factory=list)
    threshold_from: str = ""
    started_by: str | None = None
