"""A real Airflow on this machine: its settings, and the four processes that `airflow standalone` runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from local.config import ROOT, LocalError

#: The airflow command of the environment that runs this.
AIRFLOW = str(Path(sys.executable).with_name("airflow"))


def environment(
    home: Path, servers: Mapping[str, str], *, port: int = 8080, dags: Path = ROOT / "dags"
) -> dict[str, str]:
    """The environment variables of every Airflow process here; `servers` as `airflow_environment` gives them."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "AWS_"))}
    ours = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        # nobody but this machine's user reaches the port: no login
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API_AUTH__JWT_SECRET": "for-this-machine-only, and as long as HS512 wants it to be: 64 bytes",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # macOS kills a forked worker that first touches its proxy settings
        "no_proxy": "127.0.0.1,localhost",
    }
    return inherited | ours | dict(servers)


def migrate(environ: Mapping[str, str]) -> None:
    """Make, or bring up to date, the metadata database."""
    run = subprocess.run([AIRFLOW, "db", "migrate"], env=dict(environ), capture_output=True, text=True, timeout=300)
    if run.returncode:
        raise LocalError(f"`airflow db migrate` failed:\n{run.stderr[-2000:]}")


def start(environ: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start api-server, scheduler, dag-processor and triggerer as one process group; their output goes to `log`."""
    with log.open("ab") as file:
        return subprocess.Popen(
            [AIRFLOW, "standalone"], env=dict(environ), stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )


def wait_until_ready(base_url: str, process: subprocess.Popen[bytes], log: Path, seconds: float = 240) -> None:
    """Return when the API server, the scheduler, the triggerer and the DAG processor are all healthy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise LocalError(f"Airflow ended at once; the end of {log}:\n{_tail(log)}")
        try:
            with urllib.request.urlopen(f"{base_url}/api/v2/monitor/health", timeout=5) as answer:  # noqa: S310 - ours
                if answer.read().decode().count('"healthy"') == 4:  # database, scheduler, triggerer, DAG processor
                    return
        except (OSError, urllib.error.URLError):
            pass
        time.sleep(0.5)
    raise LocalError(f"Airflow was not ready after {seconds:g} s; the end of {log}:\n{_tail(log)}")


def stop(group: int, seconds: float = 30) -> None:
    """Stop the process group that `start` made: kindly, and after some seconds not."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(group, kind)
        except ProcessLookupError:
            return
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                os.killpg(group, 0)
            except ProcessLookupError:
                return
            time.sleep(0.2)


@contextmanager
def running(environ: Mapping[str, str], log: Path) -> Iterator[str]:
    """A migrated, healthy Airflow; yields its address, and stops it whatever happens."""
    migrate(environ)
    process = start(environ, log)
    try:
        base_url = environ["AIRFLOW__API__BASE_URL"]
        wait_until_ready(base_url, process, log)
        yield base_url
    finally:
        stop(process.pid)
        process.wait(timeout=10)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])
