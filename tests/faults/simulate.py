"""Plays Airflow: the tasks of a real DAG in their order, each attempt in a process of its own that can be killed."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import airflow.sdk.exceptions
import boto3
from airflow.providers.standard.triggers.hitl import HITLTrigger
from airflow.sdk.bases.operator import TRIGGER_FAIL_REPR, ExecutorSafeguard, TriggerFailureReason
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
    DownstreamTasksSkipped,
    ErrorType,
    TaskDeferred,
)
from airflow.sdk.execution_time import comms, task_runner
from airflow.sdk.execution_time.context import OutletEventAccessors
from airflow.sdk.serde import deserialize, serialize
from asgiref.sync import ThreadSensitiveContext

from cohort_flywheel.destinations.ses.campaign import sends_store as ses_sends
from cohort_flywheel.destinations.webhook import layout as webhook_layout
from cohort_flywheel.segment import extract_file
from tests.faults import code, graph, transport
from tests.faults.sites import CLEARED, GRAPH, WEBHOOK, Case, Site, Watch

#: What a wait of a second takes here, up to so many of them: retries of the SDK, of tenacity, and a trigger's looks.
SECOND, LONGEST_WAIT = 0.03, 10
#: So many that the sample has two shards, each looked up in two batches.
SHARD_MEMBERS = 200
#: An attempt that takes longer hangs.
ATTEMPT_SECONDS = 60
#: How long a trigger may wait that has a time-out: longer than any job takes here.
TRIGGER_SECONDS = 6
#: Retries beyond these would only repeat what they do; a task has 30 where it may wait for another run.
MOST_RETRIES = 3
#: The connections of the graph, and after how many bytes an answer is cut: one to a write is a number.
GRAPH_CONNECTIONS = {"AIRFLOW_CONN_NEPTUNE_DEFAULT": graph.CUT_AFTER_BYTES, "AIRFLOW_CONN_NEPTUNE_ENGAGEMENT": 20}

#: How a task waits for a person; 3.2.1 has but the trigger.
PARKED: Any = getattr(airflow.sdk.exceptions, "TaskAwaitingInput", TaskDeferred)


@dataclass
class Told:
    """What a process reported before its end; `how` is its last report, or that it was killed."""

    how: str = "killed"
    said: dict[str, Any] = field(default_factory=dict)
    sites: dict[Site, list[str]] = field(default_factory=dict)
    #: a digest of what each call asks
    requests: dict[Site, str] = field(default_factory=dict)
    #: the object, or the prefix of a listing, of each call to S3
    places: dict[Site, str] = field(default_factory=dict)
    struck: bool = False


class _StoppedError(Exception):
    """The run may stop here."""


@dataclass
class Run:
    """A run of a DAG under at most one fault."""

    dag: Any
    conf: dict[str, Any]
    #: the time, for each clock in it
    now: datetime
    log: Path
    case: Case | None = None
    #: called before each task, and before an instance of a mapped one after another: whether the run may stop there
    reached: Callable[[str], bool] = lambda _: False
    #: called before each attempt: a server that a fault has killed is started again
    between: Callable[[], None] = lambda: None
    server_pid: int = 0
    states: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: the same as Airflow's database has them, serialized
    stored: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: the names of a mapped task's instances, as Airflow lists them: enrich_0, enrich_1, …
    instances: dict[str, list[str]] = field(default_factory=dict)
    #: the first question of each task instance: Airflow shows no other one, also after the task was cleared
    questions: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    #: every exception's text, and of which task
    texts: list[tuple[str, str]] = field(default_factory=list)
    sites: dict[Site, list[str]] = field(default_factory=dict)
    requests: dict[Site, str] = field(default_factory=dict)
    places: dict[Site, str] = field(default_factory=dict)
    modules: set[str] = field(default_factory=set)
    #: the definitions of the package that each process has run
    ran: dict[str, set[str]] = field(default_factory=dict)
    struck: bool = False
    cleared: bool = False
    #: whether all was as in an undisturbed run when the task after that of the case was reached
    rejoined: bool | None = None
    #: whether it was stopped at a task, as what follows was equal to the undisturbed run
    stopped: bool = False
    #: what AWS took of a processor
    endpoint_seconds: float = 0.0
    hung: bool = False

    def __post_init__(self) -> None:
        self._began = self.now

    def kept(self) -> dict[str, Any]:
        """What Airflow's database knows of the run, for another one to continue from.

        Of a task that was cleared the XComs stay there until it begins again; no other task may read them until then.
        """
        outputs = {name: output for name, output in self.outputs.items() if name in self.states}
        kept = {"states": self.states, "outputs": outputs, "instances": self.instances, "questions": self.questions}
        return deepcopy(kept)

    def continue_from(self, kept: dict[str, Any]) -> None:
        for name, value in deepcopy(kept).items():
            setattr(self, name, value)

    @property
    def failed(self) -> bool:
        return any(state in ("failed", "upstream_failed") for state in self.states.values())

    def go(self) -> None:
        """Run what has no state yet; a task's turn comes once all before it have one."""
        try:
            for task in self.dag.topological_sort():
                if task.task_id not in self.states:
                    self._reach(task.task_id)
                    self.states[task.task_id] = self._waits_in_vain(task) or self._all_tried(task)
        except _StoppedError:
            self.stopped = True

    def _reach(self, name: str) -> None:
        if self.reached(name):
            raise _StoppedError

    def _all_tried(self, task: Any) -> str:
        """Run a task; of a mapped one, every instance that has no state yet, also after one has failed."""
        if not task.is_mapped:
            return self._tried(task)
        (values,) = task._get_specified_expand_input().value.values()
        length = len(self.outputs[values.operator.task_id][values.key])
        self.instances[task.task_id] = [f"{task.task_id}_{index}" for index in range(length)]
        for index, name in enumerate(self.instances[task.task_id]):
            if name not in self.states:
                if index:
                    self._reach(name)
                self.states[name] = self._tried(task, index)
        return "failed" if "failed" in (self.states[name] for name in self.instances[task.task_id]) else "success"

    def load(self) -> None:
        """Load what this run's processes had to load, so that those of a later run need not."""
        for name in sorted(self.modules):
            with suppress(ImportError):
                importlib.import_module(name)
        for service in {site.service for site in self.sites} - {GRAPH, WEBHOOK}:
            boto3.Session(region_name="us-east-1").client(service)

    def clear(self) -> None:
        """What a person does: clear the tasks that failed, or the one that the message names, and what follows."""
        names = set(re.findall(r"clear (\w+) with downstream", " ".join(self.errors.values())))
        first = {task for task in self.dag.task_ids if self.states[task] == "failed" or task in names}
        for name in first:
            for task in (name, *self.dag.get_task(name).get_flat_relative_ids(upstream=False)):
                for each in (task, *self.instances.pop(task, ())):
                    self.states.pop(each, None)
        self.errors, self.cleared = {}, True

    def _waits_in_vain(self, task: Any) -> str:
        """The state of a task that does not run, by Airflow's trigger rules; empty if it runs."""
        before = {self.states[each] for each in task.upstream_task_ids}
        rule = task.trigger_rule.value
        if rule.startswith("all_done"):
            return ""
        assert rule in ("all_success", "none_failed"), f"the harness does not know the trigger rule {rule}"
        if before & {"failed", "upstream_failed"}:
            return "upstream_failed"
        return "skipped" if rule == "all_success" and "skipped" in before else ""

    def _tried(self, task: Any, index: int = -1) -> str:
        name = task.task_id if index < 0 else self.instances[task.task_id][index]
        for number in range(1, min(task.retries, MOST_RETRIES) + 2):
            self.between()
            told = self._attempt(task, name, index, number)
            if told.how == "success":
                self.errors.pop(name, None)
                self._keep(name, told)
                self.states |= dict.fromkeys(told.said.get("skips", ()), "skipped")
                return "success"
            if told.how == "skipped":
                return "skipped"
            self.errors[name] = told.said.get("error", told.how)
            if told.how == "failed for good":
                break
        return "failed"

    def _attempt(self, task: Any, name: str, index: int, number: int) -> Told:
        """One try of a task, with its deferrals: from worker to triggerer, or to a person, and back."""
        self.outputs.pop(name, None)  # Airflow deletes them as an attempt begins
        told = self._process(name, lambda: self._execute(task, index, number))
        began = self.now
        while told.how == "rescheduled":  # an hour passes for this task alone
            self.now += timedelta(hours=1)
            told = self._process(name, lambda: self._execute(task, index, number))
        self.now = began
        while told.how in ("deferred", "asked"):
            wait = told.said
            self._keep(name, told)
            event = self._answer(wait["question"]) if told.how == "asked" else None
            for _ in range(0 if event else 3):  # a trigger whose triggerer died runs in another
                told = self._process(f"{name} (trigger)", lambda wait=wait: _fire(wait))  # type: ignore[misc]  # mypy takes no lambda with a default
                if told.how != "killed":
                    break
            method, kwargs = wait["method"], wait["kwargs"] | {"event": event or told.said.get("event")}
            if told.how not in ("fired", "asked"):
                timed_out = told.how == "timed out"
                reason = TriggerFailureReason.TRIGGER_TIMEOUT if timed_out else TriggerFailureReason.TRIGGER_FAILURE
                method, kwargs = TRIGGER_FAIL_REPR, {"error": reason.value}
            told = self._process(
                f"{name} ({wait['method']})",
                lambda method=method, kwargs=kwargs: self._execute(task, index, number, method, kwargs),  # type: ignore[misc]  # as above
            )
        return told

    def _keep(self, name: str, told: Told) -> None:
        """The XComs of a process that has ended: they are there for the next one of the same attempt too."""
        self.stored[name] = self.stored.get(name, {}) | told.said["outputs"]
        outputs: Any = deserialize(told.said["outputs"])
        self.outputs[name] = self.outputs.get(name, {}) | outputs

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """What a person answers who is asked: yes, by an approver, who is not ana, who triggered the run."""
        self.questions[question["ti_id"]] = question
        return {
            "chosen_options": ["Approve"], "responded_at": self.now, "timedout": False,
            "params_input": {name: each["value"] for name, each in (question["params"] or {}).items()},
            "responded_by_user": {"id": "1", "name": "ann"},
        }  # fmt: skip

    def _execute(
        self, task: Any, index: int, number: int, method: str = "", kwargs: dict[str, Any] | None = None
    ) -> Any:
        """In the child: what Airflow's task runner does with an operator; without the notifying callbacks."""
        context = self._context(task, index, number)
        task_runner.SUPERVISOR_COMMS = _Supervisor(self)  # type: ignore[assignment]  # it answers what is asked here
        try:
            task.render_template_fields(context)
            task = context["ti"].task  # a mapped one has become its instance
            ExecutorSafeguard.tracker.set(task)
            if hasattr(task, "clock"):
                task.clock = lambda: self.now
            if task._pre_execute_hook:
                task._pre_execute_hook(context)
            task.pre_execute(context)
            result = task.resume_execution(method, kwargs, context) if method else task.execute(context)
        except (PARKED, TaskDeferred) as wait:
            said = {"outputs": serialize(context["ti"].pushed), "method": wait.method_name, "kwargs": wait.kwargs or {}}
            trigger = getattr(wait, "trigger", None)
            if trigger is None or isinstance(trigger, HITLTrigger):
                return "asked", said | {"question": self.questions[str(context["ti"].id)]}
            where, arguments = trigger.serialize()
            limited = wait.timeout is not None
            return "deferred", said | {"trigger": where, "arguments": serialize(arguments), "limited": limited}
        except DownstreamTasksSkipped as skip:
            tasks = skip.tasks if isinstance(skip.tasks, list) else [skip.tasks]
            names = [each if isinstance(each, str) else each[0] for each in tasks]
            return "success", {"outputs": serialize(context["ti"].pushed), "skips": names}
        except AirflowSkipException:
            return "skipped", {}
        except AirflowRescheduleException:
            return "rescheduled", {}
        outputs = dict(result) if task.multiple_outputs and result else {}
        outputs |= context["ti"].pushed | ({} if result is None else {"return_value": result})
        return "success", {"outputs": serialize(outputs)}

    def _context(self, task: Any, index: int, number: int) -> Any:
        run_id = "manual__faults"
        dag_run = SimpleNamespace(
            dag_id=self.dag.dag_id, run_id=run_id, run_type="manual", conf=self.conf, logical_date=None,
            data_interval_start=None, data_interval_end=None, run_after=self._began, start_date=self._began,
            triggering_user_name="ana", state="running",
        )  # fmt: skip
        pushed: dict[str, Any] = {}

        def pull(
            task_ids: Any = None, key: str = "return_value", default: Any = None, map_indexes: Any = None, **_: Any
        ) -> Any:
            name = task_ids if map_indexes is None else f"{task_ids}_{map_indexes}"
            own = task.task_id if index < 0 else f"{task.task_id}_{index}"
            if name in self.outputs and name != own:
                assert name in self.states, f"{own} reads what {name} pushed before it was cleared"
            return self.outputs.get(name, {}).get(key, default)

        # a mapped task has no state of its own once it has instances
        names = [name for each in self.dag.task_ids for name in self.instances.get(each, [each])]
        states = {name: self.states.get(name) for name in names} | {task.task_id: "running"}
        ti = SimpleNamespace(
            task_id=task.task_id, task=task, dag_id=self.dag.dag_id, run_id=run_id, map_index=index, try_number=number,
            max_tries=task.retries, pushed=pushed, xcom_pull=pull, state="running", start_date=self.now,
            xcom_push=lambda key, value, **_: pushed.update({key: value}),
            get_task_states=lambda *_, **__: {run_id: states},
            get_dagrun_state=lambda *_, **__: "running", get_first_reschedule_date=lambda _: None,
            get_relevant_upstream_map_indexes=lambda **_: None, id=uuid5(NAMESPACE_OID, f"{task.task_id} {index}"),
        )  # fmt: skip
        params = self.dag.params.dump() | self.conf
        return {
            "params": params, "dag": self.dag, "dag_run": dag_run, "run_id": run_id, "logical_date": None, "ti": ti,
            "task_instance": ti, "task": task, "outlet_events": OutletEventAccessors(),
        }  # fmt: skip

    def _process(self, name: str, work: Callable[[], tuple[str, dict[str, Any]]]) -> Told:
        """Do the work in a forked child, and read its reports until its end, whatever that is."""
        gone = self.case and (self.cleared or (self.struck and self.case.fault.lasts != CLEARED))
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            _child(name, work, None if gone else self.case, write, self.log, self.server_pid)
        os.close(write)
        told = Told()
        with os.fdopen(read, encoding="utf-8") as lines:
            for line in lines:
                if not line.endswith("\n"):
                    break  # the process was killed while it told this
                word = json.loads(line)
                if "request" in word:
                    told.requests[Site(*word["site"])] = word["request"]
                if "place" in word:
                    told.places[Site(*word["site"])] = word["place"]
                if "kinds" in word:
                    told.sites[Site(*word["site"])] = word["kinds"]
                told.struck |= "struck" in word
                self.ran.setdefault(name, set()).update(word.get("ran", ()))
                if "how" in word:
                    told.how, told.said = word["how"], word["said"]
                    self.modules |= set(word["modules"])
                    self.ran[name] |= code.all_of(word["modules"])
        _, status = os.waitpid(pid, 0)
        self.hung |= os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
        self.struck |= told.struck
        self.sites |= told.sites
        self.requests |= told.requests
        self.places |= told.places
        if text := told.said.get("error"):
            self.texts.append((name, text))
        return told


class _Supervisor:
    """Answers a task that asks its supervisor for the outputs of a mapped task, or has it ask a person."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def send(self, msg: Any) -> Any:
        if isinstance(msg, comms.CreateHITLDetailPayload):
            question = msg.model_dump(mode="json", exclude={"type"})
            return comms.HITLDetailRequestResult(**self._run.questions.setdefault(str(msg.ti_id), question))
        if not isinstance(msg, comms.GetXComCount | comms.GetXComSequenceItem):
            return None
        names = self._run.instances.get(msg.task_id, ())
        found = [outputs[msg.key] for name in names if msg.key in (outputs := self._run.outputs.get(name, {}))]
        if isinstance(msg, comms.GetXComCount):
            return comms.XComCountResponse(len=len(found))
        if msg.offset >= len(found):
            return comms.ErrorResponse(error=ErrorType.XCOM_NOT_FOUND)
        return comms.XComSequenceIndexResult(root=serialize(found[msg.offset]))


def _fire(wait: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """In the child: what Airflow's triggerer does with a trigger."""
    module, _, name = wait["trigger"].rpartition(".")
    arguments: Any = deserialize(wait["arguments"])
    trigger = getattr(importlib.import_module(module), name)(**arguments)

    async def first() -> Any:
        # a thread of its own: a fork leaves the parent's one behind, and this would wait for it
        async with ThreadSensitiveContext():  # type: ignore[no-untyped-call]  # asgiref's constructor has no types
            async for event in trigger.run():
                return event.payload
        raise RuntimeError("the trigger ended without an event")

    async def waited() -> tuple[str, dict[str, Any]]:
        try:
            async with asyncio.timeout(TRIGGER_SECONDS if wait["limited"] else None) as limit:
                return "fired", {"event": await first()}
        except TimeoutError:
            if not limit.expired():
                raise
            return "timed out", {}

    return asyncio.run(waited())


def _child(
    name: str,
    work: Callable[[], tuple[str, dict[str, Any]]],
    case: Case | None,
    pipe: int,
    log: Path,
    server_pid: int,
) -> None:
    """A process of Airflow's, from its begin to its end; does not return."""
    known = set(sys.modules)

    telling = threading.Lock()  # a word may be longer than what a pipe takes at once

    def tell(**word: Any) -> None:
        with telling:
            os.write(pipe, json.dumps(word).encode() + b"\n")

    try:
        code.begin()
        tempfile.tempdir = str(log.parent)  # what a killed process leaves goes with the folder of the log
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(ATTEMPT_SECONDS)
        with log.open("a", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            sys.stdout = sys.stderr = file
            print(f"--- {name}", flush=True)
            try:
                _hasten()
                ses_sends._WAITS = tuple(seconds * SECOND for seconds in ses_sends._WAITS)  # type: ignore[assignment]  # of an event, no sleeps; its length aside, it is the same
                extract_file.SHARD_MEMBERS = SHARD_MEMBERS
                webhook_layout.BATCH_BYTES = 20_000  # so that the sample has several batches
                watch = Watch(name, case, tell)
                transport.install(watch)
                for connection, cut_after in GRAPH_CONNECTIONS.items():
                    if connection in os.environ:
                        graph.install(watch, connection, server_pid, cut_after)
                how, said = work()
            except AirflowFailException as error:
                how, said = "failed for good", {"error": str(error)}
                traceback.print_exc()
            except BaseException as error:  # noqa: BLE001 - nothing is swallowed: it is reported to the parent
                how, said = "failed", {"error": f"{type(error).__name__}: {error}"}
                traceback.print_exc()
            tell(how=how, said=said, modules=sorted(set(sys.modules) - known), ran=code.ran())
            file.flush()
    finally:
        os._exit(0)


def _hasten() -> None:
    """Let a second pass in less."""
    sleep, sleep_async = time.sleep, asyncio.sleep

    async def shorter(seconds: float, result: Any = None) -> Any:
        return await sleep_async(min(seconds, LONGEST_WAIT) * SECOND, result)

    def briefer(seconds: float) -> None:
        sleep(min(seconds, LONGEST_WAIT) * SECOND)

    time.sleep = briefer  # type: ignore[assignment]  # its argument's name aside, it is the same
    asyncio.sleep = shorter  # type: ignore[assignment]  # its overloads aside, it is the same
