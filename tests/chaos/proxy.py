"""A proxy before one server, which cuts its connections in the ways in which a network does."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
import time
from typing import Literal

#: `reset` ends each connection and refuses new ones; `silence` forwards nothing; `delay` forwards late; `lost` gives a
#: request to the server and ends the connection instead of giving the answer.
type Mode = Literal["pass", "reset", "silence", "delay", "lost"]
MODES: tuple[Mode, ...] = ("reset", "silence", "delay", "lost")
#: Seconds between two looks at the mode of a connection that is silent.
_LOOK = 0.2
_CHUNK = 64 * 1024


class Proxy:
    """Forward TCP connections to a port of this machine; `mode` may change at any time, also for open connections.

    :param upstream: the port of the server.
    :param delay: seconds by which `delay` holds back each chunk.
    """

    def __init__(self, upstream: int, delay: float = 1.0) -> None:
        self.upstream, self.delay = upstream, delay
        self.mode: Mode = "pass"
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._open = False
        self.mode = "reset"  # which ends the open connections
        self._listener.close()

    def _accept(self) -> None:
        while self._open:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.mode == "reset":
                _reset(client)
                continue
            threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.upstream), timeout=10)
        except OSError:
            _reset(client)
            return
        server.settimeout(None)
        with client, server, contextlib.suppress(OSError), selectors.DefaultSelector() as waits:
            waits.register(client, selectors.EVENT_READ, server)
            waits.register(server, selectors.EVENT_READ, client)
            while self._open:
                if self.mode == "reset":
                    _reset(client)
                    return
                if self.mode == "silence":
                    time.sleep(_LOOK)
                    continue
                for key, _ in waits.select(timeout=_LOOK):
                    assert isinstance(key.fileobj, socket.socket)
                    data = key.fileobj.recv(_CHUNK)
                    if not data:
                        return
                    if self.mode == "delay":
                        time.sleep(self.delay)
                    if self.mode == "lost" and key.fileobj is server:
                        _reset(client)
                        return
                    key.data.sendall(data)


def _reset(connection: socket.socket) -> None:
    """End a connection by RST, which the other side sees as `Connection reset by peer`."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
