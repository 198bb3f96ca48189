"""Validating the files of a graph load: `python -m tests.benchmarks.graph_load --players 100000 1000000`

Our validation beside DuckDB's own reading of the same files and Python's csv reader, each in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local import graph_files
from local.config import ROOT
from tests.benchmarks import results

STAGES = {
    "validate": "validation of the graph load",
    "duckdb": "DuckDB reads every cell as its type, one thread",
    "csv_reader": "Python's csv reader splits the rows",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--players", type=int, nargs="+", default=[100_000])
    parser.add_argument("--into", type=Path, help="the folder of results.json and RESULTS.md; without it, only print")
    arguments = parser.parse_args()
    found = [measured(players) for players in arguments.players]
    results.show("graph_load", section(found), arguments.into)
    return 0


def measured(players: int) -> dict[str, Any]:
    """The stages of one size: MB of the files, and wall, CPU and memory of each stage."""
    with tempfile.TemporaryDirectory(prefix="graph-load-") as place:
        folder = Path(place)
        graph_files.write(folder / "files", players)
        files = sorted((folder / "files").iterdir(), key=lambda path: ("edges" in path.name, path.name))
        found: dict[str, Any] = {"players": players, "mb": sum(path.stat().st_size for path in files) / 1e6}
        for stage in STAGES:
            own = folder / stage
            own.mkdir()
            job = {"peer": "graph_files", "stages": [stage], "answer": str(own / "answer.json"), "folder": str(own)}
            (own / "job.json").write_text(json.dumps(job | {"files": [str(path) for path in files]}), encoding="utf-8")
            path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
            command = [sys.executable, "-m", "tests.benchmarks.child", str(own / "job.json")]
            subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path})
            found[stage] = json.loads((own / "answer.json").read_text(encoding="utf-8"))[stage]
    rows = {found[stage]["outcome"]["rows"] for stage in STAGES}
    assert len(rows) == 1, rows
    assert not found["validate"]["outcome"]["findings"]
    return found | {"rows": rows.pop()}


def section(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The measurements, as RESULTS.md shows them."""
    rows = []
    for size in found:
        for stage, name in STAGES.items():
            one = size[stage]
            rows.append(
                [
                    f"{size['players']:,}",
                    name,
                    f"{one['wall_s']:.1f}",
                    f"{one['cpu_s']:.1f}",
                    f"{size['mb'] / one['wall_s']:.0f}",
                    f"{size['mb'] / one['cpu_s']:.0f}",
                    f"{one['base_mb']:.0f}",
                    f"{one['peak_mb']:.0f}",
                ]
            )
    machine = results.machine()
    sizes = ", ".join(
        f"{size['rows']:,} rows in {size['mb']:,.0f} MB for {size['players']:,} players" for size in found
    )
    text = (
        f"The Cohort Modeler's seven files by `python -m local graph-files`: {sizes}. Each in a fresh process, DuckDB"
        f" with a limit of 128 MiB, {datetime.now(UTC):%Y-%m-%d}, {machine['cores']} cores of {machine['cpu']}, with"
        f" other processes at work (load {machine['load_at_start'][0]}). The validation checks headers, quotes, values,"
        " ids and ends; the others check no ids."
    )
    header = ["players", "", "wall s", "CPU s", "MB/s", "MB per CPU s", "MB of memory before", "and at most"]
    return {"text": text, "header": header, "rows": rows, "raw": found}


if __name__ == "__main__":
    sys.exit(main())
