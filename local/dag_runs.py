"""Run the tasks of the real DAG files in one process, on a clock of the caller: no scheduler, no metadata database.

Each task is executed as Airflow's task runner does it: fields rendered from XComs that went through Airflow's
serialization, mapped tasks expanded, trigger rules kept. A question to a person is answered at once, and a task has one
attempt. `make demo` and the tests in `tests/e2e` run the same files by Airflow itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import airflow.sdk.exceptions
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.bases.operator import ExecutorSafeguard
from airflow.sdk.bases.sensor import BaseSensorOperator
from airflow.sdk.exceptions import (
    AirflowRescheduleException,
    AirflowSkipException,
    DownstreamTasksSkipped,
    ErrorType,
    TaskDeferred,
)
from airflow.sdk.execution_time import comms, task_runner
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow.sdk.serde import deserialize, serialize

from local.config import LocalError

#: How a task waits for a person; Airflow 3.2.1 has the second only.
_PARKED: tuple[type[BaseException], ...] = (
    getattr(airflow.sdk.exceptions, "TaskAwaitingInput", TaskDeferred),
    TaskDeferred,
)


def load_dags(folder: Path) -> dict[str, Any]:
    """Return the DAGs of a folder by their ids; raise LocalError for a file that cannot be imported."""
    bag = DagBag(folder)
    for file, error in bag.import_errors.items():
        raise LocalError(f"{file} cannot be imported: {error}")
    return dict(bag.dags)


@dataclass
class DagRun:
    """A run of a DAG: scheduled, for the day that ends at `as_of`, or triggered by a user at the time of its tasks.

    `approver` answers the question of an approval.
    """

    dag: Any
    as_of: datetime
    conf: Mapping[str, Any] = field(default_factory=dict)
    triggered_by: str = ""
    approver: str = ""
    #: When its first task began.
    started: datetime | None = None
    states: dict[str, str] = field(default_factory=dict)
    _outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: How many instances each mapped task has.
    _instances: dict[str, int] = field(default_factory=dict)

    def go(self, now: datetime, *, until: str = "") -> None:
        """Run the tasks that have not run, at most until one of a name; `now` is the time of each of their clocks.

        Raises LocalError that names the task that failed; what follows it did not run then, except the report.
        """
        self.started = self.started or now
        failed: tuple[str, Exception] | None = None
        tasks = [task for task in self.dag.topological_sort() if task.task_id not in self.states]
        for task in tasks:
            state = self._state_without_running(task)
            try:
                self.states[task.task_id] = state or self._all(task, now)
            except Exception as error:  # noqa: BLE001 - raised below, after the report has run
                self.states[task.task_id], failed = "failed", failed or (task.task_id, error)
            if task.task_id == until:
                break
        if failed:
            text = f"The task {failed[0]} of the DAG {self.dag.dag_id} failed: {failed[1]}"
            raise LocalError(text) from failed[1]

    def output(self, task_id: str, key: str = "return_value") -> Any:
        """Return an XCom of a task; None without it."""
        return self._outputs.get(task_id, {}).get(key)

    def _state_without_running(self, task: Any) -> str:
        """Return the state of a task that does not run, by its trigger rule; empty if it runs."""
        if task.task_id in self.states:  # skipped by an earlier task
            return self.states[task.task_id]
        before = {self.states[each] for each in task.upstream_task_ids}
        rule = task.trigger_rule.value
        if rule.startswith("all_done"):
            return ""
        if rule not in ("all_success", "none_failed"):
            raise LocalError(f"The trigger rule {rule} of the task {task.task_id} is not known to local/dag_runs.py.")
        if before & {"failed", "upstream_failed"}:
            return "upstream_failed"
        return "skipped" if rule == "all_success" and "skipped" in before else ""

    def _all(self, task: Any, now: datetime) -> str:
        if not task.is_mapped:
            return self._execute(task, now, -1)
        (values,) = task._get_specified_expand_input().value.values()
        self._instances[task.task_id] = len(self._outputs[values.operator.task_id][values.key])
        for index in range(self._instances[task.task_id]):
            self._execute(task, now, index)
        return "success"

    def _execute(self, task: Any, now: datetime, index: int) -> str:
        context = self._context(task, now, index)
        ti = context["ti"]
        supervisor = _Supervisor(self)
        task_runner.SUPERVISOR_COMMS = supervisor  # type: ignore[assignment]  # it answers what is asked here
        if index < 0:
            context["task"] = ti.task = task = task.prepare_for_execution()  # a copy, so that a DAG runs several times
        task.render_template_fields(context)
        task = context["task"] = ti.task  # a mapped one has become its instance
        ExecutorSafeguard.tracker.set(task)
        if hasattr(task, "clock"):
            task.clock = lambda: now
        if task._pre_execute_hook:
            task._pre_execute_hook(context)
        if isinstance(task, BaseSensorOperator) and getattr(task, "deferrable", False):
            # no triggerer runs here, and on a busy machine a job may still run
            task.deferrable, task.poke_interval = False, 0.2
        try:
            try:
                result = task.execute(context)
            except _PARKED as wait:
                if supervisor.question is None:
                    raise LocalError(f"The task {task.task_id} waits for something else than a person.") from None
                method, kwargs = wait.method_name, wait.kwargs or {}  # type: ignore[attr-defined]  # both have them
                answer = self._answer(supervisor.question, now)
                result = task.resume_execution(method, kwargs | {"event": answer}, context)
        except DownstreamTasksSkipped as skip:
            names = skip.tasks if isinstance(skip.tasks, list) else [skip.tasks]
            for each in names:
                self.states[each if isinstance(each, str) else each[0]] = "skipped"
            result = None
        except AirflowSkipException:
            return "skipped"
        except AirflowRescheduleException:
            return self._execute(task, now + timedelta(hours=1), index)  # an hour passes for this task alone
        outputs = dict(result) if task.multiple_outputs and result else {}
        outputs |= ti.pushed | ({} if result is None else {"return_value": result})
        self._outputs[_name(task.task_id, index)] = dict(deserialize(serialize(outputs)))  # type: ignore[call-overload]  # a dict stays one
        return "success"

    def _answer(self, question: comms.CreateHITLDetailPayload, now: datetime) -> dict[str, Any]:
        shown = {name: param["value"] for name, param in (question.params or {}).items()}
        return {
            "chosen_options": ["Approve"], "responded_at": now, "timedout": False, "params_input": shown,
            "responded_by_user": {"id": "1", "name": self.approver},
        }  # fmt: skip

    def _context(self, task: Any, now: datetime, index: int) -> Any:
        begin, is_scheduled = self.as_of - timedelta(days=1), not self.triggered_by
        kind, at = ("scheduled", begin) if is_scheduled else ("manual", now)
        run_id = f"{kind}__{at:%Y-%m-%dT%H:%M:%S+00:00}"
        dag_run = SimpleNamespace(
            dag_id=self.dag.dag_id, run_id=run_id, run_type=kind, conf=dict(self.conf), state="running",
            logical_date=begin if is_scheduled else None, data_interval_start=begin if is_scheduled else None,
            data_interval_end=self.as_of if is_scheduled else None, run_after=self.as_of if is_scheduled else now,
            start_date=self.started, triggering_user_name=self.triggered_by or None,
        )  # fmt: skip
        pushed: dict[str, Any] = {}

        def pull(
            task_ids: Any = None, key: str = "return_value", default: Any = None, map_indexes: Any = None, **_: Any
        ) -> Any:
            name = task_ids if map_indexes is None else _name(task_ids, map_indexes)
            return self._outputs.get(name, {}).get(key, default)

        states = {each: self.states.get(each) for each in self.dag.task_ids} | {task.task_id: "running"}
        ti = SimpleNamespace(
            task_id=task.task_id, task=task, dag_id=self.dag.dag_id, run_id=run_id, map_index=index, try_number=1,
            max_tries=0, pushed=pushed, xcom_pull=pull, state="running", start_date=now,
            log_url="http://localhost/", xcom_push=lambda key, value, **_: pushed.update({key: value}),
            get_task_states=lambda *_, **__: {run_id: states}, get_dagrun_state=lambda *_, **__: "running",
            get_relevant_upstream_map_indexes=lambda **_: None, get_first_reschedule_date=lambda _: None,
            id=uuid5(NAMESPACE_OID, f"{self.dag.dag_id} {run_id} {task.task_id} {index}"),
        )  # fmt: skip
        return {
            "params": self.dag.params.dump() | dict(self.conf), "dag": self.dag, "dag_run": dag_run, "run_id": run_id,
            "logical_date": dag_run.logical_date, "ti": ti, "task_instance": ti, "task": task,
            "outlet_events": OutletEventAccessors(),
        }  # fmt: skip

    def of_mapped(self, task_id: str, key: str) -> Iterator[Any]:
        """Yield an XCom of each instance of a mapped task that has it."""
        for index in range(self._instances.get(task_id, 0)):
            outputs = self._outputs.get(_name(task_id, index), {})
            if key in outputs:
                yield outputs[key]


def _name(task_id: str, index: int) -> str:
    return task_id if index < 0 else f"{task_id}_{index}"


class _Supervisor:
    """Answers a task that asks for the outputs of a mapped task, and keeps what it asks a person."""

    def __init__(self, run: DagRun) -> None:
        self._run = run
        self.question: comms.CreateHITLDetailPayload | None = None

    def send(self, msg: Any) -> Any:
        match msg:
            case comms.CreateHITLDetailPayload():
                self.question = msg
                return comms.HITLDetailRequestResult(**msg.model_dump(mode="json", exclude={"type"}))
            case comms.GetXComCount():
                return comms.XComCountResponse(len=len(list(self._run.of_mapped(msg.task_id, msg.key))))
            case comms.GetXComSequenceItem():
                found = list(self._run.of_mapped(msg.task_id, msg.key))
                if msg.offset >= len(found):
                    return comms.ErrorResponse(error=ErrorType.XCOM_NOT_FOUND)
                return comms.XComSequenceIndexResult(root=serialize(found[msg.offset]))
        return None
