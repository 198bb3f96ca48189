"""The funnel of a run: sums that do not hold are faults, and nothing of a player's is in it."""

import json
from typing import Any

import pytest

from cohort_flywheel.campaign.launch import (
    ApprovalAnswer,
    CampaignOutputs,
    FollowedCampaign,
    PreparedCampaign,
    SentMails,
    StartedCampaign,
)
from cohort_flywheel.common.records import Record
from cohort_flywheel.destinations.import_result import ImportResult
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.report import Report, ReportedRun, faults, make_report, outcome, table
from cohort_flywheel.segment.outputs import Extract, JudgedSegment, Segment
from local.config import ROOT
from tests.cohort_flywheel.task_outputs import (
    approval_answer,
    extract_facts,
    limit_result,
    prepared_campaign,
    segment_file,
)

RUN = ReportedRun(
    dag_id="cohort_to_segment", run_id="manual__1", run_type="manual", started=None,
    reported="2026-11-22T01:00:00+00:00", triggered_by="ana",
)  # fmt: skip
TASKS = {"plan": "success", "extract": "success", "enrich": "success", "verify_segment": "success"}
LIMITS = {"min_members": 0, "max_members": 9_999, "max_change_percent": 50, "max_reject_percent": 20}
PLAN = {
    "name": "n", "cohort": "ea_atrisk", "property": "ea_atrisk", "direction": "above", "threshold": 2,
    "threshold_from": "registry", "floor": 0, "as_of": "2026-11-22T00:00:00+00:00", "schedule": "0 0 * * *",
    "dry_run": False, "source": "auto", "extract_only": False, "extract_uri": None, "extract_sha256": None,
    "where": {"status": {"equals": "Active"}}, "limits": LIMITS, "override": None, "attributes": {"Level": "level"},
    "score_column": None, "consent": None, "withhold": {"holdout_percent": 5}, "campaign": {"mode": "none"},
    "layout": "ses", "extract_bucket": "exports", "extract_key": "export/n.json", "state_bucket": "state",
    "staged_folder": "staged/", "segment_bucket": "imports", "segment_folder": "segments/",
    "rejects_key": "rejects/n.csv", "claim_key": "claims/n.json", "report_folder": "reports/n/",
    "do_not_contact_key": "do_not_contact.txt", "contacts_table": "contacts", "export_bucket": "exports",
}  # fmt: skip
EXTRACT = extract_facts(
    1_344, vertices_read=1_400, vertices_not_beyond=50, vertices_not_as_required=1, vertices=1_349, merged=1,
    vertices_without_playerId=4, snapshot_key="snapshots/s",
)  # fmt: skip
SEGMENT = segment_file(
    1_341, members=1_344, rejects={"no_record": 2, "opted_out": 1}, rejects_key="rejects/n.csv", do_not_contact=7,
)  # fmt: skip
BROKEN = limit_result(1_344, allowed=1_000, holds=False)
JUDGED = {
    "limits": [limit_result(1_344)], "previous": {"members": 1_000, "what": "the segment of …"}, "override": None,
}  # fmt: skip
STOPPED = JUDGED | {"limits": [BROKEN]}
LET_THROUGH = STOPPED | {"override": {"by": "ana", "reason": "A raid.", "limits": ["max_members"]}}
IMPORTED = {"segment_id": "s1", "segment_size": 1_341, "job_id": "j1", "segment_version": 1}
PREPARED = prepared_campaign(rows=1_341)
YES = approval_answer()
NO = YES | {"approved": False}
LATE = NO | {"by": None, "timed_out": True}
SENT = {
    "rows": 1_341, "sent": 1_330, "withdrawn": {"opted_out": 4}, "in_doubt": 6, "refused": {"MessageRejected": 1},
    "batches": 14, "in_doubt_list": "s3://state/launches/n/in_doubt.txt",
}  # fmt: skip
STARTED = {"campaign_id": "c1", "campaign_state": "Running", "template": "at_risk", "players": 1_341}


def campaign(**changed: Any) -> CampaignOutputs:
    parts = {"prepared": PREPARED, "answer": YES, "launched": SENT, "followed": None} | changed
    launched: Any = parts["launched"]
    kind: Any = StartedCampaign if launched and "campaign_id" in launched else SentMails
    return CampaignOutputs(
        prepared=read(PreparedCampaign, parts["prepared"]), answer=read(ApprovalAnswer, parts["answer"]),
        launched=read(kind, launched), followed=read(FollowedCampaign, parts["followed"]),
    )  # fmt: skip


ONLY = PLAN | {"extract_only": True}
EMPTY = SEGMENT | {"members": 0, "rows": 0, "rejects": {}}


def read[Model: Record](model: type[Model], output: Any) -> Model | None:
    return model.model_validate(output) if output else None


def faults_of(extract: Any, segment: Any, imported: Any, campaign: CampaignOutputs | None = None) -> list[str]:
    return faults(read(Extract, extract), read(Segment, segment), read(ImportResult, imported), campaign)


def given(**parts: Any) -> dict[str, Any]:
    """The arguments of make_report and outcome; what judges a run has put its segment together."""
    whole: dict[str, Any] = {"plan": PLAN, "extract": EXTRACT, "judged": JUDGED, "imported": IMPORTED} | parts
    segment = whole.pop("segment", SEGMENT)
    extract = whole["extract"]
    judged = whole["judged"] | {"segment": segment, "extract": extract} if whole["judged"] and segment else None
    return whole | {
        "plan": read(Plan, whole["plan"]), "extract": read(Extract, extract), "judged": read(JudgedSegment, judged),
        "imported": read(ImportResult, whole["imported"]),
    }  # fmt: skip


def made_report(**parts: Any) -> Report:
    whole = given(**parts)
    return make_report(RUN, whole.pop("tasks", TASKS), **whole)


def report(**parts: Any) -> dict[str, Any]:
    return made_report(**parts).model_dump(mode="json")


def table_of(made: dict[str, Any]) -> str:
    return table(Report.model_validate(made))


# --- faults ----------------------------------------------------------------------------------------------


def test_a_valid_run_has_no_fault() -> None:
    assert faults_of(EXTRACT, SEGMENT, IMPORTED) == []
    assert report()["faults"] == []


@pytest.mark.parametrize("key", ["vertices_read", "vertices_not_beyond", "vertices_not_as_required"])
def test_the_sum_of_what_was_read(key: str) -> None:
    changed = EXTRACT | {key: EXTRACT[key] + 1}
    (fault,) = faults_of(changed, SEGMENT, IMPORTED)
    assert fault == f"{changed['vertices_read']} vertices read are not the {1_400 + (key != 'vertices_read')} that" \
        " were classified"  # fmt: skip


@pytest.mark.parametrize("key", ["merged", "vertices_without_playerId"])
def test_the_first_sum(key: str) -> None:
    changed = EXTRACT | {key: EXTRACT[key] + 1}
    (fault,) = faults_of(changed, SEGMENT, IMPORTED)
    assert fault == "1349 vertices are not the 1350 that were counted"


def test_the_second_sum() -> None:
    (fault,) = faults_of(EXTRACT, SEGMENT | {"rejects": {"no_record": 2}}, IMPORTED)
    assert fault == "1344 members are not the 1343 rows and rejects"


def test_members_that_were_never_looked_up() -> None:
    (fault,) = faults_of(EXTRACT | {"members": 1_345, "vertices": 1_350, "vertices_read": 1_401}, SEGMENT, IMPORTED)
    assert fault == "the extract has 1345 members, but 1344 were looked up"


def test_a_segment_of_another_size() -> None:
    (fault,) = faults_of(EXTRACT, SEGMENT, IMPORTED | {"segment_size": 1_342})
    assert fault == "the segment's size is 1342, and its file has 1341 rows"


def test_each_wrong_sum_is_reported() -> None:
    broken = report(extract=EXTRACT | {"vertices": 0}, segment=SEGMENT | {"rows": 0})
    assert len(broken["faults"]) == 4
    assert table_of(broken).count("FAULT") == 4


@pytest.mark.parametrize(
    ("extract", "segment", "imported"), [(None, None, None), (EXTRACT, None, None), (EXTRACT, SEGMENT, None)]
)
def test_missing_parts_are_not_faults(extract: Any, segment: Any, imported: Any) -> None:
    assert faults_of(extract, segment, imported) == []


# --- the records and the do-not-contact list --------------------------------------------------------------


def test_the_report_has_the_entries_that_matched_and_the_records_that_lack_an_attribute() -> None:
    counted = {"do_not_contact_matched": 3, "records": 1_342, "records_without": {"email": 0, "lastName": 1_342}}
    made = report(segment=SEGMENT | counted)
    assert made["segment"] | counted == made["segment"]
    assert made["version"] == 5
    lines = [line.split() for line in table_of(made).splitlines()]
    for line in ("do-not-contact entries 7", "that match a member 3", "records 1,342", "without lastName 1,342"):
        assert line.split() in lines
    assert "without email" not in table_of(made)


@pytest.mark.parametrize(("number", "text"), [(35, "35"), (0, "0"), (None, "not counted")])
def test_vertices_without_a_number_are_reported_and_in_no_sum(number: int | None, text: str) -> None:
    made = report(extract=EXTRACT | {"vertices_without_number": number})
    assert (made["extract"]["vertices_without_number"], made["faults"]) == (number, [])
    assert f"vertices without number {text}".split() in [line.split() for line in table_of(made).splitlines()]


def test_an_output_of_an_earlier_version_has_default_counts() -> None:
    segment = report()["segment"]
    assert (segment["do_not_contact_matched"], segment["records"], segment["records_without"]) == (0, 0, {})


# --- outcomes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("imported", {}),
        ("dry run", {"plan": PLAN | {"dry_run": True}, "imported": None}),
        ("dry run", {"plan": PLAN | {"dry_run": True}, "segment": EMPTY, "imported": None}),
        ("empty cohort", {"segment": EMPTY, "imported": None}),
        ("not imported", {"imported": None}),
        ("failed", {"plan": None, "segment": None, "imported": None}),
        ("failed", {"segment": None, "imported": None}),
        ("failed", {"tasks": TASKS | {"verify_segment": "failed"}}),
        ("failed", {"tasks": TASKS | {"verify_segment": "upstream_failed"}}),
        ("failed", {"tasks": TASKS | {"plan": "failed"}, "plan": PLAN | {"dry_run": True}}),
        ("imported", {"tasks": TASKS | {"wait_for_import_job": "skipped"}}),
        ("imported", {"judged": LET_THROUGH}),
        ("stopped by limits", {"tasks": TASKS | {"check_limits": "failed"}, "judged": STOPPED, "imported": None}),
        ("failed", {"tasks": TASKS | {"check_limits": "failed"}, "imported": None}),
        ("failed", {"tasks": TASKS | {"check_limits": "failed"}, "judged": LET_THROUGH, "imported": None}),
        ("failed", {"tasks": TASKS | {"check_limits": "failed"}, "judged": None, "imported": None}),
        ("extract only", {"plan": ONLY, "segment": None, "judged": None, "imported": None}),
        ("extract only", {"plan": ONLY | {"dry_run": True}, "segment": None, "judged": None, "imported": None}),
        ("failed", {"plan": ONLY, "extract": None, "segment": None, "judged": None, "imported": None}),
        ("failed", {"plan": ONLY, "tasks": TASKS | {"extract": "failed"}, "segment": None, "imported": None}),
        ("launched", {"campaign": campaign()}),
        ("not approved", {"campaign": campaign(answer=NO, launched=None)}),
        ("not approved in time", {"campaign": campaign(answer=LATE, launched=None)}),
        ("approved too late", {"campaign": campaign(launched=None)}),
        ("imported", {"campaign": campaign(answer=None, launched=None)}),
        ("imported", {"campaign": campaign(prepared=None, answer=None, launched=None)}),
        ("failed", {"campaign": campaign(launched=None), "tasks": TASKS | {"launch_campaign": "failed"}}),
        ("failed", {"campaign": campaign(answer=NO, launched=None), "tasks": TASKS | {"approve_campaign": "failed"}}),
    ],
)
def test_how_a_run_ended(word: str, parts: dict[str, Any]) -> None:
    whole: dict[str, Any] = {"plan": PLAN, "extract": EXTRACT, "segment": SEGMENT, "judged": JUDGED, "tasks": TASKS}
    parts = whole | {"imported": IMPORTED} | parts
    assert outcome(**given(**parts)) == word
    assert report(**parts)["outcome"] == word


# --- a campaign ------------------------------------------------------------------------------------------


def test_a_launch_accounts_for_every_row() -> None:
    assert faults_of(EXTRACT, SEGMENT, IMPORTED, campaign()) == []
    assert faults_of(EXTRACT, SEGMENT, IMPORTED, campaign(launched=STARTED)) == []
    stopped = SENT | {"sent": 1_000, "left": 330}
    assert faults_of(EXTRACT, SEGMENT, IMPORTED, campaign(launched=stopped)) == []
    short = "the launch accounts for 1340 players, and the segment file has 1341 rows"
    for launched in (SENT | {"in_doubt": 5}, SENT | {"withdrawn": {"opted_out": 3}}, STARTED | {"players": 1_340}):
        assert faults_of(EXTRACT, SEGMENT, IMPORTED, campaign(launched=launched)) == [short]


def test_the_report_has_the_approval_and_the_launch() -> None:
    made = report(campaign=campaign())["campaign"]
    assert made["answer"] == YES
    assert made["launched"] == SENT
    assert "message" not in made, "the mail is shown to the approver"
    ended = report(campaign=campaign(launched=STARTED, followed={"campaign_id": "c1", "campaign_state": "Completed"}))
    assert ended["campaign"]["launched"]["campaign_state"] == "Completed"
    assert report(campaign=campaign(prepared=None, answer=None, launched=None))["campaign"] is None
    assert report()["campaign"] is None


def test_the_table_has_the_campaign() -> None:
    shown = rows(report(campaign=campaign()))
    assert shown["campaign"] == "launch, template at_risk, from Studio <play@studio.example>"
    assert shown["approval"] == "approved: by ann, 2026-11-22T09:00:00+00:00"
    assert (shown["sent"], shown["withdrawn"], shown["in doubt"]) == ("1330", "4 opted_out", "6")
    assert rows(report(campaign=campaign(answer=NO, launched=None)))["approval"].startswith("not approved: by ann")
    late = rows(report(campaign=campaign(answer=LATE, launched=None)))["approval"]
    assert late == "not approved: no answer in time, 2026-11-22T09:00:00+00:00"


# --- the report and its table ----------------------------------------------------------------------------


def test_a_report_is_json_with_the_addresses_of_the_artifacts() -> None:
    made = report()
    assert json.loads(json.dumps(made)) == made
    assert made["extract"]["url"] == "s3://exports/export/n.json"
    assert made["segment"]["url"] == "s3://imports/segments/n/"
    assert made["segment"]["parts"] == SEGMENT["parts"]
    assert made["segment"]["rejects"] == {"no_record": 2, "opted_out": 1}
    assert made["imported"] == IMPORTED


def test_counts_and_places_and_nothing_else_that_a_task_returned() -> None:
    leak = {"sample": "wayne96", "players": ["wayne96"], "attributes": {"wayne96": "1"}, "address": "wayne@example.com"}
    made = report(plan=PLAN | leak, extract=EXTRACT | leak, segment=SEGMENT | leak, judged=JUDGED | leak)
    assert "wayne" not in json.dumps(made) + table_of(made)


def rows(made: dict[str, Any]) -> dict[str, str]:
    lines = (line.split("  ", 1) if not line.startswith("  ") else line.strip().split("  ", 1) for line in
             table_of(made).splitlines())  # fmt: skip
    return {name.strip(): value.strip() for name, value in lines}


def test_the_table_is_the_funnel_with_the_rejects_by_reason() -> None:
    shown = rows(report())
    assert list(shown) == [
        "outcome", "cohort", "threshold from", "as-of", "source", "vertices read", "vertices not beyond",
        "vertices not as required", "vertices erased", "vertices", "merged", "vertices without playerId", "members",
        "vertices without number",
        "extract", "rows", "rejects", "no_record", "opted_out", "do-not-contact entries", "that match a member",
        "records", "segment file", "max members", "segment id", "segment size", "job id", "segment version",
    ]  # fmt: skip
    assert shown["cohort"] == "ea_atrisk: ea_atrisk above 2"
    assert (shown["vertices"], shown["members"], shown["rows"]) == ("1,349", "1,344", "1,341")
    assert shown["source"] == "graph, read at 2026-11-22T00:03:00+00:00"
    assert shown["max members"] == "9,999 holds: 1,344 members"
    assert (shown["rejects"], shown["no_record"], shown["opted_out"]) == ("3", "2", "1")


def test_the_report_and_its_table_have_the_violated_limits() -> None:
    made = report(judged=STOPPED, imported=None, tasks=TASKS | {"check_limits": "failed"})
    assert made["limits"] == STOPPED
    assert rows(made)["max members"] == "1,000 DOES NOT HOLD: 1,344 members"
    assert "overridden" not in rows(made)


def test_the_report_has_the_user_and_reason_of_an_override() -> None:
    made = report(judged=LET_THROUGH)
    assert made["limits"]["override"] == {"by": "ana", "reason": "A raid.", "limits": ["max_members"]}
    assert rows(made)["overridden"] == "by ana: A raid."


@pytest.mark.parametrize("kind", ["pending", "final"])
def test_the_report_has_the_snapshot_and_when_it_was_read(kind: str) -> None:
    made = report(extract=EXTRACT | {"source": "snapshot", "snapshot": kind})
    assert rows(made)["source"] == f"{kind} snapshot, read at 2026-11-22T00:03:00+00:00"
    assert made["extract"]["snapshot_key"] == "snapshots/s"


def test_the_report_has_the_uploaded_extract_and_when_it_was_uploaded() -> None:
    uri = "s3://exports/dropped/theirs.json"
    extract = EXTRACT | {"source": "extract", "snapshot": None, "snapshot_key": None}
    made = report(plan=PLAN | {"source": "extract", "extract_uri": uri}, extract=extract)
    assert (made["plan"]["extract_uri"], made["extract"]["source"]) == (uri, "extract")
    assert rows(made)["extract of"] == uri
    assert rows(made)["source"] == "extract, uploaded at 2026-11-22T00:03:00+00:00"


def test_the_report_has_the_params_of_the_run() -> None:
    made = report(plan=PLAN | {"threshold_from": "registry, from 2026-11-02", "source": "live"})
    assert made["plan"]["source"] == "live"
    assert made["plan"]["where"] == {"status": {"equals": "Active"}}
    assert rows(made)["threshold from"] == "registry, from 2026-11-02"


def test_the_table_of_a_run_that_failed_at_once() -> None:
    shown = rows(report(plan=None, extract=None, segment=None, judged=None, imported=None, tasks={"plan": "failed"}))
    assert shown == {"outcome": "failed", "task failed": "plan"}


def test_the_table_names_each_failed_task() -> None:
    tasks = {"enrich": "failed", "verify_segment": "upstream_failed", "plan": "success"}
    shown = rows(report(segment=None, imported=None, tasks=tasks))
    assert shown["task failed"] == "enrich"
    assert shown["task upstream_failed"] == "verify_segment"
    assert "plan" not in shown.values()


SCHEMA = json.loads((ROOT / "plugins" / "cohort_flywheel" / "runs" / "report.schema.json").read_text())


def keys(schema: dict[str, Any], definitions: dict[str, Any], *, all_required: bool) -> Any:
    """The properties of a schema and of the schemas in it, without their descriptions and ranges."""
    if "$ref" in schema:
        return keys(definitions[schema["$ref"].rpartition("/")[2]], definitions, all_required=all_required)
    if "anyOf" in schema:
        found = (keys(each, definitions, all_required=all_required) for each in schema["anyOf"])
        return next(filter(None, found), None)
    if "properties" in schema:
        assert not all_required or sorted(schema["required"]) == sorted(schema["properties"])
        properties = schema["properties"].items()
        return {name: keys(each, definitions, all_required=all_required) for name, each in properties}
    inner = schema.get("items") or schema.get("additionalProperties")
    return keys(inner, definitions, all_required=all_required) if isinstance(inner, dict) else None


def test_the_schema_has_the_keys_of_the_model() -> None:
    made = Report.model_json_schema(mode="serialization")
    ours = keys(SCHEMA, SCHEMA["$defs"], all_required=True)
    assert keys(made, made["$defs"], all_required=False) == ours
