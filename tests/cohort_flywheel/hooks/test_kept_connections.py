"""BatchGetItem over kept connections: the same records as by botocore, which is asked again for any other answer."""

from __future__ import annotations

import json
import ssl
import threading
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.hooks import kept_connections
from cohort_flywheel.hooks.dynamodb import DynamoDBBatchGetHook
from cohort_flywheel.hooks.kept_connections import MAX_FAILURES
from cohort_flywheel.segment.contacts import as_text
from tests.cohort_flywheel.hooks.test_neptune import certificate

KEYS = Credentials("AKIDEXAMPLE", "made-up-secret")


class Seen(NamedTuple):
    """A request that arrived."""

    headers: dict[str, str]
    body: bytes
    client_port: int

    @property
    def is_botocore_s(self) -> bool:
        return "amz-sdk-invocation-id" in self.headers

    @property
    def keys(self) -> list[str]:
        (wanted,) = json.loads(self.body)["RequestItems"].values()
        return [key["playerId"]["S"] for key in wanted["Keys"]]


class Reply(NamedTuple):
    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = MappingProxyType({})
    #: of the bytes of the body; all of them are promised
    sent: int | None = None


def records(keys: list[str], **rest: Any) -> bytes:
    """The answer that has a record of each key."""
    found = [{"playerId": {"S": key}, "level": {"N": "1"}} for key in keys]
    return json.dumps({"Responses": {"t": found}, "UnprocessedKeys": {}} | rest).encode()


@contextmanager
def a_dynamodb(reply: Callable[[Seen], Reply | None], tls: Path | None = None) -> Iterator[tuple[str, list[Seen]]]:
    """A server; `reply` without a body has a record of each key, and None closes the connection without an answer."""
    seen: list[Seen] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers["content-length"]))
            asked = Seen(headers, body, self.client_address[1])
            seen.append(asked)
            answer = reply(asked)
            if answer is None:
                self.close_connection = True
                return
            text = records(asked.keys) if answer.body is None else answer.body
            self.send_response(answer.status)
            checksum = {"x-amz-crc32": str(zlib.crc32(text)), "Content-Length": str(len(text))}
            for name, value in (checksum | dict(answer.headers)).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text if answer.sent is None else text[: answer.sent])
            if answer.sent is not None:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        scheme = "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            scheme = "https"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"{scheme}://localhost:{server.server_port}", seen
        server.shutdown()


def connect(monkeypatch: pytest.MonkeyPatch, url: str, verify: Any = None, **config: Any) -> DynamoDBBatchGetHook:
    extra = {"region_name": "eu-west-1", "endpoint_url": url, "config_kwargs": config, "verify": verify}
    connection = {"conn_type": "aws", "login": KEYS.access_key, "password": KEYS.secret_key, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    return DynamoDBBatchGetHook()


def many(hook: DynamoDBBatchGetHook, batches: Any, **rest: Any) -> Any:
    return hook.get_many("t", "playerId", batches, ["level"], key=str, **rest)


def one_each(count: int) -> list[list[str]]:
    return [[f"p{n}"] for n in range(count)]


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore's retries do not wait."""
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)


# --- the same records both ways

text = st.text(st.characters(), max_size=5)  # halves of surrogate pairs too
number = st.decimals(-(10**20), 10**20, places=3).map(str)
base64 = st.binary(max_size=5).map(lambda b: b64encode(b).decode())
scalars = st.one_of(
    text.map(lambda v: {"S": v}),
    number.map(lambda v: {"N": v}),
    base64.map(lambda v: {"B": v}),
    st.booleans().map(lambda v: {"BOOL": v}),
    st.just({"NULL": True}),
    st.lists(text, min_size=1, max_size=3, unique=True).map(lambda v: {"SS": v}),
    st.lists(number, min_size=1, max_size=3, unique=True).map(lambda v: {"NS": v}),
    st.lists(base64, min_size=1, max_size=3, unique=True).map(lambda v: {"BS": v}),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda v: {"L": v}),
        st.dictionaries(text, inner, max_size=3).map(lambda v: {"M": v}),
    ),
    max_leaves=8,
)
items = st.builds(lambda key, rest: rest | {"playerId": {"S": key}}, text, st.dictionaries(text, values, max_size=4))


class Answering(NamedTuple):
    hook: DynamoDBBatchGetHook
    seen: list[Seen]
    answer: list[bytes]


@pytest.fixture(scope="module")
def answering() -> Iterator[Answering]:
    """A hook, and a server with one answer for all requests."""
    answer = [b""]
    with pytest.MonkeyPatch.context() as patch, a_dynamodb(lambda _: Reply(body=answer[0])) as (url, seen):
        yield Answering(connect(patch, url), seen, answer)


@given(found=st.lists(items, max_size=3))
def test_any_record_is_the_same_from_botocore_and_from_a_kept_connection(
    found: list[dict[str, Any]], answering: Answering
) -> None:
    answering.answer[0] = json.dumps({"Responses": {"t": found}, "UnprocessedKeys": {}}).encode()
    answering.seen.clear()
    (_, theirs), (_, ours) = many(answering.hook, [["a"], ["b"]])
    assert [asked.is_botocore_s for asked in answering.seen][:2] == [True, False]
    assert ours == theirs
    for key, record in theirs.items():
        other = ours[key]
        assert {name: as_text(value) for name, value in record.items()} == {n: as_text(v) for n, v in other.items()}
        assert {name: type(value) for name, value in record.items()} == {n: type(v) for n, v in other.items()}


def test_a_request_is_signed_and_has_what_botocore_would_send(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_dynamodb(lambda _: Reply()) as (url, seen):
        hook = connect(monkeypatch, url)
        got = list(many(hook, [["p1", 'q"\u2028é🎲'], ["p2", "q2"]]))
    assert [set(found) for _, found in got] == [{"p1", 'q"\u2028é🎲'}, {"p2", "q2"}]
    theirs, ours = seen
    assert (theirs.is_botocore_s, ours.is_botocore_s) == (True, False)
    bodies = [json.loads(each.body) for each in seen]
    keys = [body["RequestItems"]["t"].pop("Keys") for body in bodies]
    assert bodies[0] == bodies[1]
    assert keys[1] == [{"playerId": {"S": "p2"}}, {"playerId": {"S": "q2"}}]
    assert set(theirs.headers) - {"amz-sdk-invocation-id", "amz-sdk-request"} == set(ours.headers)
    for name in ("host", "user-agent", "content-type", "x-amz-target", "accept-encoding"):
        assert ours.headers[name] == theirs.headers[name], name
    again = AWSRequest("POST", url + "/", data=ours.body, headers={"Host": ours.headers["host"]})
    for name in ("Content-Type", "X-Amz-Date", "X-Amz-Target"):
        again.headers[name] = ours.headers[name.lower()]
    again.context["timestamp"] = ours.headers["x-amz-date"]
    signer = SigV4Auth(KEYS, "dynamodb", "eu-west-1")
    expected = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
    assert ours.headers["authorization"].endswith(f"Signature={expected}")
    assert "/eu-west-1/dynamodb/aws4_request" in ours.headers["authorization"]


def test_each_request_is_signed_by_the_credentials_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A role's credentials are replaced every hour or so, while a task reads."""
    numbers = iter(range(100))

    class Refreshed:
        def get_frozen_credentials(self) -> ReadOnlyCredentials:
            number = next(numbers)
            return ReadOnlyCredentials(f"AKID{number}", "secret", f"token{number}")

    with a_dynamodb(lambda _: Reply()) as (url, seen):
        hook = connect(monkeypatch, url)
        hook.conn._request_signer._credentials = Refreshed()
        list(many(hook, one_each(4)))
    names = [each.headers["authorization"].partition("Credential=")[2].partition("/")[0] for each in seen]
    tokens = [each.headers["x-amz-security-token"] for each in seen]
    assert len(set(names)) == 4
    assert [name.removeprefix("AKID") for name in names] == [token.removeprefix("token") for token in tokens]


# --- several under way at once


def test_requests_are_under_way_at_once_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the four connections is answered only when all four have a request."""
    four = threading.Barrier(4)

    def reply(asked: Seen) -> Reply:
        if not asked.is_botocore_s:
            four.wait(60)
        return Reply()

    with a_dynamodb(reply) as (url, seen):
        threads = {thread.name for thread in threading.enumerate()}
        answers = many(connect(monkeypatch, url), one_each(13), in_flight=4)
        got = [next(answers)]
        # the server has a thread for each connection
        assert not {t.name for t in threading.enumerate() if "process_request" not in t.name} - threads
        got += list(answers)
    assert got == [([f"p{n}"], {f"p{n}": {"playerId": f"p{n}", "level": 1}}) for n in range(13)]
    assert [asked.is_botocore_s for asked in seen] == [True] + [False] * 12
    assert len({asked.client_port for asked in seen}) == 1 + 4


def test_a_batch_is_taken_when_its_request_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow writer has a bounded queue: one batch given, four under way."""
    taken: list[str] = []

    def batches() -> Iterator[list[str]]:
        for (key,) in one_each(50):
            taken.append(key)
            yield [key]

    with a_dynamodb(lambda _: Reply()) as (url, _):
        answers = many(connect(monkeypatch, url), batches(), in_flight=4)
        for given_out in range(1, 6):
            next(answers)
            assert len(taken) == given_out + 4
        answers.close()
    assert len(taken) == 9


@pytest.mark.parametrize("batches", [0, 1, 2, 9])
@pytest.mark.parametrize("in_flight", [1, 2, 4, 50])
def test_any_number_of_batches(batches: int, in_flight: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with a_dynamodb(lambda _: Reply()) as (url, seen):
        got = list(many(connect(monkeypatch, url), one_each(batches), in_flight=in_flight))
    assert [set(found) for _, found in got] == [{f"p{n}"} for n in range(batches)]
    assert len(seen) == batches


def test_the_connections_are_closed_at_the_end_and_when_the_reader_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: set[HTTPConnection] = set()
    send = kept_connections.send
    monkeypatch.setattr(
        kept_connections, "send", lambda connection, request: (opened.add(connection), send(connection, request))
    )
    with a_dynamodb(lambda _: Reply()) as (url, _):
        hook = connect(monkeypatch, url)
        answers = many(hook, one_each(20), in_flight=4)
        next(answers)
        assert [connection for connection in opened if connection.sock]
        answers.close()
        assert len(list(many(hook, one_each(20), in_flight=4))) == 20
    assert len(opened) == 8
    assert not [connection for connection in opened if connection.sock]


def test_a_connection_that_the_server_closes_after_an_answer_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_dynamodb(lambda _: Reply(headers={"Connection": "close"})) as (url, seen):
        assert len(list(many(connect(monkeypatch, url), one_each(20), in_flight=3))) == 20
    assert sum(not asked.is_botocore_s for asked in seen) == 19


# --- what is not plain is asked again through botocore

SLOW = b'{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"wayne96"}'
GONE = b'{"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException","message":"wayne96"}'
WRONG = {
    "a wrong checksum": Reply(headers={"x-amz-crc32": "1"}),
    "not a checksum": Reply(headers={"x-amz-crc32": "wayne96"}),
    "cut off": Reply(sent=20),
    "throttled": Reply(400, SLOW),
    "an internal error": Reply(500, b"<html>wayne96</html>"),
    "unavailable": Reply(503, b""),
    "moved": Reply(307, b"", {"Location": "http://192.0.2.1/"}),
    "no content": Reply(204, b""),
    "an empty answer": Reply(body=b""),
    "not JSON": Reply(body=b"<html>wayne96</html>"),
    "no records": Reply(body=b"[]"),
    "another type of value": Reply(body=b'{"Responses": {"t": [{"playerId": {"S": "wayne96"}, "x": {"X": 1}}]}}'),
    "compressed": Reply(headers={"Content-Encoding": "gzip"}),
    "no answer": None,
}


@pytest.mark.parametrize("wrong", WRONG)
def test_anything_but_a_plain_answer_is_asked_again_through_botocore(
    wrong: str, no_wait: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = WRONG[wrong]

    def reply(asked: Seen) -> Reply | None:
        return bad if asked.keys == ["p3"] and not asked.is_botocore_s else Reply()

    with a_dynamodb(reply) as (url, seen):
        got = list(many(connect(monkeypatch, url), one_each(8), in_flight=2))
    assert got == [([f"p{n}"], {f"p{n}": {"playerId": f"p{n}", "level": 1}}) for n in range(8)]
    again = [asked for asked in seen if asked.keys == ["p3"]]
    assert [asked.is_botocore_s for asked in again] == [False, True]
    assert json.loads(again[0].body) == json.loads(again[1].body)
    assert [asked.is_botocore_s for asked in seen if asked.keys != ["p3"]] == [True] + [False] * 6


def test_throttling_is_retried_by_botocore_and_an_error_keeps_its_code(
    no_wait: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([Reply(), Reply(400, SLOW), Reply(400, SLOW), Reply(400, GONE)])
    got: list[Any] = []
    with a_dynamodb(lambda _: next(answers)) as (url, seen), pytest.raises(ClientError) as raised:
        for batch, _ in many(connect(monkeypatch, url), one_each(2)):
            got.append(batch)
    assert got == [["p0"]]
    assert raised.value.response["Error"]["Code"] == "ResourceNotFoundException"
    assert [asked.is_botocore_s for asked in seen] == [True, False, True, True]


@pytest.mark.parametrize("bad", [Reply(body=b'{"Responses": "wayne96"'), Reply(400, SLOW), Reply(sent=30)])
def test_an_error_has_nothing_of_an_unusable_answer(bad: Reply, no_wait: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        a_dynamodb(
            lambda asked: bad if not asked.is_botocore_s else Reply(400, GONE) if len(seen) > 1 else Reply()
        ) as (
            url,
            seen,
        ),
        pytest.raises(ClientError) as raised,
    ):
        list(many(connect(monkeypatch, url), one_each(2)))
    assert (raised.value.__context__, raised.value.__cause__) == (None, None)


def test_after_the_first_error_no_request_starts(no_wait: None, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[Any] = []
    with (
        a_dynamodb(lambda asked: Reply(400, GONE) if asked.keys == ["p5"] else Reply()) as (url, seen),
        pytest.raises(ClientError, match="ResourceNotFoundException"),
    ):
        for batch, _ in many(connect(monkeypatch, url), one_each(100), in_flight=4):
            got.append(batch)
    assert got == one_each(5)
    assert len({asked.keys[0] for asked in seen}) == 9


def test_after_some_failures_in_a_row_botocore_is_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_dynamodb(lambda asked: Reply() if asked.is_botocore_s else Reply(500, b"")) as (url, seen):
        got = list(many(connect(monkeypatch, url), one_each(30), in_flight=4))
    assert [batch for batch, _ in got] == one_each(30)
    assert all(found for _, found in got)
    # when the third is read, three more are under way
    assert sum(not asked.is_botocore_s for asked in seen) == MAX_FAILURES + 3


def test_failures_that_are_not_in_a_row_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third answer, of one request at a time on each of two connections."""

    def reply(asked: Seen) -> Reply:
        return Reply(500, b"") if not asked.is_botocore_s and int(asked.keys[0][1:]) % 3 == 0 else Reply()

    with a_dynamodb(reply) as (url, seen):
        assert len(list(many(connect(monkeypatch, url), one_each(30), in_flight=2))) == 30
    assert sum(not asked.is_botocore_s for asked in seen) == 29


def test_unprocessed_keys_of_a_plain_answer_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def reply(asked: Seen) -> Reply:
        if asked.is_botocore_s:
            return Reply()
        (wanted,) = json.loads(asked.body)["RequestItems"].values()
        left = {"t": wanted | {"Keys": wanted["Keys"][1:]}}
        return Reply(body=records(asked.keys[:1], UnprocessedKeys=left))

    batches = [["a", "b", "c"], ["d", "e", "f"]]
    with a_dynamodb(reply) as (url, seen):
        got = list(many(connect(monkeypatch, url), batches))
    assert [sorted(found) for _, found in got] == batches
    assert [asked.keys for asked in seen] == [["a", "b", "c"], ["d", "e", "f"], ["e", "f"]]


# --- botocore alone


@pytest.mark.parametrize(
    ("config", "environment"),
    [
        ({"proxies": {"http": "its address"}}, {}),
        ({}, {"HTTP_PROXY": "its address"}),
        ({"tcp_keepalive": True}, {}),
    ],
)
def test_a_proxy_or_a_socket_setting_means_botocore(
    config: dict[str, Any], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with a_dynamodb(lambda _: Reply()) as (url, seen):
        for name in environment:
            monkeypatch.setenv(name, url)
        if "proxies" in config:
            config = {"proxies": {"http": url}}
        assert len(list(many(connect(monkeypatch, url, **config), one_each(6)))) == 6
    assert [asked.is_botocore_s for asked in seen] == [True] * 6


def test_a_host_without_a_proxy_is_asked_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "localhost")
    with a_dynamodb(lambda _: Reply()) as (url, seen):
        assert len(list(many(connect(monkeypatch, url), one_each(6)))) == 6
    assert [asked.is_botocore_s for asked in seen] == [True] + [False] * 5


def test_one_request_at_a_time_is_botocore_s(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_dynamodb(lambda _: Reply()) as (url, seen):
        assert len(list(many(connect(monkeypatch, url), one_each(6), in_flight=1))) == 6
    assert [asked.is_botocore_s for asked in seen] == [True] * 6


# --- TLS


@pytest.mark.parametrize("variable", [None, "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_the_certificates_are_those_that_botocore_trusts(
    variable: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = certificate(tmp_path / "trusted.pem", "localhost")
    if variable:
        monkeypatch.setenv(variable, str(trusted))
    with a_dynamodb(lambda _: Reply(), trusted) as (url, seen):
        hook = connect(monkeypatch, url, verify=None if variable else str(trusted))
        assert len(list(many(hook, one_each(6)))) == 6
    assert [asked.is_botocore_s for asked in seen] == [True] + [False] * 5


def test_a_certificate_that_is_not_trusted_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, trusted = (certificate(tmp_path / f"{name}.pem", "localhost") for name in ("other", "trusted"))
    with a_dynamodb(lambda _: Reply(), trusted) as (url, seen):
        hook = connect(monkeypatch, url, verify=str(trusted))
        list(many(hook, one_each(1)))
        assert hook._sent
        for path, sent in ((trusted, True), (other, False), (tmp_path / "missing.pem", False)):
            connection = kept_connections.KeptConnections(hook._sent, str(path), 60, 60).write(seen[0].body)
            assert (connection is not None) is sent
            if connection:
                connection.close()
    assert len(seen) == 2


def test_the_settings_of_the_connection_win(monkeypatch: pytest.MonkeyPatch) -> None:
    conn = connect(monkeypatch, "http://127.0.0.1:1", max_pool_connections=3, read_timeout=7).conn
    assert (conn.meta.config.max_pool_connections, conn.meta.config.read_timeout) == (3, 7)
    assert "Airflow/" in conn.meta.config.user_agent_extra
    assert conn.meta.config.parameter_validation is False
