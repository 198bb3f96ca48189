"""The graph's hook against a real Gremlin Server, and against a socket that behaves as badly as Neptune may."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gremlin_python.driver.aiohttp.transport import AiohttpTransport
from gremlin_python.process.graph_traversal import GraphTraversalSource
from gremlin_python.process.traversal import TraversalStrategies
from gremlin_python.structure.graph import Graph

from cohort_flywheel.errors import Code, FlywheelError
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
def a_server(handler: Callable[[web.Request], Any], tls: ssl.SSLContext | None = None) -> Iterator[int]:
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
            await web.SockSite(runner, listening, ssl_context=tls).start()
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


def test_bulked_results_are_expanded(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = connect(monkeypatch, servers.gremlin_port)
    batches = list(hook.stream(g().inject(*["same"] * 50).barrier()))
    assert sum(len(batch) for batch in batches) == 50


def test_an_empty_result_ends(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = connect(monkeypatch, servers.gremlin_port)
    assert sum(len(batch) for batch in hook.stream(g().V().has_label("missing"))) == 0


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
                raise GraphUnavailableError("down.", Code.GRAPH_UNREACHABLE)
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


def test_a_silent_graph_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await asyncio.sleep(5)
        return ws

    with a_server(silent) as port:
        hook = connect(monkeypatch, port, read_timeout_seconds=0.3)
        with pytest.raises(GraphUnavailableError, match="silent for 0.3 s"):
            list(hook.stream(g().V()))


def verifying(hosts: list[str]) -> Callable[[web.Request], Any]:
    """Signs again what it was sent, as Neptune does, and answers 403 to any other signature; notes the Host headers."""

    async def handler(request: web.Request) -> Any:
        sent, host = request.headers.get("Authorization", ""), request.headers["Host"]
        again = AWSRequest("GET", f"http://{host}/gremlin")
        again.context["timestamp"] = request.headers.get("X-Amz-Date", "")
        signer = SigV4Auth(KEYS, "neptune-db", "eu-west-1")
        again.headers["X-Amz-Date"] = again.context["timestamp"]
        expected = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
        hosts.append(host)
        if not sent.endswith(f"Signature={expected}") or "/eu-west-1/neptune-db/aws4_request" not in sent:
            return web.Response(status=403)
        return await answering(500, neptune_error("ThrottlingException"))(request)

    return handler


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = {"conn_type": "aws", "login": KEYS.access_key, "password": KEYS.secret_key}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(aws))


def test_signs_each_connection_for_neptune(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts: list[str] = []
    with a_server(verifying(hosts)) as port:
        hook = connect(monkeypatch, port, iam=True, region_name="eu-west-1")
        for _ in range(2):
            with pytest.raises(GraphUnavailableError, match="ThrottlingException"):
                list(hook.stream(g().V()))
    assert hosts == [f"127.0.0.1:{port}"] * 2


def test_without_iam_requests_are_unsigned_and_a_403_says_so(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_server(verifying([])) as port:
        hook = connect(monkeypatch, port, region_name="eu-west-1")
        with pytest.raises(FlywheelError, match='refuses the connection neptune_default, .*"iam": true'):
            list(hook.stream(g().V()))


@pytest.mark.parametrize(
    ("aws", "kind", "sentence"),
    [
        (
            {"login": KEYS.access_key, "password": KEYS.secret_key},
            FlywheelError,
            "no region to sign for: write region_name into the extra of the connection neptune_default, or of aws_def",
        ),
        (
            {"extra": {"region_name": "eu-west-1"}},
            GraphUnavailableError,
            "no credentials to sign with: the connection aws_default has none",
        ),
    ],
)
def test_missing_region_or_credentials_are_named(
    aws: Any, kind: type[Exception], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws", **aws}))
    with pytest.raises(kind, match=sentence):
        list(connect(monkeypatch, 1, iam=True).stream(g().V()))


# --- through a tunnel or a load balancer: the host is not the cluster's endpoint

CLUSTER = "cohorts.cluster-ro-c1a2b3.eu-west-1.neptune.amazonaws.com"


def certificate(path: Path, host: str) -> Path:
    """Writes a self-signed certificate of a host, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test of {host[:50]}")]), datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, no_password = serialization.Encoding.PEM, serialization.NoEncryption()
    path.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, no_password))
    return path


def tls(path: Path, names: list[str | None]) -> ssl.SSLContext:
    """A server's TLS; notes the name that each client asks for."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    server.sni_callback = lambda _socket, name, _context: names.append(name)
    return server


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of CLUSTER alone, which this process trusts."""
    path = certificate(tmp_path_factory.mktemp("tls") / "trusted.pem", CLUSTER)
    # aiohttp makes its context once, as it is imported; for a worker SSL_CERT_FILE does the same
    aiohttp.connector._SSL_CONTEXT_VERIFIED.load_verify_locations(path)
    return path


def tunnelled(monkeypatch: pytest.MonkeyPatch, port: int, **extra: Any) -> NeptuneGremlinHook:
    connection = {"conn_type": "gremlin", "host": "localhost", "port": port, "schema": "wss"}
    iam = {"iam": True, "region_name": "eu-west-1"}
    monkeypatch.setenv("AIRFLOW_CONN_NEPTUNE_DEFAULT", json.dumps(connection | {"extra": iam | extra}))
    return NeptuneGremlinHook()


def test_signed_host_and_server_hostname_are_those_of_the_cluster(
    trusted: Path, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str | None] = []
    hosts: list[str] = []
    with a_server(verifying(hosts), tls(trusted, names)) as port:
        hook = tunnelled(monkeypatch, port, signed_host=f"{CLUSTER}:8182", server_hostname=CLUSTER)
        with pytest.raises(GraphUnavailableError, match="ThrottlingException"):  # so the signature was accepted
            list(hook.stream(g().V()))
    assert (hosts, names) == ([f"{CLUSTER}:8182"], [CLUSTER])


def test_a_certificate_for_another_name_suggests_server_hostname(
    trusted: Path, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts: list[str] = []
    with a_server(verifying(hosts), tls(trusted, [])) as port:
        hook = tunnelled(monkeypatch, port, signed_host=f"{CLUSTER}:8182")
        with pytest.raises(FlywheelError, match="certificate .* is refused .*localhost.* as server_hostname into the"):
            list(hook.stream(g().V()))
    assert hosts == []


def test_a_403_names_the_host_that_was_signed(trusted: Path, keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The far end of a tunnel knows the cluster's endpoint alone."""
    hosts: list[str] = []

    async def forbidden(request: web.Request) -> web.Response:
        hosts.append(request.headers["Host"])
        return web.Response(status=403)

    with a_server(forbidden, tls(trusted, [])) as port:
        for extra, signed in (({}, f"localhost:{port}"), ({"signed_host": f"{CLUSTER}:8183"}, f"{CLUSTER}:8183")):
            hook = tunnelled(monkeypatch, port, server_hostname=CLUSTER, **extra)
            with pytest.raises(FlywheelError, match=f"made for the host {signed}: if that is a tunnel or a load"):
                list(hook.stream(g().V()))
            assert hosts.pop() == signed


@pytest.mark.parametrize(
    ("schema", "port", "host"),
    [("wss", 443, CLUSTER), ("wss", 8182, f"{CLUSTER}:8182"), ("ws", 80, CLUSTER), ("ws", 443, f"{CLUSTER}:443")],
)
def test_the_signed_host_has_its_port_unless_it_is_the_schemes(
    schema: str, port: int, host: str, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {"conn_type": "gremlin", "host": CLUSTER, "port": port, "schema": schema}
    extra = {"iam": True, "region_name": "eu-west-1"}
    monkeypatch.setenv("AIRFLOW_CONN_NEPTUNE_DEFAULT", json.dumps(connection | {"extra": extra}))
    headers = NeptuneGremlinHook()._signed_headers()
    assert headers is not None
    assert (headers["Host"], "SignedHeaders=host;x-amz-date" in headers["Authorization"]) == (host, True)


# --- a server that is not the graph


def test_a_certificate_that_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_server(verifying([]), tls(certificate(tmp_path / "other.pem", "localhost"), [])) as port:
        hook = tunnelled(monkeypatch, port, iam=False)
        with pytest.raises(FlywheelError, match=r"certificate .* is refused \(self-signed.*\(SSL_CERT_FILE\)"):
            list(hook.stream(g().V()))


def test_a_server_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        a_server(verifying([])) as port,
        pytest.raises(FlywheelError, match="answers without TLS: correct the port .* write ws as its schema"),
    ):
        list(tunnelled(monkeypatch, port, iam=False).stream(g().V()))


def test_a_server_with_tls_met_without_it(trusted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        a_server(verifying([]), tls(trusted, [])) as port,
        pytest.raises(GraphUnavailableError, match="and whether it speaks TLS, as Neptune does"),
    ):
        list(connect(monkeypatch, port).stream(g().V()))


@pytest.mark.parametrize(
    ("status", "kind", "sentence"),
    [
        (200, FlywheelError, "does not open a WebSocket .HTTP status 200.: look whether host, port"),
        (404, FlywheelError, "does not open a WebSocket .HTTP status 404."),
        (429, GraphUnavailableError, "cannot be reached, .* .HTTP status 429."),
        (502, GraphUnavailableError, "cannot be reached, .* .HTTP status 502."),
    ],
)
def test_a_server_that_opens_no_websocket(
    status: int, kind: type[Exception], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def other(_: web.Request) -> web.Response:
        return web.Response(status=status)

    with a_server(other) as port, pytest.raises(kind, match=sentence):
        list(connect(monkeypatch, port).stream(g().V()))


def test_works_inside_a_running_event_loop(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """gremlinpython refuses to start a loop inside one; a thread of its own has none."""
    hook = connect(monkeypatch, servers.gremlin_port)

    async def main() -> int:
        return await asyncio.to_thread(lambda: sum(len(batch) for batch in hook.stream(g().inject(1, 2))))

    assert asyncio.run(main()) == 2


def test_the_graph_is_read_only_a_few_frames_ahead(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """gremlinpython alone reads on until the memory is full, and until the end of an unwanted result."""
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
