"""A server that answers BatchGetItem as a test says, and a hook that asks it."""

from __future__ import annotations

import json
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from botocore.credentials import Credentials

from cohort_flywheel.hooks.dynamodb import DynamoDBBatchGetHook

KEYS = Credentials("AKIDEXAMPLE", "made-up-secret")


class Seen(NamedTuple):
    """A request that arrived."""

    headers: dict[str, str]
    body: bytes
    client_port: int

    @property
    def is_botocore_s(self) -> bool:
        return "amz-sdk-invocation-id" in self.headers

    @property
    def keys(self) -> list[str]:
        (wanted,) = json.loads(self.body)["RequestItems"].values()
        return [key["playerId"]["S"] for key in wanted["Keys"]]


class Reply(NamedTuple):
    status: int = 200
    body: bytes | None = None
    headers: Mapping[str, str] = MappingProxyType({})
    #: of the bytes of the body; all of them are promised
    sent: int | None = None
    #: what follows the body
    more: bytes = b""


def records(keys: list[str], **rest: Any) -> bytes:
    """The answer that has a record of each key."""
    found = [{"playerId": {"S": key}, "level": {"N": "1"}} for key in keys]
    return json.dumps({"Responses": {"t": found}, "UnprocessedKeys": {}} | rest).encode()


@contextmanager
def a_dynamodb(reply: Callable[[Seen], Reply | None], tls: Path | None = None) -> Iterator[tuple[str, list[Seen]]]:
    """A server; `reply` without a body has a record of each key, and None closes the connection without an answer."""
    seen: list[Seen] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers["content-length"]))
            asked = Seen(headers, body, self.client_address[1])
            seen.append(asked)
            answer = reply(asked)
            if answer is None:
                self.close_connection = True
                return
            text = records(asked.keys) if answer.body is None else answer.body
            self.send_response(answer.status)
            checksum = {"x-amz-crc32": str(zlib.crc32(text)), "Content-Length": str(len(text))}
            for name, value in (checksum | dict(answer.headers)).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write((text if answer.sent is None else text[: answer.sent]) + answer.more)
            if answer.sent is not None:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        scheme = "http"
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            scheme = "https"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"{scheme}://localhost:{server.server_port}", seen
        server.shutdown()


def connect(monkeypatch: pytest.MonkeyPatch, url: str, verify: Any = None, **config: Any) -> DynamoDBBatchGetHook:
    extra = {"region_name": "eu-west-1", "endpoint_url": url, "config_kwargs": config, "verify": verify}
    connection = {"conn_type": "aws", "login": KEYS.access_key, "password": KEYS.secret_key, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))
    return DynamoDBBatchGetHook()


def many(hook: DynamoDBBatchGetHook, batches: Any, **rest: Any) -> Any:
    return hook.get_many("t", "playerId", batches, ["level"], key=str, **rest)


def one_each(count: int) -> list[list[str]]:
    return [[f"p{n}"] for n in range(count)]
