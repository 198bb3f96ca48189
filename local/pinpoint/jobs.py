"""An import job and its segment, and both as response documents."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .naming import iso
from .source import Source

# Shares of a job's duration at which its status changes; the file is processed at the last.
# [shape JobStatus] names the statuses; their order and lengths are not documented. PENDING_JOB does not occur here.
_OPENING = ((0.1, "CREATED"), (0.25, "PREPARING_FOR_INITIALIZATION"), (0.4, "INITIALIZING"))
PROCESSED_AT = 0.75

MAX_FAILURES = 100  # [shape ImportJobResponse.Failures] "one for each of the first 100 entries"


@dataclass
class FileResult:
    """The result of a job's file: its pieces, its rows, and the first error texts."""

    processed_at: float = 0.0
    completed_pieces: int = 0
    failed_pieces: int = 0
    processed: int = 0
    failed_rows: int = 0
    failures: list[str] = field(default_factory=list)
    members: dict[str, str] = field(default_factory=dict)  # endpoint id → channel

    def add_error(self, sentence: str) -> None:
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(sentence)


@dataclass
class Job:
    id: str
    application_id: str
    request: dict[str, Any]
    source: Source
    created: float
    seconds: float
    doomed: bool = False
    segment_id: str | None = None
    result: FileResult | None = None

    def status(self, now: float) -> str:
        if self.result is None:
            share = (now - self.created) / self.seconds if self.seconds else 1.0
            return next((name for until, name in _OPENING if share < until), "PROCESSING")
        # [shape ImportJobResponse.JobStatus] "FAILED if Amazon Pinpoint wasn't able to process one or more pieces".
        failed = self.result.failed_pieces > 0
        if now < self._ends(self.result):
            return "FAILING" if failed else "COMPLETING"
        return "FAILED" if failed else "COMPLETED"

    def _ends(self, result: FileResult) -> float:
        return max(self.created + self.seconds, result.processed_at)

    def active(self, now: float) -> bool:
        return self.status(now) not in ("COMPLETED", "FAILED")

    def to_json(self, now: float) -> dict[str, Any]:
        """[shape ImportJobResponse], with only the required members before the file is processed."""
        answer: dict[str, Any] = {
            "ApplicationId": self.application_id,
            "CreationDate": iso(self.created),
            "Definition": self.definition(),
            "Id": self.id,
            "JobStatus": self.status(now),
            "Type": "IMPORT",  # [shape ImportJobResponse.Type] "This value is IMPORT for import jobs."
        }
        if self.result is not None:
            answer |= {
                "CompletedPieces": self.result.completed_pieces,
                "FailedPieces": self.result.failed_pieces,
                "Failures": self.result.failures,
                "TotalFailures": self.result.failed_rows,
                "TotalPieces": self.result.completed_pieces + self.result.failed_pieces,
                "TotalProcessed": self.result.processed,
            }
            if not self.active(now):
                answer["CompletionDate"] = iso(self._ends(self.result))
        return answer

    def definition(self) -> dict[str, Any]:
        """[shape ImportJobResource] The request, and the segment's id once it exists."""
        segment = {"SegmentId": self.segment_id} if self.segment_id else {}
        return {name: value for name, value in self.request.items() if name != "SegmentId"} | segment


@dataclass
class Segment:
    id: str
    application_id: str
    arn: str
    name: str
    created: float
    members: dict[str, str] = field(default_factory=dict)  # endpoint id → channel
    versions: list[dict[str, Any]] = field(default_factory=list)

    def imported(self, job: Job, now: float) -> None:
        """Count a new version of the segment after an import job."""
        request = job.request
        self.versions.append(
            {
                "ApplicationId": self.application_id,
                "Arn": self.arn,
                "CreationDate": iso(self.created),
                "Id": self.id,
                "ImportDefinition": {
                    "ChannelCounts": dict(Counter(self.members.values())),
                    "ExternalId": request.get("ExternalId", ""),
                    "Format": request["Format"],
                    "RoleArn": request["RoleArn"],
                    "S3Url": request["S3Url"],
                    # [shape SegmentImportResource.Size] "endpoint definitions that were imported successfully to create
                    # the segment". [strict] Two definitions of one endpoint count once, so the size counts endpoints.
                    "Size": len(self.members),
                },
                "LastModifiedDate": iso(now),
                "Name": self.name,
                "SegmentType": "IMPORT",
                "Version": len(self.versions) + 1,
            }
        )

    def to_json(self) -> dict[str, Any]:
        """[shape SegmentResponse] The newest version."""
        return self.versions[-1]
