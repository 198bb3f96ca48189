"""The processes of the installation: `python -m tests.chaos.supervisor FILE` starts each again whenever it ends.

FILE has a JSON object of names and commands. All processes, with the tasks that they start, are one session.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

#: Seconds between two starts of a process that ends at once.
_PAUSE = 1.0


def main() -> int:
    file = Path(sys.argv[1])
    commands: dict[str, list[str]] = json.loads(file.read_text(encoding="utf-8"))

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, leave)
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while True:
            for name, command in commands.items():
                if name not in running or running[name].poll() is not None:
                    running[name] = _start(command, file.with_name(f"{name}.log"))
            pids = {name: process.pid for name, process in running.items()}
            written = file.with_suffix(".new")
            written.write_text(json.dumps(pids), encoding="utf-8")
            written.replace(file.with_suffix(".pids"))  # at once: the killer reads it
            time.sleep(_PAUSE)
    finally:
        for process in running.values():
            with suppress(ProcessLookupError):
                process.terminate()


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)


if __name__ == "__main__":
    sys.exit(main())
