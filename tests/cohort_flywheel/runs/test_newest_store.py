"""Only the newest day's own run changes what a destination holds now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from logging import getLogger
from typing import Any

import pytest
from airflow.sdk import DAG, CronDataIntervalTimetable
from airflow.sdk.exceptions import AirflowSkipException

from cohort_flywheel.runs.lock_store import acquire
from cohort_flywheel.runs.newest_store import skip_unless_newest
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.schedule import Schedule, schedule_in_force
from cohort_flywheel.runs.state_store import State

NEWEST = datetime(2026, 11, 22, tzinfo=UTC)
URI = {"extract_uri": "s3://exports/dropped/theirs.json", "extract_sha256": "ab" * 32}


@pytest.mark.parametrize("params", [{}, {"source": "snapshot"}])
def test_the_newest_canonical_run_continues(planned: Any, context: Any, state: State, params: dict[str, Any]) -> None:
    plan = Plan.model_validate(planned(**params))
    skip_unless_newest(plan, state, context(), lambda: NEWEST + timedelta(hours=23), getLogger())
    with pytest.raises(AirflowSkipException, match="the newest as-of is 2026-11-23"):
        skip_unless_newest(plan, state, context(), lambda: NEWEST + timedelta(hours=24), getLogger())


@pytest.mark.parametrize("params", [{"source": "live"}, URI])
def test_a_run_that_is_not_canonical_is_skipped(
    planned: Any, context: Any, state: State, params: dict[str, Any]
) -> None:
    plan, run = planned(**params), context()
    acquire(state, plan["claim_key"], plan["name"], run)
    with pytest.raises(AirflowSkipException, match="its source is not the snapshot"):
        skip_unless_newest(Plan.model_validate(plan), state, run, lambda: NEWEST + timedelta(hours=1), getLogger())
    assert state.lock_holder(plan["claim_key"]) is None


# --- the schedule has changed since the plan was made -----------------------------------------------------

SUNDAY = NEWEST
WEEKLY, DAILY, AT_SIX = "0 0 * * 0", "0 0 * * *", "0 6 * * *"


def ends(plan: Any, state: State, context: Any, schedule: str, now: datetime) -> str:
    """Why a task of a DAG that has this schedule now ends its run at the segment file; empty where it goes on."""
    made = context() | {"dag": DAG("a_dag", schedule=CronDataIntervalTimetable(schedule, timezone="UTC"))}
    try:
        skip_unless_newest(Plan.model_validate(plan), state, made, lambda: now, getLogger())
    except AirflowSkipException as skip:
        return str(skip)
    return ""


@pytest.mark.parametrize("schedule", [DAILY, "@daily", "30 2 * * *"])
def test_a_schedule_that_became_daily_makes_the_week_older(
    planned: Any, context: Any, state: State, schedule: str
) -> None:
    """Sunday's run, planned under the weekly schedule, is cleared on Wednesday."""
    plan, wednesday = planned(SUNDAY) | {"schedule": WEEKLY}, SUNDAY + timedelta(days=3, hours=9)
    assert ends(plan, state, context, WEEKLY, wednesday) == ""
    assert "the newest as-of is 2026-11-25T" in ends(plan, state, context, schedule, wednesday)


def test_a_schedule_that_became_weekly_leaves_the_later_day_the_newest(
    planned: Any, context: Any, state: State, kept: Any
) -> None:
    """Wednesday's run has read the graph under the daily schedule; on Thursday Sunday is the schedule's newest."""
    thursday = SUNDAY + timedelta(days=4, hours=9)
    sunday, wednesday = (planned(day) | {"schedule": DAILY} for day in (SUNDAY, SUNDAY + timedelta(days=3)))
    assert ends(sunday, state, context, WEEKLY, thursday) == ""
    kept(SUNDAY + timedelta(days=3), {"ann": 3})
    assert "the newest as-of is 2026-11-25T00:00:00+00:00" in ends(sunday, state, context, WEEKLY, thursday)
    assert ends(wednesday, state, context, WEEKLY, thursday) == ""
    next_sunday = SUNDAY + timedelta(days=7, hours=9)
    assert "the newest as-of is 2026-11-29" in ends(wednesday, state, context, WEEKLY, next_sunday)


@pytest.mark.parametrize(("before", "after"), [(AT_SIX, DAILY), (DAILY, AT_SIX)])
def test_a_changed_hour_never_makes_an_earlier_instant_the_newest(
    planned: Any, context: Any, state: State, kept: Any, before: str, after: str
) -> None:
    hour = {AT_SIX: timedelta(hours=6), DAILY: timedelta()}
    earlier, later = NEWEST + min(hour[before], hour[after]), NEWEST + timedelta(days=1) + hour[before]
    kept(later, {"ann": 3})
    now = later + timedelta(minutes=30)
    assert ends(planned(later) | {"schedule": before}, state, context, after, now) == ""
    assert f"the newest as-of is {later.isoformat()}" in ends(planned(earlier), state, context, after, now)


def test_future_snapshots_and_other_cohorts_are_not_the_newest(
    planned: Any, context: Any, state: State, kept: Any
) -> None:
    kept(NEWEST + timedelta(days=2), {"ann": 3})
    kept(NEWEST + timedelta(hours=1), {"ann": 3}, cohort="ea_other")
    assert ends(planned(), state, context, DAILY, NEWEST + timedelta(hours=9)) == ""


def test_a_dag_without_a_cron_has_the_plans_schedule(planned: Any, context: Any) -> None:
    plan = Plan.model_validate(planned() | {"schedule": WEEKLY})
    for dag in (DAG("a_dag", schedule=None), DAG("a_dag", schedule=[])):
        assert schedule_in_force(context() | {"dag": dag}, plan) == Schedule(WEEKLY)
    assert schedule_in_force(context() | {"dag": DAG("a_dag", schedule=DAILY)}, plan) == Schedule(DAILY)
    berlin = DAG("a_dag", schedule=CronDataIntervalTimetable(DAILY, timezone="Europe/Berlin"))
    assert schedule_in_force(context() | {"dag": berlin}, plan) == Schedule(DAILY, "Europe/Berlin")
