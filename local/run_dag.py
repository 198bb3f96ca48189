"""Run a DAG in one process on a new metadata database: the Airflow part of `make demo`.

Airflow's import and its database take as long as the servers' start, so both start at once: this process reads the
servers' settings, `{"environment": {…}, "conf": {…}}`, from a line of standard input, once it is ready to run.
"""

from __future__ import annotations

import json
import os
import sys

from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.execution_time.supervisor import in_process_api_server
from airflow.utils.db import initdb


def main() -> int:
    """Run the DAG of the dags folder in the first argument, deferral included; return 0 if the run succeeded."""
    initdb()
    bag = DagBag()
    for file, error in bag.import_errors.items():
        print(f"{file}: {error}")
    dag = bag.dags[sys.argv[1]]
    _ = in_process_api_server().app  # dag.test's own; it is kept, and making it takes ten seconds
    request = json.loads(sys.stdin.readline())
    os.environ.update(request["environment"])
    run = dag.test(run_conf=request["conf"])
    return 0 if run.state == "success" else 1


if __name__ == "__main__":
    sys.exit(main())
