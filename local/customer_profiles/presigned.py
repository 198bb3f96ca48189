"""Presigned upload URLs: how one is written, and its PUT as Amazon S3 handles it."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from local.rest_json.control import Control, Wsgi
from local.rest_json.errors import ServiceError
from local.rest_json.naming import hex_id
from local.rest_json.responses import drop

from .uploads import Job, UploadPath, md5_of_key

PREFIX = "/customer-profiles-uploads"
_HEADERS = "x-amz-server-side-encryption-customer-"
# [shape GetUploadJobPathResponse.ClientToken] names the three headers that a PUT must have.
_SIGNED = ("host", f"{_HEADERS}algorithm", f"{_HEADERS}key", f"{_HEADERS}key-md5")

_REASONS = {
    400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 411: "Length Required",
    500: "Internal Server Error", 503: "Slow Down",
}  # fmt: skip


def new_path(domain: str, job: Job, region: str, now: float, seconds: float) -> UploadPath:
    """A new URL for a job's file [S3 docs: query string authentication]."""
    token, at = job.data_key(), datetime.fromtimestamp(now, UTC)
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"CUSTOMERPROFILES/{at:%Y%m%d}/{region}/s3/aws4_request",
        "X-Amz-Date": f"{at:%Y%m%dT%H%M%SZ}",
        "X-Amz-Expires": str(int(seconds)),
        "X-Amz-SignedHeaders": ";".join(_SIGNED),
    }
    # The signature is checked by comparison: only a URL that was issued, character by character, is accepted.
    query["X-Amz-Signature"] = hex_id(token, *query.values()) + hex_id(*query.values(), token)
    path = UploadPath(f"{PREFIX}/{domain}/{job.id}.csv?{urlencode(query)}", token, now + seconds)
    job.paths[path.key] = path
    return path


def with_uploads(inner: Wsgi, control: Control[Any], find: Callable[[str], tuple[Job, UploadPath] | None]) -> Wsgi:
    """The inner application with upload URLs; `find` returns the job of a URL."""

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not environ.get("PATH_INFO", "").startswith(f"{PREFIX}/"):
            return inner(environ, start_response)
        try:
            body = _body(environ)  # first: a connection that is closed over unread bytes is reset
            with control.lock:
                control.on_call("PutUpload")
                _put(environ, body, control, find)
                lost = control.loses("PutUpload", reads=False)
            if lost:
                if control.settings.lose_by == "drop":
                    drop(environ)
                raise ServiceError("InternalError", 500, "Simulated loss of the response.")
        except ServiceError as error:
            return _answer(start_response, error.status, f"<Error><Code>{error.name}</Code></Error>".encode())
        return _answer(start_response, 200, b"")

    return serve


def _body(environ: dict[str, Any]) -> bytes:
    if not environ.get("CONTENT_LENGTH"):
        # [S3 docs: error responses] MissingContentLength 411: a streamed body must have a length.
        raise ServiceError("MissingContentLength", 411, "You must provide the Content-Length HTTP header.")
    content: bytes = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    return content


def _put(
    environ: dict[str, Any],
    body: bytes,
    control: Control[Any],
    find: Callable[[str], tuple[Job, UploadPath] | None],
) -> None:
    """Keep a file, or raise the error of Amazon S3 [S3 docs: error responses]."""
    if environ["REQUEST_METHOD"] != "PUT":
        raise ServiceError("MethodNotAllowed", 405, "The specified method is not allowed against this resource.")
    found = find(f"{environ['PATH_INFO']}?{environ.get('QUERY_STRING', '')}")
    if found is None:
        raise ServiceError("SignatureDoesNotMatch", 403, "The request signature does not match.")
    job, path = found
    if control.now() >= path.valid_until:
        raise ServiceError("AccessDenied", 403, "Request has expired")
    key = _header(environ, "key")
    if _header(environ, "algorithm") is None or key is None or _header(environ, "key-md5") is None:
        raise ServiceError("SignatureDoesNotMatch", 403, "A signed header is missing.")
    if _header(environ, "algorithm") != "AES256":
        raise ServiceError("InvalidEncryptionAlgorithmError", 400, "The algorithm must be AES256.")
    if key != path.token:
        raise ServiceError("SignatureDoesNotMatch", 403, "The key is not the one that was signed.")
    if _header(environ, "key-md5") != md5_of_key(key):
        raise ServiceError("InvalidArgument", 400, "The MD5 is not that of the key.")
    if job.started is not None or job.stopped is not None:
        raise ServiceError("AccessDenied", 403, "The job was started.")  # [strict]
    job.content = body


def _header(environ: dict[str, Any], name: str) -> str | None:
    found = environ.get(f"HTTP_{_HEADERS}{name}".upper().replace("-", "_"))
    return None if found is None else str(found)


def _answer(start_response: Callable[..., Any], status: int, content: bytes) -> list[bytes]:
    headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(content)))]
    start_response(f"{status} {_REASONS.get(status, 'OK')}", headers)
    return [content]
