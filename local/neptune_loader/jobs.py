"""A load job, and its status as the loader answers it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .load import Counts
from .source import Source

#: [loader: loader-message] The statuses of a job that has not ended.
ACTIVE = ("LOAD_IN_QUEUE", "LOAD_NOT_STARTED", "LOAD_IN_PROGRESS")
#: The share of a job's duration in which it is LOAD_NOT_STARTED, "recorded but not started". [strict] How long a job
#: has which status is not documented.
OPENING = 0.2


@dataclass
class Feed:
    """One file of a job."""

    etag: str
    status: str = "LOAD_NOT_STARTED"
    counts: Counts = field(default_factory=Counts)


@dataclass
class Job:
    """A job: its request, and what became of its files."""

    id: str
    request: dict[str, Any]
    source: Source
    feeds: dict[str, Feed]
    accepted: float
    seconds: float
    fails_with: str = ""
    run_number: int = 1
    started: float | None = None
    ended: float | None = None
    outcome: str = ""

    @property
    def mode(self) -> str:
        """[model Mode] "Default value: AUTO"."""
        return str(self.request.get("mode", "AUTO"))

    def flag(self, name: str, default: bool) -> bool:
        return bool(self.request.get(name, default))

    def status(self, now: float) -> str:
        if self.outcome:
            return self.outcome
        if self.started is None:
            return "LOAD_IN_QUEUE"
        return "LOAD_NOT_STARTED" if now < self.started + OPENING * self.seconds else "LOAD_IN_PROGRESS"

    def active(self, now: float) -> bool:
        return self.status(now) in ACTIVE

    def counts(self) -> Counts:
        total = Counts()
        for feed in self.feeds.values():
            total.add(feed.counts)
        return total

    def payload(self, now: float, *, bare_if_queued: bool, details: bool) -> dict[str, Any]:
        """[loader: load-api-reference-status-response] without the errors."""
        status = self.status(now)
        if status == "LOAD_IN_QUEUE" and bare_if_queued:
            return {"feedCount": [], "overallStatus": {"status": status}}
        feeds = {name: status if feed.status in ACTIVE else feed.status for name, feed in self.feeds.items()}
        found: dict[str, Any] = {
            "feedCount": [{name: number} for name, number in sorted(Counter(feeds.values()).items())],
            "overallStatus": self._figures(self.source.uri, status, self.counts(), now),
        }
        if details:
            failed = [name for name, each in feeds.items() if each not in (*ACTIVE, "LOAD_COMPLETED")]
            # [loader: load-api-reference-status-response] figures of a file are there for failed feeds only
            found["failedFeeds"] = [
                self._figures(self.source.uri_of(name), feeds[name], self.feeds[name].counts, now) for name in failed
            ]
        return found

    def _figures(self, uri: str, status: str, counts: Counts, now: float) -> dict[str, Any]:
        """The figures; `startTime` is in whole seconds since the epoch, as in the page's example."""
        figures = {
            "fullUri": uri, "runNumber": self.run_number, "retryNumber": 0, "status": status,
            "totalTimeSpent": round((self.ended or now) - self.started) if self.started else 0,
            "totalRecords": counts.records, "totalDuplicates": counts.duplicates,
        } | {f"{kind}Errors": number for kind, number in counts.errors.items()}  # fmt: skip
        return figures | ({"startTime": int(self.started)} if self.started else {})

    def errors(self, page: int, size: int) -> dict[str, Any]:
        """[loader: load-api-reference-status-response] one page of the error log."""
        logs = self.counts().logs
        start = (page - 1) * size
        some = logs[start : start + size]
        return {"startIndex": start + bool(some), "endIndex": start + len(some), "loadId": self.id, "errorLogs": some}

    def snapshot(self, now: float) -> dict[str, Any]:
        """For tests."""
        return {
            "id": self.id, "source": self.source.uri, "status": self.status(now), "request": self.request,
            "feeds": {name: feed.status for name, feed in self.feeds.items()}, "records": self.counts().records,
            "duplicates": self.counts().duplicates, "run_number": self.run_number,
        }  # fmt: skip
