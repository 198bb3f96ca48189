"""A graph that a fault may kill: a Gremlin Server of its own, with the sample in it, started again where it was."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local import gremlin_server, neptune_csv, sample
from local.config import ROOT, Config
from local.servers import _die_with_parent, free_ports


class Graph:
    def __init__(self, config: Config, folder: Path) -> None:
        self.config, self.folder, self.port = config, folder, free_ports().gremlin_port
        self._process: subprocess.Popen[bytes] | None = None
        sample.write(folder / "sample")

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def ensure(self) -> None:
        if self._process and self._process.poll() is None:
            return
        with (self.folder / "gremlin.log").open("ab") as log:
            command = gremlin_server.command("127.0.0.1", self.port, self.folder, self.config)
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        end = time.monotonic() + 60
        while not gremlin_server.is_ready("127.0.0.1", self.port):
            assert time.monotonic() < end, f"the graph was not ready in a minute: {self.folder / 'gremlin.log'}"
            time.sleep(0.2)
        neptune_csv.load_folder(self.folder / "sample", f"ws://127.0.0.1:{self.port}/gremlin")

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()


@contextmanager
def own_graph(config: Config, folder: Path) -> Iterator[Graph]:
    """The graph that may be killed, while the block runs."""
    (folder / "sample").mkdir(parents=True)
    graph = Graph(config, folder)
    try:
        graph.ensure()
        yield graph
    finally:
        graph.stop()
