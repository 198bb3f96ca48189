"""The funnel of a run: sums that do not hold are faults, and nothing of a player's is in it."""

import json
from typing import Any

import pytest

from cohort_flywheel.report import faults, make_report, outcome, table

RUN = {"dag_id": "cohort_to_segment", "run_id": "manual__1", "triggered_by": "ana"}
TASKS = {"plan": "success", "query_graph": "success", "enrich": "success", "verify_segment": "success"}
PLAN = {
    "cohort": "ea_atrisk", "property": "ea_atrisk", "direction": "above", "threshold": 2, "threshold_from": "registry",
    "as_of": "2026-11-22T00:00:00+00:00", "dry_run": False, "name": "n", "attributes": {"Level": "level"},
}  # fmt: skip
EXTRACT = {
    "vertices": 1_349, "merged": 1, "vertices_without_playerId": 4, "members": 1_344,
    "s3_bucket": "exports", "s3_key": "export/n.json", "bytes": 99, "sha256": "ab", "s3_url": "s3://exports/n.json",
}  # fmt: skip
SEGMENT = {
    "members": 1_344, "rows": 1_341, "rejects": {"no_record": 2, "opted_out": 1}, "rejects_key": "rejects/n.csv",
    "do_not_contact": 7, "s3_bucket": "imports", "s3_key": "segments/n_1.csv", "bytes": 98, "sha256": "cd",
}  # fmt: skip
IMPORTED = {"job_id": "j1", "segment_id": "s1", "segment_version": 1, "segment_size": 1_341}
EMPTY = SEGMENT | {"members": 0, "rows": 0, "rejects": {}}


def report(**parts: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {"plan": PLAN, "extract": EXTRACT, "segment": SEGMENT, "imported": IMPORTED}
    return make_report(RUN, parts.pop("tasks", TASKS), **(whole | parts))


# --- faults ----------------------------------------------------------------------------------------------


def test_a_sound_run_has_no_fault() -> None:
    assert faults(EXTRACT, SEGMENT, IMPORTED) == []
    assert report()["faults"] == []


@pytest.mark.parametrize("key", ["vertices", "merged", "vertices_without_playerId"])
def test_the_first_sum(key: str) -> None:
    changed = EXTRACT | {key: EXTRACT[key] + 1}  # type: ignore[operator]  # a count
    (fault,) = faults(changed, SEGMENT, IMPORTED)
    assert f"{changed['vertices']} vertices are not the" in fault


def test_the_second_sum() -> None:
    (fault,) = faults(EXTRACT, SEGMENT | {"rejects": {"no_record": 2}}, IMPORTED)
    assert fault == "1344 members are not the 1343 rows and rejects"


def test_members_that_were_never_looked_up() -> None:
    (fault,) = faults(EXTRACT | {"members": 1_345, "vertices": 1_350}, SEGMENT, IMPORTED)
    assert fault == "the extract has 1345 members, but 1344 were looked up"


def test_a_segment_of_another_size() -> None:
    (fault,) = faults(EXTRACT, SEGMENT, IMPORTED | {"segment_size": 1_342})
    assert fault == "the segment has 1342 endpoints for 1341 rows"


def test_every_sum_that_does_not_hold_is_told() -> None:
    broken = report(extract=EXTRACT | {"vertices": 0}, segment=SEGMENT | {"rows": 0})
    assert len(broken["faults"]) == 3
    assert table(broken).count("FAULT") == 3


@pytest.mark.parametrize(
    ("extract", "segment", "imported"), [(None, None, None), (EXTRACT, None, None), (EXTRACT, SEGMENT, None)]
)
def test_what_a_run_did_not_reach_is_no_fault(extract: Any, segment: Any, imported: Any) -> None:
    assert faults(extract, segment, imported) == []


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
        ("imported", {"tasks": TASKS | {"anything_to_import": "skipped"}}),
    ],
)
def test_how_a_run_ended(word: str, parts: dict[str, Any]) -> None:
    whole: dict[str, Any] = {"plan": PLAN, "segment": SEGMENT, "imported": IMPORTED, "tasks": TASKS}
    parts = whole | parts
    assert outcome(**parts) == word
    assert report(**parts)["outcome"] == word


# --- the report and its table ----------------------------------------------------------------------------


def test_a_report_is_json_and_says_where_the_artefacts_lie() -> None:
    made = report()
    assert json.loads(json.dumps(made)) == made
    assert made["extract"]["url"] == "s3://exports/export/n.json"
    assert made["segment"]["url"] == "s3://imports/segments/n_1.csv"
    assert made["segment"]["rejects"] == {"no_record": 2, "opted_out": 1}
    assert made["imported"] == IMPORTED


def test_counts_and_places_and_nothing_else_that_a_task_returned() -> None:
    leak = {"players": ["wayne96"], "attributes": {"wayne96": 1}, "address": "wayne@example.com"}
    made = report(plan=PLAN | leak, extract=EXTRACT | leak, segment=SEGMENT | leak)
    assert "wayne" not in json.dumps(made) + table(made)


def rows(made: dict[str, Any]) -> dict[str, str]:
    lines = (line.split("  ", 1) if not line.startswith("  ") else line.strip().split("  ", 1) for line in
             table(made).splitlines())  # fmt: skip
    return {name.strip(): value.strip() for name, value in lines}


def test_the_table_is_the_funnel_with_the_rejects_by_reason() -> None:
    shown = rows(report())
    assert list(shown) == [
        "outcome", "cohort", "as-of", "vertices", "merged", "vertices without playerId", "members", "extract", "rows",
        "rejects", "no_record", "opted_out", "segment file", "job id", "segment id", "segment version", "segment size",
    ]  # fmt: skip
    assert shown["cohort"] == "ea_atrisk: ea_atrisk above 2"
    assert (shown["vertices"], shown["members"], shown["rows"]) == ("1,349", "1,344", "1,341")
    assert (shown["rejects"], shown["no_record"], shown["opted_out"]) == ("3", "2", "1")


def test_the_table_of_a_run_that_failed_at_once() -> None:
    shown = rows(report(plan=None, extract=None, segment=None, imported=None, tasks={"plan": "failed"}))
    assert shown == {"outcome": "failed", "task failed": "plan"}


def test_the_table_names_each_failed_task() -> None:
    tasks = {"enrich": "failed", "verify_segment": "upstream_failed", "plan": "success"}
    shown = rows(report(segment=None, imported=None, tasks=tasks))
    assert shown["task failed"] == "enrich"
    assert shown["task upstream_failed"] == "verify_segment"
    assert "plan" not in shown.values()
