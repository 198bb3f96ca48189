"""What an approver is asked, and what counts as an answer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.standard.operators import hitl
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, CronDataIntervalTimetable
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, DownstreamTasksSkipped

from cohort_flywheel.campaign import operators as approve
from cohort_flywheel.campaign.approval import check_approval
from cohort_flywheel.campaign.launch import PreparedCampaign
from cohort_flywheel.campaign.operators import ANSWER, SHOWN, CampaignApprovalOperator
from cohort_flywheel.config.registry_head import Notify
from cohort_flywheel.errors import FlywheelError
from tests.cohort_flywheel.campaign.campaigns import digest_of
from tests.cohort_flywheel.plans import plan_output
from tests.cohort_flywheel.task_outputs import checked_segment, limit_result, prepared_campaign, segment_file

PLAN = plan_output(
    "ea_atrisk_1_2026-11-22", threshold=1, withhold={"holdout_percent": 5},
    campaign={
        "mode": "launch", "template": "at_risk", "from": "Studio <play@studio.example>", "not_again_days": 30,
        "test_addresses": [], "approvers": ["ann", "bo"],
    },
)  # fmt: skip
CHECKED = checked_segment(
    segment_file(1200, members=1234, rejects={"opted_out": 30, "holdout": 4}),
    limits=[limit_result(limit="max_change_percent", sentence="1,000 rows then, 1,200 now")],
)
PREPARED = prepared_campaign(
    template_digest="f" * 64, rows=1200, segment_id="s3://import/segments/it", segment_sha256="d" * 64,
    message={"subject": "We miss you, Sam", "text": "Hello Sam,\n\n1. play\n* win *\n\n  Your <studio>",
             "html_url": "s3://state/reports/mail.html"},
)  # fmt: skip
REPORT = "s3://state/reports/ea_atrisk_1/the_run.json"
AT = datetime(2026, 11, 22, 16, 0, tzinfo=UTC)


class WaitsError(Exception):
    """What the task raises to wait, whatever Airflow's own is."""


class Question:
    """One run's question: what Airflow shows, the notifications, and the recorded answer."""

    def __init__(self, context: Any) -> None:
        self.context, self.plan, self.prepared = context(task_id="approve_campaign"), PLAN, PREPARED
        self.now = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
        self.shown: dict[str, Any] = {}
        self.put: list[tuple[str, dict[str, Any]]] = []
        self.notifications: list[tuple[Any, str, str]] = []

    def operator(self) -> CampaignApprovalOperator:
        """Built again, as in each process."""
        with DAG("cohort_to_segment", schedule=None):
            made = CampaignApprovalOperator(
                task_id="approve_campaign", plan=self.plan, checked=CHECKED, prepared=self.prepared, hours=12,
                verified={"unsubscribed": 2}, clock=lambda: self.now,
                notify=Notify(approvers=[{"notifier": "studio.Chat"}]),
            )  # fmt: skip
            made.set_downstream(EmptyOperator(task_id="launch_campaign"))
        self.context |= {"task": made, "task_instance": self.context["ti"]}
        return made

    def ask(self) -> None:
        self.context["ti"].id = "the-id"
        self.asked = self.operator()
        with pytest.raises(WaitsError):
            self.asked.execute(self.context)

    def answer(self, option: str, by: str | None = "ann", **event: Any) -> Any:
        """Return the output of the task after an answer to what was shown."""
        if not self.shown:
            self.ask()
        answer = {
            "chosen_options": [option], "params_input": {SHOWN: self.shown["params"][SHOWN]["value"]},
            "responded_at": AT, "responded_by_user": {"id": "7", "name": by} if by else None, "timedout": by is None,
        }  # fmt: skip
        return self.operator().execute_complete(self.context, answer | event)

    @property
    def recorded(self) -> Mapping[str, Any]:
        """What the launch gets."""
        found: Mapping[str, Any] = self.context["ti"].xcoms["approve_campaign", ANSWER]
        return found


@pytest.fixture
def question(context: Any, monkeypatch: pytest.MonkeyPatch) -> Question:
    made = Question(context)

    def show(**shown: Any) -> None:
        made.shown = shown
        raise WaitsError

    def send_notifications(targets: Any, context: Any, *, subject: str, message: str) -> None:
        made.notifications.append((targets, subject, message))

    monkeypatch.setattr(hitl, "upsert_hitl_detail", show)
    monkeypatch.setattr(approve, "send_notifications", send_notifications)
    monkeypatch.setattr(approve, "write_report", lambda *_: ({}, REPORT))
    monkeypatch.setattr(approve, "withdraw_approval", lambda *_: made.put.clear())
    put = lambda _, plan, answer: made.put.append((plan.name, answer.model_dump()))  # noqa: E731 - one line
    monkeypatch.setattr(approve, "put_approval", put)
    return made


# --- the question


def test_the_question_shows_content_count_sender_and_new_players(question: Question) -> None:
    question.ask()
    assert question.shown["subject"] == "May ea_atrisk_1_2026-11-22 be launched, to 1,200 players?"
    body = question.shown["body"]
    assert "**1,200 players** of ea_atrisk (ea_atrisk above 1, as of 2026-11-22T00:00:00+00:00)" in body
    assert "get one mail each, except 2 who have unsubscribed." in body
    assert "([its HTML](https://console.aws.amazon.com/s3/object/state?prefix=reports/mail.html))" in body
    assert r"- from Studio \<play@studio.example\>" in body
    assert "members 1,234; no row: 30 opted_out, 4 holdout" in body
    assert "change since last time: 1,000 rows then, 1,200 now" in body
    assert "at most once in 30 days; held out: 5 %\n" in body
    assert f"segment s3://import/segments/it, content {'d' * 16}; template at_risk, content {'f' * 16}" in body
    assert f"{REPORT} ([S3 console](https://console.aws.amazon.com/s3/object/state?prefix=reports/ea_" in body
    assert body.endswith("ann or bo may approve it until 2026-11-22 21:00 UTC. A no, and no answer in time, end the run"
                         " with nothing sent.")  # fmt: skip


def test_the_question_shows_where_replies_go(question: Question) -> None:
    question.prepared = {**PREPARED, "reply_to": "Help <help@studio.example>"}
    question.ask()
    lines = question.shown["body"].splitlines()
    assert lines[lines.index(r"- from Studio \<play@studio.example\>") + 1] == (
        r"- replies go to Help \<help@studio.example\>"
    )


def test_the_mail_is_shown_line_by_line_with_markdown_escaped(question: Question) -> None:
    question.ask()
    lines = [
        "Subject: We miss you, Sam",
        "\xa0",
        "Hello Sam,",
        "\xa0",
        r"1\. play",
        r"\* win \*",
        "\xa0",
        r"Your \<studio\>",
    ]
    assert "\n\n" + "".join(f"> {line}  \n" for line in lines) + "\n" in question.shown["body"]


def test_the_question_is_rejected_by_default_and_times_out(question: Question) -> None:
    question.ask()
    assert question.shown["defaults"] == ["Reject"]
    assert question.asked.response_timeout == timedelta(hours=12)


def test_the_question_ends_at_the_next_as_of(question: Question) -> None:
    question.now = datetime(2026, 11, 22, 18, 30, tzinfo=UTC)
    question.ask()
    assert question.asked.response_timeout == timedelta(hours=5.5)
    assert "may approve it until 2026-11-23 00:00 UTC" in question.shown["body"]


def test_the_next_as_of_follows_the_current_schedule(question: Question) -> None:
    """The plan was made under a weekly schedule, and the DAG runs every six hours by now."""
    question.plan = PLAN | {"schedule": "0 0 * * 0"}
    question.context["dag"] = DAG("a_dag", schedule=CronDataIntervalTimetable("0 */6 * * *", timezone="UTC"))
    question.ask()
    assert question.asked.response_timeout == timedelta(hours=3)


@pytest.mark.parametrize("base_url", ["https://airflow.studio.example", ""], ids=["base_url", "no base_url"])
def test_the_approvers_are_notified_with_the_link_to_answer(
    question: Question, base_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if base_url:
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", base_url)
    question.ask()
    ((targets, subject, message),) = question.notifications
    assert targets == [{"notifier": "studio.Chat"}]
    assert subject == "Cohort Flywheel: waits for approval: ea_atrisk_1_2026-11-22"
    assert question.shown["body"] in message
    run = "/dags/cohort_to_segment/runs/manual__2026-11-22/tasks/approve_campaign/required_actions"
    assert f"Answer, until 2026-11-22 21:00 UTC: {base_url}{run}" in message


@pytest.mark.parametrize("mode", ["draft", "test"])
def test_only_a_launch_needs_approval(question: Question, mode: str) -> None:
    question.prepared = PREPARED | {"mode": mode}
    with pytest.raises(AirflowSkipException, match=f"campaign={mode} needs no approval"):
        question.operator().execute(question.context)
    assert (question.shown, question.notifications) == ({}, [])


# --- the answer


def test_an_approval_is_recorded_for_the_launch(question: Question) -> None:
    answer = {
        "approved": True, "by": "ann", "at": AT.isoformat(), "timed_out": False, "digest": digest_of(PREPARED),
    }  # fmt: skip
    assert question.answer("Approve") == question.recorded == answer
    assert question.put == [("ea_atrisk_1_2026-11-22", answer)]
    check_approval(PreparedCampaign.model_validate(PREPARED), question.recorded, ["ann", "bo"])


def test_asking_again_withdraws_the_earlier_approval(question: Question) -> None:
    question.answer("Approve")
    question.ask()
    assert question.put == []


@pytest.mark.parametrize("by", ["ann", "bob", None])
def test_a_rejection_by_any_user_skips_the_launch_and_is_recorded(question: Question, by: str | None) -> None:
    """Without an answer it is the timeout's."""
    with pytest.raises(DownstreamTasksSkipped):
        question.answer("Reject", by)
    assert (question.recorded["approved"], question.recorded["by"]) == (False, by)
    assert question.recorded["timed_out"] is (by is None)
    assert question.put == []
    refused(question)


@pytest.mark.parametrize("by", ["bob", "ana", "7", None])
def test_an_approval_by_another_user_fails_the_task(question: Question, by: str | None) -> None:
    """The user who triggered the run is not an approver of its plan."""
    with pytest.raises(AirflowFailException, match=f"{by} has approved, but is not an approver .*: ann or bo may"):
        question.answer("Approve", by, timedout=False)
    assert (question.recorded["approved"], question.recorded["by"]) == (False, by)
    refused(question)


@pytest.mark.parametrize("change", [{"segment_sha256": "e" * 64}, {"message": PREPARED["message"] | {"text": "more"}}])
def test_an_approval_of_an_earlier_preparation_fails_the_task(question: Question, change: dict[str, Any]) -> None:
    question.ask()
    question.prepared = PREPARED | change
    with pytest.raises(AirflowFailException, match="ann has approved another segment or mail .*: trigger a new run"):
        question.answer("Approve")
    refused(question)


def test_an_approval_of_the_first_question_that_airflow_shows_fails_the_task(question: Question) -> None:
    question.ask()
    first = question.shown
    question.prepared = PREPARED | {"rows": 1300}
    question.ask()
    question.shown = first
    with pytest.raises(AirflowFailException, match="ann has approved another segment or mail .*: trigger a new run"):
        question.answer("Approve")
    refused(question)


@pytest.mark.parametrize("fields", [{}, None])
def test_an_approval_without_a_digest_fails_the_task(question: Question, fields: Any) -> None:
    with pytest.raises(AirflowFailException, match="ann has approved another segment or mail"):
        question.answer("Approve", params_input=fields)
    refused(question)


def test_an_answer_that_airflow_rejects_fails_the_task(question: Question) -> None:
    with pytest.raises(
        AirflowFailException, match=r"not accepted \(validation\), as it is to another .*: trigger a new run"
    ):
        question.operator().execute_complete(question.context, {"error": "a text", "error_type": "validation"})
    assert question.context["ti"].xcoms == {}


def refused(question: Question) -> None:
    """The launch takes the recorded answer for none."""
    with pytest.raises(FlywheelError, match="no recorded approval"):
        check_approval(PreparedCampaign.model_validate(question.prepared), question.recorded, ["ann", "bo"])
