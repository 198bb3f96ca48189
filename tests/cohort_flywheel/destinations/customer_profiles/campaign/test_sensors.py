"""The sensor follows a campaign to its end, and says how it ended."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from cohort_flywheel.destinations.customer_profiles.campaign.connect_campaigns_store import RUNS_FOR
from cohort_flywheel.destinations.customer_profiles.campaign.sensors import FOLLOWS_FOR, ConnectCampaignSensor
from cohort_flywheel.destinations.customer_profiles.campaign.triggers import ConnectCampaignTrigger
from tests.cohort_flywheel.destinations.customer_profiles.connect_account import Connect

#: The error for each state of a campaign that did not complete.
TOLD: dict[str, Any] = {}
CONTEXT: Any = {"ti": SimpleNamespace(xcom_push=lambda key, value: TOLD.update({key: value}))}


@pytest.fixture
def connect(airflow_env: Any, servers: Any, fresh_config: Any, tmp_path: Path) -> Any:
    made = Connect(servers, fresh_config, tmp_path)
    yield made
    made.control(reset=True)
    made.campaign_control(reset=True)
    made.template_control(reset=True)


@pytest.fixture
def sensor(connect: Connect, context: Any) -> Any:
    """Makes the sensor of a campaign that was started and takes so many seconds."""

    def make(seconds: float, **arguments: Any) -> ConnectCampaignSensor:
        connect.campaign_control(campaign_seconds=seconds)
        plan, run = connect.launch_plan(), context()
        segment = connect.imported(plan, run, "ann", "bob")
        campaign_id = connect.launch(plan, segment, connect.prepare(plan, segment, run), run)["campaign_id"]
        defaults: dict[str, Any] = {"poke_interval": 1, "max_attempts": 30, "deferrable": True}
        return ConnectCampaignSensor(task_id="wait", campaign_id=campaign_id, **(defaults | arguments))

    return make


def deferred(call: Any, *arguments: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as raised:
        call(*arguments)
    return raised.value


def fired(trigger: Any) -> dict[str, Any]:
    """Run a trigger as the triggerer does, from its serialized form, until it fires."""
    path, arguments = trigger.serialize()
    assert path == "cohort_flywheel.destinations.customer_profiles.campaign.triggers.ConnectCampaignTrigger"

    async def first() -> dict[str, Any]:
        async for event in ConnectCampaignTrigger(**arguments).run():
            return dict(event.payload)
        raise AssertionError("the trigger ended without an event")

    return asyncio.run(asyncio.wait_for(first(), 60))


def test_defers_until_the_campaign_is_completed(sensor: Any, connect: Connect) -> None:
    waiting = sensor(3600)
    begun = deferred(waiting.execute, CONTEXT)
    assert begun.timeout == timedelta(seconds=1.1 * 30 + 600)  # no wait is without end; ours ends first
    connect.campaign_control(clock_ahead_seconds=3601)
    event = fired(begun.trigger)
    assert event == {"status": "success", "campaign_id": waiting.campaign_id}
    ended = {"campaign_id": waiting.campaign_id, "campaign_state": "Completed"}
    assert waiting.execute_complete(CONTEXT, event) == ended
    assert waiting.execute(CONTEXT) == ended, "what has ended is not waited for"


def test_waits_on_a_worker_too(sensor: Any) -> None:
    waiting = sensor(0, deferrable=False)
    assert waiting.execute(CONTEXT) == {"campaign_id": waiting.campaign_id, "campaign_state": "Completed"}


@pytest.mark.parametrize(
    ("end", "sentence"),
    [("Stopped", "was stopped in Connect"), ("Failed", "has failed"), ("gone", "is gone: it was deleted")],
)
@pytest.mark.parametrize("deferrable", [True, False])
def test_a_campaign_that_did_not_mail_all_players_fails(
    sensor: Any, connect: Connect, end: str, sentence: str, deferrable: bool
) -> None:
    connect.campaign_control(fail_next_campaigns=1 if end == "Failed" else 0)
    waiting = sensor(3600 if end != "gone" else 0, deferrable=deferrable)
    if end == "Stopped":
        connect.campaigns.stop_campaign(id=waiting.campaign_id)
    if end == "Failed":
        connect.campaign_control(clock_ahead_seconds=3601)
    if end == "gone":
        connect.campaigns.delete_campaign(id=waiting.campaign_id)
    else:
        assert fired(waiting_trigger(waiting))["status"] == "error"
    error = f"campaign {waiting.campaign_id} {sentence}, and may not have mailed every player.*and may have mailed"
    with pytest.raises(AirflowFailException, match=error):
        waiting.execute(CONTEXT)
    with pytest.raises(AirflowFailException, match=error):
        waiting.execute_complete(CONTEXT, {"status": "error", "message": "the campaign failed"})


def waiting_trigger(waiting: ConnectCampaignSensor) -> ConnectCampaignTrigger:
    return deferred(waiting._defer, waiting.campaign_id).trigger


def test_exhausted_attempts_end_the_wait_with_an_error(sensor: Any) -> None:
    waiting = sensor(3600, max_attempts=1)
    event = fired(deferred(waiting.execute, CONTEXT).trigger)
    assert event["status"] == "error"
    with pytest.raises(AirflowFailException, match="has not ended after 1 s: look at it in the console"):
        waiting.execute_complete(CONTEXT, event)


def test_an_interrupted_wait_is_retried(sensor: Any) -> None:
    waiting = sensor(3600)
    with pytest.raises(AirflowException, match="broke off: a later try waits on") as raised:
        waiting.execute_complete(CONTEXT, {"status": "error", "message": "connection refused"})
    assert not isinstance(raised.value, AirflowFailException)


def test_it_waits_longer_than_a_campaign_can_run_and_no_longer_than_its_task_may(airflow_env: Any) -> None:
    waiting = ConnectCampaignSensor(task_id="wait", campaign_id="any")
    in_triggerer = deferred(waiting._defer, waiting.campaign_id).timeout
    assert in_triggerer is not None
    assert RUNS_FOR < timedelta(seconds=waiting.timeout) < in_triggerer < FOLLOWS_FOR
    assert ConnectCampaignTrigger(campaign_id="any").attempts == waiting.max_attempts
