"""Days of events: their bucket, and runs of the DAG's tasks."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest

from cohort_flywheel.engagement.operators import EngagementPlanOperator, EngagementReportOperator, ReadEventsOperator
from cohort_flywheel.engagement.suppressions_operator import UpdateSuppressionsOperator
from local import seed

NEWEST = datetime(2026, 11, 22, tzinfo=UTC)


class Killed(BaseException):
    """A worker that is gone: nothing in the package catches it."""


@contextmanager
def killed_at_write(store: ModuleType, number: int, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> Iterator[None]:
    """Kill the worker before or after one of the writes of a store, counted from 1; fail if it does not get there."""
    writes = list[str]()
    with monkeypatch.context() as broken:
        for name in ("put_json", "put_if"):
            put = getattr(store, name)

            def kill(*arguments: Any, put: Callable[..., Any] = put, **conditions: Any) -> Any:
                writes.append(arguments[2])
                if len(writes) == number and not after:
                    raise Killed
                answer = put(*arguments, **conditions)
                if len(writes) == number:
                    raise Killed
                return answer

            broken.setattr(store, name, kill)
        with pytest.raises(Killed):
            yield


class Events:
    """A bucket of events and a state bucket, and runs of the DAG's tasks."""

    destination = "ses"

    def __init__(self, servers: Any, config: Any, context: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self.s3 = seed.client("s3", servers, config)
        self.state, self.bucket, self.context = config.state_bucket, f"{config.state_bucket}-events", context
        self.s3.create_bucket(Bucket=self.bucket)
        monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_STATE_BUCKET", self.state)
        monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_EVENT_BUCKET", self.bucket)

    def put(self, hours: float, *contents: bytes, name: str = "a") -> None:
        """Put an object whose oldest record arrived so many hours before the newest as-of."""
        key = f"{NEWEST - timedelta(hours=hours):events/%Y/%m/%d/%H}/stream-1-{name}.gz"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=gzip.compress(b"".join(contents)))

    def expire(self) -> None:
        """Remove all objects of events, as the lifecycle rule of their bucket does."""
        for each in self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", ()):
            self.s3.delete_object(Bucket=self.bucket, Key=each["Key"])

    def launched(self, name: str, **records: Any) -> None:
        """Put records of a launch."""
        for file, record in records.items():
            body = record if isinstance(record, bytes) else json.dumps(record).encode()
            self.s3.put_object(Bucket=self.state, Key=f"launches/{name}/{file.replace('__', '.')}", Body=body)

    def plan(self, as_of: datetime) -> dict[str, Any]:
        operator = EngagementPlanOperator(
            task_id="plan", schedule="0 0 * * *", clock=lambda: as_of + timedelta(hours=1)
        )
        return operator.execute(self.context({}, run_after=as_of + timedelta(minutes=5)))

    def read(self, as_of: datetime = NEWEST) -> dict[str, Any]:
        plan = self.plan(as_of)
        return ReadEventsOperator(task_id="read_events", plan=plan).execute(self.context({}))

    def suppress(self, plan: dict[str, Any]) -> dict[str, Any]:
        return UpdateSuppressionsOperator(
            task_id="update_suppressions", plan=plan, destination=self.destination
        ).execute(self.context({}))

    def run(self, as_of: datetime = NEWEST) -> dict[str, Any]:
        """All tasks; returns the report."""
        plan = self.plan(as_of)
        counts = ReadEventsOperator(task_id="read_events", plan=plan).execute(self.context({}))
        found = EngagementReportOperator(
            task_id="report", plan=plan, counts=counts, suppressions=self.suppress(plan)
        ).execute(self.context({}))
        bucket, _, key = found["report_url"].removeprefix("s3://").partition("/")
        return dict(json.loads(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()))

    @property
    def kept(self) -> dict[str, bytes]:
        """What the DAG has left in the state bucket."""
        listed = self.s3.list_objects_v2(Bucket=self.state, Prefix="engagement/").get("Contents", ())
        return {each["Key"]: self.s3.get_object(Bucket=self.state, Key=each["Key"])["Body"].read() for each in listed}
