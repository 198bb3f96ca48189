"""`make up` and `make down` themselves. The last test stops what the other tests of this folder use."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

import httpx
import psutil  # type: ignore[import-untyped,unused-ignore]  # Airflow brings it
import pytest

from local import airflow as local_airflow
from tests.airflow_up import DAG_ID, Up, run_local, wait_until

pytestmark = pytest.mark.airflow


def test_up_prints_the_address_and_what_to_do_next(up: Up, figure: Callable[[str], None]) -> None:
    login = "login            not needed: all users of this machine are admins"
    assert f"Airflow          {up.url}\n{login}\n" in up.output
    assert f"{up.url}/dags/{DAG_ID}" in up.output
    assert "`make down`" in up.output
    page = httpx.get(up.url, trust_env=False, follow_redirects=True)
    assert page.status_code == 200
    assert "<title>Airflow</title>" in page.text
    figure(f"make up took {up.seconds:.0f} s")


def test_airflow_listens_on_the_loopback_address_only(up: Up) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses the address of this machine
        except OSError:
            pytest.skip("this machine has no address but the loopback one")
        address = probe.getsockname()[0]
    for port in (up.config.airflow_port, 8793, 8794):  # the last two are Airflow's servers of logs
        with socket.socket() as probe:
            probe.settimeout(5)
            assert probe.connect_ex((address, port)) != 0


def test_up_a_second_time_says_so_at_once(up: Up) -> None:
    again = up.local("up", "--run-dir", str(up.run_dir), seconds=30)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("Both run already.")
    assert up.url in again.stdout


def test_a_port_in_use_is_reported_with_its_key_before_anything_starts(up: Up) -> None:
    environ = up.environ | {"AIRFLOW_PORT": str(up.config.aws_port)}
    done = run_local(environ, "up", "--run-dir", str(up.run_dir.parent / "another"), seconds=30)
    assert done.returncode == 1
    assert done.stderr == (
        f"Port {up.config.aws_port} is in use: stop its process, or set AIRFLOW_PORT in .env to another port.\n"
    )
    assert not (up.run_dir.parent / "another").exists()


def test_a_process_that_ends_is_started_again(up: Up) -> None:
    log = up.run_dir / "airflow.log"
    session = int((up.run_dir / "airflow.pid").read_text())
    processor = next(
        process for process in psutil.Process(session).children() if "dag-processor" in " ".join(process.cmdline())
    )
    processor.kill()
    wait_until(lambda: "dag-processor ended with -9 and is started again" in log.read_text(), "it is started", up, 30)
    assert not processor.is_running()
    commands = [" ".join(process.cmdline()) for process in psutil.Process(session).children()]
    assert sum("dag-processor" in command for command in commands) == 1
    assert up.get("/monitor/health")["metadatabase"]["status"] == "healthy"


def test_down_after_a_crash_leaves_nothing(up: Up) -> None:
    session = int((up.run_dir / "airflow.pid").read_text())
    before = local_airflow.members(session)
    assert len(before) >= 5  # the four processes, and the one that looks after them
    os.kill(session, signal.SIGKILL)
    done = up.local("down", "--run-dir", str(up.run_dir), seconds=90)
    assert done.returncode == 0, done.stderr
    assert "gremlin, dynamodb, aws." in done.stdout
    assert local_airflow.members(session) == []
    servers = up.servers
    for port in (up.config.airflow_port, servers.gremlin_port, servers.dynamodb_port, servers.aws_port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    again = up.local("down", "--run-dir", str(up.run_dir), seconds=90)
    assert again.stdout == "Nothing was running.\n"
