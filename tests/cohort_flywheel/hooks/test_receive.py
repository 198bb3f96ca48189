"""The answers that a kept connection reads, in whatever pieces they arrive, and those that it leaves to botocore."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.hooks import kept_connections
from cohort_flywheel.hooks.kept_connections import receive

HEAD = b"HTTP/1.1 200 OK\r\n"


class InPieces:
    """A socket that gives at most some bytes at a time."""

    def __init__(self, sock: socket.socket, size: int) -> None:
        self._sock, self._size = sock, size

    def recv(self, size: int) -> bytes:
        return self._sock.recv(min(size, self._size))

    def recv_into(self, buffer: memoryview) -> int:
        return self._sock.recv_into(buffer[: self._size])

    def close(self) -> None:
        self._sock.close()


@contextmanager
def arriving(data: bytes, size: int = 1 << 20, *, ends: bool = True) -> Iterator[HTTPConnection]:
    """A connection on which some bytes have arrived, and then its end."""
    ours, theirs = socket.socketpair()
    connection: Any = HTTPConnection("localhost")
    connection.sock = InPieces(ours, size)
    ours.settimeout(60)
    with closing(theirs), closing(connection):
        theirs.sendall(data)
        if ends:
            theirs.shutdown(socket.SHUT_WR)
        yield connection


@given(
    body=st.binary(max_size=300), size=st.integers(1, 400), name=st.sampled_from(["Content-Length", "CONTENT-LENGTH"])
)
def test_an_answer_is_whole_in_whatever_pieces_it_arrives(body: bytes, size: int, name: str) -> None:
    data = HEAD + f"x-amz-crc32: 7\r\n{name}:  {len(body)} \r\nConnection: keep-alive\r\n\r\n".encode() + body
    with arriving(data, size, ends=False) as connection:
        answer = receive(connection)
        assert (answer.status, answer.body, answer.headers["x-amz-crc32"]) == (200, body, "7")
        assert connection.sock is not None  # for the next request


@pytest.mark.parametrize("first", [b"HTTP/1.1 200 OK\r\nConnection: Close\r\n", b"HTTP/1.0 200 OK\r\n"])
def test_a_connection_that_the_server_will_close_is_closed(first: bytes) -> None:
    with arriving(first + b"Content-Length: 2\r\n\r\n{}") as connection:
        assert receive(connection).body == b"{}"
        assert connection.sock is None


def test_any_status_is_read() -> None:
    with arriving(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n") as connection:
        assert receive(connection).status == 503


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
        HEAD + b"Content-Length: 2\r\n\r\n{",
        HEAD + b"Content-Length: 2\r\n\r\n{}HTTP/1.1 200 OK",
        HEAD + b"\r\n{}",
        HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"Content-Length: -2\r\n\r\n{}",
        HEAD + b"Content-Length: two\r\n\r\n{}",
        HEAD + b"Content-Length : 2\r\n\r\n{}",
        HEAD + b"Content-Length: 99999999999999999999\r\n\r\n{}",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 ok\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"X: " + b"x" * 100_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
    ],
)  # fmt: skip
def test_an_answer_of_another_form_is_left_to_botocore(data: bytes) -> None:
    """The errors are those after which KeptConnections reads nothing more from the connection."""
    with arriving(data) as connection, pytest.raises(kept_connections._FAILURES):
        receive(connection)
