"""One day of the real DAG files in one process (`local/dag_runs.py`): what each task asks AWS for, and its CPU."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import yaml
from botocore.endpoint import Endpoint

from local import airflow, config, history_runs
from local.aws_sessions import shared
from local.dag_runs import DagRun, load_dags

#: The DAGs that run after the launch.
MORE = ("cohort_figures", "cohort_what_if", "cohort_cleanup")


def newest_as_of() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def run(
    folder: Path, registry: Mapping[str, Any], variables: dict[str, str], as_of: datetime, event_bucket: str
) -> dict[str, Any]:
    """Run the launch of a cohort, and with `engagement` in the registry its DAG and the others, in a new process.

    Returns `{"tasks": {name: {"cpu_s": …, "requests": {name: number}}}, "peak_mb": …}`. Raises SystemExit with
    the end of the log.
    """
    shutil.copytree(config.ROOT / "dags", folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(config.ROOT / "include", folder / "include")
    (folder / "include" / "cohorts.yaml").write_text(yaml.safe_dump(dict(registry), sort_keys=False), encoding="utf-8")
    variables |= {
        "AIRFLOW_VAR_COHORT_FLYWHEEL_EVENT_BUCKET": event_bucket,
        "AIRFLOW_VAR_COHORT_FLYWHEEL_SES_CONFIGURATION_SET": config.CONFIGURATION_SET,
    }
    environ = airflow.environment(folder / "airflow", variables, dags=folder / "dags")
    log, answer = folder / "day.log", folder / "answer.json"
    command = [sys.executable, "-m", "tests.benchmarks.day", as_of.isoformat(), str(answer)]
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, cwd=config.ROOT, env=environ, stdout=file, stderr=file, check=False)
    if done.returncode:
        raise SystemExit(log.read_text(encoding="utf-8")[-3000:])
    found: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return found


class Measured(DagRun):
    """A run that notes what each task asks AWS for, and its CPU: the sums over its instances."""

    asked: ClassVar[Counter[str]] = Counter()
    tasks: ClassVar[dict[str, dict[str, Any]]] = {}

    def _execute(self, task: Any, now: datetime, index: int) -> str:
        before, cpu = Counter(self.asked), time.process_time()
        try:
            return super()._execute(task, now, index)
        finally:
            cost = self.tasks.setdefault(f"{self.dag.dag_id}: {task.task_id}", {"cpu_s": 0.0, "requests": {}})
            cost["cpu_s"] += time.process_time() - cpu
            cost["requests"] = dict(Counter(cost["requests"]) + (self.asked - before))


def main() -> int:
    as_of, answer = datetime.fromisoformat(sys.argv[1]), Path(sys.argv[2])
    for place, name, value in shared():
        setattr(place, name, value)
    send = Endpoint.make_request

    def make_request(self: Endpoint, operation_model: Any, request_dict: Any) -> Any:
        Measured.asked[f"{operation_model.service_model.service_name} {operation_model.name}"] += 1
        return send(self, operation_model, request_dict)

    Endpoint.make_request = make_request  # in this process alone
    sys.path.insert(0, os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"])
    dags = load_dags(Path(os.environ["AIRFLOW__CORE__DAGS_FOLDER"]))
    conf = {"cohort": history_runs.COHORTS[0], "threshold": history_runs.LAUNCH_THRESHOLD, "campaign": "launch"}
    launch = Measured(dags[history_runs.DAG_ID], as_of, conf, "ana", history_runs.APPROVER)
    engagement = Measured(dags["engagement"], as_of) if "engagement" in dags else None
    if engagement:
        # not measured: they count the history, as they have done after each earlier result, and clean it up
        DagRun(dags["cohort_figures"], as_of, {}, "ana").go(as_of + timedelta(minutes=1))
        DagRun(dags["cohort_cleanup"], as_of, {"dry_run": False}, "ana").go(as_of + timedelta(minutes=1))
        engagement.go(as_of + timedelta(minutes=2), until="update_suppressions")
    launch.go(as_of + timedelta(hours=9))
    if engagement:
        engagement.go(as_of + timedelta(hours=10))
        for dag_id in MORE:
            Measured(dags[dag_id], as_of, {}, "ana").go(as_of + timedelta(hours=11))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer.write_text(json.dumps({"tasks": Measured.tasks, "peak_mb": peak}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
