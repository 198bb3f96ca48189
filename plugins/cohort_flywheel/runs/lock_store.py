"""One run at a time works on a name: a second run fails, naming the first, or takes over once that one has ended."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException, AirflowRuntimeError

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.source import is_the_days

if TYPE_CHECKING:
    from airflow.sdk import Context

AT_WORK = ("queued", "running")
#: The XCom of a task that holds its run's name: the lock's generation, as `State.generation` gives it.
GENERATION = "generation"


def claim_name(context: Context) -> None:
    """Hold the name of this run's plan; the `pre_execute` of every task that writes or imports under it.

    The lock is released with the verified segment. Fails while another run that holds it is queued or running; a run
    that has ended, or was deleted, does not block others.
    """
    plan = context["ti"].xcom_pull(task_ids="plan")
    with describe_failure("Clearing this task is safe: it takes over once the other run has ended."):
        state = State(S3Hook(), plan["state_bucket"])
        hold(state, plan["claim_key"], plan["name"], context, keep_last=True)
        context["ti"].xcom_push(key=GENERATION, value=state.generation(plan["claim_key"], this_run(context)))


def claim_file(context: Context) -> None:
    """Hold the name as `claim_name` does, for a segment file that is written; the `pre_execute` of what imports it.

    Fails once another run has worked on the name since `enrich` wrote the file: players in it may have opted out by
    then.
    """
    plan = context["ti"].xcom_pull(task_ids="plan")
    with describe_failure("Clearing this task is safe: it fails again until the file is written again."):
        hold_file(State(S3Hook(), plan["state_bucket"]), plan, context)


def hold_file(state: State, plan: Mapping[str, Any], context: Context) -> None:
    """Hold the name of a plan whose segment file is written; raise FlywheelError where the file is stale."""
    _check_file(state, plan, context)
    hold(state, plan["claim_key"], plan["name"], context, keep_last=True)
    _check_file(state, plan, context)  # another run may have begun and ended before the lock was this run's


def _check_file(state: State, plan: Mapping[str, Any], context: Context) -> None:
    """Raise FlywheelError where another run has worked on the name since the segment file was written."""
    mine, key, ti = this_run(context), plan["claim_key"], context["ti"]
    found, other = state.claim(key), "another run"
    last = found[0] if found else state.last_run(key)
    if not last and is_the_days(plan) and not plan["dry_run"]:
        result = state.result(plan["cohort"], plan["threshold"], datetime.fromisoformat(plan["as_of"]))
        last = result and result["run"]
    if not last or last == mine:
        shards, generation = ti.xcom_pull(task_ids="extract") or (), state.generation(key, mine)
        written = {ti.xcom_pull(task_ids="enrich", key=GENERATION, map_indexes=each) for each in range(len(shards))}
        if written <= {generation}:
            return
    else:
        other = f"run {last['run_id']} of DAG {last['dag_id']}"
    raise FlywheelError(
        f"{other} has worked on {plan['name']} since this run's segment file was written: use that run's segment, or"
        " clear enrich and what follows it, which asks for consent and the do-not-contact list again"
    )


def release(state: State, plan: Mapping[str, Any], context: Context) -> None:
    """Release the name of a plan, and keep which run was the last to work on it; in this order."""
    state.put_last_run(plan["claim_key"], this_run(context))
    state.end_claim(plan["claim_key"], this_run(context))


def hold(state: State, key: str, name: str, context: Context, *, keep_last: bool = False) -> None:
    """Take a lock, or take it over; raise FlywheelError while another run that holds it is queued or running.

    A run that holds the lock puts it again: one that was cleared is not taken for ended by a run that has asked for
    its state before. `keep_last` records the run that the lock is taken over from (`State.last_run`).
    """
    mine, found = this_run(context), state.claim(key)
    if found and found[0] != mine:
        other = found[0]
        if (at_work := state_of(context["ti"], other)) in AT_WORK:
            raise FlywheelError(
                f"run {other['run_id']} of DAG {other['dag_id']} is {at_work} and makes the same result, {name}:"
                " wait for its end, then clear this task, or delete this run and use that one's segment"
            )
        if keep_last:
            state.put_last_run(key, other)
    if not state.take(key, mine, found[1] if found else None, attempt=str(context["ti"].id)):
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
