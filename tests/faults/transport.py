"""Faults where the bytes to AWS go, at botocore's and aiobotocore's HTTP sessions: the SDK's retries are real.

And at the kept connections to DynamoDB, at urllib, by which a file is put at a presigned address, and at requests, by
which the webhook is called.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import urllib.error
import urllib.request
from contextlib import suppress
from contextvars import ContextVar
from hashlib import sha256
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.endpoint import AioEndpoint
from aiobotocore.httpsession import AIOHTTPSession
from boto3.s3.transfer import TransferConfig
from botocore.awsrequest import AWSResponse
from botocore.endpoint import Endpoint
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from botocore.httpsession import URLLib3Session
from s3transfer.utils import ChunksizeAdjuster  # type: ignore[import-untyped]  # it has no types
from urllib3.exceptions import ProtocolError

from tests.faults import kept
from tests.faults.sites import WEBHOOK, Call, Watch, die

#: Files above this go to S3 in parts of it, so that the sample has some.
PART_BYTES = 12 * 1024

_CLOSED = "Remote end closed connection without response"
_now: ContextVar[tuple[Call, Any] | None] = ContextVar("_now", default=None)

#: How each protocol, or else a service, says that it throttles: status, code.
_THROTTLED = {
    "rest-xml": (503, "SlowDown"),
    "json": (400, "ProvisionedThroughputExceededException"),
    "rest-json": (429, "TooManyRequestsException"),
    "query": (400, "Throttling"),
    "customer-profiles": (429, "ThrottlingException"),
    "connectcampaignsv2": (429, "ThrottlingException"),
    "qconnect": (400, "ThrottlingException"),
}
_INTERNAL = {
    "rest-json": "InternalServerErrorException",
    "json": "InternalServerError",
    "sesv2": "InternalServiceErrorException",
    "customer-profiles": "InternalServerException",
    "connectcampaignsv2": "InternalServerException",
}


def install(watch: Watch) -> None:
    """Watch the calls of this process, which is one attempt of a task and ends with it."""
    _small_parts()
    begin, begin_async = Endpoint._send_request, AioEndpoint._send_request
    send, send_async = URLLib3Session.send, AIOHTTPSession.send

    def noted(request_dict: Any, model: Any) -> tuple[Call, Any]:
        streams = [("download", model.has_streaming_output), ("upload", model.has_streaming_input)]
        kinds = [kind for kind, holds in streams if holds]
        service, request = model.service_model.service_name, _digest(request_dict)
        call = watch.begin(service, model.name, kinds=kinds, request=request, place=_place(request_dict))
        print(f"--- {call.site}: {request_dict['url_path']}", flush=True)  # in the log: which call is the n-th
        return call, model

    def begin_noted(self: Any, request_dict: Any, model: Any) -> Any:
        _now.set(noted(request_dict, model))
        return begin(self, request_dict, model)

    async def begin_noted_async(self: Any, request_dict: Any, model: Any) -> Any:
        _now.set(noted(request_dict, model))
        return await begin_async(self, request_dict, model)

    def sent(self: Any, request: Any) -> Any:
        call, model = _now.get() or (None, None)
        kind = watch.strikes(call) if call else ""
        answer = _before(kind, model, request, AWSResponse)
        return answer or _after(kind, model, request, send(self, request))

    async def sent_async(self: Any, request: Any) -> Any:
        call, model = _now.get() or (None, None)
        kind = watch.strikes(call) if call else ""
        answer = _before(kind, model, request, AioAWSResponse)
        return answer or _after(kind, model, request, await send_async(self, request))

    opened = urllib.request.urlopen  # noqa: S310 - the house's own calls

    def open_noted(request: Any, **options: Any) -> Any:
        if getattr(request, "data", None) is None:
            return opened(request, **options)
        return _put(watch.strikes(watch.begin("s3", "presigned PUT", kinds=["upload"])), request, opened, options)

    post = requests.Session.send

    def post_noted(self: Any, request: Any, **options: Any) -> Any:
        path = urlsplit(request.url).path
        said = sha256(f"{request.method} {request.path_url}".encode() + (request.body or b"")).hexdigest()
        call = watch.begin(WEBHOOK, f"{request.method} {path.rpartition('/')[2]}", request=said)
        return _posted(watch.strikes(call), request, lambda: post(self, request, **options))

    kept.install(watch, _digest)
    requests.Session.send = post_noted  # type: ignore[method-assign]  # its arguments' names aside, it is the same
    urllib.request.urlopen = open_noted  # type: ignore[assignment]  # its arguments' names aside, it is the same
    Endpoint._send_request, AioEndpoint._send_request = begin_noted, begin_noted_async
    URLLib3Session.send, AIOHTTPSession.send = sent, sent_async


def _place(request: dict[str, Any]) -> str:
    """Of a call to S3: the bucket and the key, or the prefix that is listed."""
    query = request["query_string"]
    prefix = query.get("prefix") if isinstance(query, dict) else None
    return unquote(urlsplit(request["url"]).path).strip("/") + (f"/{prefix}" if prefix is not None else "")


def _digest(request: dict[str, Any]) -> str:
    """What a request says, before it is signed; empty if its body cannot be read twice."""
    body = request["body"]
    if hasattr(body, "read"):
        if not (body.seekable() if hasattr(body, "seekable") else hasattr(body, "seek")):
            return ""
        position = body.tell()
        body, file = body.read(), body
        file.seek(position)
    if not isinstance(body, bytes | bytearray | str):
        return ""
    query = request["query_string"]
    if isinstance(query, dict):  # the id of an upload in parts is drawn by S3
        query = sorted((name, value) for name, value in query.items() if name != "uploadId")
    said = [request["method"], request["url_path"], query]
    headers = sorted((name, str(value)) for name, value in request["headers"].items() if name != "User-Agent")
    return sha256(f"{said} {headers} {body!r}".encode()).hexdigest()


def _before(kind: str, model: Any, request: Any, kind_of_answer: Any) -> Any:
    """Handle a request that never arrives: a made-up response, an exception, or the end of the process."""
    match kind:
        case "killed before":
            die()
        case "time-out":
            raise ReadTimeoutError(endpoint_url=request.url)
        case "throttled" | "throttled once":
            status, code = _of(_THROTTLED, model)
            return _error(status, code, model, request, kind_of_answer)
        case "500":
            return _error(500, _of(_INTERNAL, model) or "InternalError", model, request, kind_of_answer)
        case "503 until cleared":
            return _error(503, "ServiceUnavailable", model, request, kind_of_answer)
        case "upload cut in the middle":
            _send_half(request)
            raise ConnectionClosedError(endpoint_url=request.url)
        case "job FAILED":
            _doom_next_job(request.url, model.service_model.service_name)
    return None


def _after(kind: str, model: Any, request: Any, answer: Any) -> Any:
    """What happens to the answer to a request that took effect."""
    match kind:
        case "killed after":
            die()
        case "answer lost, connection closed":
            raise ConnectionClosedError(endpoint_url=request.url)
        case "answer lost, time-out":
            raise ReadTimeoutError(endpoint_url=request.url)
        case "30 % of keys unprocessed":
            return _without_some(request, answer)
        case "answer cut in the middle":
            answer.raw = _Cut(answer.raw, int(answer.headers.get("Content-Length", 0)) // 2)
    return answer


def _put(kind: str, request: Any, opened: Any, options: dict[str, Any]) -> Any:
    """The same faults, as urllib meets them."""
    match kind:
        case "killed before":
            die()
        case "time-out":
            raise TimeoutError
        case "500":
            raise _refusal(request, 500, "InternalError")
        case "throttled" | "throttled once":
            raise _refusal(request, 503, "SlowDown")
        case "503 until cleared":
            raise _refusal(request, 503, "ServiceUnavailable")
        case "upload cut in the middle":
            headers = dict(request.header_items())
            _send_half(SimpleNamespace(method="PUT", url=request.full_url, body=request.data, headers=headers))
            raise http.client.RemoteDisconnected(_CLOSED)
    answer = opened(request, **options)
    match kind:
        case "killed after":
            die()
        case "answer lost, connection closed":
            raise http.client.RemoteDisconnected(_CLOSED)
        case "answer lost, time-out":
            raise TimeoutError
    return answer


#: The status of an answer of the receiver that the harness gives.
_ANSWERED = {
    "throttled": 429, "throttled once": 429, "500": 500, "503 until cleared": 503, "redirected until cleared": 307,
    "413": 413,
}  # fmt: skip


def _posted(kind: str, request: Any, send: Any) -> Any:
    """The same faults, as requests meets them."""
    if kind in _ANSWERED:
        answer = requests.Response()
        answer.status_code, answer._content = _ANSWERED[kind], b"{}"
        if kind.startswith("redirected"):
            answer.headers["Location"] = "https://192.0.2.1/webhook/"
        return answer
    match kind:
        case "killed before":
            die()
        case "time-out":
            raise requests.exceptions.ConnectTimeout
    answer = send()
    match kind:
        case "killed after":
            die()
        case "answer lost, connection closed":
            raise requests.exceptions.ConnectionError(_CLOSED)
        case "answer lost, time-out":
            raise requests.exceptions.ReadTimeout
    return answer


def _refusal(request: Any, status: int, code: str) -> urllib.error.HTTPError:
    body = io.BytesIO(f"<Error><Code>{code}</Code></Error>".encode())
    return urllib.error.HTTPError(request.full_url, status, "", http.client.HTTPMessage(), body)


def _of(words: dict[str, Any], model: Any) -> Any:
    """The service's own word, or its protocol's."""
    return words.get(model.service_model.service_name) or words.get(_protocol(model))


def _protocol(model: Any) -> str:
    return str(model.service_model.resolved_protocol)


def _error(status: int, code: str, model: Any, request: Any, kind_of_answer: Any) -> Any:
    headers, body = {}, b""
    if _protocol(model) in ("json", "rest-json"):
        headers = {"x-amzn-errortype": code}
        body = json.dumps({"__type": code, "message": "made by the harness"}).encode()
    elif request.method != "HEAD":
        error = f"<Error><Code>{code}</Code><Message>made by the harness</Message></Error>"
        body = (error if _protocol(model) == "rest-xml" else f"<ErrorResponse>{error}</ErrorResponse>").encode()
    answer = kind_of_answer(request.url, status, headers, None)
    answer._content = body  # as if it had been read from the socket
    return answer


def _without_some(request: Any, answer: Any) -> Any:
    """BatchGetItem's answer with 30 % of the keys, rounded down, left unprocessed."""
    left = kept.leave_some(json.loads(request.body)["RequestItems"], json.loads(answer.content))
    answer.headers.pop("x-amz-crc32", None)
    answer._content = json.dumps(left).encode()
    return answer


class _Cut:
    """A body whose socket closes in the middle."""

    def __init__(self, raw: Any, left: int) -> None:
        self._raw, self._left = raw, left

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    def read(self, amount: int | None = None, **options: Any) -> Any:
        if not self._left:
            self._raw.close()
            raise ProtocolError("Connection broken")
        some = self._raw.read(self._left if amount is None else min(amount, self._left), **options)
        self._left -= len(some)
        return some


def _send_half(request: Any) -> None:
    body = request.body if isinstance(request.body, bytes) else request.body.read()
    url = urlsplit(request.url)
    assert url.hostname
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
    connection.putrequest(request.method, f"{url.path}?{url.query}", skip_host=True, skip_accept_encoding=True)
    headers = {name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()}
    for name, value in ({"Host": url.netloc, "Content-Length": str(len(body))} | headers).items():
        if name not in ("Expect", "Transfer-Encoding"):
            connection.putheader(name, value)
    connection.endheaders(body[: len(body) // 2])
    connection.sock.shutdown(socket.SHUT_WR)
    with suppress(OSError):  # the server must have processed it before the next request
        connection.sock.recv(1)
    connection.close()


def _doom_next_job(url: str, service: str) -> None:
    place = urlsplit(url)
    control = f"{place.scheme}://{place.netloc}/cohort-flywheel/{service}"
    urllib.request.urlopen(control, data=b'{"fail_next_jobs": 1}', timeout=10).close()  # noqa: S310 - our own server


def _small_parts() -> None:
    made = TransferConfig.__init__

    def smaller(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **{"multipart_threshold": PART_BYTES, "multipart_chunksize": PART_BYTES} | kwargs)

    TransferConfig.__init__ = smaller
    ChunksizeAdjuster.adjust_chunksize = lambda self, size, file_size=None: size  # which keeps to S3's own 5 MB
