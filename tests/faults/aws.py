"""The AWS endpoint of the runs, which can be kept as it is, and continued from there in a process per case.

A fork keeps all that moto and the emulated services hold in memory. Run with
``python -m tests.faults.aws SOCKET NOW``; it ends with the connection of the process that started it.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from local import aws
from local.config import ROOT
from local.servers import HOST, _die_with_parent

#: A timer that is due within this time runs before the state is kept: no lock is held then.
DUE_SECONDS = 0.3
#: Parts of an upload may be small. Objects stay in memory: of a file, the processes that are forked would share the
#: position, and what one reads is missing in what another one reads at the same time.
MOTO = {"S3_UPLOAD_PART_MIN_SIZE": "1", "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(2**30)}
_system_time = time.time


class Endpoint:
    """A connection to a running endpoint."""

    def __init__(self, path: Path) -> None:
        self._connection = Client(str(path), "AF_UNIX")
        self.port, self.pid = self._connection.recv()

    def objects(self) -> dict[tuple[str, str], bytes]:
        """The objects of all buckets, by bucket and key."""
        found: dict[tuple[str, str], bytes] = self._ask("objects")
        return found

    def cpu_seconds(self) -> float:
        """What it has taken of a processor since it was started or continued."""
        return float(self._ask("seconds"))

    def keep(self, path: Path) -> None:
        """Keep the state, while no request is under way, for an `Endpoint` of this path to continue from."""
        self._ask(str(path))

    def _ask(self, command: str) -> Any:
        self._connection.send(command)
        return self._connection.recv()

    def close(self) -> None:
        """End the endpoint."""
        self._connection.close()


@contextmanager
def started(now: float) -> Iterator[tuple[Endpoint, Path]]:
    """A new endpoint while the block runs, for which it is now, and a folder for what it keeps, which ends with it."""
    folder = Path(tempfile.mkdtemp(prefix="aws-"))  # the path of a socket has 108 characters at most
    path = folder / "live"
    command = [sys.executable, "-m", "tests.faults.aws", str(path), str(now)]
    environ = dict(os.environ) | MOTO | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True, preexec_fn=_die_with_parent
    )
    try:
        assert process.stdout
        process.stdout.readline()
        yield Endpoint(path), folder
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def main() -> None:
    _set_time(float(sys.argv[2]))
    server = aws.server(HOST, 0)
    with _listening(sys.argv[1]) as listener:
        print("ready", flush=True)
        accepted, _ = listener.accept()
    _obey(accepted, server)


def _listening(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    return listener


def _obey(accepted: socket.socket, server: Any) -> None:
    """Serve AWS in a thread, and commands in this one, until the connection ends; does not return."""
    commands: Connection[Any, Any] = Connection(accepted.detach())
    os.environ["MOTO_PORT"] = str(server.server_port)  # moto's services call each other through it
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    commands.send((server.server_port, os.getpid()))
    with suppress(EOFError):
        while True:
            match commands.recv():
                case "objects":
                    commands.send(_objects())
                case "seconds":
                    commands.send(time.process_time())
                case path:
                    _keep(path, server)
                    commands.send(None)
    os._exit(0)


def _set_time(now: float) -> None:
    """Have the emulated services go on from this time."""
    behind = _system_time() - now
    time.time = lambda: _system_time() - behind


def _objects() -> dict[tuple[str, str], bytes]:
    from moto.s3.models import s3_backends

    regions = (region for account in s3_backends.values() for region in account.values())
    buckets = [bucket for region in regions for bucket in region.buckets.values()]
    return {(bucket.name, key): item.value for bucket in buckets for key, item in bucket.keys.items()}


def _start(timer: Any) -> None:
    """Start a timer of an emulated job, which then knows when it is due."""
    timer.due = time.monotonic() + timer.interval
    threading.Thread.start(timer)


def _keep(path: str, server: Any) -> None:
    """Fork a process that stays as it is, and forks an endpoint for each connection."""
    waiting = []
    for timer in [each for each in threading.enumerate() if isinstance(each, threading.Timer)]:
        remaining = timer.due - time.monotonic()  # type: ignore[attr-defined]  # _start has put it there
        if remaining < DUE_SECONDS:
            timer.join()
        else:
            waiting.append((remaining, timer.function, timer.args, timer.kwargs))
    instant = time.time()
    listener = _listening(path)
    if os.fork():
        listener.close()
        return
    _die_with_parent()
    server.socket.close()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    gc.disable()
    while True:
        accepted, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _continue(accepted, server.app, instant, waiting)
        accepted.close()


def _continue(accepted: socket.socket, app: Any, instant: float, waiting: list[tuple[Any, ...]]) -> None:
    """Serve from the kept state, at its time; does not return."""
    from moto.moto_server.werkzeug_app import MotoRequestHandler
    from werkzeug.serving import make_server

    _die_with_parent()
    _set_time(instant)
    for remaining, function, args, kwargs in waiting:
        timer = threading.Timer(remaining, function, args, kwargs)
        timer.daemon = True
        timer.start()
    _obey(accepted, make_server(HOST, 0, app, threaded=True, request_handler=MotoRequestHandler))


if __name__ == "__main__":
    threading.Timer.start = _start  # type: ignore[assignment]  # which it has from Thread
    main()
