"""What Airflow makes of the home that it is started in, as JSON: its plugins, its DAGs, and one run of some of them.

Started with an Airflow's Python in an Airflow home laid out as MWAA lays it out; nothing of the repository is near.
A task may not reach the metadata database, nor may a trigger, as in a worker and a triggerer of Airflow 3.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import airflow
from airflow import plugins_manager
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.definitions import dag as dag_module
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.supervisor import in_process_api_server
from airflow.utils.db import initdb
from sqlalchemy import event
from sqlalchemy.engine import Engine

DATABASE_IS_BLOCKED = "the metadata database is not for tasks"
guarded = threading.local()  # dag.test's API server asks the database too, in threads of its own
runs: list[str] = []


def main(answer: Path, asked: dict[str, dict[str, Any]]) -> None:
    """Run each DAG of `asked` with its conf, and write down what happened."""
    begin = time.monotonic()
    plugins_manager.ensure_plugins_loaded()
    by_the_loader = sorted(name for name in sys.modules if name.partition(".")[0] == "cohort_flywheel")
    initdb()
    event.listen(Engine, "before_cursor_execute", refuse)
    task_runner.run = without_database(task_runner.run)
    dag_module._run_inline_trigger = without_database(dag_module._run_inline_trigger)

    bag = DagBag()
    _ = in_process_api_server().app
    ready = time.monotonic()
    ended = {dag_id: run(bag.dags[dag_id], conf) for dag_id, conf in asked.items() if dag_id in bag.dags}
    found = {
        "airflow": airflow.__version__,
        "plugins": sorted(plugin["name"] for plugin in plugins_manager.get_plugin_info()),
        "plugin_errors": plugins_manager.get_import_errors(),
        "ours_by_the_loader": by_the_loader,
        "import_errors": {Path(file).name: error for file, error in bag.import_errors.items()},
        "dags": {dag.dag_id: dag.fileloc for dag in bag.dags.values()},
        "runs": ended,
        "without_database": len(runs),
        "files": sorted({str(file) for m in list(sys.modules.values()) if (file := getattr(m, "__file__", None))}),
        "path": sys.path,
        "seconds": {"ready": ready - begin, "run": time.monotonic() - ready},
    }
    answer.write_text(json.dumps(found), encoding="utf-8")


def run(dag: Any, conf: dict[str, Any]) -> dict[str, Any]:
    made = dag.test(run_conf=conf)
    return {"state": str(made.state), "tasks": {ti.task_id: str(ti.state) for ti in made.get_task_instances()}}


def without_database(function: Callable[..., Any]) -> Callable[..., Any]:
    def guard(*args: Any, **kwargs: Any) -> Any:
        runs.append(function.__name__)
        guarded.now = True
        try:
            return function(*args, **kwargs)
        finally:
            guarded.now = False

    return guard


def refuse(*_: Any, **__: Any) -> None:
    if getattr(guarded, "now", False):
        raise RuntimeError(DATABASE_IS_BLOCKED)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
