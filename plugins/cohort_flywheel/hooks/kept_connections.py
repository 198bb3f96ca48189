"""HTTP connections that are kept, over which several requests are under way at once in one thread."""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Mapping
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import NamedTuple
from urllib.parse import urlsplit
from zlib import crc32

from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError
from botocore.httpsession import get_cert_path
from botocore.signers import RequestSigner

#: The bytes of an answer's headers and of its body, at most. An answer has 16 MB of items [DynamoDB API reference:
#: BatchGetItem], and their JSON is longer.
MAX_HEAD, MAX_BODY = 65_536, 64_000_000
#: After so many requests in a row without a usable answer the connections are not used any more.
MAX_FAILURES = 3
#: What sending, receiving and signing raise; the last two, if credentials cannot be refreshed.
_FAILURES = (OSError, HTTPException, ValueError, BotoCoreError, ClientError)


class SentRequest(NamedTuple):
    """A request that botocore has sent: its address, its headers before the signature, and what signed it."""

    url: str
    headers: Mapping[str, str]
    signing_name: str
    region_name: str
    signer: RequestSigner


class Answer(NamedTuple):
    """A whole answer; the names of the headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class KeptConnections:
    """Send requests like one that botocore has sent, with another body.

    Only a plain answer is usable: status 200, complete, with the checksum that DynamoDB sends. There are no retries:
    after any other answer botocore is asked for the same, which retries and explains.

    :param like: the request to repeat. Each request has a signature of its own, by the credentials of that time.
    :param verify: True, or the path of the certificates to trust.
    :param connect_timeout, read_timeout: seconds.
    """

    def __init__(self, like: SentRequest, verify: str | bool, connect_timeout: float, read_timeout: float) -> None:
        self._like = like
        self._verify = verify
        self._connect_timeout, self._read_timeout = connect_timeout, read_timeout
        self._free: list[HTTPConnection] = []
        self._failures = 0

    @property
    def is_usable(self) -> bool:
        return self._failures < MAX_FAILURES

    def write(self, body: bytes) -> HTTPConnection | None:
        """Send a request; return the connection that its answer will arrive on, or None if it could not be sent."""
        connection = None
        try:
            connection = self._free.pop() if self._free else self._open()
            if connection.sock and _has_input(connection.sock):  # the end: the server has closed it
                connection.close()
            if connection.sock is None:  # it is new, or closed
                self._connect(connection)
            send(connection, self._signed(body))
        except _FAILURES:
            self._give_up(connection)
            return None
        return connection

    def read(self, connection: HTTPConnection) -> bytes | None:
        """Wait for the answer and return its body, or None if it is not a plain one."""
        try:
            answer = receive(connection)
            usable = _is_plain(answer)
        except _FAILURES:
            usable = False
        if not usable:
            self._give_up(connection)
            return None
        self._failures = 0
        self._free.append(connection)
        return answer.body

    def close(self) -> None:
        """Close the connections that no answer is awaited on."""
        while self._free:
            self._free.pop().close()

    def _open(self) -> HTTPConnection:
        address = urlsplit(self._like.url)
        host, port = address.hostname or "", address.port
        if address.scheme == "http":
            return HTTPConnection(host, port, timeout=self._connect_timeout)
        return HTTPSConnection(host, port, timeout=self._connect_timeout, context=self._trusted)

    def _connect(self, connection: HTTPConnection) -> None:
        connection.connect()
        connection.sock.settimeout(self._read_timeout)

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=get_cert_path(self._verify))

    def _signed(self, body: bytes) -> AWSRequest:
        like = self._like
        request = AWSRequest("POST", like.url, headers=self._head, data=body)
        like.signer.get_auth_instance(like.signing_name, like.region_name, "v4").add_auth(request)
        return request

    @cached_property
    def _head(self) -> dict[str, str]:
        """The headers of each request, without its signature and its length."""
        address = urlsplit(self._like.url)
        host = f"[{address.hostname}]" if ":" in (address.hostname or "") else address.hostname or ""
        if address.port not in (None, {"http": 80, "https": 443}[address.scheme]):
            host += f":{address.port}"
        return {"Host": host, **self._like.headers}

    def _give_up(self, connection: HTTPConnection | None) -> None:
        self._failures += 1
        if connection:
            connection.close()


def send(connection: HTTPConnection, request: AWSRequest) -> None:
    """Write a signed request, whole."""
    path = urlsplit(request.url).path or "/"
    head = [f"POST {path} HTTP/1.1", "Accept-Encoding: identity", f"Content-Length: {len(request.data)}"]
    head += [f"{name}: {value}" for name, value in request.headers.items()]
    if any("\r" in line or "\n" in line for line in head):
        raise ValueError("a header has a line break")
    connection.sock.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + request.data)


def receive(connection: HTTPConnection) -> Answer:
    """Read the next answer, whole; raise HTTPException for one whose length is not in its headers.

    http.client takes ten times as long for the headers.
    """
    start = bytearray()
    while (end := start.find(b"\r\n\r\n")) < 0:
        received = connection.sock.recv(MAX_HEAD)
        if not received or len(start) >= MAX_HEAD:
            raise HTTPException("no end of the headers")
        start += received
    first, *lines = start[:end].decode("latin-1").split("\r\n")
    version, status = first.split(" ")[:2]
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    headers = dict(fields)
    (length,) = [int(value) for name, value in fields if name == "content-length"]
    rest = start[end + 4 :]
    if not len(rest) <= length <= MAX_BODY or "transfer-encoding" in headers:
        raise HTTPException("more than an answer, or an answer of another form")
    body = bytearray(length)
    view, read = memoryview(body), len(rest)
    view[:read] = rest
    while read < length:
        number = connection.sock.recv_into(view[read:])
        if not number:
            raise HTTPException("no end of the body")
        read += number
    if version != "HTTP/1.1" or headers.get("connection", "keep-alive").lower() != "keep-alive":
        connection.close()
    return Answer(int(status), headers, bytes(body))


def _has_input(connected: socket.socket) -> bool:
    if isinstance(connected, ssl.SSLSocket) and connected.pending():
        return True  # decrypted already: the kernel has nothing more
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return bool(poll.poll(0))


def _is_plain(answer: Answer) -> bool:
    checksum = answer.headers.get("x-amz-crc32")
    return (
        answer.status == 200
        and answer.headers.get("content-encoding", "identity") == "identity"
        and (checksum is None or int(checksum) == crc32(answer.body))
    )
