"""Attempts of the bulk load operator, and two small files."""

from __future__ import annotations

from typing import Any

from cohort_flywheel.graph_load.operators import NeptuneBulkLoadOperator

PLAYERS = "~id,~label,playerId:String,ea_atrisk:Int\np1,player,ann,3\np2,player,bob,1\n"
EDGES = "~id,~label,~from,~to\ne1,knows,p1,p2\n"
#: Looks often, and longer than any job takes on a busy machine.
WAIT: dict[str, Any] = {"waiter_delay": 0.02, "waiter_max_attempts": 30_000}


class Killed(BaseException):
    """What ends a process at once."""


class Attempts:
    """Attempts of a task: `run(files, mode="AUTO")`. All attempts are of one run, unless a run_id is given."""

    def __init__(self, context: Any, role_arn: str, state_bucket: str) -> None:
        self._context = context
        self._common: dict[str, Any] = {"iam_role_arn": role_arn, "state_bucket": state_bucket}
        #: that of the last attempt
        self.operator: Any = None

    def __call__(self, files: list[Any], *, run_id: str = "manual__1", **arguments: Any) -> Any:
        defaults = WAIT | {"deferrable": False}
        self.operator = NeptuneBulkLoadOperator(
            task_id="load_files", sources=files, **self._common | defaults | arguments
        )
        return self.operator.execute(self.context(run_id))

    def context(self, run_id: str = "manual__1") -> Any:
        return self._context(dag_id="graph_load", task_id="load_files", run_id=run_id)
