"""Gremlin Server with memory for a million players, DynamoDB Local on a file that is kept, and the AWS endpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local import dynamodb_local
from local import servers as local_servers
from local.config import Config
from local.servers import Servers

#: The tests' servers compile with the first tier alone, to start fast; these run long, and must not be the slow side.
GREMLIN_HEAP = "6g"
GREMLIN_JAVA_OPTIONS = "-Xmx{heap} -XX:+UseSerialGC"
DYNAMODB_JAVA_OPTIONS = "-Xmx2g -XX:+UseSerialGC"


@contextmanager
def running(run_dir: Path, database: Path, config: Config, gremlin_heap: str = GREMLIN_HEAP) -> Iterator[Servers]:
    """The three servers while the block runs; `database` is the folder of DynamoDB Local's file."""
    servers = local_servers.free_ports()
    run_dir.mkdir(parents=True, exist_ok=True)
    database.mkdir(parents=True, exist_ok=True)
    config = dataclasses.replace(
        config,
        gremlin_java_options=GREMLIN_JAVA_OPTIONS.format(heap=gremlin_heap),
        dynamodb_java_options=DYNAMODB_JAVA_OPTIONS,
    )
    commands = local_servers._commands(servers, run_dir, config)
    in_memory = dynamodb_local.command(local_servers.HOST, servers.dynamodb_port, run_dir, config)
    at = in_memory.index("-inMemory")
    commands["dynamodb"] = [*in_memory[:at], "-dbPath", str(database), *in_memory[at + 1 :]]
    settings = run_dir / "gremlin-server.yaml"  # a million players take a slow peer more than 120 s
    written = settings.read_text(encoding="utf-8").replace("evaluationTimeout: 120000", "evaluationTimeout: 7200000")
    settings.write_text(written, encoding="utf-8")
    processes = {}
    with local_servers._sigterm_unwinds():
        try:
            for name, command in commands.items():
                log = run_dir / f"{name}.log"
                processes[name] = local_servers._start(command, log, preexec_fn=local_servers._die_with_parent)
            local_servers._wait_until_ready(servers, run_dir, lambda name: processes[name].poll() is None)
            yield servers
        finally:
            local_servers._stop(processes)
