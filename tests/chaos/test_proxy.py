"""The proxy cuts connections in each of its ways, and forwards again afterwards."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.chaos.proxy import Proxy

SECONDS = 60


class Echo:
    """A server that answers each message with itself, and keeps what it got."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with closing(connection):
            while data := connection.recv(1024):
                self.got.append(data)
                connection.sendall(data)


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    with closing(made.listener):
        yield made


@pytest.fixture
def proxy(echo: Echo) -> Iterator[Proxy]:
    with closing(Proxy(echo.listener.getsockname()[1], delay=0.1)) as made:
        yield made


def connected(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=SECONDS)


def ask(connection: socket.socket, text: bytes = b"hello") -> bytes:
    connection.sendall(text)
    return connection.recv(1024)


def test_it_forwards_and_delays(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        assert ask(connection) == b"hello"
        proxy.mode = "delay"
        assert ask(connection, b"again") == b"again"


def test_a_reset_ends_open_connections_and_refuses_new_ones(proxy: Proxy) -> None:
    with connected(proxy) as connection:
        assert ask(connection) == b"hello"
        proxy.mode = "reset"
        with pytest.raises(ConnectionResetError):
            connection.recv(1024)
    with pytest.raises(ConnectionError), connected(proxy) as connection:
        ask(connection)
    proxy.mode = "pass"
    with connected(proxy) as connection:
        assert ask(connection) == b"hello"


def test_silence_forwards_nothing_until_it_ends(proxy: Proxy, echo: Echo) -> None:
    with connected(proxy) as connection:
        assert ask(connection) == b"hello"
        proxy.mode = "silence"
        connection.settimeout(0.6)
        with pytest.raises(TimeoutError):
            ask(connection, b"silent")
        proxy.mode = "pass"
        connection.settimeout(SECONDS)
        assert connection.recv(1024) == b"silent"
    assert echo.got == [b"hello", b"silent"]


def test_a_lost_answer_is_one_to_a_request_that_took_effect(proxy: Proxy, echo: Echo) -> None:
    proxy.mode = "lost"
    with connected(proxy) as connection, pytest.raises(ConnectionResetError):
        ask(connection)
    assert echo.got == [b"hello"]
