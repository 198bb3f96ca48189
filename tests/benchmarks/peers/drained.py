"""The limit: what each server can give, drained from it; nothing is decoded, and the requests are signed before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def graph(job: dict[str, Any]) -> Iterator[Any]:
    from tests.benchmarks import wire

    request = wire.graph_request(job)
    yield
    connection = wire.graph_connection(job)
    wire.send_frame(connection, request)
    size = sum(length for _, length in wire.frames(connection, keep=False))
    connection.close()
    yield {"bytes": size}


def enrich(job: dict[str, Any]) -> Iterator[Any]:
    from tests.benchmarks import wire

    job["ids"] = Path(job["folder"], "ids.txt").read_text(encoding="utf-8").split()
    requests = list(wire.lookup_requests(job))
    yield
    yield {"bytes": sum(map(len, wire.exchange(job, requests)))}
