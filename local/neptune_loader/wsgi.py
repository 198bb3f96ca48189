"""The loader on a server: `/loader` of the cluster, with its control plane in front of it."""

import json
import re
import socket
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from local.rest_json import shapes
from local.rest_json.control import Wsgi, with_control_plane
from local.rest_json.errors import ServiceError
from local.rest_json.naming import uuid_id

from .control import control
from .models import Loader

PATH, CONTROL_PATH = "/loader", "/cohort-flywheel/neptune-loader"
#: [model] the operations of a method, without and with an id in the path
_OPERATIONS = {
    ("POST", False): "StartLoaderJob",
    ("GET", False): "ListLoaderJobs",
    ("GET", True): "GetLoaderJobStatus",
    ("DELETE", True): "CancelLoaderJob",
}
loader = Loader()


def with_neptune_loader(inner: Wsgi, gremlin_url: str | None) -> Wsgi:
    """The inner application, and the loader of the graph at `gremlin_url`."""
    loader.gremlin_url = gremlin_url

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/moto-api/reset":
            with control.lock:
                loader.forget()
        if not (path == PATH or path.startswith(f"{PATH}/")) or _signed_for(environ) not in (None, "neptune-db"):
            return inner(environ, start_response)
        status, content = _answer(environ, path.removeprefix(PATH).removeprefix("/"))
        if status == 0:  # the answer is lost
            connection: socket.socket = environ["werkzeug.socket"]
            connection.shutdown(socket.SHUT_RDWR)
            status = 500
        fields = [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
        start_response(f"{status} {HTTPStatus(status).phrase}", fields)
        return [content]

    return _with_roles(with_control_plane(serve, CONTROL_PATH, control, _state, loader.forget))


def _with_roles(inner: Wsgi) -> Wsgi:
    """`PUT {"attach": [ARN, …]}` on the control plane adds roles to the cluster, as AddRoleToDBCluster does."""

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") != CONTROL_PATH or environ["REQUEST_METHOD"] != "PUT":
            return inner(environ, start_response)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        with control.lock:
            loader.attached |= set(json.loads(body)["attach"])
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "2")])
        return [b"{}"]

    return serve


def _state() -> dict[str, Any]:
    return {"jobs": [job.snapshot(control.now()) for job in loader.jobs], "attached": sorted(loader.attached)}


def _signed_for(environ: dict[str, Any]) -> str | None:
    """The service that a request is signed for, or None."""
    found = re.search(r"Credential=[^/]+/[0-9]+/[^/]+/([^/]+)/aws4_request", environ.get("HTTP_AUTHORIZATION", ""))
    return found[1] if found else None


def _answer(environ: dict[str, Any], load_id: str) -> tuple[int, bytes]:
    with control.lock:
        try:
            if control.settings.iam == "on" and _signed_for(environ) is None:
                raise ServiceError("AccessDeniedException", 403, "Missing Authentication Token")
            name = _OPERATIONS.get((environ["REQUEST_METHOD"], bool(load_id)))
            if name is None:
                raise ServiceError("MethodNotAllowedException", 405, "The operation does not exist.")
            control.on_call(name)
            answer = _serve(name, _request(name, environ, load_id))
        except ServiceError as error:
            # [run elsewhere] the body has the error's name as its code; [model] and these members
            found = {
                "code": error.name, "requestId": uuid_id("request", load_id), "detailedMessage": str(error),
                "message": str(error),
            }  # fmt: skip
            return error.status, json.dumps(found).encode()
        if control.loses(name, reads=environ["REQUEST_METHOD"] == "GET"):
            return (0, b"") if control.settings.lose_by == "drop" else (500, b"{}")
        return 200, json.dumps(answer).encode()


def _request(name: str, environ: dict[str, Any], load_id: str) -> dict[str, Any]:
    """The members of a request; raises ServiceError for one that is not as its shape."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    try:
        request: dict[str, Any] = json.loads(body) if body else {}
    except ValueError:
        raise ServiceError("BadRequestException", 400, "The body is not JSON.") from None
    for key, text in parse_qsl(environ.get("QUERY_STRING", "")):
        is_flag = text.lower() in ("true", "false")
        request[key] = text.lower() == "true" if is_flag else int(text) if text.isdecimal() else text
    if load_id:
        request["loadId"] = load_id
    expected = shapes.operation("neptunedata", name).input_shape
    if wrong := shapes.problems(request, expected):
        raise ServiceError("InvalidParameterException", 400, " ".join(wrong))
    return request


def _serve(name: str, request: dict[str, Any]) -> dict[str, Any]:
    if name == "StartLoaderJob":
        return {"status": "200 OK", "payload": {"loadId": loader.start(request).id}}
    if name == "ListLoaderJobs":
        found = loader.list(request.get("limit", 100), request.get("includeQueuedLoads", True))
        return {"status": "200 OK", "payload": {"loadIds": found}}
    if name == "CancelLoaderJob":
        loader.cancel(request["loadId"])
        return {"status": "200 OK"}
    job = loader.job(request["loadId"])
    bare = control.settings.queued_answer == "bare"
    payload = job.payload(control.now(), bare_if_queued=bare, details=request.get("details", False))
    if request.get("errors"):
        payload["errors"] = job.errors(request.get("page", 1), request.get("errorsPerPage", 10))
    return {"status": "200 OK", "payload": payload}
