"""A real Airflow beside real servers: what `make up` starts, on other ports and with a copy of the DAG files."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import validate

from local import airflow as local_airflow
from local import config as local_config
from local import seed
from local.config import ROOT, Config
from local.servers import Servers, configured_ports, control

DAG_ID = "cohort_to_segment"
#: For a test of the pages, which gives it to `running`.
FIGURES_DAG = ROOT / "dags" / "cohort_figures.py"
#: Seconds in which a run must end; a run of eight tasks takes twenty on an idle machine.
RUN_SECONDS = 300
#: Seconds in which an API server answers, also one that is started again or waits for SQLite.
REST_SECONDS = 120


@dataclasses.dataclass
class Up:
    """What one `make up` made, and the ways in: REST, the command line, the logs, the servers."""

    run_dir: Path
    dags: Path
    environ: dict[str, str]
    config: Config
    output: str
    seconds: float
    database_url: str | None = None
    #: Of a login, where Airflow asks for one.
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    #: The first timeout: later tests fail at once on an Airflow that does not progress.
    stuck: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.config.airflow_port}"

    @property
    def home(self) -> Path:
        return self.run_dir / "airflow"

    @property
    def registry(self) -> Path:
        return self.dags.parent / "include" / "cohorts.yaml"

    @property
    def servers(self) -> Servers:
        return configured_ports(self.config)

    def local(self, *arguments: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        """One of the commands of `python -m local`, on these ports."""
        return run_local(self.environ, *arguments, seconds=seconds)

    def cli(self, *arguments: str) -> subprocess.Popen[str]:
        """Airflow's own command line, beside this Airflow."""
        environ = local_airflow.environment(
            self.home,
            {},
            port=self.config.airflow_port,
            dags=self.dags,
            database_url=self.database_url,
            environ=self.environ,
        )
        return subprocess.Popen(
            [local_airflow.AIRFLOW, *arguments],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    # --- REST

    def rest(self, method: str, path: str, body: Any = None, **query: Any) -> httpx.Response:
        """The answer to a request, which is sent again where SQLite was locked or the API server starts again."""
        url = f"{self.url}/api/v2{path}"
        end = time.monotonic() + REST_SECONDS
        while True:
            try:
                answer = httpx.request(
                    method, url, json=body, params=query, headers=self.headers, timeout=REST_SECONDS, trust_env=False
                )
            except httpx.TransportError as error:
                if time.monotonic() > end:
                    pytest.fail(f"{method} {url}: {error!r}; Airflow's log:\n{self.log_tail()}")
            else:
                if answer.status_code != 500 or "Database error" not in answer.text or time.monotonic() > end:
                    return answer
            time.sleep(1)

    def log_tail(self) -> str:
        """The lines of Airflow's log that say why a process ended, and its last lines."""
        lines = (self.run_dir / "airflow.log").read_text(errors="replace").splitlines()
        return "\n".join([line for line in lines if " ended with " in line or "Error" in line][-20:] + lines[-20:])

    def login(self, username: str, password: str) -> Up:
        """The same Airflow for a user who has logged in by FAB."""
        who = {"username": username, "password": password}
        answer = httpx.post(f"{self.url}/auth/token", json=who, timeout=60, trust_env=False)
        assert answer.status_code == 201, answer.text
        return dataclasses.replace(self, headers={"Authorization": f"Bearer {answer.json()['access_token']}"})

    def get(self, path: str, **query: Any) -> Any:
        answer = self.rest("GET", path, **query)
        assert answer.status_code == 200, f"GET {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def unpause(self, dag_id: str) -> None:
        assert self.rest("PATCH", f"/dags/{dag_id}", {"is_paused": False}).status_code == 200

    def trigger(self, conf: dict[str, Any], dag_id: str = DAG_ID, logical_date: str | None = None) -> str:
        """Start a run as the documents say; its id."""
        answer = self.rest("POST", f"/dags/{dag_id}/dagRuns", {"logical_date": logical_date, "conf": conf})
        if answer.status_code == 409 and logical_date:  # sent twice: the first answer was lost on a busy machine
            instant = datetime.fromisoformat(logical_date)
            dates = {run["dag_run_id"]: run["logical_date"] for run in self.runs(dag_id)}
            found = [name for name, date in dates.items() if date and datetime.fromisoformat(date) == instant]
            if len(found) == 1:
                return str(found[0])
        assert answer.status_code == 200, answer.text
        return str(answer.json()["dag_run_id"])

    def runs(self, dag_id: str = DAG_ID, **query: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(f"/dags/{dag_id}/dagRuns", limit=100, **query)["dag_runs"]
        return found

    def run(self, run_id: str, dag_id: str = DAG_ID) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/dags/{dag_id}/dagRuns/{run_id}")
        return found

    def tasks(self, run_id: str, dag_id: str = DAG_ID) -> dict[str, str]:
        found = self.get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {task["task_id"]: str(task["state"]) for task in found}

    def events(self, run_id: str, task_id: str, dag_id: str = DAG_ID) -> list[str]:
        """The states that a task went through, from Airflow's own log of events."""
        found = self.get("/eventLogs", dag_id=dag_id, run_id=run_id, task_id=task_id, limit=100)["event_logs"]
        return [event["event"] for event in found]

    def end(self, run_id: str, state: str = "success", dag_id: str = DAG_ID) -> dict[str, Any]:
        """Wait for the end of a run, which must be in the given state; what the tasks said if it is not."""
        wait_until(lambda: self.run(run_id, dag_id)["state"] in ("success", "failed"), f"{run_id} has ended", self)
        found = self.run(run_id, dag_id)
        assert found["state"] == state, (
            f"{run_id} ended {found['state']}:\n{self.failure_logs(run_id, dag_id)}\n\n{self.log_tail()}"
        )
        return found

    # --- what the run said and left

    def log(self, run_id: str, task_id: str, dag_id: str = DAG_ID) -> list[str]:
        """The log of a task as its reader sees it, the texts of its exceptions among it."""
        lines = []
        files = self.home.glob(f"logs/dag_id={dag_id}/run_id={run_id}/task_id={task_id}/**/*.log")
        # what the triggerer wrote for a task comes in the middle of it: let the task have the last word
        for file in sorted(files, key=lambda file: (".trigger." not in file.name, file)):
            for line in file.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                lines.append(str(entry["event"]))
                lines += [str(error["exc_value"]) for error in entry.get("error_detail") or ()]
        return lines

    def last_line(self, run_id: str, task_id: str, dag_id: str = DAG_ID) -> str:
        """The last line of a task that failed: Airflow's own grouping aside."""
        return next(line for line in reversed(self.log(run_id, task_id, dag_id)) if not line.startswith("::"))

    def failure_logs(self, run_id: str, dag_id: str = DAG_ID) -> str:
        parts = []
        for task, state in self.tasks(run_id, dag_id).items():
            tail = self.log(run_id, task, dag_id)[-12:] if state not in ("None", "success", "skipped") else []
            parts.append("\n    ".join([f"{task}: {state}", *tail]))
        return "\n".join(parts)

    def client(self, service: str) -> Any:
        return seed.client(service, self.servers, self.config)

    @property
    def application_id(self) -> str:
        return seed.make_application(self.servers, self.config)  # which is there

    def pinpoint(self, **settings: Any) -> Any:
        """Tell the emulated Pinpoint what to do next; gives its state."""
        return self.emulated("pinpoint", **settings)

    def emulated(self, service: str, **settings: Any) -> Any:
        """The same for another service."""
        return control(self.servers, service, settings)

    def read(self, bucket: str, key: str) -> str:
        return str(self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode())

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        pages = self.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def report(self, run_id: str, dag_id: str = DAG_ID) -> dict[str, Any]:
        """The one report of a run."""
        name = f"{dag_id}__{re.sub(r'[^A-Za-z0-9_.-]', '_', run_id)}.json"
        keys = [key for key in self.keys(self.config.state_bucket) if key.endswith(f"/{name}") and "reports/" in key]
        reports: list[dict[str, Any]] = [json.loads(self.read(self.config.state_bucket, key)) for key in keys]
        found = [report for report in reports if report["run"]["dag_id"] == dag_id]
        assert len(found) == 1, f"{len(found)} reports of {run_id}:\n{self.failure_logs(run_id, dag_id)}"
        validate(
            found[0], json.loads((ROOT / "plugins/cohort_flywheel/runs/report.schema.json").read_text(encoding="utf-8"))
        )
        return found[0]


def wait_until(holds: Callable[[], bool], what: str, up: Up, seconds: float = RUN_SECONDS) -> None:
    if up.stuck:
        pytest.fail(f"not waited until {what}: a test before this one waited in vain until {up.stuck}")
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            up.stuck = what
            unfinished = [
                f"{run['dag_run_id']}: {run['state']} {up.tasks(run['dag_run_id'])}"
                for run in up.runs()
                if run["state"] not in ("success", "failed")
            ]
            pytest.fail(f"waited {seconds:g} s until {what}; runs: {unfinished}; Airflow's log:\n{up.log_tail()}")
        time.sleep(1)


def run_local(environ: dict[str, str], *arguments: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local", *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextmanager
def running(
    folder: Path,
    *more_dags: Path,
    database_url: str | None = None,
    auth_manager: str | None = None,
    with_history: bool = False,
    imports_first: bool = True,
    before: Callable[[Path], None] = lambda folder: None,
) -> Iterator[Up]:
    """`python -m local up` while the block runs; `down` follows, whatever happens to this process.

    `before` may change the folder's copies of the DAG files and of include/. With `imports_first` a task's process has
    imported the package when it begins, which it has not on MWAA: not for a benchmark.
    """
    # the figures are counted after each result, which would slow down every other test
    without = shutil.ignore_patterns("__pycache__", FIGURES_DAG.name)
    shutil.copytree(ROOT / "dags", folder / "dags", ignore=without)
    daily = folder / "dags" / "cohort_to_segment.py"
    text = daily.read_text(encoding="utf-8")
    defaults = "default_args=DEFAULT_ARGS"
    assert defaults in text
    quick = ' | {"retry_delay": pendulum.duration(seconds=5)}'  # no test waits a minute for a retry
    daily.write_text(text.replace(defaults, defaults + quick), encoding="utf-8")
    for file in more_dags:
        shutil.copy(file, folder / "dags")
    shutil.copytree(ROOT / "include", folder / "include")
    before(folder)
    names = ("GREMLIN_PORT", "DYNAMODB_PORT", "AWS_PORT", "AIRFLOW_PORT")
    ports = {name: str(port) for name, port in zip(names, free_ports(len(names)), strict=True)}
    environ = dict(os.environ) | ports | ({"AUTH_MANAGER": auth_manager} if auth_manager else {})
    # a parse takes a second of CPU, of each of nine files; a test that needs a new parse touches it
    environ["PARSE_SECONDS"] = "3600"
    if imports_first:
        environ["IMPORT_FIRST"] = "1"  # no test edits the package
    run_dir = ("--run-dir", str(folder / "run"))
    database = ("--database-url", database_url) if database_url else ()
    with ends_with_us([sys.executable, "-m", "local", "down", *run_dir], environ):
        began = time.monotonic()
        history = () if with_history else ("--without-history",)
        # the first history of a day takes a minute and a half on an idle machine
        arguments = (*history, *run_dir, "--dags", str(folder / "dags"), *database)
        done = run_local(environ, "up", *arguments, seconds=2_100 if with_history else 300)
        assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        made = Up(
            run_dir=folder / "run",
            dags=folder / "dags",
            environ=environ,
            config=local_config.load(environ=ports),
            output=done.stdout,
            seconds=time.monotonic() - began,
            database_url=database_url,
        )
        # long enough for a task to leave its worker before its trigger fires: Airflow takes the other order for a
        # failed attempt, and tries again a minute later
        made.pinpoint(import_seconds=6)
        yield made


@contextmanager
def ends_with_us(command: list[str], environ: dict[str, str]) -> Iterator[None]:
    """Run a command at the end of the block, or of this process, by whatever end: it waits for a pipe to close."""
    with subprocess.Popen(
        ["sh", "-c", 'read _; exec "$@"', "sh", *command],
        cwd=ROOT,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as waiting:
        before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
            output, _ = waiting.communicate(timeout=90)
            assert waiting.returncode == 0, output.decode()
