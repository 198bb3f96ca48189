"""Faults at the kept connections to DynamoDB, at which botocore is asked again."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from cohort_flywheel.hooks import kept_connections
from tests.faults.sites import Watch, die

_CLOSED = "Remote end closed connection without response"
#: The statuses of the answers that the harness gives to a request over a kept connection, which it does not send.
_NEVER_ARRIVES = {"time-out": 0, "throttled": 400, "throttled once": 400, "500": 500, "503 until cleared": 503}


def install(watch: Watch, digest: Callable[[dict[str, Any]], str]) -> None:
    """Watch this process; a fault strikes botocore, too, whose request for the same keys has the same digest."""
    send, receive = kept_connections.send, kept_connections.receive
    under_way: dict[http.client.HTTPConnection, tuple[str, bytes]] = {}

    def send_noted(connection: http.client.HTTPConnection, request: Any) -> None:
        path, headers = urlsplit(request.url).path or "/", {"X-Amz-Target", "Content-Type", "User-Agent"}
        asked = {
            "method": request.method, "url_path": path, "query_string": "", "body": _as_botocore(request.data),
            "headers": {name: value for name, value in request.headers.items() if name in headers},
        }  # fmt: skip
        call = watch.begin("dynamodb", "BatchGetItem", request=digest(asked))
        print(f"--- {call.site}: kept connection", flush=True)
        kind = watch.strikes(call)
        under_way[connection] = kind, request.data
        if kind == "killed before":
            die()
        if kind not in _NEVER_ARRIVES:
            send(connection, request)

    def receive_noted(connection: http.client.HTTPConnection) -> Any:
        kind, body = under_way.pop(connection)
        if kind == "time-out":
            raise TimeoutError
        if kind in _NEVER_ARRIVES:
            return kept_connections.Answer(_NEVER_ARRIVES[kind], {}, b'{"message": "made by the harness"}')
        answer = receive(connection)
        match kind:
            case "killed after":
                die()
            case "answer lost, connection closed":
                raise http.client.RemoteDisconnected(_CLOSED)
            case "answer lost, time-out":
                raise TimeoutError
            case "30 % of keys unprocessed":
                left = leave_some(json.loads(body)["RequestItems"], json.loads(answer.body))
                return kept_connections.Answer(answer.status, {}, json.dumps(left).encode())
        return answer

    kept_connections.send, kept_connections.receive = send_noted, receive_noted


def _as_botocore(body: bytes) -> bytes:
    """The same JSON as botocore writes it."""
    return json.dumps(json.loads(body)).encode()


def leave_some(asked: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Leave 30 % of the keys of a BatchGetItem, rounded down, unprocessed."""
    for table, wanted in asked.items():
        left = wanted["Keys"][: int(len(wanted["Keys"]) * 0.3)]
        if left:
            found["UnprocessedKeys"] = {table: wanted | {"Keys": left}}
            records = found["Responses"].get(table, [])
            found["Responses"][table] = [r for r in records if not any(key.items() <= r.items() for key in left)]
    return found
