"""Runs a case on the real servers, and compares what it left with what an undisturbed run leaves."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
from airflow.dag_processing.dagbag import DagBag

from local import gremlin_server, neptune_csv, sample, seed
from local.config import ROOT, Config
from local.servers import Servers, _die_with_parent, airflow_environment, free_ports
from tests.aws_once import no_look_for_the_caller, read_once
from tests.faults.left import OF_A_REFUSED_RUN, Left
from tests.faults.play import Run
from tests.faults.sites import GRAPH, Case, Site, few_of_many

DAG_ID = "cohort_to_segment"
#: 348 members from 349 vertices: several frames, several batches, files in several parts.
CONF = {"cohort": "ea_atrisk", "threshold": 0}
DO_NOT_CONTACT = b"xortiz\n"
#: How many cases are tried at once.
WORKERS = min(2, os.cpu_count() or 1)
#: Where each world's segments go, in the order in which they are tried.
DESTINATIONS = ("pinpoint", "ses", "customer_profiles")
#: What a registry says there, line by line: whoever triggers a run, ana, may not approve it.
REGISTRY = {
    r"destination: \w+": "destination: {destination}\nopt_outs: none",
    r"approval: .+": "approval: {{approvers: [ann], hours: 12}}",
    r"    holdout_percent: 0": "    holdout_percent: {holdout_percent}",
}


class World:
    """An AWS of our own that is made anew for each run, beside a graph and contacts that stay as they are.

    :param beside: a world that has been recorded: what it has tried need not be tried here.
    """

    def __init__(
        self, servers: Servers, config: Config, folder: Path, destination: str, beside: World | None = None
    ) -> None:
        self.config, self.destination = config, destination
        self.at = importlib.import_module(f"tests.faults.destinations.{destination}")
        self._settle(servers, folder)
        # for the clock of every operator, so that runs leave the same bytes; a campaign that starts then starts at once
        self.now = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=1)
        self.dag = self._dag()
        self.personal = self._personal()
        self.undisturbed, self.recorded = self._recorded()
        self._new = {site: kinds for site, kinds in self.recorded.items() if not self._same(site, beside)}
        self.sites = few_of_many(self._new)

    def _settle(self, servers: Servers, folder: Path) -> None:
        self.servers, self.folder = servers, folder
        self.s3 = seed.client("s3", servers, self.config)
        # a copy of an upload in parts has, in moto, the checksum of the parts
        self.s3.meta.config.response_checksum_validation = "when_required"

    def elsewhere(self, aws_port: int, folder: Path) -> World:
        """The same world on another AWS."""
        other = copy(self)
        other._settle(replace(self.servers, aws_port=aws_port), folder)
        return other

    def _dag(self) -> Any:
        """The DAG of a copy of dags/ and include/, whose registry names the destination."""
        for name in ("dags", "include"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        path = self.folder / "include" / "cohorts.yaml"
        registry = path.read_text(encoding="utf-8")
        for line, ours in REGISTRY.items():
            ours = ours.format(destination=self.destination, holdout_percent=self.at.HOLDOUT_PERCENT)
            registry, number = re.subn(f"(?m)^{line}$", ours, registry)
            assert number == 1, line
        path.write_text(registry, encoding="utf-8")
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            bag = DagBag(self.folder / "dags")
        assert not bag.import_errors, bag.import_errors
        return bag.dags[DAG_ID]

    def left_out(self) -> str:
        """What of the recorded calls is not tried, and why."""
        said = [f"{len(self.recorded)} call sites, of which {len(self.sites)} are tried"]
        if same := len(self.recorded) - len(self._new):
            said.append(f"{same} are those of {DESTINATIONS[0]}, by the same operators")
        if alike := len(self._new) - len(self.sites):
            said.append(f"{alike} are much like others (SendEmail of another player, another look of a trigger)")
        return "; ".join(said)

    def _same(self, site: Site, beside: World | None) -> bool:
        """Whether the other world has this call too, by the same operator."""
        return beside is not None and site in beside.recorded and self._operator(site) is beside._operator(site)

    def _operator(self, site: Site) -> Any:
        task = self.dag.get_task(re.sub(r"(_\d+)?( \(\w+\))?$", "", site.task))
        return task.operator_class if task.is_mapped else type(task)

    def _personal(self) -> set[str]:
        """Every playerId and address of the contacts, which no exception may quote."""
        dynamodb = seed.client("dynamodb", self.servers, self.config)
        pages = dynamodb.get_paginator("scan").paginate(TableName=self.config.contacts_table)
        texts = {(name, value.get("S", "")) for page in pages for item in page["Items"] for name, value in item.items()}
        return {text for name, text in texts if name == "playerId" or "@" in text}

    def _recorded(self) -> tuple[Left, dict[Site, list[str]]]:
        """What an undisturbed run leaves and calls; the second one shows that both can be relied on."""
        first, left = self.run(None)
        for name in first.modules:  # what a child had to import, the next need not
            with suppress(ImportError):
                importlib.import_module(name)
        for service in {site.service for site in first.sites} - {GRAPH}:  # nor need it read what the SDK knows of it
            boto3.Session(region_name=self.config.region).client(service)
        gc.freeze()  # what is here stays, in every child: to look it through takes longer than an attempt
        second, again = self.run(None)
        for run in (first, second):
            assert not run.failed, f"an undisturbed run failed: {run.errors}; its log is {run.log}"
        assert not (wrong := self._differences(left, again)), f"two undisturbed runs differ: {wrong}"
        assert left.report["outcome"] == ("launched" if self.at.CONF else "imported"), left.report
        # one look more at a job that took its time is not among them
        return left, {site: kinds for site, kinds in first.sites.items() if site in second.sites}

    def run(self, case: Case | None, graph: Graph | None = None) -> tuple[Run, Left]:
        """One run in fresh surroundings; failed, it is cleared once, without the fault."""
        environment = self._made_anew(case)
        log = self.folder / "case.log"
        log.unlink(missing_ok=True)
        run = Run(self.dag, CONF | self.at.CONF, self.now, log, case)
        if graph:
            environment["AIRFLOW_CONN_NEPTUNE_DEFAULT"] = environment["AIRFLOW_CONN_NEPTUNE_DEFAULT"].replace(
                str(self.servers.gremlin_port), str(graph.port)
            )
            run.between, run.server_pid = graph.ensure, graph.pid
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            run.go()
            if run.failed:
                run.clear()
                run.go()
        finally:
            os.environ.clear()
            os.environ.update(before)
        return run, self._left()

    def _made_anew(self, case: Case | None) -> dict[str, str]:
        """The AWS endpoint forgets everything, so that a run finds the same names and gets the same ids."""
        urllib.request.urlopen(f"{self.servers.aws_url}/moto-api/reset", data=b"", timeout=60).close()  # noqa: S310 - ours
        seed.make_buckets(self.servers, self.config)
        self.s3.put_object(Bucket=self.config.state_bucket, Key=seed.DO_NOT_CONTACT, Body=DO_NOT_CONTACT)
        seeded = self.at.make(self.servers, self.config, case)
        ours = {"AIRFLOW__API__BASE_URL": "http://127.0.0.1:8080"}  # of the link to a question
        return airflow_environment(self.servers, self.config, *seeded) | ours

    def _left(self) -> Left:
        objects = {}
        for bucket in (self.config.export_bucket, self.config.import_bucket, self.config.state_bucket):
            for item in self.s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
                objects[bucket, item["Key"]] = self.s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
        return Left(objects, self.at.there(self.servers))

    def survived(self, case: Case, graph: Graph | None = None) -> list[str]:
        """Run a case; what is wrong afterwards, a sentence each."""
        run, left = self.run(case, graph)
        wrong = self._differences(self.undisturbed, left, case)
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

    def _differences(self, undisturbed: Left, left: Left, case: Case | None = None) -> list[str]:
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
            elif theirs[place] != wanted[place]:
                wrong.append(f"{url} has other bytes")
        return wrong + list(self.at.differences(undisturbed, left, case)) + _sums(left.report, undisturbed.report)


def _sums(report: dict[str, Any], undisturbed: dict[str, Any]) -> list[str]:
    """A report that adds up, of a run in which nothing failed in the end; that its sums are the same, its bytes say."""
    wrong = [f"the report: {fault}" for fault in report["faults"]]
    if report.get("outcome") != undisturbed["outcome"]:
        wrong.append(f"the report's outcome is {report.get('outcome')}")
    failed = [task for task, state in report.get("tasks", {}).items() if "failed" in state]
    return wrong + [f"the report says that {task} failed" for task in failed]


class Graph:
    """A Gremlin Server of our own, with the sample in it, which may be killed; made anew where it was."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config, self.folder, self.port = config, folder, free_ports().gremlin_port
        self._process: subprocess.Popen[bytes] | None = None
        sample.write(folder / "sample")

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def ensure(self) -> None:
        if self._process and self._process.poll() is None:
            return
        with (self.folder / "gremlin.log").open("ab") as log:
            command = gremlin_server.command("127.0.0.1", self.port, self.folder, self.config)
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        end = time.monotonic() + 60
        while not gremlin_server.is_ready("127.0.0.1", self.port):
            assert time.monotonic() < end, f"the graph was not ready in a minute: {self.folder / 'gremlin.log'}"
            time.sleep(0.2)
        neptune_csv.load_folder(self.folder / "sample", f"ws://127.0.0.1:{self.port}/gremlin")

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()


@contextmanager
def own_graph(config: Config, folder: Path) -> Iterator[Graph]:
    """The graph that may be killed, while the block runs."""
    (folder / "sample").mkdir(parents=True)
    graph = Graph(config, folder)
    try:
        graph.ensure()
        yield graph
    finally:
        graph.stop()


@contextmanager
def a_world(
    servers: Servers, config: Config, folder: Path, destination: str = DESTINATIONS[0], beside: World | None = None
) -> Iterator[World]:
    """A seeded world while the block runs, with an AWS endpoint of its own."""
    process, port = _start_aws()
    try:
        # in all children, too: it takes most of an attempt
        with read_once(), pytest.MonkeyPatch.context() as patch:
            no_look_for_the_caller(patch)
            yield World(replace(servers, aws_port=port), config, folder, destination, beside)
    finally:
        process.terminate()
        process.wait()
        gc.unfreeze()


def _start_aws() -> tuple[subprocess.Popen[str], int]:
    """An AWS endpoint that ends with this process, and its port."""
    command = [sys.executable, "-m", "local.aws", "--port", "0"]
    environ = dict(os.environ) | {"S3_UPLOAD_PART_MIN_SIZE": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True, preexec_fn=_die_with_parent
    )
    assert process.stdout
    return process, int(process.stdout.readline().rsplit(":", 1)[1])


class Outcome(NamedTuple):
    """A case that was tried: what is wrong afterwards, and the seconds that it took."""

    case: Case
    wrong: list[str]
    seconds: float


def tried(world: World, cases: Sequence[Case], graph: Graph | None = None) -> Iterator[Outcome]:
    """Try cases, in their order, each worker on an AWS of its own; those with a graph that may be killed, here."""
    if graph:
        yield from (_try(world, case, graph) for case in cases)
        return
    with ProcessPoolExecutor(WORKERS, get_context("fork"), _settle_elsewhere, (world,)) as pool:
        yield from pool.map(_try_elsewhere, cases)


def _try(world: World, case: Case, graph: Graph | None = None) -> Outcome:
    began = time.monotonic()
    wrong = world.survived(case, graph)
    return Outcome(case, wrong, time.monotonic() - began)


#: In a worker: the world in which it tries its cases, and the process that is its AWS.
_own: list[Any] = []


def _settle_elsewhere(world: World) -> None:
    process, port = _start_aws()
    folder = world.folder / f"worker-{os.getpid()}"
    folder.mkdir()
    _own[:] = world.elsewhere(port, folder), process


def _try_elsewhere(case: Case) -> Outcome:
    return _try(_own[0], case)


@contextmanager
def _quiet() -> Iterator[None]:
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
