"""Only the newest as-of may change what a destination holds now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from logging import Logger
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from cohort_flywheel.operators.claim import this_run
from cohort_flywheel.operators.schedule import Clock, last_instant
from cohort_flywheel.operators.state import State

if TYPE_CHECKING:
    from airflow.sdk import Context


def skip_unless_newest(
    plan: Mapping[str, Any], state: State, context: Context, clock: Clock, log: Logger | Any
) -> None:
    """Skip the task, and what follows it, of a run whose as-of is not the newest; its name is free again.

    The hour at which the task runs decides: a run that is cleared days later is an older one by then.
    """
    newest = last_instant(plan["schedule"], clock())
    if datetime.fromisoformat(plan["as_of"]) >= newest:
        return
    state.end_claim(plan["claim_key"], this_run(context))
    sentence = (
        f"{plan['name']} ends at its segment file: the newest as-of is {newest.isoformat()}, and only that one's run"
        " changes what the destination holds now"
    )
    log.info(sentence)
    raise AirflowSkipException(sentence)
