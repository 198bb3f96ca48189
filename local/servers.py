"""Gremlin Server, DynamoDB Local and the AWS endpoint (moto with Pinpoint), started and stopped together."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from local import dynamodb_local, gremlin_server, java
from local.config import CONTACT_LIST, PROFILES_DOMAIN, ROOT, RUN_DIR, TOPIC, UNSUBSCRIBE_URL, Config, LocalError, load
from local.webhook.receiver import TOKEN

HOST = "127.0.0.1"
READY_SECONDS = 120
KEYS = {"gremlin": "GREMLIN_PORT", "dynamodb": "DYNAMODB_PORT", "aws": "AWS_PORT"}


@dataclass(frozen=True)
class Servers:
    """The addresses of the three servers."""

    gremlin_port: int
    dynamodb_port: int
    aws_port: int
    host: str = HOST

    @property
    def gremlin_url(self) -> str:
        return f"ws://{self.host}:{self.gremlin_port}/gremlin"

    @property
    def dynamodb_url(self) -> str:
        return f"http://{self.host}:{self.dynamodb_port}"

    @property
    def aws_url(self) -> str:
        return f"http://{self.host}:{self.aws_port}"


def control(
    servers: Servers, service: str, settings: Mapping[str, Any] | None = None, method: str | None = None
) -> Any:
    """Change what an emulated service does next; return its state."""
    body = json.dumps(settings).encode() if settings else None
    url = f"{servers.aws_url}/cohort-flywheel/{service}"
    request = urllib.request.Request(url, data=body, method=method)  # noqa: S310 - our own server
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - our own server
        return json.load(answer)


def free_ports() -> Servers:
    """Three ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(3)]
    for each in sockets:
        each.bind((HOST, 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return Servers(*ports)


def configured_ports(config: Config) -> Servers:
    """The ports of `.env`."""
    return Servers(config.gremlin_port, config.dynamodb_port, config.aws_port)


def airflow_environment(
    servers: Servers,
    config: Config,
    application_id: str,
    role_arn: str,
    connect_instance_id: str = "none",
    knowledge_base_id: str = "none",
) -> dict[str, str]:
    """The Airflow connections and variables for these servers."""
    neptune = {
        "conn_type": "gremlin",
        "host": servers.host,
        "port": servers.gremlin_port,
        "schema": "ws",
        "extra": {"iam": False, "loader_endpoint": f"{servers.host}:{servers.aws_port}"},
    }
    aws = {
        "conn_type": "aws",
        "login": config.access_key_id,
        "password": config.secret_access_key,
        "extra": {
            "region_name": config.region,
            "endpoint_url": servers.aws_url,
            "service_config": {"dynamodb": {"endpoint_url": servers.dynamodb_url}},
        },
    }
    webhook = {
        "conn_type": "http",
        "host": f"{servers.aws_url}/webhook",
        "extra": {"Authorization": f"Bearer {TOKEN}"},
    }
    prefix = "AIRFLOW_VAR_COHORT_FLYWHEEL_"
    return {
        "AIRFLOW_CONN_WEBHOOK_DEFAULT": json.dumps(webhook),
        "AIRFLOW_CONN_NEPTUNE_DEFAULT": json.dumps(neptune),
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
        "AIRFLOW_CONN_AWS_GRAPH_LOAD": json.dumps(aws),
        f"{prefix}EXPORT_BUCKET": config.export_bucket,
        f"{prefix}IMPORT_BUCKET": config.import_bucket,
        f"{prefix}STATE_BUCKET": config.state_bucket,
        f"{prefix}CONTACTS_TABLE": config.contacts_table,
        f"{prefix}PINPOINT_APPLICATION_ID": application_id,
        f"{prefix}PINPOINT_IMPORT_ROLE_ARN": role_arn,
        f"{prefix}SES_CONTACT_LIST": CONTACT_LIST,
        f"{prefix}SES_TOPIC": TOPIC,
        f"{prefix}CUSTOMER_PROFILES_DOMAIN": PROFILES_DOMAIN,
        f"{prefix}CONNECT_INSTANCE_ID": connect_instance_id,
        f"{prefix}QCONNECT_KNOWLEDGE_BASE_ID": knowledge_base_id,
        f"{prefix}UNSUBSCRIBE_URL": UNSUBSCRIBE_URL,
    }


@contextmanager
def running(run_dir: Path, ports: Servers | None = None, config: Config | None = None) -> Iterator[Servers]:
    """The three servers while the block runs, on free ports by default; their logs are in the run directory.

    Enter it in the main thread: the servers end with the thread that started them, even when it is killed.
    """
    servers = ports or free_ports()
    processes: dict[str, subprocess.Popen[bytes]] = {}
    with _sigterm_unwinds():
        try:
            for name, command in _commands(servers, run_dir, config or load()).items():
                processes[name] = _start(command, run_dir / f"{name}.log", preexec_fn=_die_with_parent)
            _wait_until_ready(servers, run_dir, lambda name: processes[name].poll() is None)
            yield servers
        finally:
            _stop(processes)


def start_detached(config: Config, run_dir: Path = RUN_DIR / "servers") -> Servers:
    """Start the servers on the ports of `.env`, to outlive this command; do nothing if they already run."""
    servers = configured_ports(config)
    alive = [name for name in KEYS if pid_if_alive(run_dir, name)]
    if len(alive) == len(KEYS):
        return servers
    if alive:
        raise LocalError(f"Only {' and '.join(alive)} is running of the three servers: run `make servers-down` first.")
    try:
        for name, command in _commands(servers, run_dir, config).items():
            # The server inherits the lock and holds it while it runs, so the pid file is always right.
            with pid_file(run_dir, name).open("w", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                process = _start(command, run_dir / f"{name}.log", pass_fds=(file.fileno(),))
                file.write(str(process.pid))
        _wait_until_ready(servers, run_dir, lambda name: bool(pid_if_alive(run_dir, name)))
    except BaseException:
        stop_detached(run_dir)
        raise
    return servers


def stop_detached(run_dir: Path = RUN_DIR / "servers") -> list[str]:
    """Stop what `start_detached` started; returns the names of those that were running."""
    running_now = {name: pid for name in KEYS if (pid := pid_if_alive(run_dir, name))}
    for kind, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        for name, pid in running_now.items():
            if pid_if_alive(run_dir, name) == pid:
                os.killpg(pid, kind)
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(pid_if_alive(run_dir, name) for name in running_now):
            time.sleep(0.1)
    for name in KEYS:
        pid_file(run_dir, name).unlink(missing_ok=True)
    return list(running_now)


def write_environment(environment: dict[str, str], path: Path = RUN_DIR / "servers.env") -> Path:
    """Write the variables to a file that a shell can source."""
    path.parent.mkdir(parents=True, exist_ok=True)
    environment = environment | _plain(environment)
    lines = [f"export {key}={shlex.quote(value)}" for key, value in environment.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _plain(environment: dict[str, str]) -> dict[str, str]:
    """The same addresses for the AWS CLI and other tools, which do not read Airflow's connections."""
    graph = json.loads(environment["AIRFLOW_CONN_NEPTUNE_DEFAULT"])
    aws = json.loads(environment["AIRFLOW_CONN_AWS_DEFAULT"])
    return {
        "AWS_ACCESS_KEY_ID": aws["login"],
        "AWS_SECRET_ACCESS_KEY": aws["password"],
        "AWS_DEFAULT_REGION": aws["extra"]["region_name"],
        "AWS_ENDPOINT_URL": aws["extra"]["endpoint_url"],
        "AWS_ENDPOINT_URL_DYNAMODB": aws["extra"]["service_config"]["dynamodb"]["endpoint_url"],
        "GREMLIN_URL": f"{graph['schema']}://{graph['host']}:{graph['port']}/gremlin",
    }


def _commands(servers: Servers, run_dir: Path, config: Config) -> dict[str, list[str]]:
    """The command of each server; checks its port and fetches its jars first."""
    for name, key in KEYS.items():
        port = getattr(servers, f"{name}_port")
        if not is_free(port):
            raise LocalError(f"Port {port} is in use: stop its process, or set {key} in .env to another port.")
    java.fetch(
        sorted({config.gremlin_jars, "gremlin-server-3.8", "dynamodb-local"})
    )  # DynamoDB Local runs Groovy of the second
    run_dir.mkdir(parents=True, exist_ok=True)
    return {
        "gremlin": gremlin_server.command(HOST, servers.gremlin_port, run_dir, config),
        "dynamodb": dynamodb_local.command(HOST, servers.dynamodb_port, run_dir, config),
        "aws": [
            sys.executable,
            "-m",
            "local.aws",
            "--host",
            HOST,
            "--port",
            str(servers.aws_port),
            "--gremlin-url",
            servers.gremlin_url,
        ],
    }


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        # as the servers do it: a port on which a server has just been stopped is free
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _start(
    command: list[str],
    log: Path,
    pass_fds: tuple[int, ...] = (),
    preexec_fn: Callable[[], None] | None = None,
) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C reaches us, and we stop them
            pass_fds=pass_fds,
            preexec_fn=preexec_fn,
        )


def _die_with_parent() -> None:
    """On Linux, have the kernel kill this process when its parent ends (PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _wait_until_ready(servers: Servers, run_dir: Path, is_alive: Callable[[str], bool]) -> None:
    ready: dict[str, Callable[[], bool]] = {
        "gremlin": lambda: gremlin_server.is_ready(servers.host, servers.gremlin_port),
        "dynamodb": lambda: dynamodb_local.is_ready(servers.host, servers.dynamodb_port),
        "aws": lambda: _moto_is_ready(servers.aws_url),
    }
    end = time.monotonic() + READY_SECONDS
    while ready:
        for name in list(ready):
            log = run_dir / f"{name}.log"
            if not is_alive(name):
                raise LocalError(f"The {name} server ended as it started; the end of {log}:\n{_tail(log)}")
            if ready[name]():
                del ready[name]
            elif time.monotonic() > end:
                raise LocalError(
                    f"The {name} server was not ready in {READY_SECONDS} s; the end of {log}:\n{_tail(log)}"
                )
        time.sleep(0.1)


def _moto_is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/moto-api/", timeout=10) as response:  # noqa: S310 - our own server
            return bool(response.status == 200)
    except OSError:
        return False


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


def _stop(processes: dict[str, subprocess.Popen[bytes]]) -> None:
    for kind in (signal.SIGTERM, signal.SIGKILL):
        for process in processes.values():
            if process.poll() is None:
                os.killpg(process.pid, kind)
        for process in processes.values():
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                continue


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """While the block runs, SIGTERM ends the program as Ctrl-C does, running every `finally`."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def pid_file(run_dir: Path, name: str) -> Path:
    return run_dir / f"{name}.pid"


def pid_if_alive(run_dir: Path, name: str) -> int:
    """The server's process id, or 0 if the lock on its pid file is free."""
    try:
        with pid_file(run_dir, name).open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0)
    except FileNotFoundError:
        pass
    return 0
