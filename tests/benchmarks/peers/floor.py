"""The floor: the same bytes, asked for and read by the thinnest signed client; nothing is judged, sorted or written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def graph(job: dict[str, Any]) -> Iterator[Any]:
    """A bare socket and orjson."""
    import orjson

    from tests.benchmarks import wire

    request = wire.graph_request(job)
    yield
    connection = wire.graph_connection(job)
    wire.send_frame(connection, request)
    ids, size = [], 0
    for message, length in wire.frames(connection, keep=True):
        data = orjson.loads(message)["result"]["data"]
        ids += [row["@value"]["value"]["playerId"][0] for row in data or ()]
        size += length
    connection.close()
    yield {"bytes": size, "members": {"file": "floor_members.txt"}}
    Path(job["folder"], "floor_members.txt").write_text("\n".join(ids), encoding="utf-8")


def enrich(job: dict[str, Any]) -> Iterator[Any]:
    """Bare sockets, botocore's signer and orjson."""
    import orjson

    from tests.benchmarks import wire

    job["ids"] = Path(job["folder"], "ids.txt").read_text(encoding="utf-8").split()
    yield
    rows, size = [], 0
    for body in wire.exchange(job, wire.lookup_requests(job)):
        size += len(body)
        found = orjson.loads(body)["Responses"][job["table"]]
        rows += [f"{item['playerId']['S']},{item['email']['S']}" for item in found]
    yield {"bytes": size, "rows": {"file": "floor_rows.txt"}}
    Path(job["folder"], "floor_rows.txt").write_text("\n".join(rows), encoding="utf-8")
