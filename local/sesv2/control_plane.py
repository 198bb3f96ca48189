"""The control plane of the emulated SES, for tests, and the files of failed records.

GET returns its state; POST changes settings by name, and

* ``reset``: true forgets contacts, jobs, mails, templates, settings and counts; lists and identities stay;
* ``verify``, ``unverify``: lists of identities that exist;
* ``write_events``: an object with ``bucket``, ``arrived`` (ISO 8601) and optional ``faults`` (by default true) and
  ``late`` (by default false): Data Firehose writes the events that were published since the last time; with ``late``
  some of them the next time;
* ``unsubscribe``, ``subscribe``: a list of objects with EmailAddress and optional ContactListName and TopicName; takes
  effect at once, and is an event of the last mail to the address.
"""

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from moto.core.models import DEFAULT_ACCOUNT_ID

from local.pinpoint.naming import derived_id

from .control import control
from .errors import SesError
from .models import FlywheelSesBackend, backends, every_backend, install, snapshot

PATH = "/cohort-flywheel/sesv2"
_FAILED_RECORDS = f"{PATH}/failed-records/"
_UNSUBSCRIBE_KEYS = {"EmailAddress", "ContactListName", "TopicName"}

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def with_sesv2(application: Application) -> Application:
    """The WSGI application of moto, extended by this service and its control plane."""
    install()

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == PATH:
            return _serve_control(environ, start_response)
        if path.startswith(_FAILED_RECORDS):
            return _serve_failed_records(path.removeprefix(_FAILED_RECORDS), environ, start_response)
        return application(environ, start_response)

    return serve


def failed_records_path(job_id: str) -> str:
    return f"{_FAILED_RECORDS}{job_id}?X-Amz-Signature={derived_id('failed records', job_id)}"


def _serve_control(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """200 and the state, or 400 and the errors of the change."""
    wrong: list[str] = []
    with control.lock:
        if environ["REQUEST_METHOD"] == "POST":
            wrong = _change(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        body = json.dumps({"errors": wrong}) if wrong else snapshot()
    return _answer(start_response, "400 Bad Request" if wrong else "200 OK", "application/json", body)


def _serve_failed_records(job_id: str, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """As S3 does with a presigned URL: 403 without the signature."""
    signature = parse_qs(environ.get("QUERY_STRING", "")).get("X-Amz-Signature")
    if signature != [derived_id("failed records", job_id)]:
        return _answer(start_response, "403 Forbidden", "text/plain", "")
    with control.lock:
        found = [(backend, backend.jobs[job_id]) for backend in every_backend() if job_id in backend.jobs]
        text = found[0][0].failed_records(found[0][1]) if found else None
    if text is None:
        return _answer(start_response, "404 Not Found", "text/plain", "")
    return _answer(start_response, "200 OK", "application/octet-stream", text)


def _answer(start_response: Callable[..., Any], status: str, kind: str, body: str) -> Iterable[bytes]:
    content = body.encode()
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(content)))])
    return [content]


def _change(body: bytes) -> list[str]:
    # moto resets only existing backends, and ours resets the control: make sure that one exists.
    backends[DEFAULT_ACCOUNT_ID]["us-east-1"]
    try:
        changes = json.loads(body)
    except ValueError:
        return ["The body is not JSON."]
    if not isinstance(changes, dict):
        return ["The body must be an object of settings."]
    if changes.pop("reset", False):
        control.reset()
        for backend in every_backend():
            backend.forget_runs()
    written = changes.pop("write_events", None)
    orders = {name: changes.pop(name, []) for name in ("verify", "unverify", "unsubscribe", "subscribe")}
    if wrong := control.change(changes):
        return wrong
    wrong = [
        *_verify(orders["verify"], True),
        *_verify(orders["unverify"], False),
        *_subscribe("unsubscribe", orders["unsubscribe"]),
        *_subscribe("subscribe", orders["subscribe"]),
    ]
    return wrong + (_write_events(written) if written else [])


def _write_events(order: Any) -> list[str]:
    try:
        bucket, arrived = order["bucket"], datetime.fromisoformat(order["arrived"])
        faults, late = bool(order.get("faults", True)), bool(order.get("late", False))
    except (AttributeError, KeyError, TypeError, ValueError):
        return ["write_events needs bucket and arrived, a time in ISO 8601."]
    for backend in every_backend():
        backend.write_events(bucket, arrived, faults=faults, late=late)
    return []


def _verify(identities: Any, verified: bool) -> list[str]:
    """In each region that has the identity."""
    wrong = []
    for name in identities:
        holders = [backend for backend in every_backend() if name in backend.core_backend.email_identities]
        for backend in holders:
            backend.set_verified(name, verified)
        if not holders:
            wrong.append("verify and unverify need identities that CreateEmailIdentity made.")
    return wrong


def _subscribe(order: str, people: Any) -> list[str]:
    wrong = []
    for one in people:
        if not isinstance(one, dict) or "EmailAddress" not in one or set(one) - _UNSUBSCRIBE_KEYS:
            wrong.append(f"{order} needs objects with EmailAddress, and optional ContactListName and TopicName.")
            continue
        holders = [backend for backend in every_backend() if _holds(backend, one["EmailAddress"])]
        if not holders:
            wrong.append(f"The contact to {order} does not exist.")
        for backend in holders:
            list_name, topic = one.get("ContactListName"), one.get("TopicName")
            try:
                backend.subscribe(one["EmailAddress"], list_name, topic, opts_in=order == "subscribe")
            except SesError as refused:
                wrong.append(str(refused.message))
    return wrong


def _holds(backend: FlywheelSesBackend, address: str) -> bool:
    return any(contact_list.has(address) for contact_list in backend.lists)
