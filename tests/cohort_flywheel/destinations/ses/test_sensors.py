"""The sensor defers for one job after the other, and checks each when it resumes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from cohort_flywheel.destinations.ses import operators as module
from cohort_flywheel.destinations.ses.sensors import SesImportJobsSensor
from cohort_flywheel.destinations.ses.triggers import SesImportJobTrigger
from tests.cohort_flywheel.destinations.ses.ses_account import Account


@pytest.fixture
def account(airflow_env: Any, servers: Any, fresh_config: Any) -> Any:
    made = Account(servers, fresh_config)
    yield made
    made.control(reset=True)


@pytest.fixture
def sensor(account: Account, context: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a sensor of as many jobs as there are addresses."""
    monkeypatch.setattr(module, "MAX_CONTACTS", 1)

    def make(*addresses: str, **arguments: Any) -> SesImportJobsSensor:
        segment = account.segment("sensed", list(addresses or ("ann@example.com",)))
        defaults: dict[str, Any] = {"poke_interval": 1, "max_attempts": 30, "deferrable": True}
        job_ids = account.create(segment, context())["job_ids"]
        return SesImportJobsSensor(task_id="wait", job_ids=job_ids, **(defaults | arguments))

    return make


def deferred(call: Any, *arguments: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as raised:
        call(*arguments)
    return raised.value


def fired(trigger: Any) -> dict[str, Any]:
    """Run a trigger as the triggerer does, from its serialized form, until it fires."""
    path, arguments = trigger.serialize()
    assert path == "cohort_flywheel.destinations.ses.triggers.SesImportJobTrigger"

    async def first() -> dict[str, Any]:
        async for event in SesImportJobTrigger(**arguments).run():
            return dict(event.payload)
        raise AssertionError("the trigger ended without an event")

    return asyncio.run(asyncio.wait_for(first(), 60))


def test_defers_for_each_job_that_runs_and_completes(sensor: Any, account: Account) -> None:
    account.control(import_seconds=5)
    waiting = sensor("ann@example.com", "bob@example.com")
    first = deferred(waiting.execute, {})
    assert first.timeout.total_seconds() == 2 * 30 + 600  # no wait is without end; ours ends first
    account.control(import_seconds=0)
    event = fired(first.trigger)
    assert event == {"status": "success", "job_id": waiting.job_ids[0]}
    try:
        waiting.execute_complete({}, event)  # the other has mostly ended by now
    except TaskDeferred as again:
        waiting.execute_complete({}, fired(again.trigger))
    assert len(account.contacts) == 2


def test_the_next_job_is_waited_for_after_the_first(sensor: Any, account: Account) -> None:
    waiting = sensor("ann@example.com")
    account.control(import_seconds=8)
    later = sensor("bob@example.com")
    waiting.job_ids += later.job_ids
    again = deferred(waiting.execute_complete, {}, {"status": "success", "job_id": waiting.job_ids[0]})
    assert again.trigger.serialize()[1]["job_id"] == later.job_ids[0]
    waiting.execute_complete({}, fired(again.trigger))
    assert len(account.contacts) == 2


def test_without_a_job_there_is_nothing_to_wait_for(airflow_env: Any) -> None:
    SesImportJobsSensor(task_id="wait", job_ids=[], deferrable=True).execute({})
    SesImportJobsSensor(task_id="wait", job_ids=[], deferrable=False).execute({})


def test_a_failed_job_fails_with_its_counts(sensor: Any, account: Account) -> None:
    account.control(fail_next_jobs=1, import_seconds=5)
    waiting = sensor()
    event = fired(deferred(waiting.execute, {}).trigger)
    assert event["status"] == "error"
    with pytest.raises(
        AirflowFailException, match="has ended as FAILED: 0 contacts refused, 0 processed: look at its FailureInfo"
    ) as raised:
        waiting.execute_complete({}, event)
    assert "clear enrich with downstream" in str(raised.value)


def test_a_job_that_refused_contacts_fails_with_their_number_only(
    sensor: Any, account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its file of failed records quotes them, and its address is signed."""
    monkeypatch.setattr(module, "MAX_CONTACTS", 10)
    waiting = sensor("ann@example.com", "no address", "nor this", deferrable=False, poke_interval=0.1)
    with pytest.raises(
        AirflowFailException, match="has ended as COMPLETED: 2 contacts refused, 3 processed: look at its"
    ) as raised:
        waiting.execute({})
    texts = str(raised.value) + capsys.readouterr().out
    assert "has ended as COMPLETED" in texts
    for secret in ("@", "no address", "nor this", "Signature"):
        assert secret not in texts


def test_the_lines_of_the_file_of_failed_records_are_counted(
    sensor: Any, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CONTACTS", 10)
    waiting = sensor("no address", "nor this", deferrable=False, poke_interval=0.1)
    while (job := account.client.get_import_job(JobId=waiting.job_ids[0]))["JobStatus"] != "COMPLETED":
        pass
    assert waiting.hook.count_failed_records(job["FailureInfo"]["FailedRecordsS3Url"]) == 2
    monkeypatch.setattr(waiting.hook, "get_import_job", lambda job_id: job | {"FailedRecordsCount": 0})
    with pytest.raises(AirflowFailException, match="2 contacts refused"):
        waiting.execute({})


@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://127.0.0.1:9/x?Signature=s"])
def test_a_file_of_failed_records_that_cannot_be_fetched_still_fails_the_wait(
    sensor: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    waiting = sensor(deferrable=False, poke_interval=0.1)
    job = {
        "JobId": "j1", "JobStatus": "COMPLETED", "FailedRecordsCount": 0, "ProcessedRecordsCount": 1,
        "FailureInfo": {"FailedRecordsS3Url": url},
    }  # fmt: skip
    monkeypatch.setattr(waiting.hook, "get_import_job", lambda job_id: job)
    with pytest.raises(AirflowFailException, match="1 contacts refused"):
        waiting.execute({})
    texts = capsys.readouterr().out
    assert "the failed records cannot be counted" in texts
    assert url not in texts


def test_exhausted_attempts_are_an_error(sensor: Any, account: Account) -> None:
    account.control(import_seconds=60)
    waiting = sensor(max_attempts=2)
    event = fired(deferred(waiting.execute, {}).trigger)
    with pytest.raises(AirflowFailException, match="has not ended after 2 s: look at it with `aws sesv2"):
        waiting.execute_complete({}, event)


def test_an_interrupted_wait_is_continued(sensor: Any, account: Account) -> None:
    """The provider's trigger gives up at the first error that it does not know."""
    account.control(import_seconds=60)
    waiting = sensor()
    waits = deferred(waiting.execute, {})
    account.control(refuse={"code": "BadRequestException", "status": 400, "operations": ["GetImportJob"], "times": 1})
    event = fired(waits.trigger)
    assert event["status"] == "error"
    with pytest.raises(AirflowException, match="broke off: a later try waits on") as raised:
        waiting.execute_complete({}, event)
    assert not isinstance(raised.value, AirflowFailException)


def test_a_job_that_runs_on_after_its_end_was_seen_is_not_waited_for_again(sensor: Any, account: Account) -> None:
    account.control(import_seconds=60)
    waiting = sensor()
    with pytest.raises(AirflowException, match="broke off"):
        waiting.execute_complete({}, {"status": "success", "job_id": waiting.job_ids[0]})


def test_waits_on_a_worker_where_it_may_not_defer(sensor: Any, account: Account) -> None:
    account.control(import_seconds=0.5)
    sensor("ann@example.com", "bob@example.com", deferrable=False, poke_interval=0.1).execute({})
    assert len(account.contacts) == 2
