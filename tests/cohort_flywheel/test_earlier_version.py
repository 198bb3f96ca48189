"""What an earlier version wrote can be read: a run may wait for an approval while another version is deployed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from cohort_flywheel.campaign.approval import approval_digest
from cohort_flywheel.campaign.launch import (
    ApprovalAnswer,
    FollowedCampaign,
    PreparedCampaign,
    SentMails,
    StartedCampaign,
)
from cohort_flywheel.destinations.customer_profiles import profiles_outputs
from cohort_flywheel.destinations.import_result import ImportResult, RecordedImport
from cohort_flywheel.destinations.pinpoint import pinpoint_outputs
from cohort_flywheel.destinations.ses import ses_outputs
from cohort_flywheel.governance.cleanup import FiledReport, of_report
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.report import Report
from cohort_flywheel.runs.result import LastRun, Result
from cohort_flywheel.segment.outputs import CheckedSegment, Extract, JudgedSegment, SegmentPart, Shard

#: XComs, and objects of the state bucket, of whole runs, one per destination, as commit 566910b wrote them: before
#: there were models.
EARLIER: dict[str, dict[str, Any]] = {
    destination: run["xcoms"] | run["objects"]
    for destination, run in json.loads(
        Path(__file__).with_name("earlier_version.json").read_text(encoding="utf-8")
    ).items()
}

#: The types that each is read by, with those of one destination.
TYPES: dict[str, list[Any]] = {
    "plan": [Plan],
    "facts": [Extract],
    "shard": [Shard],
    "enrich": [SegmentPart],
    "check_limits": [JudgedSegment, CheckedSegment],
    "record_result": [ImportResult, RecordedImport],
    "prepare_campaign": [PreparedCampaign],
    "answer": [ApprovalAnswer],
    "approval": [ApprovalAnswer],
    "launch_campaign": [SentMails | StartedCampaign],
    "reached": [SentMails | StartedCampaign],
    "follow_campaign": [FollowedCampaign],
    "last_run": [LastRun],
    "report": [Report],
    "result": [Result],
    "customer_profiles create_import_job": [profiles_outputs.UploadJobs],
    "customer_profiles verify_segment": [profiles_outputs.ProfilesImport],
    "customer_profiles prepare_campaign": [profiles_outputs.ConnectPreparedCampaign],
    "customer_profiles launch": [profiles_outputs.RecordedLaunch],
    "ses create_import_job": [ses_outputs.SesImportJobs],
    "ses verify_segment": [ses_outputs.SesImport],
    "ses prepare_campaign": [ses_outputs.SesPreparedCampaign],
    "pinpoint create_import_job": [pinpoint_outputs.PinpointImportJob],
    "pinpoint verify_segment": [pinpoint_outputs.PinpointImport],
}


@pytest.mark.parametrize(
    ("destination", "what"), [(destination, what) for destination, run in EARLIER.items() for what in run]
)
def test_it_is_read_and_written_again_with_the_same_values(destination: str, what: str) -> None:
    """Also the ISO form of a time, and whole numbers; keys that a model does not have are left out."""
    found = EARLIER[destination][what]
    types = [*TYPES.get(what, []), *TYPES.get(f"{destination} {what}", [])]
    assert types or (destination, what) == ("ses", "launch")
    if what == "report":
        found = found | {"plan": {key: value for key, value in found["plan"].items() if key != "require"}}
    for each in types:
        adapter: TypeAdapter[Any] = TypeAdapter(each)
        written = adapter.dump_python(adapter.validate_python(found), mode="json", exclude_unset=True)
        assert json.dumps(written, sort_keys=True) == json.dumps({key: found[key] for key in written}, sort_keys=True)


@pytest.mark.parametrize("destination", ["customer_profiles", "ses"])
def test_its_approval_is_valid(destination: str) -> None:
    run = EARLIER[destination]
    for (model,) in (TYPES["prepare_campaign"], TYPES[f"{destination} prepare_campaign"][-1:]):
        assert approval_digest(model.of_output(run["prepare_campaign"])) == run["approval"]["digest"]


def test_the_record_of_its_launch_by_ses_is_the_same() -> None:
    prepared = ses_outputs.SesPreparedCampaign.of_output(EARLIER["ses"]["prepare_campaign"])
    assert prepared.launch_record() == EARLIER["ses"]["launch"]


def test_its_launch_continues_with_a_configuration_set_and_with_no_other_change() -> None:
    earlier = EARLIER["ses"]["launch"]
    prepared = ses_outputs.SesPreparedCampaign.of_output(EARLIER["ses"]["prepare_campaign"])
    assert prepared.model_copy(update={"configuration_set": "events"}).is_launched_by(earlier)
    assert prepared.is_launched_by(earlier | {"configuration_set": "events"})
    for name in ("ses_template", "template_digest", "sender", "reply_to", "segment_sha256"):
        assert not prepared.model_copy(update={name: "another"}).is_launched_by(earlier)


def test_its_plan_keeps_the_conditions_of_require() -> None:
    plan = Plan.model_validate(EARLIER["ses"]["plan"] | {"require": {"status": ["Active"], "level": [2, True]}})
    holds = {name: condition.test() for name, condition in plan.where.items()}
    assert list(holds) == ["status", "level"]
    assert holds["status"](["Active"])
    assert not any(holds["status"](values) for values in ([], ["Banned"], ["Active", "Banned"]))
    assert holds["level"]([2, "true"])
    assert not holds["level"]([1])
    assert Plan.model_validate(plan.model_dump(mode="json")) == plan
    assert Plan.model_validate(EARLIER["ses"]["plan"]).where == {}


@pytest.mark.parametrize("destination", ["customer_profiles", "ses"])
def test_cleanup_knows_the_artifacts_of_its_reports(destination: str) -> None:
    run = EARLIER[destination]
    found = of_report(f"reports/{run['plan']['name']}/a.json", FiledReport.model_validate(run["report"]))
    assert found
    assert (found.name, found.as_of.isoformat()) == (run["plan"]["name"], run["plan"]["as_of"])
    assert [each.segment_id for each in found.imported] == [run["record_result"]["segment_id"]]
