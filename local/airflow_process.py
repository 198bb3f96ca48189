"""One of Airflow's processes. With IMPORT_FIRST=1, the scheduler imports what tasks import before it forks them.

A run then takes two thirds of the CPU, but its tasks do not see an edit of the package made since: for tests.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pkgutil import walk_packages

from airflow.__main__ import main

from local.config import ROOT

#: What Airflow imports for each task.
OF_AIRFLOW = (
    "airflow.dag_processing.dagbag",
    "airflow.executors.local_executor",
    "airflow.providers.amazon.aws.hooks.base_aws",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
)


def import_for_tasks() -> None:
    """Import the package and what Airflow imports for a task."""
    plugins = ROOT / "plugins"
    sys.path.append(str(plugins))
    for name in [*OF_AIRFLOW, *(module.name for module in walk_packages([str(plugins)]))]:
        import_module(name)


if __name__ == "__main__":
    if sys.argv[1] == "scheduler" and os.environ.get("IMPORT_FIRST"):
        import_for_tasks()
    sys.exit(main())  # type: ignore[no-untyped-call]  # Airflow's command has no types
