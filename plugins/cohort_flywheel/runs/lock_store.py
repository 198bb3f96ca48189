"""One run at a time works on a name: who comes second stops, naming the first, or takes over where that one ended."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError

from cohort_flywheel.common.failures import outside
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.source import is_the_days

if TYPE_CHECKING:
    from airflow.sdk import Context

AT_WORK = ("queued", "running")


def claim_name(context: Context) -> None:
    """Hold the name of this run's plan; the `pre_execute` of every task that writes or imports under it.

    The claim ends with the verified segment. Fails while another run that holds it is queued or running; one that
    ended, or was deleted, blocks nobody.
    """
    plan = context["ti"].xcom_pull(task_ids="plan")
    with outside("Clearing this task is safe: it waits for nobody, and takes over once the other run has ended."):
        hold(State(S3Hook(), plan["state_bucket"]), plan["claim_key"], plan["name"], context)


def claim_file(context: Context) -> None:
    """Hold the name as `claim_name` does, for a segment file that is written; the `pre_execute` of what imports it.

    Fails once another run has worked on the name since: who is in this file may have said no by then.
    """
    plan, mine = context["ti"].xcom_pull(task_ids="plan"), this_run(context)
    with outside("Clearing this task is safe: it fails again until the file is written anew."):
        state = State(S3Hook(), plan["state_bucket"])
        found, result = state.claim(plan["claim_key"]), None
        if not found and is_the_days(plan) and not plan["dry_run"]:
            result = state.result(plan["cohort"], plan["threshold"], datetime.fromisoformat(plan["as_of"]))
        last = found[0] if found else result and result["run"]
        if last and last != mine:
            raise FlywheelError(
                f"run {last['run_id']} of DAG {last['dag_id']} has worked on {plan['name']} since this run's segment"
                " file was written: use that run's segment, or clear enrich and what follows it, which asks for"
                " consent and the do-not-contact list again"
            )
        hold(state, plan["claim_key"], plan["name"], context)


def hold(state: State, key: str, name: str, context: Context) -> None:
    """Take a claim, or take it over; raise FlywheelError while another run is at work on it."""
    mine = this_run(context)
    found = state.claim(key)
    if found and found[0] == mine:
        return
    if found:
        other = found[0]
        if (at_work := state_of(context["ti"], other)) in AT_WORK:
            raise FlywheelError(
                f"run {other['run_id']} of DAG {other['dag_id']} is {at_work} and makes the same result, {name}:"
                " wait for its end, then clear this task, or delete this run and use that one's segment"
            )
    if not state.take(key, mine, found[1] if found else None):
        raise AirflowException(f"another run has just begun to work on {name}: a later try sees which")


def this_run(context: Context) -> dict[str, str]:
    """Who a run is, in a claim."""
    return {"dag_id": context["dag_run"].dag_id, "run_id": context["dag_run"].run_id}


def word(member: Any) -> str:
    """A member of the Task SDK's enumerations as Airflow writes it: `str` of one gives its Python name."""
    return str(getattr(member, "value", member))


def state_of(ti: Any, run: dict[str, str]) -> str | None:
    """The state of a run, or None where it was deleted."""
    try:
        state = ti.get_dagrun_state(dag_id=run["dag_id"], run_id=run["run_id"])
    except AirflowRuntimeError as error:
        if not _says_not_found(error.error.detail):
            raise
        return None
    return word(state)


def _says_not_found(detail: Any) -> bool:
    # {"status_code": 404, "detail": {"detail": {"reason": "not_found"}}}; a 404 of a proxy says nothing of a run
    while isinstance(detail, dict):
        if detail.get("reason") == "not_found":
            return True
        detail = detail.get("detail")
    return False
