"""A real Airflow on this machine: its settings and its four processes, which start and stop together."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]  # Airflow brings it

from local.config import ROOT, LocalError

#: The airflow command of the environment that runs this.
AIRFLOW = str(Path(sys.executable).with_name("airflow"))

#: The processes of `airflow standalone`, which however serves logs on all addresses of the machine.
PROCESSES: tuple[tuple[str, ...], ...] = (
    ("api-server",),
    ("scheduler", "--skip-serve-logs"),
    ("dag-processor",),
    ("triggerer", "--skip-serve-logs"),
)
READY_SECONDS = 240
STOP_SECONDS = 20
#: Seconds that a process waits for SQLite's lock. With the driver's five, a busy machine ends the scheduler.
SQLITE_SECONDS = 30
#: How often a process that ends is started again, counted over all four.
RESTARTS = 3


def environment(
    home: Path,
    servers: Mapping[str, str],
    *,
    port: int = 8080,
    dags: Path = ROOT / "dags",
    database_url: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """The environment variables of every Airflow process here; `servers` as `airflow_environment` gives them.

    `AUTH_MANAGER` in `environ` is the class of the auth manager for user logins, if not the default; `PARSE_SECONDS` is
    how often a DAG file is parsed that has not changed; `IMPORT_FIRST` is explained in `local.airflow_process`.
    """
    inherited = {key: value for key, value in environ.items() if not key.startswith(("AIRFLOW", "AWS_"))}
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)  # Airflow's own 1,400 files would be compiled in every process
    ours = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__SECRET_KEY": "for-this-machine-only",
        "AIRFLOW__API_AUTH__JWT_SECRET": "for-this-machine-only, and as long as HS512 wants it to be: 64 bytes",
        # an edited registry is read, and a new DAG file is found, within these seconds
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": environ.get("PARSE_SECONDS", "30"),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "15",
        # longer than a request waits for SQLite's lock: after the default of five seconds a task ends as failed
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": str(2 * SQLITE_SECONDS),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # macOS kills a forked worker that first touches its proxy settings
        "no_proxy": "127.0.0.1,localhost",
    }
    if manager := environ.get("AUTH_MANAGER"):
        ours["AIRFLOW__CORE__AUTH_MANAGER"] = manager
    else:  # only this machine's user can reach the port: no login
        ours["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] = "True"
    sqlite = f"sqlite:///{home.absolute() / 'airflow.db'}?timeout={SQLITE_SECONDS}"
    ours["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = database_url or sqlite
    return inherited | ours | dict(servers)


def migrate(environ: Mapping[str, str]) -> None:
    """Create or migrate the metadata database."""
    run = subprocess.run([AIRFLOW, "db", "migrate"], env=dict(environ), capture_output=True, text=True, timeout=300)
    if run.returncode:
        raise LocalError(f"`airflow db migrate` failed:\n{run.stderr[-2000:]}")


def start(
    environ: Mapping[str, str],
    log: Path,
    *,
    pass_fds: tuple[int, ...] = (),
    preexec_fn: Callable[[], None] | None = None,
) -> subprocess.Popen[bytes]:
    """Start the four processes in a new session; their output goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "local.airflow"],
            cwd=ROOT,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=pass_fds,
            preexec_fn=preexec_fn,
        )


def wait_until_ready(
    base_url: str,
    process: subprocess.Popen[bytes],
    log: Path,
    seconds: float = READY_SECONDS,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Return when the metadata database, the scheduler, the triggerer and the DAG processor are all healthy."""
    end = time.monotonic() + seconds
    reported: set[str] = set()
    next_word = time.monotonic() + 15
    while time.monotonic() < end:
        if process.poll() is not None:
            raise LocalError(f"Airflow ended as it started; the end of {log}:\n{_tail(log)}")
        health = get_json(f"{base_url}/api/v2/monitor/health") or {}
        healthy = {name for name, state in health.items() if state and state.get("status") == "healthy"}
        for name in sorted(healthy - reported):
            say(f"{name.replace('_', ' ')} healthy")
        reported |= healthy
        if time.monotonic() > next_word:
            say("still starting ..." if not health else "the API server answers; waiting for the others ...")
            next_word += 15
        if healthy >= {"metadatabase", "scheduler", "triggerer", "dag_processor"}:
            return
        time.sleep(0.5)
    raise LocalError(f"Airflow was not ready after {seconds:g} s; the end of {log}:\n{_tail(log)}")


def wait_until_listed(base_url: str, dag_id: str, log: Path, seconds: float = READY_SECONDS) -> None:
    """Wait until a DAG is parsed and can be triggered; return at once if a login is required to see that."""
    end = time.monotonic() + seconds
    while get_json(f"{base_url}/api/v2/dags/{dag_id}") is None:
        if time.monotonic() > end:
            errors = (get_json(f"{base_url}/api/v2/importErrors") or {}).get("import_errors", [])
            why = "\n".join(error["stack_trace"] for error in errors) or f"the end of {log}:\n{_tail(log)}"
            raise LocalError(f"The DAG {dag_id} was not listed after {seconds:g} s; {why}")
        time.sleep(0.5)


def get_json(url: str) -> dict[str, Any] | None:
    """Return the answer of our API server: empty if a login is required, None if it does not answer (yet)."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return {} if error.code == 401 else None
    except (OSError, urllib.error.URLError, ValueError):
        return None


def members(session: int) -> list[int]:
    """The processes of a session, including tasks, which have their own process groups; without zombies."""
    found = []
    for pid in psutil.pids():
        with suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getsid(pid) == session and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def stop(session: int, seconds: float = STOP_SECONDS) -> None:
    """Stop the session that `start` began: SIGTERM first, SIGKILL after some seconds."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        for pid in members(session):
            with suppress(ProcessLookupError):
                os.kill(pid, kind)
        end = time.monotonic() + seconds
        while members(session):
            if time.monotonic() > end:
                break
            time.sleep(0.2)


@contextmanager
def running(environ: Mapping[str, str], log: Path) -> Iterator[str]:
    """A healthy Airflow on a migrated database; yields its address, and stops it whatever happens."""
    process = start(environ, log, preexec_fn=_end_with_parent)
    try:
        base_url = environ["AIRFLOW__API__BASE_URL"]
        wait_until_ready(base_url, process, log)
        yield base_url
    finally:
        stop(process.pid)
        process.wait(timeout=10)


def main() -> int:
    """Run the four processes until SIGTERM; start one that ends again, at most RESTARTS times in all."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    processes: dict[tuple[str, ...], subprocess.Popen[bytes]] = {}
    restarts = 0
    try:
        for command in PROCESSES:
            processes[command] = _start_process(command)
        while True:
            for command, process in processes.items():
                if process.poll() is None:
                    continue
                if restarts == RESTARTS:
                    print(f"{command[0]} ended with {process.returncode}, so the others end too", flush=True)
                    return 1
                restarts += 1
                print(f"{command[0]} ended with {process.returncode} and is started again", flush=True)
                processes[command] = _start_process(command)
            time.sleep(0.5)
    finally:
        for process in processes.values():
            process.terminate()
        end = time.monotonic() + STOP_SECONDS - 5
        for process in processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.1, end - time.monotonic()))
        for pid in members(os.getsid(0)):
            if pid != os.getpid():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _start_process(command: tuple[str, ...]) -> subprocess.Popen[bytes]:
    # close_fds: what was passed to this process (the lock of a pid file) is its processes' as well
    return subprocess.Popen(
        [sys.executable, "-m", "local.airflow_process", *command], close_fds=False, preexec_fn=_end_with_parent
    )


def _end_with_parent() -> None:
    """On Linux, have the kernel end this process when its parent ends (PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])


if __name__ == "__main__":
    sys.exit(main())
