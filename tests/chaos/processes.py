"""The processes of the installation by their roles, for the killer; and the cuts of its servers."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped,unused-ignore]  # Airflow brings it
import psycopg2  # type: ignore[import-untyped,unused-ignore]  # Airflow's driver of PostgreSQL has no types

from tests.chaos.killer import Cut, Process

if TYPE_CHECKING:
    from tests.chaos.installation import Installation

WORKERS = ("worker-a", "worker-b")
#: In the title of a process that runs a task: `airflow worker -- <id>`, and its parent's `airflow supervisor: <id>`.
_TASK_INSTANCE = re.compile(r"airflow (?:worker --|supervisor:) ([0-9a-f-]{36})")

#: A task with fewer retries left is not chosen; a kill of its worker may still end it. All runs wait for `engagement`:
#: if it fails, nothing is left to kill.
RETRIES_LEFT = 4
_RUNNING = """SELECT id::text, dag_id || '.' || task_id, max_tries - try_number + 1 FROM task_instance
    WHERE state = 'running'"""


def processes(made: Installation) -> list[Process]:
    """All processes that may be killed.

    A process of a Celery worker's pool starts a task's process, which is its child. Of PostgreSQL it is the backend of
    a connection, whose death makes the server start all of them again.
    """
    found, of_one_task = list[Process](), list[tuple[str, psutil.Process]]()
    for name, pid in started(made.folder).items():
        if name in WORKERS:
            found.append(Process("worker", pid))
            for pool in _children(pid):
                of_one_task.append(("pool", pool))
                of_one_task += [("task", task) for task in _children(pool.pid)]
        elif name != "redis":
            found.append(Process(name, pid))
    tasks = running_tasks(made) if of_one_task else {}
    for role, each in of_one_task:
        task, retries_left = tasks.get(_task_instance(each), ("", RETRIES_LEFT))
        if retries_left >= RETRIES_LEFT:
            found.append(Process(role, each.pid, task))
    port = made.database_url.rpartition(":")[2].partition("/")[0]
    for process in psutil.process_iter(["name", "cmdline"]):
        command = " ".join(process.info["cmdline"] or ())
        if process.info["name"] == "postgres" and f" port={port} " in command:
            found += [Process("postgresql", each.pid) for each in _children(process.pid) if _is_backend(each)]
    return found


def running_tasks(made: Installation) -> dict[str, tuple[str, int]]:
    """`dag_id.task_id` and the retries left by the id of each task instance that runs.

    Nothing while PostgreSQL does not answer.
    """
    url = made.database_url.replace("+psycopg2", "")
    try:
        with closing(psycopg2.connect(url, connect_timeout=2)) as database, database.cursor() as cursor:
            cursor.execute(_RUNNING)
            return {each: (task, retries_left) for each, task, retries_left in cursor.fetchall()}
    except psycopg2.Error:
        return {}


def started(folder: Path) -> dict[str, int]:
    """The ids of the processes that the supervisor has started, by name."""
    try:
        pids: dict[str, int] = json.loads((folder / "processes" / "commands.pids").read_text(encoding="utf-8"))
    except FileNotFoundError:  # the supervisor has started nothing yet
        return {}
    return pids


def dag_processors(session: int) -> list[int]:
    """The ids of the DAG processor and of its parsing processes, by the command line: `started` may be a second old.

    :param session: the id of the session of Airflow's processes.
    """
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == session and "dag-processor" in " ".join(process.cmdline()):
                found.append(process.pid)
    return sorted(found)


def kill(role: str, pid: int) -> str:
    """End a process by SIGKILL; return its title, or an empty text if it was gone.

    A worker, or a server of Airflow, dies with its children. A process of a pool leaves its task behind, which no
    process watches any more.
    """
    try:
        process = psutil.Process(pid)
        title = " ".join(process.cmdline())[:120]
        children = [] if role in ("task", "pool", "postgresql") else process.children(recursive=True)
        process.kill()
    except psutil.Error:
        return ""
    for each in children:
        with suppress(psutil.Error):
            each.kill()
    return title or role


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process and its children."""
    with suppress(psutil.Error, ProcessLookupError):
        for each in [*_children(pid), psutil.Process(pid)]:
            os.kill(each.pid, number)


class Cuts:
    """The cuts under way: at most one of a server at a time."""

    def __init__(self, made: Installation) -> None:
        self._made = made
        self._ends: dict[str, tuple[float, str]] = {}

    def begin(self, cut: Cut) -> bool:
        """Begin a cut; False if the server is cut off already."""
        if cut.server in self._ends:
            return False
        self._ends[cut.server] = (time.monotonic() + cut.seconds, cut.mode)
        if cut.mode == "stop":
            os.kill(self._made.server_pids[cut.server], signal.SIGSTOP)
        else:
            self._made.proxies[cut.server].mode = cut.mode  # type: ignore[assignment]  # one of killer.CUTS but `stop`
        return True

    def end(self, *, every: bool = False) -> None:
        """End the cuts whose time has come."""
        for server, (end, mode) in list(self._ends.items()):
            if every or time.monotonic() > end:
                if mode == "stop":
                    os.kill(self._made.server_pids[server], signal.SIGCONT)
                self._made.proxies[server].mode = "pass"
                del self._ends[server]

    @property
    def stopped(self) -> bool:
        """Whether a server is stopped, so that the driver itself cannot reach it."""
        return any(mode == "stop" for _, mode in self._ends.values())


def _children(pid: int) -> list[psutil.Process]:
    try:
        return list(psutil.Process(pid).children())
    except psutil.Error:
        return []


def _task_instance(process: psutil.Process) -> str:
    """The id of the task instance that a process runs; empty if it runs none."""
    try:
        found = _TASK_INSTANCE.search(" ".join(process.cmdline()))
    except psutil.Error:
        return ""
    return found[1] if found else ""


def _is_backend(process: psutil.Process) -> bool:
    try:
        return "127.0.0.1(" in " ".join(process.cmdline())
    except psutil.Error:
        return False
