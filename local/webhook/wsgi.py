"""The receiver on a server, with its control plane in front of it."""

import json
import socket
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from local.rest_json.control import Wsgi, with_control_plane
from local.rest_json.errors import ServiceError

from .control import control
from .receiver import Receiver

PATH, CONTROL_PATH = "/webhook/", "/cohort-flywheel/webhook"
#: [RFC 5737] addresses for documentation, which no host has
ELSEWHERE = "https://192.0.2.1/webhook/"

_receiver = [Receiver()]


def forget() -> None:
    _receiver[0] = Receiver()


def with_webhook(inner: Wsgi) -> Wsgi:
    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/moto-api/reset":
            with control.lock:
                forget()
        if not path.startswith(PATH):
            return inner(environ, start_response)
        status, headers, content = _answer(environ, path.removeprefix(PATH))
        if status == 0:  # the answer is lost
            connection: socket.socket = environ["werkzeug.socket"]
            connection.shutdown(socket.SHUT_RDWR)
            status = 500
        fields = [("Content-Type", "application/json"), ("Content-Length", str(len(content))), *headers]
        start_response(f"{status} {HTTPStatus(status).phrase}", fields)
        return [content]

    return with_control_plane(serve, CONTROL_PATH, control, lambda: _receiver[0].state(), forget)


def _answer(environ: dict[str, Any], path: str) -> tuple[int, list[tuple[str, str]], bytes]:
    method, operation = environ["REQUEST_METHOD"], f"{environ['REQUEST_METHOD']} {path.rpartition('/')[2] or path}"
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_") or name == "CONTENT_TYPE"
    }
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    query = dict(parse_qsl(environ.get("QUERY_STRING", "")))
    with control.lock:
        try:
            control.on_call(operation)
            if control.take("redirect_next"):
                return 307, [("Location", ELSEWHERE + path)], b"{}"
            answer = _receiver[0].answer(method, path, query, headers, body)
        except ServiceError as error:
            after = control.settings.retry_after
            content = json.dumps({"error": error.name, "message": str(error), "echo": body.decode(errors="replace")})
            return error.status, [("Retry-After", str(after))] if after else [], content.encode()
        if control.loses(operation, reads=method == "GET"):
            return 0, [], b""
        return 200, [], json.dumps(answer).encode()
