"""An import job and its response documents."""

from dataclasses import dataclass, field
from typing import Any

from .source import Source

CREATED_UNTIL = 0.2  # the shares of a job's duration: their lengths are not documented
PROCESSED_AT = 0.75  # [strict] the object is read, and contacts are written, late


@dataclass
class FileResult:
    """The result of a job's file."""

    processed_at: float = 0.0
    processed: int = 0
    failed_records: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None


@dataclass
class Job:
    id: str
    request: dict[str, Any]
    source: Source
    created: float
    seconds: float
    doomed: bool = False
    result: FileResult | None = None

    @property
    def list_name(self) -> str:
        return str(self.request["ImportDestination"]["ContactListDestination"]["ContactListName"])

    @property
    def deletes(self) -> bool:
        destination = self.request["ImportDestination"]["ContactListDestination"]
        return bool(destination["ContactListImportAction"] == "DELETE")

    def status(self, now: float) -> str:
        """[shape JobStatus] Of its values CANCELLED does not occur: no operation cancels an import job."""
        if self.result is None:
            share = (now - self.created) / self.seconds if self.seconds else 1.0
            return "CREATED" if share < CREATED_UNTIL else "PROCESSING"
        if now < self._ends(self.result):
            return "PROCESSING"
        return "FAILED" if self.result.error else "COMPLETED"

    def _ends(self, result: FileResult) -> float:
        return max(self.created + self.seconds, result.processed_at)

    def active(self, now: float) -> bool:
        return self.status(now) not in ("COMPLETED", "FAILED")

    def summary(self, now: float, counts: str) -> dict[str, Any]:
        """[shape ImportJobSummary]"""
        failed = len(self.result.failed_records) if self.result else 0
        processed = self.result.processed if self.result else 0
        return {
            "JobId": self.id,
            "ImportDestination": self.request["ImportDestination"],
            "JobStatus": self.status(now),
            "CreatedTimestamp": self.created,
            # [strict] Whether records that failed count as processed is not documented: both are here.
            "ProcessedRecordsCount": processed if counts == "all" else processed - failed,
            "FailedRecordsCount": failed,
        }

    def details(self, now: float, counts: str, failed_records_url: str) -> dict[str, Any]:
        """[shape GetImportJobResponse]; FailureInfo is present only if there is a failure [strict]."""
        answer = self.summary(now, counts) | {"ImportDataSource": self.request["ImportDataSource"]}
        if self.result is None or self.active(now):
            return answer
        answer["CompletedTimestamp"] = self._ends(self.result)
        failure: dict[str, Any] = {}
        if self.result.failed_records:
            failure["FailedRecordsS3Url"] = failed_records_url
        if self.result.error:
            failure["ErrorMessage"] = self.result.error
        return answer | ({"FailureInfo": failure} if failure else {})
