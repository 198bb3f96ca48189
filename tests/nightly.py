"""Everything that `make test` leaves out, one part after the other: `make nightly`, or with PARTS="faults bench".

A part that fails does not end the night. The output of each part goes to `.local/nightly/<part>.log`; at the end a
table shows each part, whether it passed, and how long it took.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOGS = ROOT / ".local" / "nightly"
PYTHON = (".venv/bin/python", "-m")
PYTEST = (*PYTHON, "pytest")


@dataclass(frozen=True)
class Part:
    """One part of the night: a command, its environment, and whether it needs a checkout and a .venv of its own.

    `unless_named` parts take hours and run only if PARTS names them.
    """

    name: str
    shows: str
    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)
    own_checkout: bool = False
    unless_named: bool = False


PARTS = (
    Part(
        "properties",
        "the property tests on 10,000 cases each",
        [*PYTEST, "--numprocesses=2", "--timeout=7200", "-m", "hypothesis", "tests/cohort_flywheel"],
        {"HYPOTHESIS_PROFILE": "nightly"},
    ),
    Part(
        "slow-tests",
        "what `make test` leaves out: faults, demos, the flywheel, IAM, the bundle, pages, clients in a real Airflow",
        [*PYTEST, "--numprocesses=2", "-m", "nightly", "--ignore=tests/backfill", "--ignore=tests/approval"],
    ),
    Part("faults", "every call of a run with every fault that applies to it", ["make", "faults"]),
    Part(
        "chaos",
        "a thousand kills of the processes of a whole installation; seven hours",
        ["make", "chaos"],
        unless_named=True,
    ),
    Part("approvals", "answers of approvers in a real UI, with the login of MWAA", ["make", "approvals"]),
    Part("pages", "the pages of the UI in a real Airflow, with the login of MWAA", ["make", "pages"]),
    Part("backfills", "five days backfilled by a real scheduler on PostgreSQL", ["make", "backfills"]),
    Part("bundle-321", "the bundle in an Airflow 3.2.1 of its own, and its wheels", ["make", "bundle-321"]),
    Part(
        "gremlin-3.7",
        "the graph and whole runs on Gremlin Server 3.7",
        [
            *PYTEST,
            "tests/e2e",
            "tests/cohort_flywheel/hooks",
            "tests/local/test_sample.py",
            "tests/local/test_demo.py",
            "tests/local/test_flywheel.py",
        ],
        {"GREMLIN_JARS": "gremlin-server-3.7"},
    ),
    Part(
        "airflow-3.2.1",
        "whole runs on Airflow 3.2.1",
        ["sh", "-c", "make setup && .venv/bin/python -m pytest tests/e2e tests/dags"],
        {"AIRFLOW_VERSION": "3.2.1"},
        own_checkout=True,
    ),
    Part(
        "python-3.13",
        "whole runs on Python 3.13",
        ["sh", "-c", "make setup && .venv/bin/python -m pytest tests/e2e tests/dags"],
        {"PYTHON_VERSIONS": "3.13"},
        own_checkout=True,
    ),
    Part("bench", "measured against what else a studio would use, 1,000 and 10,000 players", ["make", "bench"]),
    Part("bench-small", "where the time of a run of three players goes", ["make", "bench-small"]),
    Part("bench-width", "shards over one Celery worker and over two", ["make", "bench-width"]),
    Part("bench-graph-load", "validation of the files of a graph load", ["make", "bench-graph-load"]),
    Part("bench-events", "a million events of e-mails, beside DuckDB's own reading", ["make", "bench-events"]),
    Part(
        "bench-events-10m",
        "ten million events of e-mails",
        [*PYTHON, "tests.benchmarks.events", "--events", "10000000"],
    ),
    Part("bench-memory", "the peak of our processes with a million players", ["make", "bench-memory"]),
    Part(
        "bench-load",
        "a year of history, 1,000 daily cohorts, a launch of 100,000",
        ["make", "bench-load"],
        unless_named=True,
    ),
    Part("bench-full", "measured with 100,000 and 1,000,000 players", ["make", "bench-full"], unless_named=True),
)


def run(part: Part) -> tuple[bool, float]:
    """Run one part; return whether it passed and the seconds that it took."""
    LOGS.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, (LOGS / f"{part.name}.log").open("w", encoding="utf-8") as log:
        if part.own_checkout:
            subprocess.run(["git", "clone", "--quiet", str(ROOT), folder], stdout=log, stderr=log, check=True)
        done = subprocess.run(
            part.command,
            cwd=folder if part.own_checkout else ROOT,
            env=os.environ | dict(part.environ),
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return done.returncode == 0, time.monotonic() - started


def last_line(part: Part) -> str:
    """The last line of a part's log, which is the summary of pytest, of the faults, or of a benchmark."""
    lines = (LOGS / f"{part.name}.log").read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip("= ") for line in reversed(lines) if line.strip() and not line.startswith("make")), "")


def main(names: Sequence[str]) -> int:
    """Run the named parts, or all that do not take hours; return 1 if one failed."""
    if unknown := sorted(set(names) - {part.name for part in PARTS}):
        print(f"Unknown part {', '.join(unknown)}: the parts are {', '.join(part.name for part in PARTS)}.")
        return 2
    chosen = [part for part in PARTS if part.name in names or (not names and not part.unless_named)]
    rows = []
    for part in chosen:
        print(f"{part.name}: {part.shows}; its output is in {(LOGS / part.name).relative_to(ROOT)}.log", flush=True)
        passed, seconds = run(part)
        rows.append((part.name, "passed" if passed else "FAILED", f"{seconds:,.0f} s", last_line(part)[:100]))
        print("  " + "  ".join(rows[-1][1:]), flush=True)
    print()
    for name, result, time_taken, line in rows:
        print(f"| {name:<13} | {result:<6} | {time_taken:>8} | {line} |")
    failed = sum(result == "FAILED" for _, result, _, _ in rows)
    print(f"nightly: {len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
