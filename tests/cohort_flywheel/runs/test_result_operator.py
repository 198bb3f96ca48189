"""A verified segment is its day's result, and its name is free again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from cohort_flywheel.runs.lock_store import acquire, acquire_run_lock, acquire_run_lock_for_import, this_run
from cohort_flywheel.runs.result_operator import RESULTS, SEGMENTS, CohortResultOperator
from cohort_flywheel.runs.state_store import State
from tests.cohort_flywheel.task_outputs import checked_segment, segment_file

DAY = datetime(2026, 11, 22, tzinfo=UTC)
IMPORTED = {"job_id": "j1", "segment_id": "s1", "segment_version": 2, "segment_size": 3}
CHECKED = checked_segment(segment_file(3, members=4, rejects={"no_record": 1}), snapshot="snapshots/one")


def record(plan: Any, context: Any) -> dict[str, Any]:
    return CohortResultOperator(task_id="record_result", plan=plan, checked=CHECKED, imported=IMPORTED).execute(context)


def test_a_result_is_kept_for_the_days_that_follow(planned: Any, context: Any, state: State) -> None:
    run = context(run_id="manual__1")
    output = record(planned(), run)
    assert output == {"result_key": "results/ea_atrisk/2/2026-11-22_00-00-00.json", **IMPORTED}
    found = state.previous_result("ea_atrisk", 2, DAY + timedelta(days=1))
    assert found is not None
    assert found.model_dump(mode="json", exclude_unset=True) == {
        "as_of": "2026-11-22T00:00:00+00:00",
        "members": 4,
        "rows": 3,
        "s3_url": "s3://imports/segments/n/",
        "snapshot": "snapshots/one",
        "imported": IMPORTED,
        "run": this_run(run).model_dump(),
        "rejects": {"no_record": 1},
        "limits": CHECKED["limits"],
        "threshold_from": "registry",
        "started_by": "ana",
    }


def announced(planned: Any, context: Any, *, cleared_later: int = 0, plan: Any = None, **run: Any) -> list[Any]:
    """The events of the alias, after a run that ended some days after its as-of; the plain outlet has its cohort."""
    its = context(**run)
    CohortResultOperator(
        task_id="record_result", plan=planned() | (plan or {}), checked=CHECKED, imported=IMPORTED,
        outlets=[RESULTS, SEGMENTS], clock=lambda: DAY + timedelta(days=cleared_later, hours=1),
    ).execute(its)  # fmt: skip
    assert its["outlet_events"][RESULTS].extra == {"cohort": "ea_atrisk"}
    return list(its["outlet_events"][SEGMENTS].asset_alias_events)


def test_the_newest_result_emits_the_asset_of_its_cohort(planned: Any, context: Any, state: State) -> None:
    (event,) = announced(planned, context)
    assert event.dest_asset_key.uri == "cohort-flywheel://segment/ea_atrisk"
    assert event.extra == {
        "cohort": "ea_atrisk",
        "threshold": 2,
        "as_of": "2026-11-22T00:00:00+00:00",
        "members": 4,
        "rows": 3,
        "segment_id": "s1",
        "result": f"s3://{planned()['state_bucket']}/results/ea_atrisk/2/2026-11-22_00-00-00.json",
    }


@pytest.mark.parametrize(
    "run", [{"run_type": "backfill"}, {"cleared_later": 1}, {"plan": {"dry_run": True}}], ids=lambda run: str(run)
)
def test_no_backfill_older_day_or_dry_run_emits_it(planned: Any, context: Any, state: State, run: Any) -> None:
    assert announced(planned, context, **run) == []


def test_a_backfill_of_five_days_emits_nothing(planned: Any, context: Any, state: State) -> None:
    days = [DAY - timedelta(days=number) for number in range(5)]
    assert [announced(planned, context, plan=planned(day), run_type="backfill") for day in days] == [[]] * 5


def test_recording_again_changes_nothing(planned: Any, context: Any, state: State) -> None:
    assert record(planned(), context()) == record(planned(), context())


def test_a_live_run_has_no_result_and_releases_its_lock(planned: Any, context: Any, state: State) -> None:
    plan, run = planned(source="live"), context()
    acquire(state, plan["claim_key"], plan["name"], run)
    assert record(plan, run) == {"result_key": None, **IMPORTED}
    assert state.previous_result("ea_atrisk", 2, DAY + timedelta(days=1)) is None
    assert state.lock_holder(plan["claim_key"]) is None


@pytest.mark.parametrize("mine", [True, False])
def test_the_lock_is_released_if_this_run_holds_it(planned: Any, context: Any, state: State, mine: bool) -> None:
    plan, run = planned(), context(run_id="manual__1")
    acquire(state, plan["claim_key"], plan["name"], run if mine else context(run_id="manual__2"))
    record(plan, run)
    assert (state.lock_holder(plan["claim_key"]) is None) is mine
    assert state.last_run(plan["claim_key"]) == (this_run(run) if mine else None)


def test_a_run_that_is_cleared_does_not_overwrite_the_result_of_a_later_run(
    planned: Any, context: Any, state: State
) -> None:
    """Only its record_result is cleared, after another run has imported a file of its own."""
    plan, runs = planned(), []
    for name in ("a", "b"):
        run = context(run_id=f"manual__{name}", task_id="enrich_0")
        run["ti"].xcoms = {("plan", "return_value"): plan, ("extract", "return_value"): [{}]}
        acquire_run_lock(run)
        runs.append(context(run_id=f"manual__{name}", task_id="record_result"))
        runs[-1]["ti"].xcoms = run["ti"].xcoms
        acquire_run_lock_for_import(runs[-1])  # its pre_execute
        record(plan, runs[-1])
    a, b = runs
    with pytest.raises(AirflowFailException, match="run manual__b of DAG cohort_to_segment has worked on"):
        acquire_run_lock_for_import(a)
    acquire_run_lock_for_import(b)
    record(plan, b)  # no other run has disturbed it
    found = state.result("ea_atrisk", 2, DAY)
    assert found and found.run == this_run(b)
