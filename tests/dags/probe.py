"""What a DAG processor sees of folders of DAG files, as JSON: run in a process of its own, with sockets blocked."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest_socket

pytest_socket.disable_socket()  # before Airflow is imported, so that nothing can have kept the real one

from airflow import plugins_manager  # noqa: E402 - after sockets are blocked
from airflow.dag_processing.dagbag import DagBag  # noqa: E402 - as above
from airflow.sdk import BaseSensorOperator  # noqa: E402 - as above
from airflow.sdk.definitions._internal.dag_parsing_context import (  # noqa: E402 - as above
    _airflow_parsing_context_manager,
)


def parse(folder: str) -> dict[str, Any]:
    start = time.perf_counter()
    bag = DagBag(folder)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "import_errors": bag.import_errors, "dags": {d.dag_id: facts(d) for d in _dags(bag)}}


def of_a_task(folder: str, dag_id: str) -> list[str]:
    """The DAGs of a folder in the process of a task of this DAG."""
    with _airflow_parsing_context_manager(dag_id=dag_id, task_id="plan"):
        return list(parse(folder)["dags"])


def facts(dag: Any) -> dict[str, Any]:
    return {
        "paused": dag.is_paused_upon_creation,
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "tags": sorted(dag.tags),
        "doc": dag.doc_md,
        "tasks": [task.task_id for task in dag.topological_sort()],
        "groups": {
            name: sorted(group.children) for name, group in dag.task_group.get_task_group_dict().items() if name
        },
        "edges": {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks},
        "before": {task.task_id: getattr(_before(task), "__name__", None) for task in dag.tasks},
        "sensors": {
            task.task_id: {
                "poke_interval": task.poke_interval,
                "timeout": task.timeout,
                "execution_timeout": task.execution_timeout and task.execution_timeout.total_seconds(),
            }
            for task in dag.tasks
            if isinstance(task, BaseSensorOperator)
        },
        "memory_mb": {task.task_id: task.memory_mb for task in dag.tasks if hasattr(task, "memory_mb")},
        "one_at_a_time": [task.task_id for task in dag.tasks if task.max_active_tis_per_dag == 1],
        "params": {
            name: {"default": param.value, "description": param.description, **param.schema}
            for name, param in dag.params.items()
        },
    }


def _before(task: Any) -> Any:
    """The `pre_execute` that a task was given; a mapped one has it for its instances."""
    return task.partial_kwargs.get("pre_execute") if task.is_mapped else task._pre_execute_hook


def _dags(bag: Any) -> list[Any]:
    return [bag.dags[dag_id] for dag_id in sorted(bag.dags)]


def plugin_modules() -> list[str]:
    """The modules that came from the plugins folder, but for those imported under their own full name."""
    folder = os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"]
    return sorted(
        name
        for name, module in sys.modules.items()
        if (getattr(module, "__file__", None) or "").startswith(folder) and name.split(".")[0] != "cohort_flywheel"
    )


def sockets_blocked() -> bool:
    try:
        socket.socket().close()
    except pytest_socket.SocketBlockedError:
        return True
    return False


def main(result: Path, folders: list[str]) -> None:
    plugins_manager.ensure_plugins_loaded()
    loaded = [name for name in sys.modules if name.split(".")[0] == "cohort_flywheel"]
    found = {
        "loaded_as_plugins": loaded + plugin_modules(),
        "plugin_errors": plugins_manager.get_import_errors(),
        "folders": [parse(folder) for folder in folders],
        "of_a_task": of_a_task(folders[1], "cohort_to_segment__ea_altruism"),
        "sockets_blocked": sockets_blocked(),
        "modules": sorted({name.split(".")[0] for name in sys.modules}),
    }
    result.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
