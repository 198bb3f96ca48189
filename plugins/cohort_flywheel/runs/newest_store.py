"""Only the newest canonical run may change what a destination holds now."""

from __future__ import annotations

from datetime import datetime
from logging import Logger
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from cohort_flywheel.runs.lock_store import release
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.schedule import Clock, Schedule, schedule_in_force
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.source import is_canonical_run

if TYPE_CHECKING:
    from airflow.sdk import Context


def newest_as_of(state: State, cohort: str, schedule: Schedule, now: datetime) -> datetime:
    """The last instant of the schedule, or a later as-of with a snapshot (from an earlier schedule)."""
    scheduled = schedule.last(now)
    return max([scheduled, *(day for day in state.snapshot_days(cohort) if scheduled < day <= now)])


def newest_now(plan: Plan, state: State, context: Context, now: datetime) -> datetime:
    """The newest as-of of a plan's cohort by the schedule in force, which may have changed since the plan."""
    return newest_as_of(state, plan.cohort, schedule_in_force(context, plan), now)


def skip_unless_newest(
    plan: Plan,
    state: State,
    context: Context,
    clock: Clock,
    log: Logger | Any,
    imported: datetime | None = None,
) -> None:
    """Skip the task and its downstream tasks unless this is the newest canonical run; then release the run lock.

    The as-of is compared when the task runs: a run that is cleared days later is not the newest any more. A run with
    source `live` or with an uploaded extract is never canonical. `imported` is the as-of that the destination holds,
    if known.
    """
    if not is_canonical_run(plan):
        why = "its source is not the snapshot of its day"
    else:
        newest = max(filter(None, (imported, newest_now(plan, state, context, clock()))))
        if plan.as_of >= newest:
            return
        why = f"the newest as-of is {newest.isoformat()}"
    release(state, plan, context)
    sentence = (
        f"Skipping import for {plan.name}: {why}. Only the newest run of a cohort changes the destination's"
        " current members"
    )
    log.info(sentence)
    raise AirflowSkipException(sentence)
