"""A graph that the runs write to: a Gremlin Server of its own, with a graph for each process that tries cases."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local import gremlin_server
from local.config import ROOT, Config
from local.servers import HOST, _die_with_parent, free_ports

#: So many processes may have a graph, one after the other: each command has a few pools of workers.
GRAPHS = 32
_UNTYPED = "application/vnd.gremlin-v3.0+json;types=false"


def source_name(number: int) -> str:
    """The traversal source of the n-th graph; the first is g, which each server has."""
    return f"g{number}" if number else "g"


@contextmanager
def graphs(config: Config, folder: Path) -> Iterator[int]:
    """The port of a server with empty graphs, while the block runs."""
    folder.mkdir(parents=True)
    port = free_ports().gremlin_port
    with (folder / "gremlin.log").open("ab") as log:
        process = subprocess.Popen(
            _command(port, folder, config), cwd=ROOT, stdout=log, stderr=log, preexec_fn=_die_with_parent
        )
    try:
        end = time.monotonic() + 120
        while not gremlin_server.is_ready(HOST, port):
            assert time.monotonic() < end, f"the graph was not ready in two minutes: {folder / 'gremlin.log'}"
            time.sleep(0.2)
        yield port
    finally:
        process.kill()
        process.wait()


def _command(port: int, folder: Path, config: Config) -> list[str]:
    """The command of the local server, with more graphs."""
    found = gremlin_server.command(HOST, port, folder, config)
    configuration = folder / "gremlin-server.yaml"
    text = configuration.read_text(encoding="utf-8")
    properties = gremlin_server.CONF / "tinkergraph.properties"
    before = f'graphs: {{graph: "{properties}", scratchGraph: "{properties}"}}'
    script = folder / "sources.groovy"
    for old, new in (
        (before, "graphs: {" + ", ".join(f'graph{n}: "{properties}"' for n in range(GRAPHS)) + "}"),
        (str(gremlin_server.CONF / "traversal-source.groovy"), str(script)),
    ):
        assert old in text, old
        text = text.replace(old, new)
    configuration.write_text(text, encoding="utf-8")
    sources = ", ".join(f"{source_name(n)}: traversal().withEmbedded(graph{n})" for n in range(GRAPHS))
    script.write_text(f"[{sources}]\n", encoding="utf-8")
    return found


class WrittenGraph:
    """All of one graph: read, and put back as it was.

    :param source: its traversal source.
    """

    def __init__(self, port: int, source: str) -> None:
        self.port, self.source = port, source

    def content(self) -> dict[str, Any]:
        """Each vertex with its label and properties, and each edge with its label and ends, by their ids."""
        vertices = self._ask("g.V().project('id','label','of').by(id).by(label).by(valueMap())")
        edges = self._ask("g.E().project('id','label','out','in').by(id).by(label).by(outV().id()).by(inV().id())")
        return {
            "vertices": {
                each["id"]: [each["label"], dict(sorted(each["of"].items()))]
                for each in sorted(vertices, key=lambda each: str(each["id"]))
            },
            "edges": {
                each["id"]: [each["label"], each["out"], each["in"]]
                for each in sorted(edges, key=lambda each: str(each["id"]))
            },
        }

    def put(self, content: dict[str, Any]) -> None:
        """Replace all that the graph has."""
        self._ask("g.V().drop()")
        steps = "g"
        for vertex_id, (label, properties) in content["vertices"].items():
            steps += f".addV({_text(label)}).property(id,{_text(vertex_id)})"
            for name, values in properties.items():
                steps += "".join(f".property(set,{_text(name)},{_text(value)})" for value in values)
        if steps != "g":
            self._ask(steps)
        for edge_id, (label, out, into) in content["edges"].items():
            ends = f".from(__.V({_text(out)})).to(__.V({_text(into)}))"
            self._ask(f"g.addE({_text(label)}){ends}.property(id,{_text(edge_id)})")

    def run(self, traversal: str) -> None:
        self._ask(traversal)

    def _ask(self, traversal: str) -> list[Any]:
        body = {"gremlin": traversal, "language": "gremlin-lang", "aliases": {"g": self.source}}
        request = urllib.request.Request(
            f"http://{HOST}:{self.port}/gremlin",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Accept": _UNTYPED},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - ours
            return list(json.load(answer)["result"]["data"])


def _text(value: str | int) -> str:
    return json.dumps(value)
