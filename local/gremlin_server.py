"""TinkerPop's Gremlin Server with an empty TinkerGraph that keeps properties as Neptune does."""

from __future__ import annotations

import string
import urllib.request
from pathlib import Path

from local import java
from local.config import Config

CONF = Path(__file__).parent / "conf"


def command(host: str, port: int, run_dir: Path, config: Config) -> list[str]:
    """The command that runs the server in the foreground; its configuration goes into the run directory."""
    template = string.Template((CONF / "gremlin-server.yaml").read_text(encoding="utf-8"))
    configuration = run_dir / "gremlin-server.yaml"
    configuration.write_text(
        template.substitute(
            host=host,
            port=port,
            properties=CONF / "tinkergraph.properties",
            script=CONF / "traversal-source.groovy",
        ),
        encoding="utf-8",
    )
    return [
        str(java.java()),
        *config.gremlin_java_options.split(),
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-cp",
        ":".join(str(jar) for jar in java.jars(config.gremlin_jars)),
        "org.apache.tinkerpop.gremlin.server.GremlinServer",
        str(configuration),
    ]


def is_ready(host: str, port: int) -> bool:
    """Whether the server evaluates a traversal over HTTP, which it supports besides WebSocket."""
    request = urllib.request.Request(
        f"http://{host}:{port}/gremlin",
        data=b'{"gremlin": "g.inject(1)", "language": "gremlin-lang"}',
        headers={"Content-Type": "application/json", "Accept": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - ours
            return bool(response.status == 200)
    except OSError:
        return False
