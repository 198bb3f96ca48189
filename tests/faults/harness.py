"""Runs a case on the real servers, and compares what it left with what an undisturbed run leaves."""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import re
import resource
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from airflow.dag_processing.dagbag import DagBag

from cohort_flywheel.engagement.event_objects import LIST_STATE_KEY
from cohort_flywheel.engagement.suppressions import ListState, suppression_key
from cohort_flywheel.governance.erasure import SALT_KEY
from cohort_flywheel.runs.names import SUPPRESSIONS_KEY
from local import seed
from local.config import ROOT, Config
from local.seed import Seeded
from local.servers import Servers, airflow_environment
from tests.aws_session_cache import quick_tasks
from tests.faults import aws, code
from tests.faults.aws import Endpoint
from tests.faults.destinations import customer_profiles
from tests.faults.equal import Call, calls_of
from tests.faults.killable_graph import Graph
from tests.faults.leftovers import (
    OF_A_REFUSED_RUN,
    Leftovers,
    Place,
    can_read_reports,
    is_report,
    without_clock,
    without_reports,
    without_uncounted,
)
from tests.faults.simulate import Run
from tests.faults.sites import Case, Site, few_of_many

DAG_ID = "cohort_to_segment"
#: 348 members from 349 vertices: several frames, several batches, files in several parts.
CONF = {"cohort": "ea_atrisk", "threshold": 0}
DO_NOT_CONTACT = b"xortiz\n"
SALT = bytes(32)
#: Why wayne96 is a reject.
SUPPRESSIONS = f"player,{suppression_key(SALT, 'player', 'wayne96')},complained,2026-11-21,suppressed,\n".encode()
#: For the clock of every operator, so that all runs leave the same bytes; a campaign that starts then starts at once,
#: as the emulated services begin a minute later.
NOW = datetime(2026, 11, 22, 15, 30, tzinfo=UTC)
#: One case of so many is run to its end.
TO_THE_END = 20
#: How many cases are tried at once: a case waits for a job or between two tries for more than half of its time.
WORKERS = 3 * (os.cpu_count() or 1)
#: Where each world's segments go, then the worlds of the other DAGs, in the order in which they are tried.
DESTINATIONS = ("pinpoint", "ses", "customer_profiles", "webhook", "engagement", "suppression_removal")
#: What a registry says there, line by line: the user who triggers a run, ana, may not approve it.
REGISTRY = {
    r"destination: \w+": "destination: {destination}\nopt_outs: none",
    r"approval: .+": "approval: {{approvers: [ann], hours: 12}}\nengagement: {{read_events: true}}",
    r"    holdout_percent: 0": "    holdout_percent: {holdout_percent}",
    # a launch records who is held out
    r"      not_again_days: 30": "      not_again_days: 30\n      effect_days: 7",
}

#: The list has the events of the run's as-of, so that no task waits for them.
LIST_STATE = ListState(as_of=NOW.replace(hour=0, minute=0)).model_dump_json().encode()


class Checkpoint(NamedTuple):
    """The undisturbed run just before a task or an instance of one.

    That is where AWS can be continued, and all on which depends what follows: what Airflow knew, all objects but
    reports, which no task reads, and the destination without its clock. The table and the graph are the same for all
    runs, which only read them.
    """

    path: Path
    known: dict[str, Any]
    objects: dict[Place, bytes]
    there: Any


class World:
    """The surroundings of a run to one destination, recorded: AWS as it is before each task, a graph and contacts.

    :param endpoint: the AWS of the recorded run.
    :param kept: a folder for what it keeps.
    """

    def __init__(
        self, servers: Servers, config: Config, folder: Path, destination: str, endpoint: Endpoint, kept: Path
    ) -> None:
        self.servers, self.config, self.folder, self.destination = servers, config, folder, destination
        self.at = importlib.import_module(f"tests.faults.destinations.{destination}")
        self.dag = self._dag()
        self.personal = self._personal()
        self.checkpoints: dict[str, Checkpoint] = {}
        #: the definitions of the package that each task runs, undisturbed
        self.code: dict[str, set[str]] = {}
        #: the calls of each task that makes the same ones in both undisturbed runs
        self.calls: dict[str, Counter[Call]] = {}
        self.undisturbed, self.recorded = self._recorded(endpoint, kept)
        self.sites = few_of_many(self.recorded)

    def elsewhere(self, folder: Path) -> World:
        """The same world with another folder for its log."""
        other = copy(self)
        other.folder = folder
        return other

    def _dag(self) -> Any:
        """The DAG of a copy of dags/ and include/, whose registry names the destination."""
        for name in ("dags", "include"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        path = self.folder / "include" / "cohorts.yaml"
        registry = path.read_text(encoding="utf-8")
        path.write_text(self._edited(registry), encoding="utf-8")
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            DagBag(self.folder / "dags")  # imports what a second one runs
            code.watch()
            code.begin()
            bag = DagBag(self.folder / "dags")
        assert not bag.import_errors, bag.import_errors
        self._parsed = code.ran()
        return bag.dags[self.dag_id]

    @property
    def dag_id(self) -> str:
        return DAG_ID

    @property
    def conf(self) -> dict[str, Any]:
        """The params of a run that are not the defaults."""
        return CONF | self.at.CONF

    def _edited(self, registry: str) -> str:
        """The registry of this world."""
        for line, ours in REGISTRY.items():
            ours = ours.format(destination=self.at.DESTINATION, holdout_percent=self.at.HOLDOUT_PERCENT)
            registry, number = re.subn(f"(?m)^{line}$", ours, registry)
            assert number == 1, line
        return registry

    def left_out(self) -> str:
        """Which of the recorded calls are not tried, and why."""
        said = f"{len(self.recorded)} call sites, of which {len(self.sites)} are tried"
        if alike := len(self.recorded) - len(self.sites):
            said += f"; {alike} are much like others (SendEmail of another player, another look of a trigger)"
        return said

    def task_of(self, site: Site) -> str:
        """The id of the task whose process makes this call."""
        return self._task(site.task)

    def _begin_of(self, site: Site) -> str:
        """Of which checkpoint a case at this call is continued: the last one before it."""
        instance = site.task.partition(" ")[0]
        return instance if instance in self.checkpoints else self.task_of(site)

    def _task(self, process: str) -> str:
        return re.sub(r"(_\d+)?( \(\w+\))?$", "", process)

    def operator(self, task_id: str) -> Any:
        """The class of a task."""
        task = self.dag.get_task(task_id)
        return task.operator_class if task.is_mapped else type(task)

    def _personal(self) -> set[str]:
        """Every playerId and address of the contacts, which no exception may quote."""
        dynamodb = seed.client("dynamodb", self.servers, self.config)
        pages = dynamodb.get_paginator("scan").paginate(TableName=self.config.contacts_table)
        texts = {(name, value.get("S", "")) for page in pages for item in page["Items"] for name, value in item.items()}
        return {text for name, text in texts if name == "playerId" or "@" in text}

    def _recorded(self, endpoint: Endpoint, kept: Path) -> tuple[Leftovers, dict[Site, list[str]]]:
        """What an undisturbed run leaves and calls; the second one shows that both can be relied on."""
        servers = replace(self.servers, aws_port=endpoint.port)
        self._seeded = self._made(servers)
        first = Run(self.dag, self.conf, NOW, self._log())

        def keep(task_id: str) -> bool:
            endpoint.keep(kept / task_id)
            there = without_clock(self._there(servers))
            self.checkpoints[task_id] = Checkpoint(kept / task_id, first.kept(), endpoint.objects(), there)
            return False

        first.reached = keep
        self._go(first, servers)
        left = self._left(endpoint, servers)
        first.load()
        code.watch()
        gc.freeze()  # what is here stays, in every child: to look it through takes longer than an attempt
        second, again = self.run(None)
        for run in (first, second):
            assert not run.failed, f"an undisturbed run failed: {run.errors}; its log is {run.log}"
        assert not (wrong := self.differences(left, again)), f"two undisturbed runs differ: {wrong}"
        self._check_recorded(first, left)
        for task_id in self.checkpoints.keys() & set(self.dag.task_ids):
            once, twice = (
                {site: request for site, request in run.requests.items() if self.task_of(site) == task_id}
                for run in (first, second)
            )
            if calls_of(once) == calls_of(twice):
                self.calls[task_id] = calls_of(once)
        for process, names in second.ran.items():
            self.code.setdefault(self._task(process), set()).update(names)
        # one look more at a job that took its time is not among them
        return left, {site: kinds for site, kinds in first.sites.items() if site in second.sites}

    def _check_recorded(self, run: Run, left: Leftovers) -> None:
        """What the harness relies on: the report, and that no task reads it."""
        places = [(site, place.partition("/")[::2]) for site, place in run.places.items() if site.service == "s3"]
        assert any(is_report(place) for _, place in places), "no call puts the report"
        readers = [site for site, place in places if can_read_reports(site.operation, place)]
        assert not readers, f"a run may not stop where only its report differs, as these calls read it: {readers}"
        assert left.report["outcome"] == ("launched" if self.at.CONF else "imported"), left.report

    def _made(self, servers: Servers) -> Seeded:
        """What a run finds on AWS; the state bucket is all destinations', so that the same tasks find the same."""
        seed.make_buckets(servers, self.config)
        s3 = seed.client("s3", servers, self.config)
        lists = {seed.DO_NOT_CONTACT: DO_NOT_CONTACT, SUPPRESSIONS_KEY: SUPPRESSIONS}
        lists[LIST_STATE_KEY] = LIST_STATE
        lists[SALT_KEY] = json.dumps({"salt": SALT.hex()}).encode()
        for key, body in (lists | customer_profiles.STATE).items():
            s3.put_object(Bucket=self.config.state_bucket, Key=key, Body=body)
        seeded: Seeded = self.at.make(servers, self.config)
        self.at.settle(servers, None)
        return seeded

    def run(
        self, case: Case | None, graph: Graph | None = None, task_id: str | None = None, may_stop: bool = False
    ) -> tuple[Run, Leftovers]:
        """One run from a checkpoint, the case's or the first; failed, it is cleared once, without the fault.

        It may stop where all is as in the undisturbed run: what follows is then what follows there.
        """
        task_id = task_id or (self._begin_of(case.site) if case else next(iter(self.checkpoints)))
        checkpoint = self.checkpoints[task_id]
        endpoint = Endpoint(checkpoint.path)
        try:
            servers = replace(self.servers, aws_port=endpoint.port)
            self.at.settle(servers, case)
            self._restore(servers, checkpoint)
            run = Run(self.dag, self.conf, NOW, self._log(), case)
            run.continue_from(checkpoint.known)
            if case:
                run.reached = partial(self._compare, run, endpoint, servers, may_stop)
            self._go(run, servers, graph)
            left = self.undisturbed if run.stopped else self._left(endpoint, servers)
            run.endpoint_seconds = endpoint.cpu_seconds()
            return run, left
        finally:
            endpoint.close()

    def _compare(self, run: Run, endpoint: Endpoint, servers: Servers, may_stop: bool, task_id: str) -> bool:
        """As what follows the call's task is reached: whether all is as in the undisturbed run, and it may stop."""
        assert run.case
        if task_id in (self.task_of(run.case.site), self._begin_of(run.case.site)):
            return False
        _, known, objects, there = self.checkpoints[task_id]
        now = endpoint.objects()
        same = run.struck and not run.failed and run.kept() == known
        if run.rejoined is None:
            run.rejoined = same and now == objects
        return (
            may_stop
            and same
            and without_reports(now) == without_reports(objects)
            and without_clock(self._there(servers)) == there
        )

    def _log(self) -> Path:
        log = self.folder / "case.log"
        log.unlink(missing_ok=True)
        return log

    def _go(self, run: Run, servers: Servers, graph: Graph | None = None) -> None:
        if graph:
            servers = replace(servers, gremlin_port=graph.port)
            run.between, run.server_pid = graph.ensure, graph.pid
        with self._environ(servers):
            run.go()
            if run.failed and run.case:
                run.clear()
                run.go()

    @contextmanager
    def _environ(self, servers: Servers) -> Iterator[None]:
        before = dict(os.environ)
        os.environ.update(self._environment(servers))
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def _environment(self, servers: Servers) -> dict[str, str]:
        ours = {"AIRFLOW__API__BASE_URL": "http://127.0.0.1:8080"}  # of the link to a question
        return airflow_environment(servers, self.config, *self._seeded) | ours

    def _restore(self, servers: Servers, checkpoint: Checkpoint) -> None:
        """Put back what a run changes beside AWS: nothing here."""

    def _there(self, servers: Servers) -> dict[str, Any]:
        """The destination, by its emulation, and what else a run changes beside the objects."""
        found: dict[str, Any] = self.at.there(servers)
        return found

    def _left(self, endpoint: Endpoint, servers: Servers) -> Leftovers:
        return Leftovers(endpoint.objects(), self._there(servers))

    def survived(self, case: Case, graph: Graph | None = None) -> list[str]:
        """Run a case to its end; what is wrong afterwards, a sentence each."""
        return self._wrong(case, *self.run(case, graph))

    def try_case(self, case: Case, graph: Graph | None = None) -> Outcome:
        """Run a case, and evaluate it."""
        began = time.monotonic(), _cpu_seconds()
        run, left = self.run(case, graph, may_stop=not runs_to_its_end(case))
        wrong = self._wrong(case, run, left)
        ran = set().union(self._parsed, *run.ran.values(), *self.code.values())
        seconds, cpu_seconds = time.monotonic() - began[0], _cpu_seconds() - began[1] + run.endpoint_seconds
        return Outcome(
            self.destination, case, wrong, bool(run.rejoined), run.stopped, sorted(ran), seconds, cpu_seconds
        )

    def _wrong(self, case: Case, run: Run, left: Leftovers) -> list[str]:
        try:
            wrong = self.differences(self.undisturbed, left, case)
        except Exception as error:  # noqa: BLE001 - it is told as what is wrong, and the next case is tried
            wrong = [f"what the run left cannot be compared: {error!r}"]
        if not run.struck:
            wrong.append("the call was not reached")
        if run.failed:
            wrong.append(f"the run failed, and again after it was cleared: {run.errors}")
        if run.hung:
            wrong.append("an attempt hung")
        for task, text in run.texts:
            if set(re.findall(r"[\w.+@-]+", text)) & self.personal:
                wrong.append(f"an exception of {task} quotes a player")
        if wrong:
            kept = self.folder / (re.sub(r"\W+", "-", str(case)) + ".log")
            run.log.rename(kept)
            wrong.append(f"its log: {kept}")
        return wrong

    def differences(self, undisturbed: Leftovers, left: Leftovers, case: Case | None = None) -> list[str]:
        """Where what a run left is not what an undisturbed one leaves."""
        wrong = []
        theirs, wanted = (self.at.comparable(each.objects, left) for each in (left, undisturbed))
        for place in sorted(wanted.keys() | theirs.keys()):
            url = "s3://{}/{}".format(*place)
            if place not in theirs:
                wrong.append(f"{url} is missing")
            elif place not in wanted:
                if not place[1].startswith(OF_A_REFUSED_RUN):
                    wrong.append(f"{url} should not be there")
            elif without_uncounted(place, theirs[place]) != without_uncounted(place, wanted[place]):
                wrong.append(f"{url} has other bytes")
        return wrong + list(self.at.differences(undisturbed, left, case)) + self._sums(left, undisturbed)

    def _sums(self, left: Leftovers, undisturbed: Leftovers) -> list[str]:
        """A report that adds up, of a run in which nothing failed in the end; its bytes say that its sums are equal."""
        report = left.report
        wrong = [f"the report: {fault}" for fault in report["faults"]]
        if report.get("outcome") != undisturbed.report["outcome"]:
            wrong.append(f"the report's outcome is {report.get('outcome')}")
        failed = [task for task, state in report.get("tasks", {}).items() if "failed" in state]
        return wrong + [f"the report says that {task} failed" for task in failed]


@contextmanager
def a_world(servers: Servers, config: Config, folder: Path, destination: str = DESTINATIONS[0]) -> Iterator[World]:
    """A recorded world while the block runs, with an AWS endpoint of its own."""
    # in all children, too: it takes most of an attempt
    with quick_tasks(), aws.started(NOW.timestamp() + 60) as (endpoint, kept):
        try:
            at = importlib.import_module(f"tests.faults.destinations.{destination}")
            with (
                at.world(servers, config, folder, endpoint, kept)
                if hasattr(at, "world")
                else nullcontext(World(servers, config, folder, destination, endpoint, kept)) as made
            ):
                yield made
        finally:
            gc.unfreeze()


def runs_to_its_end(case: Case) -> bool:
    """Whether a case is of the fixed share that does not stop early: it shows that what follows is as undisturbed."""
    return int(sha256(str(case).encode()).hexdigest(), 16) % TO_THE_END == 0


def _cpu_seconds() -> float:
    """Of this process and of those that it has ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


class Outcome(NamedTuple):
    """A case that was tried: what is wrong afterwards, and what it took."""

    destination: str
    case: Case
    wrong: list[str]
    #: whether all was as in the undisturbed run once the task had ended
    rejoined: bool
    #: whether it was not run to its end, as all was as in the undisturbed run
    stopped: bool
    #: the definitions of the package that the run depends on
    ran: list[str]
    seconds: float
    cpu_seconds: float


def tried(chosen: Sequence[tuple[World, Case]]) -> Iterator[Outcome]:
    """Try cases, in their order, several at once."""
    _worlds[:] = {id(world): world for world, _ in chosen}.values()
    indexed = [(_worlds.index(world), case) for world, case in chosen]
    with ProcessPoolExecutor(WORKERS, get_context("fork"), _settle_elsewhere) as pool:
        yield from pool.map(_try_elsewhere, indexed)


#: In a worker: the worlds in which it tries its cases.
_worlds: list[World] = []


def _settle_elsewhere() -> None:
    for number, world in enumerate(_worlds):
        folder = world.folder / f"worker-{os.getpid()}"
        folder.mkdir()
        _worlds[number] = world.elsewhere(folder)


def _try_elsewhere(chosen: tuple[int, Case]) -> Outcome:
    world, case = chosen
    return _worlds[world].try_case(case)


@contextmanager
def _quiet() -> Iterator[None]:
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
