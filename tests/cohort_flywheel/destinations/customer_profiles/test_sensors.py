"""The sensor defers for one upload job after the other, and checks each when it resumes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from cohort_flywheel.destinations.customer_profiles import layout
from cohort_flywheel.destinations.customer_profiles.sensors import CustomerProfilesUploadJobsSensor
from cohort_flywheel.destinations.customer_profiles.triggers import CustomerProfilesUploadJobTrigger
from local.config import PROFILES_DOMAIN
from tests.cohort_flywheel.destinations.customer_profiles.profiles_domain import Domain


@pytest.fixture
def domain(airflow_env: Any, servers: Any, fresh_config: Any) -> Any:
    made = Domain(servers, fresh_config)
    yield made
    made.control(reset=True)


@pytest.fixture
def sensor(domain: Domain, context: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a sensor of as many jobs as there are players."""
    monkeypatch.setattr(layout, "MAX_UPLOAD_BYTES", 1)

    def make(*players: str, **arguments: Any) -> CustomerProfilesUploadJobsSensor:
        segment = domain.segment("sensed", list(players or ("ann",)))
        defaults: dict[str, Any] = {"poke_interval": 1, "max_attempts": 30, "deferrable": True}
        job_ids = domain.create(segment, context())["job_ids"]
        return CustomerProfilesUploadJobsSensor(
            task_id="wait", domain=PROFILES_DOMAIN, job_ids=job_ids, **(defaults | arguments)
        )

    return make


def deferred(call: Any, *arguments: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as raised:
        call(*arguments)
    return raised.value


def fired(trigger: Any) -> dict[str, Any]:
    """Run a trigger as the triggerer does, from its serialized form, until it fires."""
    path, arguments = trigger.serialize()
    assert path == "cohort_flywheel.destinations.customer_profiles.triggers.CustomerProfilesUploadJobTrigger"

    async def first() -> dict[str, Any]:
        async for event in CustomerProfilesUploadJobTrigger(**arguments).run():
            return dict(event.payload)
        raise AssertionError("the trigger ended without an event")

    return asyncio.run(asyncio.wait_for(first(), 60))


def test_defers_for_each_job_that_runs_and_completes(sensor: Any, domain: Domain) -> None:
    domain.control(job_seconds=5)
    waiting = sensor("ann", "bob")
    first = deferred(waiting.execute, {})
    assert first.timeout.total_seconds() == 2 * 30 + 600  # no wait is without end; ours ends first
    event = fired(first.trigger)
    assert event == {"status": "success", "job_id": waiting.job_ids[0]}
    try:
        waiting.execute_complete({}, event)  # the other has mostly ended by now
    except TaskDeferred as again:
        waiting.execute_complete({}, fired(again.trigger))
    assert domain.statuses == ["SUCCEEDED"] * 2


def test_the_next_job_is_waited_for_after_the_first(sensor: Any, domain: Domain) -> None:
    waiting = sensor("ann")
    waiting.deferrable = False
    waiting.execute({})
    domain.control(job_seconds=8)
    later = sensor("bob")
    waiting.job_ids += later.job_ids
    again = deferred(waiting.execute_complete, {}, {"status": "success", "job_id": waiting.job_ids[0]})
    assert again.trigger.serialize()[1]["job_id"] == later.job_ids[0]


def test_without_a_job_there_is_nothing_to_wait_for(airflow_env: Any) -> None:
    for deferrable in (True, False):
        CustomerProfilesUploadJobsSensor(
            task_id="wait", domain=PROFILES_DOMAIN, job_ids=[], deferrable=deferrable
        ).execute({})


@pytest.mark.parametrize(
    ("order", "players", "outcome"),
    [
        ("fail_next_jobs", 1, r"FAILED \(INTERNAL_FAILURE\): 0 rows refused, 1 profiles created, 0 updated"),
        ("partly_fail_next_jobs", 3, r"PARTIALLY_SUCCEEDED: 1 rows refused, 2 profiles created, 0 updated"),
    ],
)
def test_a_failed_job_fails_the_task_with_its_counts(
    sensor: Any, domain: Domain, monkeypatch: pytest.MonkeyPatch, order: str, players: int, outcome: str
) -> None:
    domain.control(job_seconds=5, **{order: 1})
    monkeypatch.setattr(layout, "MAX_UPLOAD_BYTES", 1_000_000)
    waiting = sensor(*(f"player{number}" for number in range(players)))
    event = fired(deferred(waiting.execute, {}).trigger)
    assert event["status"] == "error"
    with pytest.raises(AirflowFailException, match=f"has ended as {outcome}: do not send to the segment") as raised:
        waiting.execute_complete({}, event)
    assert "clear enrich with downstream" in str(raised.value)


def test_a_job_that_was_stopped_fails(sensor: Any, domain: Domain) -> None:
    domain.control(job_seconds=60)
    waiting = sensor(deferrable=False, poke_interval=0.1)
    domain.client.stop_upload_job(DomainName=PROFILES_DOMAIN, JobId=waiting.job_ids[0])
    with pytest.raises(AirflowFailException, match="has ended as STOPPED: 0 rows refused"):
        waiting.execute({})


def test_a_job_that_succeeded_and_refused_a_row_all_the_same_fails(
    sensor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = sensor(deferrable=False, poke_interval=0.1)
    job = {"Status": "SUCCEEDED", "ResultsSummary": {"CreatedRecords": 2, "UpdatedRecords": 0, "FailedRecords": 1}}
    monkeypatch.setattr(waiting.hook, "get_upload_job", lambda domain, job_id: job)
    with pytest.raises(AirflowFailException, match="has ended as SUCCEEDED: 1 rows refused, 2 profiles created"):
        waiting.execute({})


def test_exhausted_attempts_are_an_error(sensor: Any, domain: Domain) -> None:
    domain.control(job_seconds=60)
    waiting = sensor(max_attempts=2)
    event = fired(deferred(waiting.execute, {}).trigger)
    with pytest.raises(AirflowFailException, match="has not ended after 2 s: look at it with `aws customer-profiles"):
        waiting.execute_complete({}, event)


def test_an_interrupted_wait_is_continued(sensor: Any, domain: Domain) -> None:
    """The provider's trigger gives up at the first error that it does not know."""
    domain.control(job_seconds=60)
    waiting = sensor()
    waits = deferred(waiting.execute, {})
    domain.control(refuse={"code": "BadRequestException", "status": 400, "operations": ["GetUploadJob"], "times": 1})
    event = fired(waits.trigger)
    assert event["status"] == "error"
    with pytest.raises(AirflowException, match="broke off: a later try waits on") as raised:
        waiting.execute_complete({}, event)
    assert not isinstance(raised.value, AirflowFailException)


def test_a_job_that_runs_on_after_its_end_was_seen_is_not_waited_for_again(sensor: Any, domain: Domain) -> None:
    domain.control(job_seconds=60)
    waiting = sensor()
    with pytest.raises(AirflowException, match="broke off"):
        waiting.execute_complete({}, {"status": "success", "job_id": waiting.job_ids[0]})


def test_waits_on_a_worker_where_it_may_not_defer(sensor: Any, domain: Domain) -> None:
    domain.control(job_seconds=0.5)
    sensor("ann", "bob", deferrable=False, poke_interval=0.1).execute({})
    assert domain.statuses == ["SUCCEEDED"] * 2
