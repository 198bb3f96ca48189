"""The graph's hook against a real Gremlin Server, and against a socket that behaves as badly as Neptune may."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from gremlin_python.driver.aiohttp.transport import AiohttpTransport
from gremlin_python.process.graph_traversal import GraphTraversalSource
from gremlin_python.process.traversal import TraversalStrategies
from gremlin_python.structure.graph import Graph

from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.neptune import GraphUnavailableError, NeptuneGremlinHook

KEYS = Credentials("AKIDEXAMPLE", "made-up-secret")


def g() -> GraphTraversalSource:
    return GraphTraversalSource(Graph(), TraversalStrategies())


def connect(monkeypatch: pytest.MonkeyPatch, port: int, **extra: Any) -> NeptuneGremlinHook:
    connection = {"conn_type": "gremlin", "host": "127.0.0.1", "port": port, "schema": "ws", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_NEPTUNE_DEFAULT", json.dumps(connection))
    return NeptuneGremlinHook()


def graphbinary_error(request_id: bytes, status: int, text: str) -> bytes:
    """An error answer as a server writes it [TinkerPop, GraphBinary: response message]."""
    message = text.encode()
    return (
        b"\x81\x00" + request_id + struct.pack(">i", status)
        + b"\x00" + struct.pack(">i", len(message)) + message + struct.pack(">i", 0)  # message, attributes
        + struct.pack(">i", 0) + b"\xfe\x01"  # meta, data: null
    )  # fmt: skip


@contextmanager
def a_server(handler: Callable[[web.Request], Any]) -> Iterator[int]:
    """A WebSocket server on a free port of loopback, in a thread of its own."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        async def start() -> None:
            app = web.Application()
            app.router.add_get("/gremlin", handler)
            runner = web.AppRunner(app, shutdown_timeout=0.5)
            await runner.setup()
            await web.SockSite(runner, listening).start()
            ready.set()

        thread = threading.Thread(target=lambda: (loop.run_until_complete(start()), loop.run_forever()), daemon=True)
        thread.start()
        assert ready.wait(10)
        yield listening.getsockname()[1]
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def answering(status: int, text: str) -> Callable[[web.Request], Any]:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            # mime length, mime, version, then the request's id
            data = message.data
            start = 1 + data[0] + 1
            await ws.send_bytes(graphbinary_error(data[start : start + 16], status, text))
        return ws

    return handler


def neptune_error(code: str) -> str:
    return json.dumps({"requestId": "0dbcded3", "code": code, "detailedMessage": "wayne96 was here"})


def test_streams_every_value_in_batches(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = connect(monkeypatch, servers.gremlin_port, batch_size=100)
    batches = list(hook.stream(g().inject(*range(1_000))))
    assert [len(batch) for batch in batches] == [100] * 10
    assert sorted(value for batch in batches for value in batch) == list(range(1_000))


def test_counts_what_the_server_bulked(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = connect(monkeypatch, servers.gremlin_port)
    batches = list(hook.stream(g().inject(*["same"] * 50).barrier()))
    assert sum(len(batch) for batch in batches) == 50


def test_an_empty_result_ends(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = connect(monkeypatch, servers.gremlin_port)
    assert sum(len(batch) for batch in hook.stream(g().V().has_label("nobody"))) == 0


def test_a_malformed_query_is_not_retried(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = connect(monkeypatch, servers.gremlin_port)
    with pytest.raises(FlywheelError, match="refuses the query.*trying again does not help"):
        list(hook.stream(g().inject("text").math("_ + 1")))


def test_a_graph_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        hook = connect(monkeypatch, unused.getsockname()[1])
        with pytest.raises(GraphUnavailableError, match="cannot be reached"):
            list(hook.stream(g().V()))


@pytest.mark.parametrize(
    "code", ["ConcurrentModificationException", "ThrottlingException", "MemoryLimitExceededException"]
)
def test_retryable_codes_of_neptune(
    code: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with a_server(answering(500, neptune_error(code))) as port:
        hook = connect(monkeypatch, port)
        with pytest.raises(GraphUnavailableError, match=f"{code} 500, requestId 0dbcded3") as raised:
            list(hook.stream(g().V()))
    assert "wayne96" not in str(raised.value)
    assert "wayne96" not in caplog.text  # gremlinpython's own log would quote it


@pytest.mark.parametrize("code", ["MalformedQueryException", "BadRequestException", "QueryTooLargeException"])
def test_other_codes_of_neptune_are_final(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_server(answering(400, neptune_error(code))) as port:
        hook = connect(monkeypatch, port)
        with pytest.raises(FlywheelError, match=f"refuses the query \\({code} 400") as raised:
            list(hook.stream(g().V()))
    assert "wayne96" not in str(raised.value)


def test_retrying_begins_again_and_gives_up_after_four(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = connect(monkeypatch, 1)
    attempts = 0
    with pytest.raises(GraphUnavailableError):
        for attempt in hook.retrying().copy(wait=lambda state: 0):
            with attempt:
                attempts += 1
                raise GraphUnavailableError("down.")
    assert attempts == 4


def test_a_socket_that_the_server_closes_is_replaced(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first connection is cut in the middle of its answer; the next read gets everything."""
    seen: list[int] = []

    def pipe(source: socket.socket, target: socket.socket, limit: int | None) -> None:
        sent = 0
        while True:
            try:
                data = source.recv(4096)
                if data:
                    target.sendall(data)
            except OSError:
                data = b""
            sent += len(data)
            if not data or (limit is not None and sent > limit):
                for each in (source, target):
                    with suppress(OSError):  # the other direction was faster
                        each.shutdown(socket.SHUT_RDWR)
                return

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for number in range(2):
                client, _ = listening.accept()
                seen.append(number)
                upstream = socket.create_connection(("127.0.0.1", servers.gremlin_port))
                limit = 20_000 if number == 0 else None
                threading.Thread(target=pipe, args=(client, upstream, None), daemon=True).start()
                threading.Thread(target=pipe, args=(upstream, client, limit), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        hook = connect(monkeypatch, listening.getsockname()[1], batch_size=64)
        rows: list[Any] = []
        for attempt in hook.retrying().copy(wait=lambda state: 0):
            with attempt:
                rows.clear()
                for batch in hook.stream(g().inject(*range(10_000))):
                    rows.extend(batch)
    assert seen == [0, 1]
    assert sorted(rows) == list(range(10_000))


def test_a_silent_graph_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await asyncio.sleep(5)
        return ws

    with a_server(silent) as port:
        hook = connect(monkeypatch, port, read_timeout_seconds=0.3)
        with pytest.raises(GraphUnavailableError, match="silent for 0.3 s"):
            list(hook.stream(g().V()))


@pytest.mark.parametrize("iam", [True, False])
def test_signs_for_neptune_and_says_when_the_signature_is_refused(iam: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server makes the signature again from what it was sent, as Neptune does; each connection has its own."""
    signatures: list[str] = []

    async def checking(request: web.Request) -> Any:
        sent = request.headers.get("Authorization", "")
        again = AWSRequest("GET", f"http://{request.headers['Host']}/gremlin")
        again.context["timestamp"] = request.headers.get("X-Amz-Date", "")
        signer = SigV4Auth(KEYS, "neptune-db", "eu-west-1")
        again.headers["X-Amz-Date"] = again.context["timestamp"]
        expected = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
        signatures.append(sent)
        if not sent.endswith(f"Signature={expected}"):
            return web.Response(status=403)
        return await answering(500, neptune_error("ThrottlingException"))(request)

    aws = {"conn_type": "aws", "login": KEYS.access_key, "password": KEYS.secret_key}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(aws))
    with a_server(checking) as port:
        hook = connect(monkeypatch, port, iam=iam, region_name="eu-west-1")
        if iam:
            for _ in range(2):
                with pytest.raises(GraphUnavailableError, match="ThrottlingException"):
                    list(hook.stream(g().V()))
            assert len(signatures) == 2
            assert "/eu-west-1/neptune-db/aws4_request" in signatures[0]
        else:
            with pytest.raises(FlywheelError, match='refuses the signature.*"iam": true'):
                list(hook.stream(g().V()))


def test_a_connection_without_a_host_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NEPTUNE_DEFAULT", json.dumps({"conn_type": "gremlin"}))
    with pytest.raises(FlywheelError, match="neptune_default has no host"):
        NeptuneGremlinHook()


def test_works_inside_a_running_event_loop(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """gremlinpython refuses to start a loop inside one; a thread of its own has none."""
    hook = connect(monkeypatch, servers.gremlin_port)

    async def main() -> int:
        return await asyncio.to_thread(lambda: sum(len(batch) for batch in hook.stream(g().inject(1, 2))))

    assert asyncio.run(main()) == 2


def test_the_graph_is_not_read_faster_than_it_is_taken(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """gremlinpython alone reads on until the memory is full, and until the end of a result that nobody wants."""
    hook = connect(monkeypatch, servers.gremlin_port, batch_size=10)
    read: list[int] = []
    real = AiohttpTransport.read

    def counted(self: Any) -> Any:
        read.append(1)
        return real(self)

    monkeypatch.setattr(AiohttpTransport, "read", counted)
    batches: Any = hook.stream(g().inject(*range(5_000)))
    for taken in range(1, 20):
        next(batches)
        time.sleep(0.02)
        assert len(read) <= taken + 8 + 1
    batches.close()
    assert len(read) < 40 < 500


def test_a_word_where_a_number_belongs_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FlywheelError, match="neptune_default has a word where a number belongs"):
        connect(monkeypatch, 1, batch_size="many")


@pytest.mark.parametrize(
    ("said", "meant"), [("false", False), ("true", True), (True, True), ("True", True), (None, False)]
)
def test_iam_as_a_connection_s_uri_says_it(said: Any, meant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert connect(monkeypatch, 1, iam=said).iam is meant
