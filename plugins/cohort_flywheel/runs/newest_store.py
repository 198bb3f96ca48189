"""Only the newest day's own run may change what a destination holds now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from logging import Logger
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from cohort_flywheel.runs.lock_store import release
from cohort_flywheel.runs.schedule import Clock, last_instant, schedule_in_force
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.source import is_the_days

if TYPE_CHECKING:
    from airflow.sdk import Context


def newest_as_of(state: State, cohort: str, schedule: str, now: datetime) -> datetime:
    """The last instant of the schedule, or a later as-of of the cohort that has a snapshot, of an earlier schedule."""
    scheduled = last_instant(schedule, now)
    return max([scheduled, *(day for day in state.snapshot_days(cohort) if scheduled < day <= now)])


def newest_now(plan: Mapping[str, Any], state: State, context: Context, now: datetime) -> datetime:
    """The newest as-of of a plan's cohort by the schedule in force, which may not be the plan's any more."""
    return newest_as_of(state, plan["cohort"], schedule_in_force(context, plan), now)


def skip_unless_newest(
    plan: Mapping[str, Any],
    state: State,
    context: Context,
    clock: Clock,
    log: Logger | Any,
    imported: datetime | None = None,
) -> None:
    """Skip the task, and what follows it, of a run that is not the newest day's own, and release its name.

    That is an as-of that is not the newest at the time at which the task runs (a run that is cleared days later is an
    older one by then), and a run whose players are not the day's: today's graph under its own name, an uploaded
    extract. `imported` is the as-of that the destination holds, where that is known.
    """
    if not is_the_days(plan):
        why = "its players are not those of its day's snapshot"
    else:
        newest = max(filter(None, (imported, newest_now(plan, state, context, clock()))))
        if datetime.fromisoformat(plan["as_of"]) >= newest:
            return
        why = f"the newest as-of is {newest.isoformat()}"
    release(state, plan, context)
    sentence = (
        f"{plan['name']} ends at its segment file: {why}, and only the newest day's own run changes what the"
        " destination holds now"
    )
    log.info(sentence)
    raise AirflowSkipException(sentence)
