"""The servers answer as the services do, listen on the loopback address only, and leave nothing behind."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from gremlin_python.driver.driver_remote_connection import DriverRemoteConnection
from gremlin_python.driver.protocol import GremlinServerError
from gremlin_python.driver.serializer import (
    GraphBinarySerializersV1,
    GraphSONSerializersV2d0,
    GraphSONSerializersV3d0,
)
from gremlin_python.process.anonymous_traversal import traversal
from gremlin_python.process.graph_traversal import __

from local import servers as local_servers
from local.config import ROOT, Config, LocalError
from local.seed import Seeded, client
from local.servers import Servers, airflow_environment


def ports(servers: Servers) -> list[int]:
    return [servers.gremlin_port, servers.dynamodb_port, servers.aws_port]


def listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex((host, port)) == 0


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("serializer", [GraphSONSerializersV2d0, GraphSONSerializersV3d0, GraphBinarySerializersV1])
def test_gremlin_server_keeps_values_as_neptune_does(servers: Servers, serializer: Any) -> None:
    connection = DriverRemoteConnection(servers.gremlin_url, "scratch", message_serializer=serializer())
    try:
        g = traversal().with_(connection)
        vertex = g.add_v("player").property("ea_atrisk", 3).next()
        g.V(vertex.id).property("ea_atrisk", 1).iterate()
        assert isinstance(vertex.id, str)  # Neptune's ids are strings
        assert g.V(vertex.id).value_map().next() == {"ea_atrisk": [3, 1]}
        g.V(vertex.id).drop().iterate()
    finally:
        connection.close()


def test_gremlin_server_ends_a_query_at_its_timeout(servers: Servers) -> None:
    connection = DriverRemoteConnection(servers.gremlin_url, "g")
    try:
        g = traversal().with_(connection)
        with pytest.raises(GremlinServerError, match="evaluationTimeout"):
            g.with_("evaluationTimeout", 300).inject(1).repeat(__.identity()).times(10**9).iterate()
    finally:
        connection.close()


def get(dynamodb: Any, config: Config, ids: list[str]) -> Any:
    keys = [{"playerId": {"S": player_id}} for player_id in ids]
    return dynamodb.batch_get_item(RequestItems={config.contacts_table: {"Keys": keys}})


def test_dynamodb_local_refuses_what_dynamodb_refuses(servers: Servers, config: Config, seeded: Seeded) -> None:
    dynamodb = client("dynamodb", servers, config)
    with pytest.raises(ClientError, match="duplicates"):
        get(dynamodb, config, ["wayne96", "wayne96"])
    with pytest.raises(ClientError, match=r"[Tt]oo many items|less than or equal to 100"):
        get(dynamodb, config, [f"player{number}" for number in range(101)])
    found = get(dynamodb, config, ["wayne96", "unknown"])["Responses"][config.contacts_table]
    assert [item["playerId"]["S"] for item in found] == ["wayne96"]  # who is missing is silently absent


def test_nothing_listens_beyond_the_loopback_address(servers: Servers) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses the address of this machine
        except OSError:
            pytest.skip("this machine has no address but the loopback one")
        address = probe.getsockname()[0]
    assert all(listens("127.0.0.1", port) for port in ports(servers))
    assert [port for port in ports(servers) if listens(address, port)] == []


def test_airflow_connects_only_to_the_local_servers(servers: Servers, config: Config) -> None:
    environment = airflow_environment(servers, config, "app", "arn:aws:iam::123456789012:role/r")
    neptune = json.loads(environment["AIRFLOW_CONN_NEPTUNE_DEFAULT"])
    aws = json.loads(environment["AIRFLOW_CONN_AWS_DEFAULT"])
    assert (neptune["conn_type"], neptune["schema"]) == ("gremlin", "ws")
    assert neptune["extra"] == {"iam": False, "loader_endpoint": f"127.0.0.1:{servers.aws_port}"}
    assert aws["extra"]["endpoint_url"] == servers.aws_url
    assert json.loads(environment["AIRFLOW_CONN_AWS_GRAPH_LOAD"]) == aws
    assert aws["extra"]["service_config"]["dynamodb"]["endpoint_url"] == servers.dynamodb_url
    assert environment["AIRFLOW_VAR_COHORT_FLYWHEEL_PINPOINT_APPLICATION_ID"] == "app"


def test_the_file_of_addresses_can_be_sourced(servers: Servers, config: Config, tmp_path: Path) -> None:
    environment = airflow_environment(servers, config, "an app's id", "arn")
    file = local_servers.write_environment(environment, tmp_path / "servers.env")
    script = f". {file} && {sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, timeout=60, check=True)
    assert environment.items() <= json.loads(done.stdout).items()


def test_a_port_in_use_is_reported_with_its_key(servers: Servers, config: Config, tmp_path: Path) -> None:
    taken = dataclasses.replace(local_servers.free_ports(), gremlin_port=servers.gremlin_port)
    sentence = rf"Port {servers.gremlin_port} is in use: .* set GREMLIN_PORT in \.env"
    with pytest.raises(LocalError, match=sentence), local_servers.running(tmp_path, taken, config):
        pass


def test_a_server_that_ends_at_once_is_reported_with_its_log(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.dynamodb_local.command", lambda *args: ["sh", "-c", "echo no memory; exit 1"])
    free = local_servers.free_ports()
    started = local_servers.running(tmp_path, free, config)
    with pytest.raises(LocalError, match=r"The dynamodb server ended as it started; .*\nno memory"), started:
        pass
    assert not any(listens("127.0.0.1", port) for port in ports(free))


RUN = """
import sys, time
from pathlib import Path
from local.servers import Servers, running
with running(Path(sys.argv[1]), Servers(*map(int, sys.argv[2:]))):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGKILL])
def test_no_server_outlives_its_starter(tmp_path: Path, kind: signal.Signals) -> None:
    if kind == signal.SIGKILL and sys.platform != "linux":
        pytest.skip("only Linux ends a process with its parent")
    free = local_servers.free_ports()
    command = [sys.executable, "-c", RUN, str(tmp_path), *map(str, ports(free))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout
        assert starter.stdout.readline() == "ready\n"
        assert all(listens("127.0.0.1", port) for port in ports(free))
        starter.send_signal(kind)
        starter.wait(timeout=20)
    assert within(10, lambda: not any(listens("127.0.0.1", port) for port in ports(free)))


def test_detached_servers_are_found_again_and_stopped(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = local_servers.free_ports()
    monkeypatch.setattr(local_servers, "configured_ports", lambda config: free)
    try:
        assert local_servers.start_detached(config, tmp_path) == free
        pids = [(tmp_path / f"{name}.pid").read_text() for name in local_servers.KEYS]
        assert local_servers.start_detached(config, tmp_path) == free  # they run already
        assert [(tmp_path / f"{name}.pid").read_text() for name in local_servers.KEYS] == pids
        os.killpg(int(pids[2]), signal.SIGKILL)
        assert within(10, lambda: not listens("127.0.0.1", free.aws_port))
        with pytest.raises(LocalError, match="Only gremlin and dynamodb is running"):
            local_servers.start_detached(config, tmp_path)
    finally:
        stopped = local_servers.stop_detached(tmp_path)
    assert stopped == ["gremlin", "dynamodb"]
    assert not any(listens("127.0.0.1", port) for port in ports(free))
    assert local_servers.stop_detached(tmp_path) == []


def test_a_stale_pid_file_stops_no_process(tmp_path: Path) -> None:
    (tmp_path / "gremlin.pid").write_text(str(os.getpid()))
    assert local_servers.stop_detached(tmp_path) == []
