"""The instants of a schedule, and the clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pendulum
from airflow.timetables.interval import CronDataIntervalTimetable
from croniter import croniter

from cohort_flywheel.runs.plan import Plan

if TYPE_CHECKING:
    from airflow.sdk import Context

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)


def schedule_in_force(context: Context, plan: Plan) -> str:
    """Return the current cron of the task's DAG; for a DAG without a cron, the plan's, which may be an earlier one."""
    return str(getattr(getattr(context["dag"], "timetable", None), "expression", None) or plan.schedule)


def next_instant(schedule: str, moment: datetime) -> datetime:
    """The first instant of a cron, in UTC, after a moment."""
    found: datetime = croniter(schedule, moment.astimezone(UTC)).get_next(datetime)
    return found


def last_instant(schedule: str, moment: datetime) -> datetime:
    """The last instant of a cron, in UTC, at or before a moment."""
    timetable = CronDataIntervalTimetable(schedule, "UTC")
    return timetable.infer_manual_data_interval(run_after=pendulum.instance(moment, tz="UTC")).end
