"""The last task: what the run reached, filed where it can be found, whatever happened before."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, BaseNotifier
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from botocore.exceptions import ClientError
from jsonschema import Draft202012Validator

from cohort_flywheel.campaign import launch_store as launch
from cohort_flywheel.campaign.launch import ApprovalAnswer
from cohort_flywheel.campaign.launch_store import put_approval
from cohort_flywheel.config.registry_head import Notify
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.report_operator import CohortReportOperator
from local.config import ROOT
from tests.cohort_flywheel.campaign.campaigns import digest_of
from tests.cohort_flywheel.task_outputs import (
    approval_answer,
    extract_facts,
    limit_result,
    prepared_campaign,
    segment_file,
)

NOW = datetime(2026, 11, 22, 16, tzinfo=UTC)
KEY = "reports/ea_atrisk_2_2026-11-22_00-00-00/cohort_to_segment__manual__2026-11-22.json"
SCHEMA = json.loads((ROOT / "plugins" / "cohort_flywheel" / "runs" / "report.schema.json").read_text())


def segment(members: int = 4, **changed: Any) -> dict[str, Any]:
    rows, counts = members - 1, {"do_not_contact": 3, "do_not_contact_matched": 1}
    records = {"records": rows, "records_without": {"email": 0, "lastName": rows}}
    return segment_file(rows, members=members, rejects={"no_record": 1}) | counts | records | changed


def verdicts(members: int, at_most: int) -> list[dict[str, Any]]:
    return [limit_result(members, allowed=at_most, holds=members <= at_most)]


PREPARED = prepared_campaign()
IMPORTED = {
    "result_key": "results/n.json", "job_id": "j1", "segment_id": "s1", "segment_version": 1, "segment_size": 3,
}  # fmt: skip


class Recorder(BaseNotifier):
    """Keeps the notifications."""

    messages: ClassVar[list[str]] = []

    def notify(self, context: Any) -> None:
        self.messages.append(context["alert"]["message"])


class Run:
    """A run whose tasks ended in the given states."""

    def __init__(self, context: Any, aws: Any, bucket: str) -> None:
        with DAG("a_dag", schedule=None) as dag:  # a notifier renders with a real one
            for task_id in context["dag"].task_ids:
                EmptyOperator(task_id=task_id)
        self._aws, self._bucket = aws, bucket
        self.context: Any = {**context, "dag": dag}
        self.ti = context["ti"]

    def ended(self, task_id: str, state: str = "success", output: Any = None, **others: Any) -> None:
        self.ti.states[task_id] = state
        if output is not None:
            self.ti.xcoms[task_id, "return_value"] = output
        for key, value in others.items():
            self.ti.xcoms[task_id, key] = value

    def report(self, group: str = "on_call") -> dict[str, Any]:
        self.ti.states["report"] = "running"
        return CohortReportOperator(
            task_id="report",
            notify=Notify.model_validate({group: [{"notifier": f"{__name__}.Recorder"}]}), clock=lambda: NOW,
        ).execute(self.context)  # fmt: skip

    def filed(self, key: str = KEY) -> dict[str, Any]:
        body = json.loads(self._aws("s3").get_object(Bucket=self._bucket, Key=key)["Body"].read())
        Draft202012Validator(SCHEMA).validate(body)
        return dict(body)


@pytest.fixture
def run(context: Any, planned: Any, aws: Any, fresh_config: Any) -> Run:
    """With a plan, an extract of four and its enrichment."""
    Recorder.messages.clear()
    made = Run(context(task_id="report"), aws, fresh_config.state_bucket)
    made.ended("plan", output=planned())
    made.ended("extract", output=[{"index": 0}], facts=extract_facts())
    made.ended("enrich_0", output=segment())
    return made


def passed(run: Run, **changed: Any) -> None:
    state = changed.pop("state", "success")
    judged = {"limits": verdicts(4, 9), "previous": None, "override": None}
    run.ended("check_limits", state, judged=judged | {"extract": extract_facts(), "segment": segment()} | changed)


def test_a_run_that_imported(run: Run) -> None:
    passed(run)
    run.ended("record_result", output=IMPORTED)
    output = run.report()
    assert output["outcome"] == "imported"
    assert output["report_url"].endswith(f"/{KEY}")
    filed = run.filed()
    assert filed["run"] == {
        "dag_id": "cohort_to_segment", "run_id": "manual__2026-11-22", "run_type": "manual",
        "started": "2026-11-22T15:30:00+00:00", "reported": "2026-11-22T16:00:00+00:00", "triggered_by": "ana",
    }  # fmt: skip
    assert filed["imported"] == IMPORTED
    assert filed["limits"]["limits"] == verdicts(4, 9)
    assert "report" not in filed["tasks"]
    assert filed["faults"] == []


def test_the_report_takes_extract_and_segment_from_check_limits(run: Run) -> None:
    """Another run's snapshot was the day's, so that this run's own read is not what was imported."""
    passed(
        run, extract=extract_facts(2, source="snapshot", snapshot="final", snapshot_key="snapshots/theirs"),
        segment=segment(2),
    )  # fmt: skip
    run.ended("record_result", output=IMPORTED | {"segment_size": 1})
    assert run.report()["outcome"] == "imported"
    filed = run.filed()
    assert (filed["extract"]["members"], filed["extract"]["snapshot_key"]) == (2, "snapshots/theirs")
    assert (filed["segment"]["rows"], filed["extract"]["source"]) == (1, "snapshot")


def test_a_run_stopped_by_a_limit_has_its_results(run: Run) -> None:
    judged = {"limits": verdicts(4, 3), "previous": {"members": 1, "what": "the segment of …"}, "override": None}
    passed(run, state="failed", **judged)
    run.ended("create_import_job", "upstream_failed")
    assert run.report()["outcome"] == "stopped by limits"
    filed = run.filed()
    assert filed["limits"] == judged
    assert (filed["extract"]["members"], filed["segment"]["rows"], filed["imported"]) == (4, 3, None)
    assert filed["tasks"]["check_limits"] == "failed"


def test_a_run_that_failed_before_its_limits_were_evaluated_is_failed(run: Run) -> None:
    run.ended("check_limits", "failed")
    assert run.report()["outcome"] == "failed"
    assert run.filed()["limits"] is None


def test_a_run_that_passed_and_failed_later_is_a_failed_one(run: Run) -> None:
    passed(run)
    run.ended("create_import_job", "failed")
    run.ended("record_result", "upstream_failed")
    assert run.report()["outcome"] == "failed"
    assert run.filed()["limits"]["limits"] == verdicts(4, 9)


def test_an_override_is_in_the_report(run: Run) -> None:
    override = {"by": "ana", "reason": "A raid.", "limits": ["max_members"]}
    passed(run, limits=verdicts(4, 3), override=override)
    run.ended("record_result", output=IMPORTED)
    assert run.report()["outcome"] == "imported"
    assert run.filed()["limits"]["override"] == override


@pytest.mark.parametrize(
    ("answer", "recorded", "filed"),
    [
        pytest.param({}, None, None, id="a yes that was written by hand"),
        pytest.param({"by": "bob"}, {}, {}, id="a yes, as it was recorded"),
        pytest.param({"by": "bob"}, {"approved": False}, None, id="a yes that was taken back since"),
        pytest.param({"approved": False}, None, {"approved": False}, id="a no"),
        pytest.param({"approved": False}, {}, {"approved": False}, id="a no, after another run's yes"),
        pytest.param("yes", {}, None, id="not an answer"),
        pytest.param({"why": "because"}, {}, None, id="more than an answer has"),
    ],
)
def test_an_approval_is_reported_as_recorded(
    run: Run, planned: Any, aws: Any, fresh_config: Any, answer: Any, recorded: Any, filed: Any
) -> None:
    """A user who can write XComs cannot write an approver into a report."""
    yes = approval_answer(digest=digest_of(PREPARED))
    passed(run)
    run.ended("prepare_campaign", output=PREPARED)
    run.ended("approve_campaign", answer=yes | answer if isinstance(answer, dict) else answer)
    if recorded is not None:
        given = ApprovalAnswer.model_validate(yes | recorded)
        put_approval(S3Hook(), Plan.model_validate(planned()), given)
    run.report()
    assert run.filed()["campaign"]["answer"] == (None if filed is None else yes | filed)


def test_a_role_without_a_right_to_launches_still_reports(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty `CampaignSender` ends all mailing; the report still has what was sent before."""
    passed(run)
    run.ended("prepare_campaign", output=PREPARED)
    yes = approval_answer(digest=digest_of(PREPARED))
    run.ended("approve_campaign", answer=yes)
    codes = iter(["AccessDenied", "InternalError"])

    def refuse(*_: Any) -> None:
        raise ClientError({"Error": {"Code": next(codes)}}, "GetObject")

    monkeypatch.setattr(launch, "get_json", refuse)
    run.report()
    assert run.filed()["campaign"]["answer"] is None
    with pytest.raises(AirflowException, match="GetObject with InternalError"):
        run.report()


def test_outputs_of_an_earlier_attempt_are_ignored(run: Run) -> None:
    """After a clear, a task that is skipped or waits still has its earlier output."""
    passed(run, state="upstream_failed")
    run.ended("enrich_0", "failed", told=True)
    run.ended("record_result", "skipped", output=IMPORTED)
    assert run.report()["outcome"] == "failed"
    filed = run.filed()
    assert (filed["segment"], filed["limits"], filed["imported"]) == (None, None, None)
    assert filed["extract"]["members"] == 4


def test_a_run_that_the_plan_refused_is_filed_under_its_dag(
    context: Any, state: Any, aws: Any, fresh_config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_STATE_BUCKET", fresh_config.state_bucket)
    run = Run(context(task_id="report"), aws, fresh_config.state_bucket)
    run.ended("plan", "failed")
    assert run.report()["outcome"] == "failed"
    filed = run.filed("reports/cohort_to_segment/cohort_to_segment__manual__2026-11-22.json")
    assert (filed["plan"], filed["extract"], filed["segment"], filed["limits"]) == (None, None, None, None)


def test_inconsistent_figures_fail_the_run_and_are_reported(run: Run) -> None:
    passed(run)
    run.ended("record_result", output=IMPORTED | {"segment_size": 4})
    with pytest.raises(AirflowFailException, match="the segment's size is 4, and its file has 3 rows; do not launch"):
        run.report()
    assert run.filed()["faults"] == ["the segment's size is 4, and its file has 3 rows"]


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_run_that_ended_successfully_at_check_limits(run: Run, planned: Any, dry_run: bool) -> None:
    run.ended("plan", output=planned(dry_run=dry_run))
    empty = segment(0, rows=0, rejects={})
    passed(run, **({} if dry_run else {"extract": extract_facts(0), "segment": empty}))
    run.ended("create_import_job", "skipped")
    run.ended("record_result", "skipped")
    assert run.report()["outcome"] == ("dry run" if dry_run else "empty cohort")


# --- a task that had no last word ------------------------------------------------------------------------


def test_the_report_notifies_of_a_killed_worker(run: Run) -> None:
    """Airflow runs no callback for it."""
    run.ended("enrich_3", "failed")
    run.ended("enrich_0", "failed", told=True)
    run.ended("check_limits", "upstream_failed")
    assert run.report()["outcome"] == "failed"
    (message,) = Recorder.messages
    assert "cohort_to_segment, run manual__2026-11-22 failed in enrich_3, and no notification was sent" in message


def test_a_failure_is_notified_once(run: Run) -> None:
    passed(run, state="failed")
    run.ended("check_limits", "failed", told=True)
    run.report()
    assert Recorder.messages == []


def test_a_successful_run_notifies_only_success(run: Run) -> None:
    passed(run)
    run.ended("record_result", output=IMPORTED)
    run.report()
    assert Recorder.messages == []
    output = run.report("success")
    (message,) = Recorder.messages
    assert message.startswith("cohort_to_segment, run manual__2026-11-22 ended: imported.\n\n")
    assert re.search(r"(?m)^members +4$", message) and re.search(r"(?m)^rows +3$", message)
    assert message.endswith(f"\n\nReport: {output['report_url']}")


@pytest.mark.parametrize("limit", [3, 9])
def test_a_run_that_failed_or_was_stopped_does_not_notify_success(run: Run, limit: int) -> None:
    passed(run, state="failed", limits=verdicts(4, limit))
    run.ended("check_limits", "failed", told=True)
    assert run.report("success")["outcome"] == ("stopped by limits" if limit == 3 else "failed")
    assert Recorder.messages == []
