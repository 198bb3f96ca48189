"""What a daily launch uses up in Amazon Connect, and what is deleted to make room: against the emulated quotas."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, CronDataIntervalTimetable
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from cohort_flywheel.destinations.customer_profiles.campaign import hook as campaigns_hook
from cohort_flywheel.destinations.customer_profiles.campaign import operators as module
from cohort_flywheel.destinations.customer_profiles.campaign.connect_campaigns_store import TAG, launch_key
from cohort_flywheel.destinations.customer_profiles.campaign.template_versions_store import prepared_key
from tests.cohort_flywheel.destinations.customer_profiles.connect_account import (
    TODAY,
    Connect,
    keys_of,
    later,
)

PLAYERS = ("ann", "bob", "cat")
DAY = 86_400
#: So that the as-of of these tests is the newest for a year.
YEARLY = {"schedule": f"0 0 {TODAY.day} {TODAY.month} *"}


@pytest.fixture
def connect(airflow_env: Any, servers: Any, fresh_config: Any, tmp_path: Path) -> Any:
    made = Connect(servers, fresh_config, tmp_path)
    yield made
    made.control(reset=True)
    made.campaign_control(reset=True)
    made.template_control(reset=True)


@pytest.fixture
def ready(connect: Connect, context: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], Any]:
    """A run whose campaign is prepared: its plan, segment file, what was prepared, and context."""
    plan, run = connect.launch_plan() | YEARLY, context(run_id="today")
    segment = connect.imported(plan, run, *PLAYERS)
    return plan, segment, connect.prepare(plan, segment, run), run


def mails_of(connect: Connect, campaign_id: str) -> list[str]:
    (campaign,) = (each for each in connect.made if each["id"] == campaign_id)
    return sorted(mail["AccountNumber"] for mail in campaign["mails"])


def ids(connect: Connect) -> set[str]:
    return {campaign["id"] for campaign in connect.made}


# --- campaigns -------------------------------------------------------------------------------------------


def earlier(connect: Connect, ready: Any, name: str, state: str = "Completed", **changes: Any) -> str:
    """A campaign of an earlier launch, in a state; returns its id."""
    plan, _, prepared, _ = ready
    request = connect.request(plan | {"name": name}, prepared) | changes
    campaign_id = str(connect.campaigns.create_campaign(**request)["id"])
    if state != "Initialized":
        connect.campaign_control(
            campaign_seconds=100 * DAY if state in ("Running", "Stopped") else 0,
            fail_next_campaigns=1 if state == "Failed" else 0,
        )
        connect.campaigns.start_campaign(id=campaign_id)
        connect.campaign_control(campaign_seconds=0)
    if state == "Stopped":
        connect.campaigns.stop_campaign(id=campaign_id)
    return campaign_id


def put(connect: Connect, key: str, body: bytes) -> None:
    connect.s3.put_object(Bucket=connect.config.state_bucket, Key=key, Body=body)


def put_ledger(connect: Connect, name: str) -> None:
    header = {
        "name": name, "template": "at_risk", "segment_sha256": "0", "destination": "customer_profiles",
        "launched_at": "2020-01-01T00:00:00+00:00", "players": 0,
    }  # fmt: skip
    put(connect, f"sends/at_risk/{name}.jsonl", json.dumps(header).encode() + b"\n")


def launch_after(connect: Connect, ready: Any, days: float) -> dict[str, Any]:
    connect.campaign_control(clock_ahead_seconds=days * DAY)
    return connect.launch(*ready, clock=later(days))


def test_a_launch_deletes_what_was_completed_a_month_ago_and_nothing_else(connect: Connect, ready: Any) -> None:
    plan = ready[0]
    gone = {earlier(connect, ready, f"day_{number}") for number in range(3)}
    theirs = f"s3://another-state/sends/at_risk/{plan['name']}.jsonl"
    kept = {
        earlier(connect, ready, "stopped", "Stopped"),
        earlier(connect, ready, "failed", "Failed"),
        earlier(connect, ready, "by_hand", tags={}),
        earlier(connect, ready, "of_another_deployment", tags={TAG: theirs}),
        earlier(connect, ready, "another_name", tags={TAG: connect.request(plan, ready[2])["tags"][TAG]}),
    }
    launched = launch_after(connect, ready, 31.5)["campaign_id"]
    assert ids(connect) == kept | {launched}
    assert not gone & kept
    assert mails_of(connect, launched) == keys_of(PLAYERS)


def test_a_campaign_that_runs_or_ended_recently_is_not_deleted(connect: Connect, ready: Any) -> None:
    kept = {earlier(connect, ready, "recent"), earlier(connect, ready, "running", "Running")}
    launched = launch_after(connect, ready, 30)["campaign_id"]
    assert ids(connect) == kept | {launched}


def test_an_unstarted_campaign_is_deleted_unless_its_players_count_as_mailed(connect: Connect, ready: Any) -> None:
    """A list that was behind leaves a second campaign; a launch that broke off leaves one that a person looks at."""
    forgotten = earlier(connect, ready, "forgotten", "Initialized")
    second = earlier(connect, ready, "second", "Initialized")
    put(connect, launch_key("second"), json.dumps({"campaign_id": "the first one"}).encode())
    put_ledger(connect, "second")
    recorded = earlier(connect, ready, "recorded", "Initialized")
    put(connect, launch_key("recorded"), json.dumps({"campaign_id": recorded}).encode())
    broken_off = earlier(connect, ready, "broken_off", "Initialized")
    put_ledger(connect, "broken_off")
    launched = launch_after(connect, ready, 31.5)["campaign_id"]
    assert ids(connect) == {recorded, broken_off, launched}
    assert not {forgotten, second} & ids(connect)


def test_at_the_quota_campaigns_that_ended_days_ago_are_deleted(connect: Connect, ready: Any) -> None:
    """500 by default: six daily cohorts have them in 83 days."""
    gone = {earlier(connect, ready, f"day_{number}") for number in range(3)}
    connect.campaign_control(total_campaigns=3)
    launched = launch_after(connect, ready, 3.5)["campaign_id"]
    assert ids(connect) == {launched}
    assert launched not in gone
    assert mails_of(connect, launched) == keys_of(PLAYERS)


@pytest.mark.nightly
def test_many_days_of_launches_never_exceed_the_quota(connect: Connect, ready: Any) -> None:
    """Each day one more ended campaign and one more launch, far more of them than the instance may have."""
    plan, segment, prepared, run = ready
    connect.campaign_control(total_campaigns=5)
    for number in range(0, 40, 4):
        connect.campaign_control(clock_ahead_seconds=number * DAY)
        name = f"day_{number}"
        connect.imported(plan | {"name": name}, run, *PLAYERS)
        day = connect.launch_plan(name=name, not_again_days=0) | YEARLY
        launched = connect.launch(day, segment, prepared, run, clock=later(number))
        assert mails_of(connect, launched["campaign_id"]) == keys_of(PLAYERS)
        # so that the same players can be mailed again
        connect.s3.delete_object(Bucket=connect.config.state_bucket, Key=f"sends/at_risk/{name}.jsonl")
    assert len(connect.made) <= 5


@pytest.mark.parametrize("why", ["total_campaigns", "active_campaigns"])
def test_a_full_instance_in_which_nothing_of_ours_has_ended_refuses_the_launch(
    connect: Connect, ready: Any, why: str
) -> None:
    kept = {earlier(connect, ready, "by_hand", "Running", tags={}), earlier(connect, ready, "recent")}
    connect.campaign_control(**{why: 2 if why == "total_campaigns" else 1})
    with pytest.raises(AirflowException, match="as many campaigns as its quota allows.*No player counts") as raised:
        connect.launch(*ready)
    assert not isinstance(raised.value, AirflowFailException), "a campaign that ends makes room"
    assert (ids(connect), connect.ledger()) == (kept, None)
    connect.campaign_control(**{why: 10})
    launched = connect.launch(*ready)["campaign_id"]
    assert mails_of(connect, launched) == keys_of(PLAYERS)


def test_a_start_that_the_quota_refuses_is_tried_again_and_starts_once(connect: Connect, ready: Any) -> None:
    refusal = {"code": "ServiceQuotaExceededException", "status": 402, "operations": ["StartCampaign"]}
    connect.campaign_control(refuse=refusal)
    with pytest.raises(AirflowException, match="ServiceQuotaExceeded.*send ledger was put") as raised:
        connect.launch(*ready)
    assert not isinstance(raised.value, AirflowFailException)
    connect.campaign_control(refuse=None)
    connect.launch(*ready)
    assert connect.launch(*ready)["campaign_state"] == "Completed"
    assert (connect.states, connect.mailed) == (["Completed"], keys_of(PLAYERS))


def test_a_role_that_may_not_delete_launches_all_the_same(
    connect: Connect, ready: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    old = earlier(connect, ready, "old")
    connect.campaign_control(refuse={"code": "AccessDeniedException", "status": 403, "operations": ["DeleteCampaign"]})
    launched = launch_after(connect, ready, 31.5)["campaign_id"]
    assert ids(connect) == {old, launched}


@pytest.mark.parametrize("lose_by", ["drop", "error"])
def test_a_lost_answer_to_a_deletion_is_not_an_error(connect: Connect, ready: Any, lose_by: str) -> None:
    earlier(connect, ready, "old")
    connect.campaign_control(lose_next_answers=1, lose_operations=["DeleteCampaign"], lose_by=lose_by)
    launched = launch_after(connect, ready, 31.5)["campaign_id"]
    assert ids(connect) == {launched}


# --- a try that ends between the campaign and the send ledger


class Killed(BaseException):
    """As a worker that is killed: nothing catches it."""


@pytest.fixture
def created_only(connect: Connect, ready: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a campaign that a try has created before it was killed."""

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module.ConnectLaunchCampaignOperator, "_put_ledger", killed)
        connect.launch(*ready)
    assert (connect.states, connect.ledger()) == (["Initialized"], None)
    return str(connect.made[0]["id"])


def test_the_next_attempt_adopts_the_campaign(connect: Connect, ready: Any, created_only: str) -> None:
    assert connect.launch(*ready)["campaign_id"] == created_only
    assert (connect.states, connect.mailed) == (["Completed"], keys_of(PLAYERS))


REFUSALS = pytest.mark.parametrize(
    ("refuse", "kind", "clock"),
    [
        (lambda c: c.contacts("bob", marketing="no"), AirflowFailException, later(0)),
        (lambda c: None, AirflowSkipException, later(370)),
    ],
    ids=["a player has withdrawn", "an older as-of"],
)


@REFUSALS
def test_a_refused_attempt_deletes_the_unstarted_campaign(
    connect: Connect,
    ready: Any,
    created_only: str,
    refuse: Callable[[Connect], None],
    kind: type[Exception],
    clock: Any,
) -> None:
    """A user of Connect could start it, past the send ledger."""
    refuse(connect)
    with pytest.raises(kind):
        connect.launch(*ready, clock=clock)
    assert (connect.made, connect.ledger()) == ([], None)


@REFUSALS
def test_a_campaign_started_in_connect_counts_as_mailed_if_the_next_attempt_is_refused(
    connect: Connect,
    ready: Any,
    created_only: str,
    refuse: Callable[[Connect], None],
    kind: type[Exception],
    clock: Any,
) -> None:
    connect.campaigns.start_campaign(id=created_only)
    refuse(connect)
    with pytest.raises(kind):
        connect.launch(*ready, clock=clock)
    assert (connect.mailed, connect.ledger()) == (keys_of(PLAYERS), sorted(PLAYERS))


def test_a_campaign_started_in_connect_meanwhile_counts_as_mailed(
    connect: Connect, ready: Any, created_only: str
) -> None:
    connect.campaigns.start_campaign(id=created_only)
    for _ in range(2):
        with pytest.raises(AirflowFailException, match="no launch has started it"):
            connect.launch(*ready)
    assert (connect.mailed, connect.ledger()) == (keys_of(PLAYERS), sorted(PLAYERS))


def test_a_campaign_that_is_deleted_while_it_is_looked_for_is_not_found(
    connect: Connect, ready: Any, created_only: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list may still name it."""
    listed = campaigns_hook.ConnectCampaignsHook.campaigns

    def behind(hook: Any, instance_id: str | None = None) -> Any:
        found = list(listed(hook, instance_id))
        if created_only in ids(connect):
            connect.campaigns.delete_campaign(id=created_only)
        return iter(found)

    monkeypatch.setattr(campaigns_hook.ConnectCampaignsHook, "campaigns", behind)
    launched = connect.launch(*ready)["campaign_id"]
    assert ids(connect) == {launched} != {created_only}
    assert connect.mailed == keys_of(PLAYERS)


# --- versions of a message template ----------------------------------------------------------------------


def edit(connect: Connect, ready: Any, text: str, mode: str = "draft", **changes: Any) -> str:
    """The version of an edited mail, which a run has prepared: `<id>:3`."""
    plan, segment, _, run = ready
    connect.write_template(subject_txt=text)
    campaign = plan["campaign"] | {"mode": mode}
    prepared = connect.prepare(plan | {"campaign": campaign} | changes, segment, run)
    assert prepared["message"]["subject"] == text
    return str(prepared["template_arn"].rpartition("/")[2])


def versions(connect: Connect) -> list[int]:
    (template,) = connect.message_templates
    return sorted(int(number) for number in template["versions"])


def test_a_mail_can_be_edited_any_number_of_times(connect: Connect, ready: Any) -> None:
    """A message template has 20 versions: the 21st edit ended launches by it."""
    last = [edit(connect, ready, f"Edit {number}") for number in range(2, 26)][-1]
    assert last.endswith(":25")
    assert versions(connect) == [1, *range(7, 26)], "the first one is of a launch that may be approved yet"
    connect.write_template()


def test_a_version_that_a_campaign_or_a_waiting_launch_uses_is_not_deleted(connect: Connect, ready: Any) -> None:
    connect.template_control(versions_per_template=7)
    base = dict(connect.qconnect.list_message_templates(knowledgeBaseId=connect.base)["messageTemplateSummaries"][0])
    arn = base["messageTemplateArn"].rpartition(":")[0]

    def campaign(number: int, state: str, name: str) -> None:
        plan, _, prepared, _ = ready
        request = connect.request(plan | {"name": name}, prepared | {"template_arn": f"{arn}:{number}"})
        earlier(connect, ready, name, state, channelSubtypeConfig=request["channelSubtypeConfig"], tags={})

    for number in range(2, 8):
        edit(connect, ready, f"Edit {number}", "launch" if number == 5 else "draft", name=f"run_{number}")
    campaign(2, "Initialized", "planned")
    campaign(3, "Running", "running")
    campaign(6, "Completed", "over")
    connect.qconnect.activate_message_template(
        knowledgeBaseId=connect.base, messageTemplateId=base["messageTemplateId"], versionNumber=4
    )
    assert edit(connect, ready, "Edit 8").endswith(":8")
    assert versions(connect) == [1, 2, 3, 4, 5, 7, 8], "6 was the only one that nothing used"
    assert edit(connect, ready, "Edit 9").endswith(":9")
    assert versions(connect) == [1, 2, 3, 4, 5, 8, 9]
    launched = connect.launch(*ready)["campaign_id"]
    assert mails_of(connect, launched) == keys_of(PLAYERS), "a launch that waited for its approval has its version"


def test_if_all_versions_are_used_the_edit_is_refused_and_no_version_deleted(connect: Connect, ready: Any) -> None:
    connect.template_control(versions_per_template=3)
    for number in (2, 3):
        edit(connect, ready, f"Edit {number}", "launch", name=f"run_{number}")
    with pytest.raises(AirflowFailException, match="has as many versions as Amazon Q in Connect allows"):
        edit(connect, ready, "Edit 4")
    assert versions(connect) == [1, 2, 3]
    assert connect.template_control()["calls"].get("DeleteMessageTemplate", 0) == 0


def test_a_launch_of_an_older_as_of_no_longer_counts_as_waiting(connect: Connect, ready: Any) -> None:
    connect.template_control(versions_per_template=2)
    old = {"prepared_long_ago": {"as_of": "2020-01-01T00:00:00+00:00", "version": f"{_template_id(connect)}:1"}}
    put(connect, prepared_key("at_risk"), json.dumps(old).encode())
    edit(connect, ready, "Edit 2", "launch", name="run_2")
    edit(connect, ready, "Edit 3")
    assert versions(connect) == [2, 3]
    kept = connect.s3.get_object(Bucket=connect.config.state_bucket, Key=prepared_key("at_risk"))["Body"].read()
    assert json.loads(kept) == {"run_2": {"as_of": TODAY.isoformat(), "version": f"{_template_id(connect)}:2"}}


def test_the_current_schedule_decides_which_launches_still_wait(connect: Connect, ready: Any) -> None:
    """Not the one that the run was planned with, of each minute."""
    connect.template_control(versions_per_template=3)
    edit(connect, ready, "Edit 2", "launch", name="run_2")
    plan, segment, prepared, run = ready
    in_force = {"dag": DAG("a_dag", schedule=CronDataIntervalTimetable(YEARLY["schedule"], timezone="UTC"))}
    cleared = plan | {"schedule": "* * * * *"}, segment, prepared, run | in_force
    assert edit(connect, cleared, "Edit 3", "launch", name="run_3").endswith(":3")
    with pytest.raises(AirflowFailException, match="has as many versions as Amazon Q in Connect allows"):
        edit(connect, cleared, "Edit 4")
    assert versions(connect) == [1, 2, 3]


def _template_id(connect: Connect) -> str:
    return str(connect.message_templates[0]["id"])


@pytest.mark.parametrize("lose_by", ["drop", "error"])
def test_a_lost_answer_to_the_deletion_of_a_version_is_not_an_error(connect: Connect, ready: Any, lose_by: str) -> None:
    connect.template_control(versions_per_template=3)
    for number in (2, 3):
        edit(connect, ready, f"Edit {number}")
    connect.template_control(lose_next_answers=1, lose_operations=["DeleteMessageTemplate"], lose_by=lose_by)
    assert edit(connect, ready, "Edit 4").endswith(":4")
    assert versions(connect) == [1, 3, 4]


def test_a_full_knowledge_base_is_an_error(connect: Connect, context: Any) -> None:
    connect.template_control(templates_per_knowledge_base=0)
    plan, run = connect.launch_plan(), context()
    segment = connect.segment("one", ["ann"])
    with pytest.raises(AirflowFailException, match="as many message templates as its quota allows.*Changes made: none"):
        connect.prepare(plan, segment, run)
