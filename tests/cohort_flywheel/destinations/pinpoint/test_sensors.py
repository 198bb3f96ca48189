"""The sensor defers to the triggerer, and checks the job when it resumes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from cohort_flywheel.destinations.pinpoint.operators import PinpointCreateImportJobOperator
from cohort_flywheel.destinations.pinpoint.sensors import PinpointImportJobSensor
from cohort_flywheel.destinations.pinpoint.triggers import PinpointImportJobTrigger


@pytest.fixture
def sensor(airflow_env: Any, seeded: Any, pinpoint: Any, segment_file: Any) -> Any:
    def make(**arguments: Any) -> PinpointImportJobSensor:
        job_id = PinpointCreateImportJobOperator(
            task_id="create", application_id=seeded.application_id, role_arn=seeded.role_arn,
            s3_url=segment_file("sensed", ["a", "b"]), segment_name="sensed",
        ).execute({})["job_id"]  # fmt: skip
        defaults: dict[str, Any] = {"poke_interval": 1, "max_attempts": 30, "deferrable": True}
        return PinpointImportJobSensor(
            task_id="wait", application_id=seeded.application_id, job_id=job_id, **(defaults | arguments)
        )

    return make


def fired(trigger: PinpointImportJobTrigger) -> dict[str, Any]:
    """Run a trigger as the triggerer does, from its serialized form, until it fires."""
    path, arguments = trigger.serialize()
    assert path == "cohort_flywheel.destinations.pinpoint.triggers.PinpointImportJobTrigger"

    async def first() -> dict[str, Any]:
        async for event in PinpointImportJobTrigger(**arguments).run():
            return dict(event.payload)
        raise AssertionError("the trigger ended without an event")

    return asyncio.run(asyncio.wait_for(first(), 60))


def test_defers_and_completes(sensor: Any, pinpoint: Any) -> None:
    pinpoint(import_seconds=1.5)
    waiting = sensor()
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute({})
    assert deferred.value.timeout.total_seconds() == 2 * 30 + 600  # no wait is without end; ours ends first
    event = fired(deferred.value.trigger)
    assert event["status"] == "success"
    waiting.execute_complete({}, event)


def test_a_failed_job_fails_with_counts_and_reasons(sensor: Any, pinpoint: Any) -> None:
    pinpoint(fail_next_jobs=1)
    waiting = sensor()
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute({})
    event = fired(deferred.value.trigger)
    assert event["status"] == "error"
    with pytest.raises(AirflowFailException, match=r"FAILED: \d+ rows of \d+, 1 pieces of 1 \(.+\)") as raised:
        waiting.execute_complete({}, event)
    assert "@" not in str(raised.value)


def test_exhausted_attempts_are_an_error(sensor: Any, pinpoint: Any) -> None:
    pinpoint(import_seconds=60)
    waiting = sensor(max_attempts=2)
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute({})
    event = fired(deferred.value.trigger)
    with pytest.raises(AirflowFailException, match="has not ended after 2 s: look at it in Pinpoint"):
        waiting.execute_complete({}, event)


def test_waits_on_a_worker_where_it_may_not_defer(sensor: Any) -> None:
    sensor(deferrable=False).execute({})


def test_an_interrupted_wait_is_continued(sensor: Any, pinpoint: Any) -> None:
    """The provider's trigger gives up at the first error that it does not know."""
    pinpoint(import_seconds=60)
    waiting = sensor()
    with pytest.raises(TaskDeferred) as deferred:
        waiting.execute({})
    pinpoint(refuse={"code": "ForbiddenException", "status": 403, "operations": ["GetImportJob"], "times": 1})
    event = fired(deferred.value.trigger)
    assert event["status"] == "error"
    with pytest.raises(AirflowException, match="broke off: a later try waits on") as raised:
        waiting.execute_complete({}, event)
    assert not isinstance(raised.value, AirflowFailException)
