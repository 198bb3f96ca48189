"""A job of the bulk loader, as its status answer describes it.

https://docs.aws.amazon.com/neptune/latest/userguide/load-api-reference-status-response.html and loader-message.html.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from cohort_flywheel.common.records import AwsStructure

COMPLETED = "LOAD_COMPLETED"
CANCELLED = "LOAD_CANCELLED_BY_USER"
ACTIVE = frozenset({"LOAD_IN_QUEUE", "LOAD_NOT_STARTED", "LOAD_IN_PROGRESS"})
#: A later try that resumes the job may succeed.
RESUMABLE = frozenset({"LOAD_COMMITTED_W_WRITE_CONFLICTS", "LOAD_DATA_DEADLOCK", "LOAD_UNEXPECTED_ERROR"})
_TRANSIENT_FEEDS = RESUMABLE | {"LOAD_S3_READ_ERROR"}


class JobStatus(BaseModel):
    """The status of a job.

    source: None where the answer has none, as of a queued job. start_time: seconds since the epoch. records: labels and
    values loaded or attempted to load. failed: the statuses of the files that failed.
    """

    model_config = ConfigDict(frozen=True)

    load_id: str
    status: str
    source: str | None = None
    start_time: int | None = None
    records: int = 0
    duplicates: int = 0
    parsing_errors: int = 0
    datatype_errors: int = 0
    insert_errors: int = 0
    failed: list[str] = []

    @classmethod
    def of(cls, load_id: str, payload: AwsStructure) -> JobStatus:
        """Read the payload of a status answer. What a queued job's holds beside its status is not documented."""
        overall = payload.get("overallStatus") or payload
        return cls(
            load_id=load_id,
            status=overall.get("status", ""),
            source=overall.get("fullUri"),
            start_time=overall.get("startTime"),
            records=overall.get("totalRecords", 0),
            duplicates=overall.get("totalDuplicates", 0),
            parsing_errors=overall.get("parsingErrors", 0),
            datatype_errors=overall.get("datatypeMismatchErrors", 0),
            insert_errors=overall.get("insertErrors", 0),
            failed=[str(feed.get("status")) for feed in payload.get("failedFeeds") or ()],
        )

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE

    @property
    def is_completed(self) -> bool:
        return self.status == COMPLETED

    @property
    def may_resume(self) -> bool:
        """Whether the job ended for a cause that may pass."""
        return self.status in RESUMABLE or (bool(self.failed) and set(self.failed) <= _TRANSIENT_FEEDS)

    @property
    def errors(self) -> int:
        return self.parsing_errors + self.datatype_errors + self.insert_errors
