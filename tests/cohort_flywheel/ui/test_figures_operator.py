"""The figures of the pages, counted over results, snapshots and reports in the emulated S3."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from cohort_flywheel.common import duckdb
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.names import snapshot_key
from cohort_flywheel.runs.result import RunIds
from cohort_flywheel.runs.result_operator import RESULTS
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.members import Members
from cohort_flywheel.segment.snapshot import Header, Snapshot
from cohort_flywheel.ui import figures_store
from cohort_flywheel.ui.figures_operator import CohortFiguresOperator
from local.config import ROOT
from tests.cohort_flywheel.memory_limits import MEMORY_MB, MemoryLimits
from tests.cohort_flywheel.segment.snapshots import keep_snapshot
from tests.cohort_flywheel.task_outputs import limit_result, result_record

REGISTRY = ROOT / "include" / "cohorts.yaml"
NOW = datetime(2026, 11, 22, 7, tzinfo=UTC)

Day = Callable[..., None]


def as_of(number: int) -> datetime:
    return datetime(2026, 11, number, tzinfo=UTC)


@pytest.fixture
def bucket(airflow_env: Any, fresh_config: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A state bucket of this test's own; and all that is not asked for is not there."""
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_STATE_BUCKET", fresh_config.state_bucket)
    for name in ("EXPORT_BUCKET", "IMPORT_BUCKET", "CONTACTS_TABLE", "PINPOINT_APPLICATION_ID"):
        monkeypatch.delenv(f"AIRFLOW_VAR_COHORT_FLYWHEEL_{name}")
    monkeypatch.delenv("AIRFLOW_CONN_NEPTUNE_DEFAULT")
    return str(fresh_config.state_bucket)


@pytest.fixture
def state(bucket: str) -> State:
    return State(S3Hook(), bucket)


@pytest.fixture
def day(state: State) -> Day:
    """Has a day with a snapshot and its result: `day(20, {"ada": 3, "bob": 1}, threshold=2)`."""

    def put(
        number: int, scores: dict[str, int], *, threshold: int = 2, cohort: str = "ea_atrisk", **changed: Any
    ) -> None:
        header = Header(cohort=cohort, as_of=as_of(number), property=cohort, direction="above", floor=0,
                        read_at=as_of(number) + timedelta(minutes=5))  # fmt: skip
        keep_snapshot(state, header, scores, final=True)
        members = sum(score > threshold for score in scores.values())
        facts = {"members": members, "rows": members - 1, "rejects": {"opted_out": 1}, "threshold_from": "registry",
                 "limits": [limit_result(members)], "started_by": "ana"} | changed  # fmt: skip
        record = result_record(as_of(number), RunIds(dag_id="cohort_to_segment", run_id=f"run_{number}"), **facts)
        state.put_result(cohort, threshold, as_of(number), record)

    return put


@pytest.fixture
def count(context: Any) -> Callable[..., dict[str, Any]]:
    """Counts, as after results of these cohorts, or by hand; gives the XComs by key."""

    def run(*cohorts: str, run_id: str = "counted") -> dict[str, Any]:
        its = context(task_id="count_figures", run_id=run_id)
        events = [SimpleNamespace(extra={"cohort": name}) for name in cohorts]
        its["triggering_asset_events"] = {RESULTS: events} if events else {}
        operator = CohortFiguresOperator(task_id="count_figures", registry=REGISTRY, clock=lambda: NOW)
        counted = operator.execute(its)
        assert sorted(f"cohort_{name}" for name in counted) == sorted(
            key for _, key in its["ti"].xcoms if key.startswith("cohort_")
        )
        return {key: value for (_, key), value in its["ti"].xcoms.items()}

    return run


PLAYERS = {"ada": 3, "bob": 3, "cyd": 2, "dee": 1}


def test_a_cohort_has_its_days_thresholds_and_overlap(day: Day, count: Any, aws: Any, bucket: str) -> None:
    day(21, {"ada": 3, "bob": 1}, cohort="ea_malice", threshold=1)
    assert count("ea_malice")["cohort_ea_malice"]["overlaps"] == []
    day(14, {"ada": 3, "eve": 5})
    day(20, {"ada": 3, "eve": 5})
    day(21, {"ada": 3, "bob": 4})
    found = count("ea_atrisk", run_id="later")
    assert "cohort_ea_malice" not in found
    figures = found["cohort_ea_atrisk"]
    assert [(each["as_of"][:10], each["members"], each["joined"], each["left"]) for each in figures["days"]] == [
        ("2026-11-14", 2, None, None),
        ("2026-11-20", 2, 0, 0),
        ("2026-11-21", 2, 1, 1),
    ]
    newest = dict(figures["days"][-1])
    written = aws("s3").head_object(Bucket=bucket, Key="results/ea_atrisk/2/2026-11-21_00-00-00.json")["LastModified"]
    assert datetime.fromisoformat(newest.pop("recorded")) == written
    assert newest == {
        "as_of": "2026-11-21T00:00:00+00:00", "threshold": 2, "threshold_from": "registry", "members": 2, "rows": 1,
        "rejects": {"opted_out": 1}, "joined": 1, "left": 1, "started_by": "ana",
        "run": {"dag_id": "cohort_to_segment", "run_id": "run_21"},
    }  # fmt: skip
    assert figures["thresholds"] == {
        "as_of": "2026-11-21T00:00:00+00:00", "thresholds": [0, 1, 2, 3, 4], "members": [2, 2, 2, 1, 0]
    }  # fmt: skip
    assert figures["stayed"] == [{"days": 1, "members": 1}, {"days": 7, "members": 1}]
    assert figures["overlaps"] == [{"cohort": "ea_malice", "members": 1}]
    assert figures["limits"] == [limit_result(2)]
    overview = found["overview"]
    assert (overview["counted"], overview["next_as_of"]) == (NOW.isoformat(), "2026-11-23T00:00:00+00:00")
    assert overview["newest_as_of"] == "2026-11-22T00:00:00+00:00"
    entries = {each["cohort"]: each for each in overview["cohorts"]}
    assert (entries["ea_atrisk"]["day"]["members"], entries["ea_atrisk"]["before"]) == (2, 2)
    assert (entries["ea_atrisk"]["dag_id"], entries["ea_atrisk"]["figures_run"]) == ("cohort_to_segment", "later")
    assert (entries["ea_malice"]["dag_id"], entries["ea_malice"]["figures_run"]) == (None, "counted")
    assert entries["ea_duty"]["day"] is None
    for player in ("ada", "bob", "eve"):
        assert f'"{player}"' not in json.dumps(found)


def test_only_what_is_new_is_read(day: Day, count: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    day(19, PLAYERS)
    day(20, PLAYERS)
    count("ea_atrisk")
    read: list[datetime] = []
    final = State.final_snapshot

    def noted(self: State, name: str, at: datetime) -> Snapshot | None:
        read.append(at)
        return final(self, name, at)

    monkeypatch.setattr(State, "final_snapshot", noted)
    day(21, PLAYERS | {"eve": 9})
    figures = count("ea_atrisk")["cohort_ea_atrisk"]
    assert set(read) == {as_of(20), as_of(21)}
    assert [each["joined"] for each in figures["days"]] == [None, 0, 1]
    day(20, {"ada": 3})  # the day is run again; its snapshot is final
    figures = count("ea_atrisk")["cohort_ea_atrisk"]
    assert [each["members"] for each in figures["days"]] == [2, 1, 3]


def test_a_result_is_counted_in_a_run_that_another_result_has_started(day: Day, count: Any) -> None:
    """Airflow starts one run for two events within milliseconds, and names the first only [run, 3.3.1]."""
    day(21, PLAYERS)
    day(21, PLAYERS, cohort="ea_malice", threshold=1)
    found = count("ea_atrisk")
    assert {"cohort_ea_atrisk", "cohort_ea_malice"} <= found.keys()
    assert not [key for key in count("ea_atrisk") if key.startswith("cohort_")]


def test_all_is_counted_again_without_what_was_kept(day: Day, count: Any, state: State, aws: Any, bucket: str) -> None:
    day(20, PLAYERS)
    day(21, PLAYERS)
    before = count()
    for key in ("results/ea_atrisk/figures.json", "results/overview.json"):
        aws("s3").delete_object(Bucket=bucket, Key=key)
    assert count() == before
    aws("s3").put_object(Bucket=bucket, Key="results/ea_atrisk/figures.json", Body=b'{"figures": "of another version"}')
    assert count() == before


def test_a_day_whose_snapshot_is_gone_is_not_compared(day: Day, count: Any, aws: Any, bucket: str) -> None:
    day(20, PLAYERS)
    day(21, PLAYERS)
    day(22, PLAYERS)
    aws("s3").delete_object(Bucket=bucket, Key=snapshot_key("ea_atrisk", as_of(20)))
    figures = count("ea_atrisk")["cohort_ea_atrisk"]
    assert [each["joined"] for each in figures["days"]] == [None, None, 0]
    assert figures["stayed"] == [{"days": 1, "members": 2}]


def test_an_installation_without_results_has_an_overview_of_its_cohorts(bucket: str, count: Any) -> None:
    found = count()
    assert [each["day"] for each in found["overview"]["cohorts"]] == [None] * 6
    assert found["cohort_ea_duty"]["days"] == []
    assert found["launches"] == {"version": 1, "launches": [], "pooled": []}


def test_cohorts_beyond_the_budget_have_no_overlap(day: Day, count: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    day(21, PLAYERS)
    day(21, {"ada": 3}, cohort="ea_malice", threshold=1)
    day(21, PLAYERS, cohort="ea_mischief")
    count()
    monkeypatch.setattr(figures_store, "MAX_COMPARED", 2)
    assert count()["cohort_ea_atrisk"]["overlaps"] == [{"cohort": "ea_malice", "members": 1}]


def test_a_launch_is_found_by_its_ledger_and_its_report(bucket: str, count: Any, aws: Any) -> None:
    name = "ea_atrisk_2_2026-11-21_00-00-00"
    run = {"dag_id": "cohort_to_segment", "run_id": "r1", "run_type": "manual", "started": None,
           "reported": "2026-11-21T09:00:00+00:00", "triggered_by": "ana"}  # fmt: skip
    plan = {"cohort": "ea_atrisk", "property": "ea_atrisk", "direction": "above", "threshold": 2,
            "threshold_from": "registry", "as_of": "2026-11-21T00:00:00+00:00", "dry_run": False, "source": "auto",
            "extract_only": False, "extract_uri": None, "require": {}, "limits": {}, "holdout_percent": 0,
            "campaign": "launch"}  # fmt: skip
    launched = {"rows": 3, "sent": 2, "withdrawn": {"opted_out": 1}, "in_doubt": 0, "refused": {}, "batches": 1,
                "in_doubt_list": None}  # fmt: skip
    campaign = {"mode": "launch", "template": "at_risk", "template_digest": "e", "from": "Studio <a@b.example>",
                "rows": 3, "segment_sha256": "b", "launched": launched,
                "answer": {"approved": True, "by": "ann", "at": "2026-11-21T08:00:00+00:00", "timed_out": False,
                           "digest": "d"}}  # fmt: skip
    report = {"version": 5, "run": run, "outcome": "launched", "tasks": {}, "plan": plan, "extract": None,
              "segment": None, "limits": None, "imported": None, "campaign": campaign, "faults": []}  # fmt: skip
    for key, body in (
        (f"sends/at_risk/{name}.jsonl", "{}"),
        (f"sends/at_risk/{name}.2.jsonl", "{}"),
        (f"reports/{name}/cohort_to_segment__r1.json", json.dumps(report)),
        (f"reports/{name}/cohort_to_segment__r0.json", json.dumps(report | {"campaign": None})),
        (f"reports/{name}/mail_1.html", "<p>"),
    ):
        aws("s3").put_object(Bucket=bucket, Key=key, Body=body.encode())
    (launch,) = count("ea_atrisk")["launches"]["launches"]
    assert (launch["name"], launch["template"], launch["outcome"]) == (name, "at_risk", "launched")
    assert (launch["launched"]["sent"], launch["answer"]["by"], launch["run"]["run_id"]) == (2, "ann", "r1")
    assert launch["engagement"] is None
    aws("s3").delete_object(Bucket=bucket, Key=f"reports/{name}/cohort_to_segment__r1.json")
    assert count("ea_atrisk")["launches"]["launches"] == [launch]
    effect = {"launch": name, "cohort": "ea_atrisk", "template": "at_risk", "as_of": "2026-11-21T00:00:00+00:00",
              "property": "ea_atrisk", "direction": "above", "threshold": 2, "effect_days": 7,
              "due": "2026-11-28T00:00:00+00:00", "holdout_percent": 10, "global_holdout_percent": 0,
              "status": "waiting"}  # fmt: skip
    counted = {"events": {"objects": 1}, "launches": {name: {"messages": 2, "states": {"delivered": 2}, "opened": 1}},
               "effects": {"launches": [effect]}}  # fmt: skip
    of_another_version = {"events": {"objects": 1}, "launches": "elsewhere"}
    for day, put in ((22, counted), (23, {"events": {"objects": 1}, "launches": {}}), (24, of_another_version)):
        key, as_of = f"engagement/reports/2026-11-{day}_00-00-00.json", f"2026-11-{day}T00:00:00+00:00"
        aws("s3").put_object(Bucket=bucket, Key=key, Body=json.dumps({"as_of": as_of} | put).encode())
        aws("s3").put_object(Bucket=bucket, Key="engagement/reports/note.txt", Body=b"not a report")
        # counts and effect stay once the report of a later as-of does not have the launch
        (launch,) = count("ea_atrisk")["launches"]["launches"]
        engagement = launch["engagement"]
        assert engagement["as_of"].startswith("2026-11-22")
        assert (engagement["counts"]["states"], engagement["counts"]["opened"]) == ({"delivered": 2}, 1)
        assert (launch["effect"]["status"], launch["effect"]["due"][:10]) == ("waiting", "2026-11-28")


def test_too_little_memory_is_not_taken_for_an_unusable_snapshot(
    day: Day, count: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    day(20, {f"player{number}": 3 for number in range(1_000)})
    monkeypatch.setattr(duckdb, "MEMORY_MB", 1)
    with pytest.raises(AirflowFailException, match="CF-TASK-04: DuckDB could not .* memory_mb under tuning"):
        count()


def test_a_database_is_closed_after_an_error(day: Day, count: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    day(20, {"ada": 3})
    opened: list[Members] = []

    def full(members: Members) -> None:
        opened.append(members)
        raise FlywheelError("no memory", code=Code.WORKER_FULL)

    monkeypatch.setattr(Members, "counts", full)
    with pytest.raises(AirflowFailException, match="CF-TASK-04"):
        count()
    assert [each._file.closed for each in opened] == [True]


def test_the_members_are_in_the_memory_of_the_tuning(
    day: Day, count: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = tmp_path / "cohorts.yaml"
    text = REGISTRY.read_text(encoding="utf-8")
    registry.write_text(f"tuning: {{memory_mb: {MEMORY_MB}}}\n{text}", encoding="utf-8")
    monkeypatch.setitem(globals(), "REGISTRY", registry)
    limits = MemoryLimits(tmp_path / "limits", monkeypatch)
    day(20, {"ada": 3})
    day(21, {"bob": 3})
    (tmp_path / "limits").unlink()  # of the snapshots that the test has written
    assert count()["cohort_ea_atrisk"]["days"][1]["joined"] == 1
    assert limits.are_tuned()
