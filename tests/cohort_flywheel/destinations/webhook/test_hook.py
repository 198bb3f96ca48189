"""The client of the receiver meets every rule of docs/reference/webhook.md, and every failure of HTTP."""

from __future__ import annotations

import http.server
import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException

from cohort_flywheel.destinations.webhook.hook import PayloadTooLargeError, WebhookHook
from cohort_flywheel.destinations.webhook.layout import Batch, erase_message, leaver_message, member_message
from cohort_flywheel.errors import FlywheelError
from local.servers import control as control_of
from local.webhook.receiver import TOKEN

ADDRESS, COLUMNS = "ann@example.com", ["emailAddress", "playerId", "FirstName"]


def member(player: str) -> bytes:
    return member_message(COLUMNS, [ADDRESS, player, "Ann"])


def batch(*lines: bytes, number: int = 0) -> Batch:
    return Batch(number, len(lines), b"".join(lines))


@pytest.fixture
def receiver(airflow_env: Any, servers: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Changes what the receiver does next; gives what it has."""
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _seconds: None)
    control_of(servers, "webhook", {"reset": True})
    yield lambda **settings: control_of(servers, "webhook", settings)
    control_of(servers, "webhook", {"reset": True})


def connection(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WEBHOOK_DEFAULT", json.dumps({"conn_type": "http"} | fields))


def test_batches_leavers_and_erasures_are_counted_by_the_receiver(receiver: Any) -> None:
    hook = WebhookHook()
    hook.check()
    assert hook.segment("s_2") is None
    first = hook.send_batch("s_2", "i1", 1, 2, batch(member("ann"), member("bob")))
    assert (first.received, first.rejected) == (2, 0)
    hook.send_batch("s_2", "i1", 1, 2, batch(leaver_message("bob"), member("cyd"), number=1))
    status = hook.segment("s_2")
    assert status
    assert (status.import_id, status.upload, status.batches, status.members, status.rejected) == ("i1", 1, 2, 2, 0)
    lines = b"".join(map(erase_message, ["ann", "unknown"]))
    assert [hook.erase(lines, dry_run=dry) for dry in (True, False, True)] == [1, 1, 0]
    assert receiver()["segments"]["s_2"]["members"] == ["cyd"]
    assert set(receiver()["players"]) == {"bob", "cyd"}


def test_a_batch_is_applied_once_even_if_answers_are_lost(receiver: Any) -> None:
    receiver(lose_next_answers=2)
    answer = WebhookHook().send_batch("s_2", "i1", 1, 1, batch(member("ann")))
    assert answer.received == 1
    found = receiver()
    assert (found["applied"], found["repeated"]) == (1, 2)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_an_answer_that_can_pass_is_repeated_with_the_same_key(receiver: Any, status: int) -> None:
    receiver(refuse={"code": "Later", "status": status, "times": 2})
    assert WebhookHook().send_batch("s_2", "i1", 1, 1, batch(member("ann"))).received == 1
    assert receiver()["calls"]["POST batches"] == 3


def test_the_receivers_retry_after_is_waited_for_up_to_a_limit(receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for after, waited in ((7, 7), (100_000, 120)):
        seconds: list[float] = []
        monkeypatch.setattr("tenacity.nap.time.sleep", seconds.append)
        receiver(refuse={"code": "Later", "status": 429, "times": 1}, retry_after=after)
        WebhookHook().check()
        assert seconds == [waited]


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (429, "127.0.0.1 answered 429: it limits the rate of requests: a later attempt sends the same again"),
        (503, "127.0.0.1 answered 503: it cannot serve the request now: a later attempt sends the same again"),
    ],
)
def test_an_answer_that_lasts_fails_the_attempt_not_the_task(receiver: Any, status: int, sentence: str) -> None:
    receiver(refuse={"code": "Later", "status": status})
    with pytest.raises(AirflowException, match=sentence):
        WebhookHook().check()
    assert receiver()["calls"]["GET status"] == 5


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (400, "answered 400: it refuses the request as it stands"),
        (401, "answered 401: correct the login and password, or the Authorization header in the extra, of Airflow"),
        (403, "answered 403: the credentials of Airflow connection webhook_default are accepted and lack the right"),
        (404, "answered 404: it has no such path: correct the host, with its path"),
        (409, "answered 409: it has a newer import of this segment"),
        (415, "answered 415: it refuses the request as it stands"),
        (422, "answered 422: it had other messages under the same idempotency key"),
    ],
)
def test_a_refusal_is_an_error_and_is_not_repeated(receiver: Any, status: int, sentence: str) -> None:
    receiver(refuse={"code": "No", "status": status})
    with pytest.raises(FlywheelError, match=sentence):
        WebhookHook().send_batch("s_2", "i1", 1, 1, batch(member("ann")))
    assert receiver()["calls"]["POST batches"] == 1


# --- the rules of the contract


def test_rule_1_a_wrong_token(receiver: Any, servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for extra in ({}, {"Authorization": "Bearer wrong"}):
        connection(monkeypatch, host=f"{servers.aws_url}/webhook", extra=extra)
        with pytest.raises(FlywheelError, match="answered 401"):
            WebhookHook().check()


def test_rule_3_a_body_that_was_cut(receiver: Any) -> None:
    with pytest.raises(FlywheelError, match="answered 400"):
        WebhookHook().send_batch("s_2", "i1", 1, 1, Batch(0, 1, member("ann")[:-1]))
    assert receiver()["players"] == {}


def test_rule_4_a_batch_that_is_too_large(receiver: Any) -> None:
    receiver(max_bytes=10)
    with pytest.raises(PayloadTooLargeError):
        WebhookHook().send_batch("s_2", "i1", 1, 1, batch(member("ann")))
    with pytest.raises(FlywheelError, match="answered 413: the batch is too large: split erasure/players.txt"):
        WebhookHook().erase(erase_message("ann"), dry_run=True)


def test_rule_5_a_key_with_another_body(receiver: Any) -> None:
    hook = WebhookHook()
    hook.send_batch("s_2", "i1", 1, 1, batch(member("ann")))
    with pytest.raises(FlywheelError, match="answered 422"):
        hook.send_batch("s_2", "i1", 1, 1, batch(member("bob")))
    with pytest.raises(FlywheelError, match="answered 400"):  # a number that the import does not have
        hook.send_batch("s_2", "i2", 2, 1, batch(member("bob"), number=1))


def test_rule_6_a_batch_of_an_older_import_that_arrives_late(receiver: Any) -> None:
    hook = WebhookHook()
    hook.send_batch("s_2", "i2", 2, 1, batch(member("ann")))
    with pytest.raises(FlywheelError, match="answered 409"):
        hook.send_batch("s_2", "i1", 1, 1, batch(member("bob")))
    assert receiver()["segments"]["s_2"]["members"] == ["ann"]


def test_rule_7_a_line_that_is_not_a_message_is_rejected_and_counted(receiver: Any) -> None:
    lines = (member("ann"), b'{"type":"member","playerId":"bob"}\n', b"[]\n", erase_message("ann"))
    answer = WebhookHook().send_batch("s_2", "i1", 1, 1, batch(*lines))
    assert (answer.received, answer.rejected) == (4, 3)


def test_rule_8_an_erasure_with_another_message(receiver: Any) -> None:
    with pytest.raises(FlywheelError, match="answered 400"):
        WebhookHook().erase(member("ann"), dry_run=False)


# --- redirects, connections, secrets


def test_a_redirect_is_not_followed(receiver: Any) -> None:
    receiver(redirect_next=1)
    with pytest.raises(FlywheelError, match=r"answered 307, a redirect to 192\.0\.2\.1, which is not followed"):
        WebhookHook().send_batch("s_2", "i1", 1, 1, batch(member("ann")))
    assert receiver()["players"] == {}


@pytest.mark.parametrize(
    "fields",
    [
        {"host": "receiver.example"},
        {"host": "http://receiver.example/v1"},
        {"host": "receiver.example", "schema": "http", "port": 443},
        {"host": "receiver.example", "schema": "https", "extra": {"verify": False}},
        {"host": "receiver.example", "schema": "https", "extra": {"verify_ssl": False}},
    ],
)
def test_players_are_not_sent_unprotected(airflow_env: Any, monkeypatch: pytest.MonkeyPatch, fields: Any) -> None:
    connection(monkeypatch, **fields)
    with pytest.raises(FlywheelError, match="webhook_default would send players without verified TLS"):
        WebhookHook().check()


@pytest.mark.parametrize(
    "fields",
    [
        {"host": ""},
        {"host": "https://user:s3cret@receiver.example"},
        {"host": "https://receiver.example/?token=s3cret"},
        {"host": "https://[receiver"},
        {"host": "receiver.example", "schema": "https", "extra": {"Authorization": "Bearer s3cret\nX-Other: 1"}},
        {"host": "receiver.example", "schema": "https", "extra": {"Authorization": {"Bearer": "s3cret"}}},
        {"host": "receiver.example", "schema": "https", "login": "ann", "password": "s3cret-€-\u4e2d"},
    ],
)
def test_an_unusable_connection_is_an_error_without_its_secret(
    airflow_env: Any, monkeypatch: pytest.MonkeyPatch, fields: Any, caplog: pytest.LogCaptureFixture
) -> None:
    connection(monkeypatch, **fields)
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _seconds: None)
    monkeypatch.setattr("requests.Session.send", lambda *_args, **_kwargs: pytest.fail("it was sent"))
    with pytest.raises(FlywheelError) as raised:
        WebhookHook().check()
    assert "s3cret" not in str(raised.value) + caplog.text


def test_without_a_connection_it_is_named(airflow_env: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_WEBHOOK_DEFAULT")
    with pytest.raises(FlywheelError, match="Airflow connection webhook_default does not exist: create it"):
        WebhookHook().check()


def test_a_receiver_that_is_not_there(airflow_env: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    connection(monkeypatch, host="http://127.0.0.1:9/a-secret-path", extra={"Authorization": "Bearer s3cret"})
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _seconds: None)
    with pytest.raises(AirflowException, match="127.0.0.1: the answer was lost") as raised:
        WebhookHook().check()
    assert "secret" not in str(raised.value)
    assert "s3cret" not in str(raised.value)


class _Page(http.server.BaseHTTPRequestHandler):
    """Answers 200 with a page, as a log-in page in front of a service does."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Log in, ann@example.com</html>")

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


def test_a_web_page_is_not_taken_for_counts(airflow_env: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        connection(monkeypatch, host=f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(
            FlywheelError, match="answered 200 without the counts of docs/reference/webhook.md"
        ) as raised:
            WebhookHook().send_batch("s_2", "i1", 1, 1, batch(member("ann")))
        assert "@" not in str(raised.value)
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [400, 401, 413, 429, 500])
def test_no_failure_quotes_the_token_an_address_or_the_receivers_text(
    receiver: Any, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The receiver's answer repeats the body."""
    caplog.set_level(logging.DEBUG)
    receiver(refuse={"code": "No", "status": status})
    with pytest.raises((FlywheelError, AirflowException, PayloadTooLargeError)) as raised:
        WebhookHook().send_batch("s_2", "i1", 1, 1, batch(member("ann")))
    for text in (TOKEN, ADDRESS, '"ann"', "Refused by"):
        assert text not in str(raised.value)
        assert text not in caplog.text
