"""The members of a day: from the graph while the day is the newest, and from its snapshot ever after."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, CronDataIntervalTimetable
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from cohort_flywheel.hooks.neptune import NeptuneGremlinHook
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.extract_operator import CohortExtractOperator
from local import sample
from tests.cohort_flywheel.memory_limits import MemoryLimits, tuned
from tests.cohort_flywheel.segment.snapshots import vertices_of

NEWEST = datetime(2026, 11, 22, tzinfo=UTC)
#: Later than that the day is past.
DAYS_LATER = 10 * 24


def players(aws: Any, output: dict[str, Any]) -> list[str]:
    body = aws("s3").get_object(Bucket=output["s3_bucket"], Key=output["s3_key"])["Body"].read()
    return [record["playerId"][0] for record in json.loads(body)]


def nothing_kept(state: State) -> bool:
    return state.snapshot_days("ea_atrisk") == []


# --- from the graph --------------------------------------------------------------------------------------


def test_the_newest_day_is_read_at_the_floor_and_kept(planned: Any, extracted: Any, state: State, aws: Any) -> None:
    output = extracted(planned(cohort={"floor": 1}))
    assert players(aws, output) == ["msmith", "wayne96", "xortiz"]
    assert (output["vertices_read"], output["vertices_not_beyond"], output["vertices"]) == (53, 50, 3)
    (kept,) = state.snapshots("ea_atrisk", NEWEST)
    assert (output["source"], output["snapshot"], output["snapshot_key"]) == ("graph", "pending", kept.key)
    assert output["read_at"] == "2026-11-22T01:00:00+00:00" == kept.header.read_at.isoformat()
    assert not kept.final
    header = kept.header
    assert (header.cohort, header.as_of, header.property, header.direction, header.floor, header.required) == (
        "ea_atrisk", NEWEST, "ea_atrisk", "above", 1, [],
    )  # fmt: skip
    assert len(vertices_of(state, kept.key)) == 53
    assert json.loads(json.dumps(output)) == output, "fit for an XCom"


def test_the_shards_have_the_members_of_the_tuning(planned: Any, extracted: Any) -> None:
    output = extracted(planned() | {"shard_members": 2})
    assert [shard["members"] for shard in output["shards"]] == [2, 1]


def test_the_members_are_in_the_memory_of_the_tuning(
    planned: Any, extracted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = MemoryLimits(tmp_path / "limits", monkeypatch)
    with tuned():
        extracted(planned())
    assert limits.are_tuned()


def test_a_read_that_ends_on_the_next_day_is_not_kept_as_the_days(planned: Any, context: Any, state: State) -> None:
    moments = iter([NEWEST + timedelta(hours=23, minutes=59), NEWEST + timedelta(hours=24, minutes=2)])
    extract = CohortExtractOperator(task_id="extract", plan=planned(), clock=lambda: next(moments))
    with pytest.raises(AirflowFailException, match="a newer as-of than 2026-11-22 00:00 UTC began before the graph"):
        extract.execute(context(task_id="extract"))
    assert nothing_kept(state)


def test_a_slow_count_of_scores_that_are_not_numbers_loses_no_read(
    planned: Any, context: Any, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [NEWEST + timedelta(hours=23)]

    def count(*_: Any, **__: Any) -> int:
        assert not nothing_kept(state), "also if the task is killed now"
        now[0] += timedelta(hours=2)
        return 0

    monkeypatch.setattr("cohort_flywheel.segment.extract_operator.count_without_number", count)
    its = context(task_id="extract")
    CohortExtractOperator(task_id="extract", plan=planned(), clock=lambda: now[0]).execute(its)
    assert its["ti"].xcoms["extract", "facts"]["snapshot"] == "pending"
    assert now[0] > NEWEST + timedelta(hours=24)


def test_a_looser_threshold_is_queried_and_the_snapshot_keeps_its_floor(
    planned: Any, extracted: Any, state: State
) -> None:
    output = extracted(planned(threshold=0, cohort={"floor": 1}))
    assert (output["vertices_read"], output["vertices_not_beyond"], output["members"]) == (349, 0, 348)
    vertices = vertices_of(state, output["snapshot_key"])
    assert len(vertices) == 53
    assert min(vertex.score for vertex in vertices) == 2
    assert state.snapshots("ea_atrisk", NEWEST)[0].header.floor == 1


def test_a_pending_snapshot_of_the_newest_day_is_read_again_beside_it(
    planned: Any, extracted: Any, state: State, kept: Any
) -> None:
    """A graph half loaded at midnight must not be that day for ever."""
    half_loaded = kept(NEWEST, {"wayne96": 3})
    output = extracted(planned())
    assert (output["source"], output["members"]) == ("graph", 3)
    assert {s.key for s in state.snapshots("ea_atrisk", NEWEST)} == {half_loaded, output["snapshot_key"]}


@pytest.mark.parametrize("status", ["Active", "Inactive"])
def test_only_players_as_required_are_members_and_the_snapshot_has_all(
    planned: Any, extracted: Any, state: State, status: str
) -> None:
    at_risk = [p for p in sample.players() if int(p["ea_atrisk"]) > 0]
    meant = [p for p in at_risk if p["status"] == status]
    output = extracted(planned(threshold=0, cohort={"where": {"status": {"equals": status}}}))
    assert output["vertices"] == len(meant) > 0
    assert output["vertices_not_as_required"] == len(at_risk) - len(meant) > 0
    assert output["vertices_read"] == len(at_risk)
    (kept,) = state.snapshots("ea_atrisk", NEWEST)
    assert kept.header.required == ["status"]
    vertices = vertices_of(state, kept.key)
    assert len(vertices) == len(at_risk)
    assert sum(vertex.properties == {"status": [status]} for vertex in vertices) == len(meant)


def test_the_snapshot_gives_the_same_extract_as_the_graph_did(planned: Any, extracted: Any, aws: Any) -> None:
    plan = planned(threshold=1, cohort={"where": {"status": {"equals": "Active"}}})
    graph, snapshot = extracted(plan), extracted(plan, DAYS_LATER)
    assert (graph["source"], snapshot["source"]) == ("graph", "snapshot")
    for key in ("sha256", "s3_key", "members", "merged", "vertices", "vertices_without_playerId"):
        assert graph[key] == snapshot[key]
    assert (graph["put"], snapshot["put"]) == (True, False)


def test_a_cohort_reads_the_graph_by_its_own_connection(
    airflow_env: Any, no_graph: None, planned: Any, extracted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NEPTUNE_READER", airflow_env["AIRFLOW_CONN_NEPTUNE_DEFAULT"])
    assert extracted(planned(cohort={"connection": "neptune_reader"}))["members"] == 3


# --- a read of the graph that finds nothing ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "names", "sentence"),
    [
        ({"property": "ea_atrsk"}, {}, r"label player has the property ea_atrsk \(.* nearest names are ea_atrisk, "),
        ({"vertex_label": "playr"}, {}, r"no vertex has the label playr \(.* nearest names are player"),
        ({}, {"player_id": "playerid"}, r"the property playerid \(.* playerId.*or correct schema.player_id in cohorts"),
    ],
)
def test_a_name_that_the_graph_does_not_have_is_an_error_that_airflow_retries(
    planned: Any, extracted: Any, state: State, changes: dict[str, str], names: dict[str, str], sentence: str
) -> None:
    """So that a graph that is not loaded at midnight is not the day's answer."""
    plan = planned(cohort=changes)
    plan["data_schema"] |= names
    with pytest.raises(AirflowException, match=sentence) as error:
        extracted(plan)
    assert not isinstance(error.value, AirflowFailException)
    assert "write may_be_empty: true into cohort ea_atrisk" in str(error.value)
    assert nothing_kept(state)


def test_a_cohort_may_be_empty_if_the_names_exist_or_the_registry_says_so(planned: Any, extracted: Any) -> None:
    for changes in ({"floor": 90}, {"property": "ea_atrsk", "may_be_empty": True}):
        output = extracted(planned(threshold=90, cohort=changes))
        assert (output["vertices_read"], output["members"], output["snapshot"]) == (0, 0, "pending")


def test_a_graph_without_a_vertex_is_not_the_answer_even_for_a_cohort_that_may_be_empty(
    planned: Any, extracted: Any, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("stream", "stream_scores"):
        monkeypatch.setattr(NeptuneGremlinHook, name, lambda *_, **__: iter(()))
    with pytest.raises(AirflowException, match="the graph has no vertex: wait until it is loaded") as error:
        extracted(planned(cohort={"may_be_empty": True}))
    assert not isinstance(error.value, AirflowFailException)
    assert nothing_kept(state)


# --- from a snapshot: the graph is out of reach ----------------------------------------------------------


@pytest.mark.parametrize("hours", [1, DAYS_LATER])
def test_a_final_snapshot_is_used_even_if_the_graph_has_changed(
    planned: Any, extracted: Any, kept: Any, aws: Any, no_graph: None, hours: int
) -> None:
    final = kept(NEWEST, {"ann": 3, "bob": 2}, final=True)
    kept(NEWEST, {"cem": 3}, minutes=30)
    output = extracted(planned(), hours)
    assert players(aws, output) == ["ann"]
    assert (output["source"], output["snapshot"], output["snapshot_key"]) == ("snapshot", "final", final)
    assert output["read_at"] == "2026-11-22T00:03:00+00:00", "when the graph was read, not when the snapshot was"
    assert (output["vertices_read"], output["vertices_not_beyond"]) == (2, 1)


def test_a_past_day_uses_the_latest_pending_snapshot_and_reports_it(
    planned: Any, extracted: Any, kept: Any, aws: Any, no_graph: None
) -> None:
    kept(NEWEST, {"ann": 3})
    late = kept(NEWEST, {"bob": 3}, minutes=30)
    output = extracted(planned(), DAYS_LATER)
    assert players(aws, output) == ["bob"]
    assert (output["source"], output["snapshot"], output["snapshot_key"]) == ("snapshot", "pending", late)


def test_a_task_that_is_cleared_days_later_never_reads_the_graph(
    planned: Any, extracted: Any, state: State, aws: Any, no_graph: None
) -> None:
    """The plan was made when the day was the newest; what counts is when the task runs."""
    plan = planned()
    with pytest.raises(AirflowException, match="cannot be reached"):
        extracted(plan, hours=23.9)
    with pytest.raises(AirflowFailException) as raised:
        extracted(plan, hours=24)
    text = str(raised.value)
    assert "cohort ea_atrisk has no snapshot of 2026-11-22 00:00 UTC (no other day has one)" in text
    assert "run with source=live to use the current graph" in text
    assert "Changes made: none. Clearing this task is safe: it reads the graph only for the newest as-of" in text
    assert nothing_kept(state)


@pytest.mark.parametrize(("planned_by", "schedule"), [("0 0 * * 0", "0 0 * * *"), ("0 0 * * *", "0 0 * * 0")])
def test_a_schedule_that_has_changed_since_never_has_an_older_day_read_the_graph(
    planned: Any, context: Any, kept: Any, aws: Any, no_graph: None, planned_by: str, schedule: str
) -> None:
    """Sunday's extract is cleared on Wednesday, whose run has read the graph."""
    kept(NEWEST, {"ann": 3})
    kept(NEWEST + timedelta(days=3), {"bob": 3})
    dag = DAG("a_dag", schedule=CronDataIntervalTimetable(schedule, timezone="UTC"))
    its = context(task_id="extract") | {"dag": dag}
    plan, wednesday = planned() | {"schedule": planned_by}, NEWEST + timedelta(days=3, hours=9)
    CohortExtractOperator(task_id="extract", plan=plan, clock=lambda: wednesday).execute(its)
    facts = its["ti"].xcoms["extract", "facts"]
    assert (facts["source"], players(aws, facts)) == ("snapshot", ["ann"])


def test_a_past_day_without_a_snapshot_names_the_nearest_ones(
    planned: Any, extracted: Any, kept: Any, no_graph: None
) -> None:
    for days in (-5, -2, 3):
        kept(NEWEST + timedelta(days=days), {"ann": 3})
    with pytest.raises(AirflowFailException, match="nearest others are of 2026-11-20 00:00 UTC and 2026-11-25 00:00"):
        extracted(planned(), DAYS_LATER)


def test_a_threshold_below_the_floor_of_a_past_day_is_refused(
    planned: Any, extracted: Any, kept: Any, no_graph: None
) -> None:
    kept(NEWEST, {"ann": 3}, floor=2, final=True)
    assert extracted(planned(threshold=2), DAYS_LATER)["members"] == 1
    with pytest.raises(AirflowFailException, match="has the floor 2, and the threshold 1 is looser"):
        extracted(planned(threshold=1), DAYS_LATER)


def test_the_source_snapshot_never_reads_the_graph(planned: Any, extracted: Any, kept: Any, no_graph: None) -> None:
    plan = planned(source="snapshot")
    with pytest.raises(AirflowFailException, match="no snapshot of 2026-11-22"):
        extracted(plan)
    kept(NEWEST, {"ann": 3})
    assert extracted(plan)["snapshot"] == "pending"


# --- live, and dry ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [1, DAYS_LATER])
def test_live_reads_the_graph_under_its_own_name_and_keeps_nothing(
    planned: Any, extracted: Any, state: State, kept: Any, aws: Any, hours: int
) -> None:
    kept(NEWEST, {"ann": 3}, final=True)
    output = extracted(planned(source="live"), hours)
    assert players(aws, output) == ["msmith", "wayne96", "xortiz"]
    assert output["s3_key"] == "export/ea_atrisk_2_2026-11-22_00-00-00_live.json"
    assert output["read_at"] == (NEWEST + timedelta(hours=hours)).isoformat()
    assert (output["source"], output["snapshot"], output["snapshot_key"]) == ("graph", None, None)
    assert output["vertices_read"] == 3, "asked at its threshold: there is not a snapshot that would want more"
    assert len(state.snapshots("ea_atrisk", NEWEST)) == 1


def test_a_dry_run_keeps_nothing_and_reads_what_is_kept(
    planned: Any, extracted: Any, state: State, kept: Any, aws: Any, fresh_config: Any
) -> None:
    plan = planned(dry_run=True)
    output = extracted(plan)
    assert (output["source"], output["snapshot_key"], output["members"]) == ("graph", None, 3)
    assert (output["s3_bucket"], output["s3_key"].split("/")[0]) == (fresh_config.state_bucket, "dry_run")
    assert nothing_kept(state)
    assert "Contents" not in aws("s3").list_objects_v2(Bucket=fresh_config.export_bucket)
    key = kept(NEWEST, {"ann": 3})
    assert extracted(plan, DAYS_LATER)["snapshot_key"] == key


def test_an_unavailable_graph_writes_nothing(planned: Any, extracted: Any, state: State, no_graph: None) -> None:
    with pytest.raises(AirflowException, match="cannot be reached.*Changes made: none") as raised:
        extracted(planned())
    assert not isinstance(raised.value, AirflowFailException)
    assert nothing_kept(state)


def test_no_line_of_the_log_and_no_output_holds_a_player(
    planned: Any, extracted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    plan = planned()
    text = json.dumps([extracted(plan), extracted(plan, DAYS_LATER)]) + caplog.text
    assert not any(word in text for word in ("wayne96", "msmith", "xortiz"))
