"""BatchGetItem's answers by orjson: what botocore would have read; all else is still botocore's."""

from __future__ import annotations

import json
import threading
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError
from botocore.parsers import JSONParser
from botocore.serialize import JSONSerializer
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.hooks import dynamodb
from cohort_flywheel.hooks.dynamodb import BatchGetParser, BatchGetParserFactory, DynamoDBBatchGetHook
from cohort_flywheel.segment.contacts import as_text

MODEL = boto3.client("dynamodb", region_name="eu-west-1").meta.service_model
SHAPE = MODEL.operation_model("BatchGetItem").output_shape
HEADERS = {
    "x-amzn-RequestId": "4KBNVRGD25RG1KEO9UT4V3FQDJVV4KQNSO5AEMVJF66Q9ASUAAJG",
    "Content-Type": "x",
    "X-Other": "y",
}


def response(body: bytes, status: int = 200) -> dict[str, Any]:
    return {"status_code": status, "headers": HEADERS, "body": body, "context": {"operation_name": "BatchGetItem"}}


# --- the parser beside botocore's -------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
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


@given(st.lists(items, max_size=3), st.booleans())
def test_any_record_is_what_botocore_and_boto3_make_of_it(found: list[dict[str, Any]], unprocessed: bool) -> None:
    left = {"t": {"Keys": [{"playerId": {"S": "p"}}], "ExpressionAttributeNames": {"#a0": "playerId"}}}
    body = json.dumps({"Responses": {"t": found}, "UnprocessedKeys": left if unprocessed else {}}).encode()
    ours, theirs = (parser.parse(response(body), SHAPE) for parser in (BatchGetParser(), JSONParser()))
    deserialize = TypeDeserializer().deserialize
    expected = [{name: deserialize(value) for name, value in item.items()} for item in theirs["Responses"]["t"]]
    records = [{name: dynamodb._deserialize(value) for name, value in item.items()} for item in ours["Responses"]["t"]]
    assert records == expected
    for record, other in zip(records, expected, strict=True):
        assert {name: as_text(value) for name, value in record.items()} == {n: as_text(v) for n, v in other.items()}
        assert {name: type(value) for name, value in record.items()} == {n: type(v) for n, v in other.items()}
    assert ours["UnprocessedKeys"] == theirs["UnprocessedKeys"]
    assert ours["ResponseMetadata"] == theirs["ResponseMetadata"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException","message":"wayne96"}'),
        (400, b'{"__type":"com.amazon.coral.validate#ValidationException","message":"Too many items"}'),
        (500, b"<html>proxy</html>"),
        (503, b""),
        (200, b'{"Responses": {"t": [{"playerId": {"S"'),
        (200, b""),
        (204, b""),
    ],
)
def test_an_error_is_botocore_s(status: int, body: bytes) -> None:
    assert BatchGetParser().parse(response(body, status), SHAPE) == JSONParser().parse(response(body, status), SHAPE)


def test_another_operation_and_another_protocol_are_botocore_s() -> None:
    body = b'{"Item": {"picture": {"B": "AAEC"}}}'
    shape = MODEL.operation_model("GetItem").output_shape
    assert BatchGetParser().parse(response(body), shape)["Item"] == {"picture": {"B": b"\x00\x01\x02"}}
    assert type(BatchGetParserFactory().create_parser("rest-xml")).__name__ == "RestXMLParser"


# --- the client -------------------------------------------------------------------------------------------


@contextmanager
def a_dynamodb(answers: Callable[[int], tuple[int, bytes, dict[str, str]]]) -> Iterator[tuple[str, list[str]]]:
    """A server whose n-th answer is (status, body, headers); gives its address and the signatures it was sent."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(self.headers["Authorization"])
            status, body, headers = answers(len(seen))
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body)), "x-amzn-RequestId": "r"}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()


def connect(monkeypatch: pytest.MonkeyPatch, url: str, **config: Any) -> DynamoDBBatchGetHook:
    extra = {"region_name": "eu-west-1", "endpoint_url": url, "config_kwargs": config}
    connection = {"conn_type": "aws", "login": "AKIDEXAMPLE", "password": "made-up-secret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    return DynamoDBBatchGetHook()


GOOD = b'{"Responses": {"t": [{"playerId": {"S": "p1"}, "level": {"N": "1"}}]}, "UnprocessedKeys": {}}'


@pytest.mark.parametrize("mode", ["legacy", "standard"])
@pytest.mark.parametrize("mangled", [GOOD.replace(b"p1", b"p2"), GOOD[:40]], ids=["other bytes", "cut off"])
def test_an_answer_with_a_wrong_checksum_is_requested_again(
    mode: str, mangled: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DynamoDB sends a checksum of the body, and botocore's retries compare it with either parser."""
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    header = {"x-amz-crc32": str(zlib.crc32(GOOD))}
    with a_dynamodb(lambda n: (200, mangled if n == 1 else GOOD, header)) as (url, seen):
        hook = connect(monkeypatch, url, retries={"mode": mode, "max_attempts": 3})
        assert list(hook.get_items("t", "playerId", ["p1"], ["level"])) == ["p1"]
    assert len(seen) == 2
    assert all("/eu-west-1/dynamodb/aws4_request" in signature for signature in seen)


def test_throttling_is_retried_and_an_error_keeps_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    slow = b'{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException","message":"slow"}'
    gone = b'{"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException","message":"gone"}'
    with (
        a_dynamodb(lambda n: (400, slow, {}) if n == 1 else (400, gone, {})) as (url, seen),
        pytest.raises(ClientError) as raised,
    ):
        connect(monkeypatch, url).get_items("t", "playerId", ["p1"], [])
    assert raised.value.response["Error"]["Code"] == "ResourceNotFoundException"
    assert len(seen) == 2


def test_the_settings_of_the_connection_win(monkeypatch: pytest.MonkeyPatch) -> None:
    conn = connect(monkeypatch, "http://127.0.0.1:1", max_pool_connections=3, read_timeout=7).conn
    assert (conn.meta.config.max_pool_connections, conn.meta.config.read_timeout) == (3, 7)
    assert "Airflow/" in conn.meta.config.user_agent_extra
    assert type(conn._serializer) is JSONSerializer  # and no ParamValidationDecorator around it


def test_other_clients_keep_their_parser(airflow_env: Any) -> None:
    ours = DynamoDBBatchGetHook().conn
    for theirs in (
        AwsBaseHook(client_type="dynamodb").conn,
        boto3.client("dynamodb", region_name="eu-west-1"),
    ):
        assert type(theirs._endpoint._response_parser_factory) is not BatchGetParserFactory
    assert type(ours._endpoint._response_parser_factory) is BatchGetParserFactory


# --- many ------------------------------------------------------------------------------------------------


class Lookups:
    """Stands in for get_items: takes a while, and knows how many were under way at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail_at: str = "") -> None:
        self.asked: list[str] = []
        self.now = self.most = 0
        self.fail_at, self.lock = fail_at, threading.Lock()
        monkeypatch.setattr(DynamoDBBatchGetHook, "conn", None)
        monkeypatch.setattr(DynamoDBBatchGetHook, "get_items", self)

    def __call__(self, table: str, attribute: str, keys: list[str], projection: list[str]) -> dict[str, Any]:
        with self.lock:
            self.asked.append(keys[0])
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.03 if keys[0] in ("p0", "p5") else 0.005)
        with self.lock:
            self.now -= 1
        if keys[0] == self.fail_at:
            raise ValueError(self.fail_at)
        return {key: {"playerId": key} for key in keys}


def many(count: int, taken: list[int] | None = None, **rest: Any) -> Any:
    def batches() -> Iterator[list[int]]:
        for n in range(count):
            if taken is not None:
                taken.append(n)
            yield [n]

    return DynamoDBBatchGetHook().get_many("t", "playerId", batches(), ["level"], key=lambda n: f"p{n}", **rest)


@pytest.mark.parametrize("in_flight", [1, 4])
def test_batches_are_yielded_in_order_with_their_records(in_flight: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = Lookups(monkeypatch)
    got = list(many(20, in_flight=in_flight))
    assert got == [([n], {f"p{n}": {"playerId": f"p{n}"}}) for n in range(20)]
    assert lookups.most == in_flight


def test_no_batches_give_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    Lookups(monkeypatch)
    assert list(many(0)) == []


def test_the_requests_in_flight_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow writer has a bounded queue: one batch given, four under way or waiting for it."""
    lookups, taken = Lookups(monkeypatch), list[int]()
    answers = many(50, taken, in_flight=4)
    for given_out in range(1, 6):
        next(answers)
        deadline = time.monotonic() + 10
        while len(lookups.asked) < given_out + 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)  # for one too many
        assert len(taken) == given_out + 4
        assert len(lookups.asked) == given_out + 4
    answers.close()
    assert len(lookups.asked) == 9


def test_the_first_error_stops_all_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    lookups, got = Lookups(monkeypatch, fail_at="p5"), []
    with pytest.raises(ValueError, match="^p5$"):
        for batch, _ in many(100, in_flight=4):
            got.append(batch[0])
    assert got == [0, 1, 2, 3, 4]
    assert len(lookups.asked) <= 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("get_many")]


def test_many_on_dynamodb_local(airflow_env: Any, config: Any) -> None:
    hook = DynamoDBBatchGetHook()
    batches = [["wayne96", "unknown"], ["xortiz"], ["x" * 2049], ["msmith"]]
    got = list(hook.get_many(config.contacts_table, "playerId", batches, ["firstName"], key=str))
    assert [batch for batch, _ in got] == batches
    assert [set(records) for _, records in got] == [{"wayne96"}, {"xortiz"}, set(), {"msmith"}]
    assert got[0][1]["wayne96"] == {"playerId": "wayne96", "firstName": "Wayne"}
