"""Three players: whose the time of a run is. `python -m tests.benchmarks.small_case`

Each run is of another past day with `source: live`, so that each makes a segment and a job of its own. A task's log
says when its own code began (the DAG file is parsed) and ended (what Airflow calls Post Execute). The rest of the time
between a task's start and its end is Airflow's, and so is the time in which no task is at work. The import job is the
service's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.airflow_up import DAG_ID, Up, running, wait_until
from tests.benchmarks import results

RUNS = 6  # the first is not counted: what it imports is compiled
IMPORT_TASK = "wait_for_import_job"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=results.FOLDER, help="the folder of results.json and RESULTS.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="small-case-") as folder, running(Path(folder), imports_first=False) as up:
        up.pinpoint(import_seconds=1)
        up.unpause(DAG_ID)
        wait_until(lambda: bool(up.runs(run_type="scheduled")), "the DAG has its scheduled run", up)
        up.end(up.runs(run_type="scheduled")[0]["dag_run_id"])
        found = [one(up, days) for days in range(2, RUNS + 2)][1:]
    results.add_section("small_case", section(found), arguments.into)
    print(json.dumps(found, indent=1))
    return 0


def one(up: Up, days: int) -> dict[str, Any]:
    """Seconds of one run of three players, by whose they are."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    date = midnight - timedelta(days=days, hours=19)  # five in the morning: no instant of the schedule
    conf = {"cohort": "ea_atrisk", "threshold": 2, "source": "live"}
    run_id = up.trigger(conf, logical_date=date.isoformat())
    run = up.end(run_id)
    report = up.report(run_id)
    assert (report["outcome"], report["segment"]["rows"]) == ("imported", 3), report["outcome"]
    tasks = up.get(f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances")["task_instances"]
    worked = [task for task in tasks if task["operator"] != "EmptyOperator"]  # which the scheduler does itself
    spans = sorted((instant(task["start_date"]), instant(task["end_date"])) for task in worked)
    ours = sum(own(up, run_id, task["task_id"]) for task in worked if task["task_id"] != IMPORT_TASK)
    waiting = sum((end - start).total_seconds() for start, end in spans) - sum(
        task["duration"] or 0 for task in worked if task["task_id"] != IMPORT_TASK
    )
    whole = (instant(run["end_date"]) - instant(run["start_date"])).total_seconds()
    gaps = sum(max(0.0, (after[0] - before[1]).total_seconds()) for before, after in pairwise(spans))
    return {
        "whole_s": whole,
        "ours_s": ours,
        "import_job_s": waiting,
        "between_tasks_s": gaps,
        "airflow_in_tasks_s": sum((end - start).total_seconds() for start, end in spans) - ours - waiting,
        "tasks": len(worked),
    }


def own(up: Up, run_id: str, task_id: str) -> float:
    """Seconds between the parse of the DAG file and Post Execute, by a task's log."""
    (file,) = up.home.glob(f"logs/dag_id={DAG_ID}/run_id={run_id}/task_id={task_id}/**/*.log")
    entries = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    at = {str(entry["event"]): instant(entry["timestamp"]) for entry in reversed(entries)}
    return (at["::group::Post Execute"] - at["Worker startup parse complete"]).total_seconds()


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def section(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the runs, as RESULTS.md shows them."""
    names = {
        "ours_s": "this package's own code, in all tasks",
        "airflow_in_tasks_s": "Airflow, inside the tasks: a process each, imports, the DAG file, heartbeats, XComs",
        "between_tasks_s": "Airflow, between the tasks: its scheduler",
        "import_job_s": "the import job, and the sensor that is put off and called back",
        "whole_s": "the whole run",
    }
    whole = statistics.median(run["whole_s"] for run in found)
    rows = []
    for key, name in names.items():
        value = statistics.median(run[key] for run in found)
        rows.append([name, f"{value:.1f}", f"{value / whole:.0%}"])
    machine = results.machine()
    text = (
        f"Three players, {found[0]['tasks']} tasks (the graph, the table, the limits, the import and its end are a"
        f" service each; `plan`, `record_result` and `report` are the run's first and last word), LocalExecutor and"
        f" SQLite, {len(found)} runs, medians, {datetime.now(UTC):%Y-%m-%d}, {machine['cores']} cores of"
        f" {machine['cpu']}. Parts are medians of their own, so they do not add up to the tenth."
    )
    return {"text": text, "header": ["", "seconds", "of the run"], "rows": rows, "raw": found}


if __name__ == "__main__":
    sys.exit(main())
