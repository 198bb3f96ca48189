"""AWS's DynamoDB Local, in memory, with its telemetry off, on the loopback address only."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from local import java
from local.config import Config

SCRIPT = Path(__file__).parent / "conf" / "dynamodb-local.groovy"


def command(host: str, port: int, run_dir: Path, config: Config) -> list[str]:
    """The command that runs the server in the foreground; it needs no file in the run directory."""
    files = java.jars("dynamodb-local")
    groovy = [jar for jar in java.jars("gremlin-server-3.8") if jar.name.startswith("groovy-4")]
    return [
        str(java.java()),
        *config.dynamodb_java_options.split(),
        f"-Djava.library.path={files[0].parent}",
        "-cp",
        ":".join(str(file) for file in [*files, *groovy] if file.suffix == ".jar"),
        "groovy.ui.GroovyMain",
        str(SCRIPT),
        host,
        "-inMemory",
        "-sharedDb",  # without it, tables are kept apart by access key and region
        "-disableTelemetry",
        "-port",
        str(port),
    ]


def is_ready(host: str, port: int) -> bool:
    """Whether it answers: to a request without a signature it answers with an error."""
    try:
        with urllib.request.urlopen(f"http://{host}:{port}/", timeout=10):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
