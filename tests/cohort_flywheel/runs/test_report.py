"""The funnel of a run: sums that do not hold are faults, and nothing of a player's is in it."""

import json
from typing import Any

import pytest

from cohort_flywheel.runs.report import faults, make_report, outcome, table

RUN = {"dag_id": "cohort_to_segment", "run_id": "manual__1", "triggered_by": "ana"}
TASKS = {"plan": "success", "extract": "success", "enrich": "success", "verify_segment": "success"}
PLAN = {
    "cohort": "ea_atrisk", "property": "ea_atrisk", "direction": "above", "threshold": 2, "threshold_from": "registry",
    "as_of": "2026-11-22T00:00:00+00:00", "dry_run": False, "source": "auto", "extract_only": False,
    "extract_uri": None, "require": {"status": ["Active"]}, "limits": {"min_members": 0, "max_members": 9_999},
    "name": "n", "attributes": {"Level": "level"}, "withhold": {"holdout_percent": 5},
    "campaign": {"mode": "none"},
}  # fmt: skip
EXTRACT = {
    "vertices_read": 1_400, "vertices_not_beyond": 50, "vertices_not_as_required": 1,
    "vertices": 1_349, "merged": 1, "vertices_without_playerId": 4, "members": 1_344,
    "source": "graph", "read_at": "2026-11-22T00:03:00+00:00", "snapshot": "pending", "snapshot_key": "snapshots/s",
    "s3_bucket": "exports", "s3_key": "export/n.json", "bytes": 99, "sha256": "ab", "s3_url": "s3://exports/n.json",
}  # fmt: skip
SEGMENT = {
    "members": 1_344, "rows": 1_341, "rejects": {"no_record": 2, "opted_out": 1}, "rejects_key": "rejects/n.csv",
    "do_not_contact": 7, "s3_bucket": "imports", "s3_key": "segments/n_1/", "bytes": 98, "sha256": "cd",
    "parts": ["segments/n_1/0000.csv"],
}  # fmt: skip
HOLDS = {"limit": "max_members", "allowed": 9_999, "found": 1_344, "holds": True, "sentence": "1,344 members"}
BROKEN = HOLDS | {"allowed": 1_000, "holds": False}
JUDGED = {"limits": [HOLDS], "previous": {"members": 1_000, "what": "the segment of …"}, "override": None}
STOPPED = JUDGED | {"limits": [BROKEN]}
LET_THROUGH = STOPPED | {"override": {"by": "ana", "reason": "A raid.", "limits": ["max_members"]}}
IMPORTED = {"job_id": "j1", "segment_id": "s1", "segment_version": 1, "segment_size": 1_341}
PREPARED = {
    "mode": "launch", "template": "at_risk", "template_digest": "ef", "from": "Studio <play@studio.example>",
    "rows": 1_341, "segment_id": "s1", "segment_sha256": "cd", "message": {"subject": "Hello Sam", "text": "Hello"},
}  # fmt: skip
YES = {"approved": True, "by": "ann", "at": "2026-11-22T09:00:00+00:00", "timed_out": False, "digest": "01"}
NO = YES | {"approved": False}
LATE = NO | {"by": None, "timed_out": True}
SENT = {
    "rows": 1_341, "sent": 1_330, "withdrawn": {"opted_out": 4}, "in_doubt": 6, "refused": {"MessageRejected": 1},
    "batches": 14, "in_doubt_list": "s3://state/launches/n/in_doubt.txt",
}  # fmt: skip
STARTED = {"campaign_id": "c1", "campaign_state": "Running", "template": "at_risk", "players": 1_341}


def campaign(**parts: Any) -> dict[str, Any]:
    return {"prepared": PREPARED, "answer": YES, "launched": SENT, "followed": None} | parts


ONLY = PLAN | {"extract_only": True}
EMPTY = SEGMENT | {"members": 0, "rows": 0, "rejects": {}}


def report(**parts: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {"plan": PLAN, "extract": EXTRACT, "judged": JUDGED, "imported": IMPORTED} | parts
    tasks, segment = whole.pop("tasks", TASKS), whole.pop("segment", SEGMENT)
    # check_limits puts the segment together, so there is never one without the other
    whole["judged"] = whole["judged"] | {"segment": segment} if whole["judged"] and segment else None
    return make_report(RUN, tasks, **whole)


# --- faults ----------------------------------------------------------------------------------------------


def test_a_valid_run_has_no_fault() -> None:
    assert faults(EXTRACT, SEGMENT, IMPORTED) == []
    assert report()["faults"] == []


@pytest.mark.parametrize("key", ["vertices_read", "vertices_not_beyond", "vertices_not_as_required"])
def test_the_sum_of_what_was_read(key: str) -> None:
    changed = EXTRACT | {key: EXTRACT[key] + 1}  # type: ignore[operator]  # a count
    (fault,) = faults(changed, SEGMENT, IMPORTED)
    assert fault == f"{changed['vertices_read']} vertices read are not the {1_400 + (key != 'vertices_read')} that" \
        " were judged"  # fmt: skip


@pytest.mark.parametrize("key", ["merged", "vertices_without_playerId"])
def test_the_first_sum(key: str) -> None:
    changed = EXTRACT | {key: EXTRACT[key] + 1}  # type: ignore[operator]  # a count
    (fault,) = faults(changed, SEGMENT, IMPORTED)
    assert fault == "1349 vertices are not the 1350 that were counted"


def test_the_second_sum() -> None:
    (fault,) = faults(EXTRACT, SEGMENT | {"rejects": {"no_record": 2}}, IMPORTED)
    assert fault == "1344 members are not the 1343 rows and rejects"


def test_members_that_were_never_looked_up() -> None:
    (fault,) = faults(EXTRACT | {"members": 1_345, "vertices": 1_350, "vertices_read": 1_401}, SEGMENT, IMPORTED)
    assert fault == "the extract has 1345 members, but 1344 were looked up"


def test_a_segment_of_another_size() -> None:
    (fault,) = faults(EXTRACT, SEGMENT, IMPORTED | {"segment_size": 1_342})
    assert fault == "the segment's size is 1342, and its file has 1341 rows"


def test_each_wrong_sum_is_reported() -> None:
    broken = report(extract=EXTRACT | {"vertices": 0}, segment=SEGMENT | {"rows": 0})
    assert len(broken["faults"]) == 4
    assert table(broken).count("FAULT") == 4


@pytest.mark.parametrize(
    ("extract", "segment", "imported"), [(None, None, None), (EXTRACT, None, None), (EXTRACT, SEGMENT, None)]
)
def test_missing_parts_are_not_faults(extract: Any, segment: Any, imported: Any) -> None:
    assert faults(extract, segment, imported) == []


# --- the records and the do-not-contact list --------------------------------------------------------------


def test_the_report_has_the_entries_that_matched_and_the_records_that_lack_an_attribute() -> None:
    counted = {"do_not_contact_matched": 3, "records": 1_342, "records_without": {"email": 0, "lastName": 1_342}}
    made = report(segment=SEGMENT | counted)
    assert made["segment"] | counted == made["segment"]
    assert made["version"] == 5
    lines = [line.split() for line in table(made).splitlines()]
    for line in ("do-not-contact entries 7", "that match a member 3", "records 1,342", "without lastName 1,342"):
        assert line.split() in lines
    assert "without email" not in table(made)


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
    assert outcome(**parts) == word
    assert report(**parts)["outcome"] == word


# --- a campaign ------------------------------------------------------------------------------------------


def test_a_launch_accounts_for_every_row() -> None:
    assert faults(EXTRACT, SEGMENT, IMPORTED, campaign()) == []
    assert faults(EXTRACT, SEGMENT, IMPORTED, campaign(launched=STARTED)) == []
    stopped = SENT | {"sent": 1_000, "left": 330}
    assert faults(EXTRACT, SEGMENT, IMPORTED, campaign(launched=stopped)) == []
    short = "the launch accounts for 1340 players, and the segment file has 1341 rows"
    for launched in (SENT | {"in_doubt": 5}, SENT | {"withdrawn": {"opted_out": 3}}, STARTED | {"players": 1_340}):
        assert faults(EXTRACT, SEGMENT, IMPORTED, campaign(launched=launched)) == [short]


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
    assert late == "not approved: nobody answered in time, 2026-11-22T09:00:00+00:00"


# --- the report and its table ----------------------------------------------------------------------------


def test_a_report_is_json_with_the_addresses_of_the_artifacts() -> None:
    made = report()
    assert json.loads(json.dumps(made)) == made
    assert made["extract"]["url"] == "s3://exports/export/n.json"
    assert made["segment"]["url"] == "s3://imports/segments/n_1/"
    assert made["segment"]["parts"] == ["segments/n_1/0000.csv"]
    assert made["segment"]["rejects"] == {"no_record": 2, "opted_out": 1}
    assert made["imported"] == IMPORTED


def test_counts_and_places_and_nothing_else_that_a_task_returned() -> None:
    leak = {"sample": "wayne96", "players": ["wayne96"], "attributes": {"wayne96": 1}, "address": "wayne@example.com"}
    made = report(plan=PLAN | leak, extract=EXTRACT | leak, segment=SEGMENT | leak, judged=JUDGED | leak)
    assert "wayne" not in json.dumps(made) + table(made)


def rows(made: dict[str, Any]) -> dict[str, str]:
    lines = (line.split("  ", 1) if not line.startswith("  ") else line.strip().split("  ", 1) for line in
             table(made).splitlines())  # fmt: skip
    return {name.strip(): value.strip() for name, value in lines}


def test_the_table_is_the_funnel_with_the_rejects_by_reason() -> None:
    shown = rows(report())
    assert list(shown) == [
        "outcome", "cohort", "threshold from", "as-of", "source", "vertices read", "vertices not beyond",
        "vertices not as required", "vertices erased", "vertices", "merged", "vertices without playerId", "members",
        "extract", "rows", "rejects", "no_record", "opted_out", "do-not-contact entries", "that match a member",
        "records", "segment file", "max members", "job id", "segment id", "segment version", "segment size",
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
    assert rows(made)["source"] == "extract, dropped at 2026-11-22T00:03:00+00:00"


def test_the_report_has_the_params_of_the_run() -> None:
    made = report(plan=PLAN | {"threshold_from": "registry, from 2026-11-02", "source": "live"})
    assert made["plan"]["source"] == "live"
    assert made["plan"]["require"] == {"status": ["Active"]}
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
