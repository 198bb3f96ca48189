"""Kept connections: several requests under way in one thread, signed, over the TLS that botocore would use."""

from __future__ import annotations

import json
import select
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import ClientError, NoCredentialsError

from cohort_flywheel.hooks import kept_connections
from cohort_flywheel.hooks.dynamodb import DynamoDBBatchGetHook
from cohort_flywheel.hooks.kept_connections import KeptConnections, SentRequest
from tests.cohort_flywheel.hooks.dynamodb_server import KEYS, Reply, Seen, a_dynamodb, connect, many, one_each, records
from tests.cohort_flywheel.hooks.test_neptune import certificate


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

    def noted(connection: HTTPConnection, request: AWSRequest) -> None:
        opened.add(connection)
        send(connection, request)

    monkeypatch.setattr(kept_connections, "send", noted)
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


def ask_twice(
    hook: DynamoDBBatchGetHook, seen: list[Seen], after: Callable[[HTTPConnection], object] = lambda used: None
) -> None:
    """Ask by botocore, and twice over kept connections, one after the other."""
    list(many(hook, one_each(1)))
    kept = hook.kept_connections()
    assert kept
    for _ in range(2):
        connection = kept.write(seen[0].body)
        assert connection
        assert kept.read(connection) == records(["p0"])
        after(connection)
    kept.close()


def assert_is_closed(connection: HTTPConnection) -> None:
    """The end of the connection arrives."""
    assert select.select([connection.sock], [], [], 60)[0]


def test_a_connection_that_the_server_closed_while_it_was_idle_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_dynamodb(lambda asked: Reply(sent=len(records(asked.keys)))) as (url, seen):
        ask_twice(connect(monkeypatch, url), seen, assert_is_closed)
    assert len({asked.client_port for asked in seen}) == 3


@pytest.mark.parametrize(
    "error",
    [
        NoCredentialsError(),
        ClientError({"Error": {"Code": "AccessDenied"}}, "AssumeRole"),
    ],
)
def test_botocore_is_asked_if_credentials_cannot_be_refreshed(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    refreshed = iter([KEYS.get_frozen_credentials(), error, KEYS.get_frozen_credentials()])

    class Refreshed:
        def get_frozen_credentials(self) -> ReadOnlyCredentials:
            credentials = next(refreshed)
            if isinstance(credentials, Exception):
                raise credentials
            return credentials

    with a_dynamodb(lambda _: Reply()) as (url, seen):
        hook = connect(monkeypatch, url)
        hook.conn._request_signer._credentials = Refreshed()
        assert [batch for batch, _ in many(hook, one_each(2))] == one_each(2)
    assert [asked.is_botocore_s for asked in seen] == [True, True]


# --- TLS


@pytest.mark.parametrize("variable", [None, "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_the_certificates_are_those_that_botocore_trusts(
    variable: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = certificate(tmp_path / "trusted.pem", "localhost")
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, str(trusted))
    with a_dynamodb(lambda _: Reply(), trusted) as (url, seen):
        hook = connect(monkeypatch, url, verify=None if variable else str(trusted))
        assert len(list(many(hook, one_each(6)))) == 6
    assert [asked.is_botocore_s for asked in seen] == [True] + [False] * 5


def test_what_follows_an_answer_is_not_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TLS it is decrypted already, where the kernel does not see it."""
    trusted = certificate(tmp_path / "trusted.pem", "localhost")
    with a_dynamodb(lambda _: Reply(more=b"HTTP/1.1 200 OK"), trusted) as (url, seen):
        ask_twice(connect(monkeypatch, url, verify=str(trusted)), seen)
    assert len({asked.client_port for asked in seen}) == 3


def test_a_certificate_that_is_not_trusted_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, trusted = (certificate(tmp_path / f"{name}.pem", "localhost") for name in ("other", "trusted"))
    with a_dynamodb(lambda _: Reply(), trusted) as (url, seen):
        hook = connect(monkeypatch, url, verify=str(trusted))
        list(many(hook, one_each(1)))
        assert hook._sent
        for path, sent in ((trusted, True), (other, False), (tmp_path / "missing.pem", False)):
            kept = KeptConnections(hook._sent, str(path), 60, 60)
            connection = kept.write(seen[0].body)
            assert (connection is not None) is sent
            if connection:
                assert kept.read(connection)  # the request has arrived: only then it is counted below
            kept.close()
    assert len(seen) == 2


def test_the_settings_of_the_connection_win(monkeypatch: pytest.MonkeyPatch) -> None:
    with a_dynamodb(lambda _: Reply(body=records([]))) as (url, _):
        conn = connect(monkeypatch, url, max_pool_connections=3, read_timeout=7).conn
        conn.batch_get_item(RequestItems={})  # which botocore's validation of parameters would refuse
    assert (conn.meta.config.max_pool_connections, conn.meta.config.read_timeout) == (3, 7)
    assert "Airflow/" in conn.meta.config.user_agent_extra


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://DynamoDB.eu-west-1.amazonaws.com", "dynamodb.eu-west-1.amazonaws.com"),
        ("https://localhost:443", "localhost"),
        ("http://localhost:443", "localhost:443"),
        ("http://localhost:80", "localhost"),
        ("http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_the_host_is_the_one_that_is_signed(url: str, host: str) -> None:
    like = SentRequest(url + "/", {"X-Amz-Target": "t"}, "dynamodb", "eu-west-1", None)
    request = AWSRequest("POST", url + "/", headers=KeptConnections(like, True, 60, 60)._head)
    signed = SigV4Auth(KEYS, "dynamodb", "eu-west-1").headers_to_sign(request)["host"]
    del request.headers["Host"]
    assert signed == SigV4Auth(KEYS, "dynamodb", "eu-west-1").headers_to_sign(request)["host"] == host


def test_a_header_with_a_line_break_is_not_sent() -> None:
    request = AWSRequest("POST", "http://localhost/", headers={"X-Amz-Security-Token": "a\nX-Other: b"}, data=b"{}")
    with pytest.raises(ValueError, match="line break"):
        kept_connections.send(HTTPConnection("localhost"), request)
