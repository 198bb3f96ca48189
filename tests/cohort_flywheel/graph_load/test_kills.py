"""Wherever a task of a graph load is killed, clearing it ends in one load of each file.

The tasks run here one after the other in one process. After its n-th call to the outside a task makes no other one, as
a killed process does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.client import BaseClient
from gremlin_python.process.graph_traversal import GraphTraversalSource

from cohort_flywheel.graph_load.check_load_operator import GraphLoadCheckOperator
from cohort_flywheel.graph_load.copy_files_operator import GraphFilesCopyOperator
from cohort_flywheel.graph_load.count_labels_operator import GraphCountLabelsOperator
from cohort_flywheel.graph_load.load_plan_operator import GraphLoadPlanOperator
from cohort_flywheel.graph_load.operators import NeptuneBulkLoadOperator
from cohort_flywheel.graph_load.validate_files_operator import GraphFilesValidateOperator
from cohort_flywheel.hooks.neptune import NeptuneGremlinHook
from local import neptune_csv
from local.config import ROOT
from tests.cohort_flywheel.graph_load.load_attempts import WAIT
from tests.local.neptune_loader_service import BUCKET, Loader, graph_digest

FOLDER = "graph/cohort_modeler/"
PLAYERS = "~id,~label,playerId:String,ea_atrisk:Int\np1,player,ann,3\np2,player,bob,1\n"
EDGES = "~id,~label,~from,~to\ne1,knows,p1,p2\n"
WRITES = {"PutObject", "StartLoaderJob", "DeleteObject"}

Task = Callable[[dict[str, Any]], Any]
#: The tasks in their order; each gets the outputs of those before it.
TASKS: dict[str, Task] = {
    "validate_files": lambda done: GraphFilesValidateOperator(task_id="validate_files", plan=done["plan_load"]),
    "copy_files": lambda done: GraphFilesCopyOperator(
        task_id="copy_files", plan=done["plan_load"], files=done["validate_files"]["files"]
    ),
    "count_before": lambda _: GraphCountLabelsOperator(task_id="count_before"),
    "load_files": lambda done: NeptuneBulkLoadOperator(
        task_id="load_files", sources=done["copy_files"]["sources"], iam_role_arn=done["plan_load"]["iam_role_arn"],
        s3_bucket_region=done["plan_load"]["region"], mode=done["plan_load"]["mode"],
        update_single_cardinality_properties=done["plan_load"]["single"], deferrable=False, **WAIT,
    ),
    "check_load": lambda done: GraphLoadCheckOperator(
        task_id="check_load", plan=done["plan_load"], files=done["copy_files"]["files"], before=done["count_before"],
        loaded=done["load_files"],
    ),
}  # fmt: skip


class KilledError(Exception):
    """The process is dead: it makes no call."""


@contextmanager
def killed_after(number: int) -> Iterator[list[str]]:
    """Let the process die after so many calls to the outside; yields the calls."""
    calls, dead = list[str](), False

    def count(operation: str) -> None:
        nonlocal dead
        if operation == "GetLoaderJobStatus" and calls[-1] == operation:
            return  # one wait, however often it looks
        calls.append(operation)
        if len(calls) == number:
            dead = True
            raise KilledError

    def call(client: Any, operation: str, parameters: Any) -> Any:
        if dead:
            raise KilledError
        answer = real_call(client, operation, parameters)
        count(operation)
        return answer

    def stream(hook: NeptuneGremlinHook, traversal: Any) -> Iterator[Any]:
        if dead:
            raise KilledError
        yield from real_stream(hook, traversal)
        count("Gremlin")

    real_call, real_stream = BaseClient._make_api_call, NeptuneGremlinHook.stream
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseClient, "_make_api_call", call)
        patch.setattr(NeptuneGremlinHook, "stream", stream)
        yield calls


class Run:
    """A run of the tasks, each of which may be tried again."""

    def __init__(self, registry: Path, make_context: Any, run_id: str) -> None:
        self._registry, self._make_context, self._run_id = registry, make_context, run_id
        self.done: dict[str, Any] = {}

    def go(self) -> None:
        """Go on with the first task that has not succeeded."""
        tasks: dict[str, Task] = {"plan_load": self._plan, **TASKS}
        for task_id, make in tasks.items():
            if task_id not in self.done:
                self.done[task_id] = make(self.done).execute(self._context(task_id))

    def _context(self, task_id: str) -> Any:
        params = {"load": "cohort_modeler", "dry_run": False}
        made = self._make_context(dag_id="graph_load", task_id=task_id, run_id=self._run_id)
        return made | {"params": params, "dag": SimpleNamespace(params=params)}

    def _plan(self, _: dict[str, Any]) -> Any:
        return GraphLoadPlanOperator(task_id="plan_load", registry=self._registry)


@pytest.mark.parametrize(
    "step", [pytest.param(1, marks=pytest.mark.nightly, id="each call"), pytest.param(3, id="some calls")]
)
def test_killed_after_any_call_there_is_one_load_of_each_file(
    step: int, airflow_env: dict[str, str], state_bucket: str, loader: Loader, g: GraphTraversalSource, context: Any,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str], None],
) -> None:  # fmt: skip
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_STATE_BUCKET", state_bucket)
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_GRAPH_LOAD_BUCKET", BUCKET)
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_GRAPH_LOAD_ROLE_ARN", loader.role_arn)
    registry = tmp_path / "cohorts.yaml"
    text = (ROOT / "include" / "cohorts.yaml").read_text(encoding="utf-8")
    names = "".join(f"      - {name}\n" for name in neptune_csv.LOAD_ORDER)
    assert names in text
    text = text.replace(names, "      - players.csv\n      - edges.csv\n")
    text = text.replace('[playerId, status, "ea_*", "stat_*", name]', '[playerId, "ea_*"]')
    registry.write_text(text, encoding="utf-8")
    loader.put(f"{FOLDER}players.csv", PLAYERS)
    loader.put(f"{FOLDER}edges.csv", EDGES)

    def begin(run_id: str) -> Run:
        loader.control(reset=True, graph="scratch", load_seconds=0)
        g.V().drop().iterate()
        return Run(registry, context, run_id)

    def check(run: Run, where: str) -> None:
        loaded = [job["source"].rpartition("/")[2] for job in loader.jobs() if job["records"]]
        assert loaded == ["players.csv", "edges.csv"], where
        assert (run.done["check_load"]["loaded"], graph_digest(g)) == (7, expected), where
        kept = loader.s3.list_objects_v2(Bucket=state_bucket, Prefix="staged/graph_loads/cohort_modeler/")
        assert kept["KeyCount"] == 0, f"{where}: the copy stays"

    undisturbed = begin("manual__0")
    with killed_after(0) as calls:
        undisturbed.go()
    expected = graph_digest(g)
    check(undisturbed, "undisturbed")
    number = next(number for number, call in enumerate(calls, start=1) if call in WRITES)  # nothing is there before it
    while True:
        run = begin(f"manual__{number}")
        with killed_after(number) as calls, suppress(Exception):
            run.go()
        where = f"killed after call {len(calls)}, {calls[-1]}"
        if len(calls) < number:  # a run has two calls more if a job runs at the first look at it
            break
        assert "check_load" not in run.done, where
        run.go()
        check(run, where)
        number += step
    check(run, where)
    assert number > 30
    figure(
        f"graph load: killed after {'each' if step == 1 else 'a third'} of {number - 1} calls, one load of each file"
    )
