"""The same records from botocore and from kept connections; botocore is asked again for any other answer."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.hooks.dynamodb import DynamoDBBatchGetHook
from cohort_flywheel.hooks.kept_connections import MAX_FAILURES
from cohort_flywheel.segment.contacts import as_text
from tests.cohort_flywheel.hooks.dynamodb_server import Reply, Seen, a_dynamodb, connect, many, one_each, records


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
keys = st.text(min_size=1, max_size=5)
items = st.builds(lambda key, rest: rest | {"playerId": {"S": key}}, keys, st.dictionaries(text, values, max_size=4))


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
    asked_keys = list({item["playerId"]["S"]: None for item in found}) or ["a"]
    (_, theirs), (_, ours) = many(answering.hook, [asked_keys, asked_keys])
    assert [asked.is_botocore_s for asked in answering.seen][:2] == [True, False]
    assert ours == theirs
    for key, record in theirs.items():
        other = ours[key]
        assert {name: as_text(value) for name, value in record.items()} == {n: as_text(v) for n, v in other.items()}
        assert {name: type(value) for name, value in record.items()} == {n: type(v) for n, v in other.items()}


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
    "the answer to another request": Reply(body=records(["p2"])),
    "texts of another request": Reply(body=b'{"Responses": {"t": [{"playerId": {"S": "p2"}}]}}'),
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


def test_a_table_named_by_its_arn_answers_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/t"

    def reply(asked: Seen) -> Reply:
        (wanted,) = json.loads(asked.body)["RequestItems"].values()
        left = {"t": wanted | {"Keys": wanted["Keys"][1:]}} if len(wanted["Keys"]) > 1 else {}
        return Reply(body=records(asked.keys[:1], UnprocessedKeys=left))

    with a_dynamodb(reply) as (url, seen):
        hook = connect(monkeypatch, url)
        got = list(hook.get_many(arn, "playerId", [*one_each(5), ["a", "b"]], ["level"], key=str))
    assert [sorted(found) for _, found in got] == [*one_each(5), ["a", "b"]]
    # what is left of the last batch, botocore asks for
    assert [asked.is_botocore_s for asked in seen] == [True] + [False] * 5 + [True]
    assert {name for asked in seen for name in json.loads(asked.body)["RequestItems"]} == {arn}


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
