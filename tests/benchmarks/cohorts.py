"""Many daily cohorts: `python -m tests.benchmarks.cohorts --parsed 6 100 1000 --at-once 5 50`

A file of DAGs for so many cohorts is parsed as the DAG processor parses it, and as a task does, whose process makes its
own DAG only. Then so many DAGs start at the same instant in a real Airflow on PostgreSQL, four tasks at a time.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from local import airflow, config
from tests.airflow_up import Up, running, wait_until
from tests.benchmarks import results
from tests.postgresql import postgresql

ROUNDS = 3
#: What parses the folder of DAGs, then again for one task; imports are not counted.
PARSE = """
import json, os, sys, time
from airflow.dag_processing.dagbag import DagBag

def parse(place, number):
    began = time.process_time()
    bag = DagBag(place)
    assert not bag.import_errors and len(bag.dags) >= number, (bag.import_errors, len(bag.dags))
    return time.process_time() - began

folder = os.environ["AIRFLOW__CORE__DAGS_FOLDER"]
parse(folder, 1)
found = {"all": parse(folder, int(sys.argv[1]))}
os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = "cohort_to_segment"
os.environ["_AIRFLOW_PARSING_CONTEXT_TASK_ID"] = "plan"
found["task"] = parse(folder + "/cohort_to_segment.py", 1)
print(json.dumps(found))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parsed", type=int, nargs="*", default=[6, 100, 1_000])
    parser.add_argument("--at-once", type=int, nargs="*", default=[5, 50])
    parser.add_argument("--into", type=Path, help="the folder of results.json and RESULTS.md; without it, only print")
    arguments = parser.parse_args()
    parses, runs = [parsed(each) for each in arguments.parsed], [at_once(each) for each in arguments.at_once]
    results.show("cohorts", section(parses, runs), arguments.into)
    return 0


def write_registry(folder: Path, cohorts: int) -> None:
    """Write so many daily cohorts, each as the first of the shipped registry, into a copy of include/."""
    path = folder / "include" / "cohorts.yaml"
    text = yaml.safe_load(path.read_text(encoding="utf-8"))
    first = text["default_cohort"]
    entry = text["cohorts"][first]
    names = [first, *(f"c{number:04d}" for number in range(1, cohorts))]
    made = {name: copy.deepcopy(entry) | {"property": entry.get("property", first), "daily": True} for name in names}
    path.write_text(yaml.safe_dump(text | {"cohorts": made}, sort_keys=False), encoding="utf-8")


def parsed(cohorts: int) -> dict[str, Any]:
    """Seconds of CPU in which dags/ is parsed with so many cohorts: the medians."""
    with tempfile.TemporaryDirectory(prefix="cohorts-") as place:
        folder = Path(place)
        for name in ("dags", "include"):
            shutil.copytree(config.ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        write_registry(folder, cohorts)
        environ = airflow.environment(folder / "airflow", {}, dags=folder / "dags")
        airflow.migrate(environ)
        rounds = []
        for _ in range(ROUNDS):
            command = [sys.executable, "-c", PARSE, str(cohorts)]
            done = subprocess.run(command, cwd=config.ROOT, env=environ, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr[-3000:])
            rounds.append(json.loads(done.stdout.splitlines()[-1]))
    return {"cohorts": cohorts} | {name: statistics.median(each[name] for each in rounds) for name in ("all", "task")}


def at_once(cohorts: int) -> dict[str, Any]:
    """Seconds from the instant until the last of so many runs has its segment."""
    with tempfile.TemporaryDirectory(prefix="cohorts-") as place, postgresql() as database_url:

        def before(folder: Path) -> None:
            write_registry(folder, cohorts)

        with running(Path(place), database_url=database_url, imports_first=False, before=before) as up:
            up.pinpoint(import_seconds=1)
            dag_ids = ["cohort_to_segment", *(f"cohort_to_segment__c{number:04d}" for number in range(1, cohorts))]
            wait_until(lambda: _listed(up) >= cohorts, f"{cohorts} DAGs are listed", up)
            began = time.monotonic()
            for dag_id in dag_ids:
                up.unpause(dag_id)
            wait_until(lambda: _ended(up) == cohorts, "all runs have ended", up, seconds=3_600)
            seconds = time.monotonic() - began
            runs = [run for dag_id in dag_ids for run in up.runs(dag_id)]
    states = {run["state"] for run in runs}
    if states != {"success"}:
        raise SystemExit(f"runs ended {states}")
    return {"cohorts": cohorts, "seconds": seconds}


def _listed(up: Up) -> int:
    return int(up.get("/dags", limit=1, dag_id_pattern="cohort_to_segment%")["total_entries"])


def _ended(up: Up) -> int:
    found = up.get("/dags/~/dagRuns", limit=1, state=["success", "failed"], dag_id_pattern="cohort_to_segment%")
    return int(found["total_entries"])


def section(parses: list[dict[str, Any]], runs: list[dict[str, Any]]) -> dict[str, Any]:
    """A row for each number of cohorts."""
    rows = [
        [f"dags/ is parsed, {each['cohorts']:,} daily cohorts", f"{each['all']:.2f} s of CPU",
         f"{each['all'] / each['cohorts'] * 1e3:.1f} ms"]
        for each in parses
    ]  # fmt: skip
    rows += [
        [f"a task's process makes its own DAG of {each['cohorts']:,}", f"{each['task']:.2f} s of CPU", ""]
        for each in parses
    ]
    rows += [
        [f"{each['cohorts']:,} daily cohorts at one instant, until the last segment", f"{each['seconds']:.0f} s",
         f"{each['seconds'] / each['cohorts']:.1f} s"]
        for each in runs
    ]  # fmt: skip
    machine = results.machine()
    text = (
        f"{datetime.now(UTC):%Y-%m-%d}, {machine['cores']} cores of {machine['cpu']}, load"
        f" {os.getloadavg()[0]:.1f} at the end. DAGs are parsed {ROUNDS} times, medians."
    )
    return {"text": text, "header": ["", "takes", "each cohort"], "rows": rows, "raw": {"parsed": parses, "runs": runs}}


if __name__ == "__main__":
    sys.exit(main())
