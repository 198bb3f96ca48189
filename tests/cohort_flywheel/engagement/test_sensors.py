"""The two waits between the DAGs: bounded, and by what the state bucket has."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowRescheduleException

from cohort_flywheel.engagement.engagement_outputs import EngagementPlan
from cohort_flywheel.engagement.sensors import AsOfSensor, FinalSnapshotsSensor, SuppressionsSensor
from cohort_flywheel.engagement.suppressions import ListState
from cohort_flywheel.engagement.suppressions_store import put_state
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.names import snapshot_key
from local.config import ROOT
from tests.cohort_flywheel.engagement.event_days import NEWEST, Events
from tests.cohort_flywheel.plans import plan_output

DAY, SCHEDULE = timedelta(days=1), "0 0 * * *"
NOT_YET = None


@pytest.fixture
def events(airflow_env: Any, servers: Any, fresh_config: Any, context: Any, monkeypatch: pytest.MonkeyPatch) -> Events:
    return Events(servers, fresh_config, context, monkeypatch)


def poke(
    events: Events, sensor: AsOfSensor, hours: float, run_type: str = "manual", late: float = 0
) -> dict[str, Any] | None:
    """A look so many hours after the newest as-of, in a run that started `late`; its output, or NOT_YET."""
    its = events.context({})
    its["dag_run"].run_type, its["dag_run"].start_date = run_type, NEWEST + timedelta(hours=late)
    sensor.clock = lambda: NEWEST + timedelta(hours=hours)
    found = sensor.poke(its)
    assert found.is_done == (found.xcom_value is not None)
    return found.xcom_value


def waiting(events: Events, **plan: Any) -> SuppressionsSensor:
    made = plan_output(state_bucket=events.state, **plan)
    return SuppressionsSensor(task_id="wait_for_suppressions", plan=made, schedule=SCHEDULE)


def listed(events: Events, days: int) -> None:
    """Have the list the events up to so many days before the newest as-of."""
    put_state(S3Hook(), events.state, ListState(as_of=NEWEST - days * DAY))


def seen(days: int, *, in_time: bool) -> dict[str, Any]:
    return {"as_of": (NEWEST - days * DAY).isoformat(), "in_time": in_time}


def test_a_run_waits_for_the_suppressions_of_its_as_of(events: Events) -> None:
    sensor = waiting(events)
    assert poke(events, sensor, 0.1) is NOT_YET, "there is no list"
    listed(events, days=1)
    assert poke(events, sensor, 0.1) is NOT_YET
    listed(events, days=0)
    assert poke(events, sensor, 0.1) == seen(0, in_time=True)
    listed(events, days=-1)
    assert poke(events, sensor, 0.1) == seen(-1, in_time=True), "a later one has them too"


def test_it_goes_on_without_them_after_an_hour(events: Events) -> None:
    sensor = waiting(events)
    assert poke(events, sensor, 1) == {"as_of": None, "in_time": False}
    listed(events, days=1)
    assert poke(events, sensor, 0.99) is NOT_YET
    assert poke(events, sensor, 1) == seen(1, in_time=False)


def test_a_scheduled_run_that_starts_late_waits_an_hour_and_another_one_does_not_wait(events: Events) -> None:
    listed(events, days=1)
    sensor = waiting(events)
    for run_type, hours in (("manual", 9), ("backfill", 9), ("scheduled", 10)):
        assert poke(events, sensor, hours, run_type, late=9) == seen(1, in_time=False), run_type
    assert poke(events, sensor, 9.9, "scheduled", late=9) is NOT_YET


def test_a_past_as_of_is_not_waited_for(events: Events) -> None:
    listed(events, days=1)
    for run_type in ("manual", "backfill", "scheduled"):
        assert poke(events, waiting(events), 24.1, run_type, late=24) == seen(1, in_time=False), run_type


def test_a_run_that_ends_at_the_extract_does_not_wait(events: Events) -> None:
    listed(events, days=1)
    assert poke(events, waiting(events, extract_only=True), 0.1) == seen(1, in_time=False)


def test_the_worker_is_free_between_two_looks(events: Events) -> None:
    sensor, its = waiting(events), events.context({})
    sensor.clock = lambda: NEWEST + timedelta(minutes=5)
    its["ti"].get_first_reschedule_date = lambda _: None
    with pytest.raises(AirflowRescheduleException):
        sensor.execute(its)
    listed(events, days=0)
    assert sensor.execute(its) == seen(0, in_time=True)


# --- the snapshots


def snapshots(events: Events) -> FinalSnapshotsSensor:
    plan = EngagementPlan(as_of=NEWEST, event_bucket=events.bucket, state_bucket=events.state)
    return FinalSnapshotsSensor(
        task_id="wait_for_snapshots", plan=plan.model_dump(mode="json"), schedule=SCHEDULE, cohorts=["a", "b"]
    )


def final(events: Events, cohort: str, days: int = 0) -> None:
    key = snapshot_key(cohort, NEWEST - days * DAY)
    events.s3.put_object(Bucket=events.state, Key=key, Body=b'{"key": "k"}')


def test_the_graph_waits_for_the_final_snapshots_of_its_as_of(events: Events) -> None:
    sensor = snapshots(events)
    final(events, "a")
    final(events, "b", days=1)
    assert poke(events, sensor, 2.9) is NOT_YET
    assert poke(events, sensor, 3) == {"not_final": ["b"]}
    assert poke(events, sensor, 24) == {"not_final": ["b"]}, "a past as-of is not waited for"
    final(events, "b")
    assert poke(events, sensor, 0.1) == {"not_final": []}


# --- the DAGs


def edges(folder: Path, engagement: str) -> dict[str, dict[str, set[str]]]:
    """The downstream tasks of each task of each DAG."""
    shutil.copytree(ROOT / "include", folder / "include")
    (folder / "dags").mkdir()
    for name in ("engagement", "cohort_to_segment"):
        shutil.copy(ROOT / "dags" / f"{name}.py", folder / "dags")
    registry = folder / "include" / "cohorts.yaml"
    registry.write_text(f"engagement: {engagement}\n{registry.read_text(encoding='utf-8')}", encoding="utf-8")
    bag = DagBag(folder / "dags")
    assert not bag.import_errors
    return {name: {task.task_id: task.downstream_task_ids for task in dag.tasks} for name, dag in bag.dags.items()}


def test_suppressions_come_before_the_lookup_and_the_snapshots_before_the_graph(tmp_path: Path) -> None:
    """Nothing waits in a circle: suppressions → the lookup → the snapshots → the graph."""
    found = edges(tmp_path, "{read_events: true, write_graph: true}")
    cohorts, engagement = found["cohort_to_segment"], found["engagement"]
    assert cohorts["wait_for_suppressions"] == {"enrich"}
    assert "wait_for_suppressions" not in cohorts["extract"], "the graph is read meanwhile"
    assert engagement["update_suppressions"] == {"wait_for_snapshots", "report"}
    assert engagement["wait_for_snapshots"] == {"write_graph"}
    assert "update_suppressions" not in engagement["wait_for_snapshots"] | engagement["write_graph"]


@pytest.mark.parametrize("on", [False, True])
def test_without_engagement_no_run_waits(tmp_path: Path, on: bool) -> None:
    found = edges(tmp_path, f"{{read_events: {str(on).lower()}}}")
    assert ("wait_for_suppressions" in found["cohort_to_segment"]) == on
    assert "wait_for_snapshots" not in found.get("engagement", {})
