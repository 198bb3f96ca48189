"""The run lock: one run at a time works on a name. A second run fails, or takes over the lock of an ended run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowRuntimeError

from cohort_flywheel.common.failures import RetryableError, describe_failure
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.result import RunIds
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.source import is_canonical_run

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

ACTIVE_STATES = ("queued", "running")
#: The XCom of a task that acquires the run lock: the lock's generation, see `State.generation`.
GENERATION = "generation"


def acquire_run_lock(context: Context) -> None:
    """Acquire the lock of this run's name; the `pre_execute` of every task that writes under the name.

    `record_result` releases the lock. Fails while another run that holds it is queued or running; a run that has
    ended, or that was deleted, does not block others.
    """
    with describe_failure("Clearing this task is safe: it takes over once the other run has ended."):
        plan = Plan.model_validate(context["ti"].xcom_pull(task_ids="plan"))
        state = State(S3Hook(), plan.state_bucket)
        acquire(state, plan.claim_key, plan.name, context, keep_last=True)
        context["ti"].xcom_push(key=GENERATION, value=state.generation(plan.claim_key, this_run(context)))


def acquire_run_lock_for_import(context: Context) -> None:
    """Acquire the lock and check the segment file; the `pre_execute` of tasks that import the file or record it.

    Fails if another run has worked on the name since `enrich` wrote the file: players in it may have opted out since.
    """
    with describe_failure("Clearing this task is safe: it fails again until the file is written again."):
        plan = Plan.model_validate(context["ti"].xcom_pull(task_ids="plan"))
        acquire_for_import(State(S3Hook(), plan.state_bucket), plan, context)


def acquire_for_import(state: State, plan: Plan, context: Context) -> None:
    """Acquire the lock of a plan whose segment file is written; raise FlywheelError if the file is stale."""
    _check_file_is_current(state, plan, context)
    acquire(state, plan.claim_key, plan.name, context, keep_last=True)
    _check_file_is_current(state, plan, context)  # another run may have begun and ended before the lock was acquired


def _check_file_is_current(state: State, plan: Plan, context: Context) -> None:
    """Raise FlywheelError if another run has worked on the name since the segment file was written."""
    mine, key, ti = this_run(context), plan.claim_key, context["ti"]
    found, other = state.lock_holder(key), "another run"
    last = found[0] if found else state.last_run(key)
    if not last and is_canonical_run(plan) and not plan.dry_run:
        result = state.result(plan.cohort, plan.threshold, plan.as_of)
        last = result.run if result else None
    if not last or last == mine:
        shards, generation = ti.xcom_pull(task_ids="extract") or (), state.generation(key, mine)
        written = {ti.xcom_pull(task_ids="enrich", key=GENERATION, map_indexes=each) for each in range(len(shards))}
        if written <= {generation}:
            return
    else:
        other = f"run {last.run_id} of DAG {last.dag_id}"
    raise FlywheelError(
        f"{other} has worked on {plan.name} since this run's segment file was written: use that run's segment, or"
        " clear enrich with downstream, which checks consent and the do-not-contact list again",
        code=Code.OVERTAKEN,
    )


def release(state: State, plan: Plan, context: Context) -> None:
    """Record this run as the last one to work on the plan's name, then release the lock."""
    state.put_last_run(plan.claim_key, this_run(context))
    state.release_lock(plan.claim_key, this_run(context))


def acquire(state: State, key: str, name: str, context: Context, *, keep_last: bool = False) -> None:
    """Acquire a lock, or take it over; raise FlywheelError while another run that holds it is queued or running.

    A run that holds the lock writes it again, so that a run which has read the state of this one before it was
    cleared cannot take the lock over. `keep_last` records the previous holder (`State.last_run`).
    """
    mine, found = this_run(context), state.lock_holder(key)
    if found and found[0] != mine:
        other = found[0]
        if (at_work := state_of(context["ti"], other)) in ACTIVE_STATES:
            raise FlywheelError(
                f"run {other.run_id} of DAG {other.dag_id} is {at_work} and makes the same result, {name}:"
                " wait for its end, then clear this task, or delete this run and use that one's segment",
                code=Code.SAME_RESULT,
            )
        if keep_last:
            state.put_last_run(key, other)
    if not state.take(key, mine, found[1] if found else None, attempt=str(context["ti"].id)):
        raise RetryableError(
            f"another run has just begun to work on {name}: a later attempt sees which", code=Code.BUSY
        )


def this_run(context: Context) -> RunIds:
    """The ids by which a lock names a run."""
    return RunIds(dag_id=context["dag_run"].dag_id, run_id=context["dag_run"].run_id)


def enum_value(member: object) -> str:
    """The value of a member of the Task SDK's enumerations; `str` of a member gives its Python name."""
    return str(getattr(member, "value", member))


def state_of(ti: RuntimeTaskInstanceProtocol, run: RunIds) -> str | None:
    """The state of a run, or None if it was deleted."""
    try:
        state = ti.get_dagrun_state(dag_id=run.dag_id, run_id=run.run_id)
    except AirflowRuntimeError as error:
        if not _says_not_found(error.error.detail):
            raise
        return None
    return enum_value(state)


def _says_not_found(detail: object) -> bool:
    # {"status_code": 404, "detail": {"detail": {"reason": "not_found"}}}; a 404 of a proxy has another body
    while isinstance(detail, dict):
        if detail.get("reason") == "not_found":
            return True
        detail = detail.get("detail")
    return False
