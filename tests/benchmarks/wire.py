"""The thinnest clients: a WebSocket and HTTP on bare sockets, with the bytes that our own clients send."""

from __future__ import annotations

import re
import socket
import struct
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

import orjson
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

#: As many requests under way as our own hook has.
IN_FLIGHT = 4
_CHUNK = 1 << 18


def graph_request(job: dict[str, Any]) -> bytes:
    """What our own hook sends, made by the library that it uses."""
    from gremlin_python.driver.request import RequestMessage
    from gremlin_python.driver.serializer import GraphSONSerializersV2d0

    from cohort_flywheel.segment.gremlin_to_s3_operator import _traversal

    bytecode = _traversal("player", "playerId", job["property"], "above", 2, []).bytecode
    message = RequestMessage("traversal", "bytecode", {"gremlin": bytecode, "aliases": {"g": "g"}, "batchSize": 2048})
    sent = GraphSONSerializersV2d0().serialize_message(str(uuid.uuid4()), message)
    assert isinstance(sent, bytes)
    return sent


def graph_connection(job: dict[str, Any]) -> socket.socket:
    """A WebSocket that is open."""
    host, port = job["gremlin_host"], job["gremlin_port"]
    connection = socket.create_connection((host, port))
    connection.sendall(
        f"GET /gremlin HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += connection.recv(1)
    assert b" 101 " in answer.partition(b"\r\n")[0], answer
    return connection


def send_frame(connection: socket.socket, payload: bytes) -> None:
    """One binary frame; masked, as a client's must be, with zeros, which change nothing."""
    size = struct.pack("!BBH", 0x82, 0x80 | 126, len(payload))
    connection.sendall(size + bytes(4) + payload)


def frames(connection: socket.socket, keep: bool) -> Iterator[tuple[bytes, int]]:
    """Each message until the last of an answer, and its length; of one that is not kept its first bytes alone."""
    stream: Any = connection.makefile("rb", buffering=_CHUNK)
    dropped = memoryview(bytearray(_CHUNK))
    while True:
        parts, size, first = [], 0, True
        while True:
            head = stream.read(2)
            length = head[1]
            if length == 126:
                (length,) = struct.unpack("!H", stream.read(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", stream.read(8))
            start = stream.read(length if keep else min(length, 256))
            if first or keep:
                parts.append(start)
            left = length - len(start)
            while left:
                left -= stream.readinto(dropped[: min(left, _CHUNK)])
            size, first = size + length, False
            if head[0] & 0x80:
                break
        message = parts[0] if len(parts) == 1 else b"".join(parts)
        yield message, size
        if b'"code":206' not in message[:256]:
            return


def lookup_requests(job: dict[str, Any]) -> Iterator[bytes]:
    """BatchGetItem by 100 keys, signed by botocore: what our own hook asks for."""
    address = urlsplit(job["dynamodb_url"])
    signer = SigV4Auth(Credentials(job["access_key_id"], job["secret_access_key"]), "dynamodb", job["region"])
    names = {f"#a{n}": name for n, name in enumerate(job["projection"])}
    for keys in batches(job["ids"], 100):
        asked = {
            "Keys": [{"playerId": {"S": key}} for key in keys],
            "ProjectionExpression": ", ".join(names),
            "ExpressionAttributeNames": names,
        }
        body = orjson.dumps({"RequestItems": {job["table"]: asked}})
        request = AWSRequest("POST", job["dynamodb_url"] + "/", data=body)
        request.headers["Content-Type"] = "application/x-amz-json-1.0"
        request.headers["X-Amz-Target"] = "DynamoDB_20120810.BatchGetItem"
        signer.add_auth(request)
        headers = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        head = f"POST / HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        yield head.encode() + body


def exchange(job: dict[str, Any], requests: Iterable[bytes]) -> Iterator[bytes]:
    """The body of each answer, in order, some requests being under way at once, each on a connection of its own."""
    address = urlsplit(job["dynamodb_url"])
    free = deque(Connection(address.hostname or "", address.port or 80) for _ in range(IN_FLIGHT))
    busy: deque[Connection] = deque()
    for request in requests:
        if not free:
            yield busy[0].read()
            free.append(busy.popleft())
        connection = free.popleft()
        connection.socket.sendall(request)
        busy.append(connection)
    for connection in busy:
        yield connection.read()


class Connection:
    """An HTTP connection that is kept."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read(self) -> bytes:
        """The body of the next answer."""
        got = self.socket.recv(_CHUNK)
        while (end := got.find(b"\r\n\r\n")) < 0:
            got += self.socket.recv(_CHUNK)
        assert got.startswith(b"HTTP/1.1 200"), got[:200]
        length = re.search(rb"\r\ncontent-length: *(\d+)", got[: end + 2], re.IGNORECASE)
        assert length, got[:end]
        size, parts = int(length[1]), [got[end + 4 :]]
        have = len(parts[0])
        while have < size:
            parts.append(self.socket.recv(_CHUNK))
            have += len(parts[-1])
        return b"".join(parts)


def batches(things: list[str], size: int) -> Iterator[list[str]]:
    return (things[start : start + size] for start in range(0, len(things), size))
