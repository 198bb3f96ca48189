"""An upload job and its documents."""

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any

from local.rest_json.naming import hex_id

DEFAULT_EXPIRY_DAYS = 14  # [shape CreateUploadJobRequest.DataExpiry] "the system default of 2 weeks is used"
DAY = 86_400.0
INGESTED_AT = 0.5  # the share of a job's duration at which its rows reach the profiles
MAX_SENTENCES = 100


@dataclass
class FileResult:
    """The result of a job's file."""

    processed_at: float
    created: int = 0
    updated: int = 0
    failed: int = 0
    reason: str | None = None  # why the whole job failed [shape StatusReason]
    sentences: list[str] = field(default_factory=list)

    def add_error(self, sentence: str) -> None:
        if len(self.sentences) < MAX_SENTENCES:
            self.sentences.append(sentence)

    @property
    def status(self) -> str:
        """[strict] PARTIALLY_SUCCEEDED has rows of both kinds; a job of which every row failed is FAILED."""
        if self.reason or (self.failed and not self.created + self.updated):
            return "FAILED"
        return "PARTIALLY_SUCCEEDED" if self.failed else "SUCCEEDED"


@dataclass
class UploadPath:
    """A presigned URL and the data key that its PUT must have."""

    key: str  # the address' path and query string
    token: str
    valid_until: float


@dataclass
class Job:
    id: str
    request: dict[str, Any]
    created: float
    paths: dict[str, UploadPath] = field(default_factory=dict)
    content: bytes | None = None
    started: float | None = None
    seconds: float = 0.0
    stopped: float | None = None
    simulated_failure: str | None = None  # "fail" or "partly", set by a test
    result: FileResult | None = None

    def status(self, now: float) -> str:
        if self.stopped is not None:
            return "STOPPED"
        if self.started is None:
            return "CREATED"
        return self.result.status if self.result and now >= self.completed() else "IN_PROGRESS"

    def completed(self) -> float:
        """When a stopped job ended or a processed job ends; raises ValueError for any other."""
        if self.stopped is not None:
            return self.stopped
        if self.result is None or self.started is None:
            raise ValueError("The job was not processed.")
        return max(self.started + self.seconds, self.result.processed_at)

    def ended(self, now: float) -> bool:
        return self.status(now) not in ("CREATED", "IN_PROGRESS")

    @property
    def expiry_days(self) -> int:
        return int(self.request.get("DataExpiry", DEFAULT_EXPIRY_DAYS))

    def item(self, now: float) -> dict[str, Any]:
        """[shape UploadJobItem]"""
        found: dict[str, Any] = {
            "JobId": self.id,
            "DisplayName": self.request["DisplayName"],
            "Status": self.status(now),
            "CreatedAt": self.created,
            "DataExpiry": self.expiry_days,
        }
        if self.ended(now):
            found["CompletedAt"] = self.completed()
            result = self.result
            if self.status(now) == "FAILED" and result:
                found["StatusReason"] = result.reason or "VALIDATION_FAILURE"
        return found

    def document(self, now: float) -> dict[str, Any]:
        """[shape GetUploadJobResponse]; [strict] the results are present only after the job has ended."""
        found = self.item(now) | {"Fields": self.request["Fields"], "UniqueKey": self.request["UniqueKey"]}
        if self.ended(now) and self.result:
            found["ResultsSummary"] = {
                "CreatedRecords": self.result.created,
                "UpdatedRecords": self.result.updated,
                "FailedRecords": self.result.failed,
            }
        return found

    def data_key(self) -> str:
        """A data key of 256 bits as base64, different for each path. [strict] Keys are not interchangeable."""
        return base64.b64encode(hex_id(self.id, "data key", len(self.paths)).encode()).decode()


def md5_of_key(token: str) -> str:
    """[S3 docs: server-side encryption with customer-provided keys] "base64-encoded 128-bit MD5 digest of the key"."""
    return base64.b64encode(hashlib.md5(base64.b64decode(token), usedforsecurity=False).digest()).decode()
