"""Faults between a task and the graph: a TCP proxy in the task's own process, one traversal a connection."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import Any

from tests.faults.sites import GRAPH, Watch, die

#: How much of the server's answer goes through before it is cut; the answer to the handshake is not counted.
CUT_AFTER_BYTES = 2_000
#: The longest silence that a task bears, where a fault makes it silent, and else; a batch is small, so that there are
#: several.
SILENT_SECONDS, READ_TIMEOUT_SECONDS = 0.4, 20.0
BATCH_SIZE = 32
_CLOSE = 0x88  # the first byte of the frame with which a WebSocket ends [RFC 6455]


#: The variable that names the traversal source of the graph of a world, where it is not g.
SOURCE_VARIABLE = "FAULTS_TRAVERSAL_SOURCE"


def install(watch: Watch, connection: str, server_pid: int = 0, cut_after: int = CUT_AFTER_BYTES) -> None:
    """Lead the connection of Airflow that is in this variable through a proxy of our own."""
    if source := os.environ.get(SOURCE_VARIABLE):
        _use_source(source)
    there = json.loads(os.environ[connection])
    listening = socket.create_server(("127.0.0.1", 0))
    silent = watch.case and watch.case.site.service == GRAPH  # a cut connection may be silent, too
    limits = {"read_timeout_seconds": SILENT_SECONDS if silent else READ_TIMEOUT_SECONDS, "batch_size": BATCH_SIZE}
    ours = {"port": listening.getsockname()[1], "extra": there["extra"] | limits}
    os.environ[connection] = json.dumps(there | ours)

    def serve() -> None:
        while True:
            client, _ = listening.accept()
            call = watch.begin(GRAPH, "traversal")
            kind = watch.strikes(call)
            if kind == "killed before":
                die()
            elif kind in ("refused once", "refused until cleared"):
                _reset(client)
            elif kind == "500":
                client.recv(65536)
                client.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
                client.close()
            else:
                server = socket.create_connection((there["host"], there["port"]))
                _pump(client, server, kind, server_pid, partial(watch.tell, site=call.site), cut_after)

    threading.Thread(target=serve, daemon=True).start()


def _use_source(source: str) -> None:
    """Have each client of this process, which ends with it, ask the graph of another traversal source than g."""
    from gremlin_python.driver.client import Client

    made = Client.__init__

    def init(self: Client, url: str, traversal_source: str, **options: Any) -> None:
        made(self, url, source if traversal_source == "g" else traversal_source, **options)

    Client.__init__ = init


def _pump(
    client: socket.socket,
    server: socket.socket,
    kind: str,
    server_pid: int,
    tell: Callable[..., None],
    cut_after: int,
) -> None:
    """Carry the bytes both ways; the answer to the handshake first, as no fault is in it."""
    server.sendall(_head(client))
    client.sendall(_head(server))
    passed, asked = 0, False

    def to_server(some: bytes) -> bool:
        nonlocal asked
        if not asked:
            tell(request=_digest(some))
            asked = True
        if "throttled" not in kind and "time-out" not in kind:
            server.sendall(some)
            return True
        if some[0] == _CLOSE:  # the peer is gone, so its close would never arrive
            return False
        if "throttled" in kind:
            client.sendall(_throttled(some))
        return True

    def to_client(some: bytes) -> bool:
        nonlocal passed
        passed += len(some)
        if passed < cut_after or kind in ("", "killed after"):
            client.sendall(some)
            return True
        client.sendall(some[: cut_after - passed])
        if kind == "killed mid-stream":
            die()
        if kind == "server restarted mid-stream":
            os.kill(server_pid, signal.SIGKILL)
        _reset(client)
        return False

    def ended() -> None:
        if kind == "killed after":  # all of the answer came, and the client takes its leave
            die()

    for source, target, take, at_end in ((client, server, to_server, ended), (server, client, to_client, None)):
        threading.Thread(target=_carry, args=(source, target, take, at_end), daemon=True).start()


def _carry(
    source: socket.socket,
    target: socket.socket,
    take: Callable[[bytes], bool],
    at_end: Callable[[], None] | None,
) -> None:
    with suppress(OSError):
        while some := source.recv(65536):
            if not take(some):
                break
    if at_end:
        at_end()
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def _head(source: socket.socket) -> bytes:
    """An HTTP head, and nothing behind it."""
    head = b""
    while not head.endswith(b"\r\n\r\n") and (byte := source.recv(1)):
        head += byte
    return head


def _reset(client: socket.socket) -> None:
    """Close without a word, as a host does that has gone."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def _request(frame: bytes) -> Any:
    """The request in one WebSocket frame [RFC 6455] of GraphSON 2 or 3 [TinkerPop: IO reference]."""
    length = frame[1] & 127
    start = 2 + {126: 2, 127: 8}.get(length, 0)
    mask, masked = frame[start : start + 4], frame[start + 4 :]
    request = bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))
    return json.loads(request[1 + request[0] :])


def _digest(frame: bytes) -> str:
    """What a traversal asks, but for its id; empty if it is not all in the frame."""
    with suppress(ValueError, IndexError):
        request = _request(frame)
        return sha256(json.dumps([request[name] for name in ("op", "args")]).encode()).hexdigest()
    return ""


def _throttled(frame: bytes) -> bytes:
    """Neptune's answer to a request."""
    message = json.dumps({"requestId": "made-by-the-harness", "code": "ThrottlingException"})
    answer = json.dumps(
        {
            "requestId": _request(frame)["requestId"]["@value"],
            "status": {"message": message, "code": 500, "attributes": {}},
            "result": {"data": None, "meta": {}},
        }
    ).encode()
    return b"\x81\x7e" + struct.pack(">H", len(answer)) + answer
