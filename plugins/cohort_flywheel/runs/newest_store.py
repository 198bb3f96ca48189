"""Only the newest day's own run may change what a destination holds now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from logging import Logger
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from cohort_flywheel.runs.lock_store import release
from cohort_flywheel.runs.schedule import Clock, last_instant
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.source import is_the_days

if TYPE_CHECKING:
    from airflow.sdk import Context


def skip_unless_newest(
    plan: Mapping[str, Any], state: State, context: Context, clock: Clock, log: Logger | Any
) -> None:
    """Skip the task, and what follows it, of a run that is not the newest day's own; its name is free again.

    That is an as-of that is not the newest by the hour at which the task runs (a run that is cleared days later is an
    older one by then), and a run whose players are not the day's: today's graph under its own name, a dropped extract.
    """
    newest = last_instant(plan["schedule"], clock())
    if not is_the_days(plan):
        why = "its players are not those of its day's snapshot"
    elif datetime.fromisoformat(plan["as_of"]) < newest:
        why = f"the newest as-of is {newest.isoformat()}"
    else:
        return
    release(state, plan, context)
    sentence = (
        f"{plan['name']} ends at its segment file: {why}, and only the newest day's own run changes what the"
        " destination holds now"
    )
    log.info(sentence)
    raise AirflowSkipException(sentence)
