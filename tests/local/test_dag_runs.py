"""Runs of a DAG without a scheduler keep Airflow's rules: mapped tasks, skips, failures, several runs, questions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, PokeReturnValue, XComArg

from local.config import LocalError
from local.dag_runs import DagRun, load_dags

AS_OF = datetime(2026, 11, 22, tzinfo=UTC)
NOW = AS_OF + timedelta(minutes=5)


class Add(BaseOperator):
    """Return the sum of some numbers, and the time of its clock; fail for a sum of 13."""

    template_fields = ("numbers",)

    def __init__(self, *, numbers: Any, **kwargs: Any) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.numbers = numbers
        self.clock: Callable[[], datetime] = lambda: AS_OF

    def execute(self, context: Any) -> dict[str, Any]:
        found = sum(self.numbers)
        if found == 13:
            raise ValueError("no sum of 13")
        context["ti"].xcom_push(key="at", value=self.clock().isoformat())
        return {"sum": found, "kind": context["dag_run"].run_type}


class Numbers(BaseOperator):
    """Return the param `numbers`, one list for each of them."""

    def execute(self, context: Any) -> list[list[int]]:
        return [[number, 1] for number in context["params"]["numbers"]]


def dag() -> Any:
    with DAG("sums", schedule=None, params={"numbers": [1, 2]}) as made:
        numbers = Numbers(task_id="numbers")
        each = Add.partial(task_id="each").expand(numbers=numbers.output)
        total = Add(task_id="total", numbers=XComArg(each, key="sum"))
        report = Add(task_id="report", numbers=[1])
        report.as_teardown()
        total >> report
    return made


def test_a_mapped_task_has_its_instances_and_each_clock_is_the_callers() -> None:
    run = DagRun(dag(), AS_OF)
    run.go(NOW)
    assert set(run.states.values()) == {"success"}
    assert run.output("total") == {"sum": 5, "kind": "scheduled"}
    assert (run.output("total", "sum"), run.output("total", "at")) == (5, NOW.isoformat())


def test_a_dag_runs_again_with_other_params_and_stops_where_it_is_told() -> None:
    made = dag()
    DagRun(made, AS_OF).go(NOW)
    run = DagRun(made, AS_OF, {"numbers": [4]}, triggered_by="ana")
    run.go(NOW, until="numbers")
    assert list(run.states) == ["numbers"]
    run.go(NOW)
    assert run.output("total") == {"sum": 5, "kind": "manual"}


class Until(BaseSensorOperator):
    """Wait until three hours after the run has begun."""

    clock = staticmethod(lambda: AS_OF)

    def poke(self, context: Any) -> PokeReturnValue:
        over = self.clock() >= context["dag_run"].start_date + timedelta(hours=3)
        return PokeReturnValue(is_done=over, xcom_value=self.clock().isoformat())


def test_a_sensor_that_waits_lets_hours_pass_for_itself_alone() -> None:
    with DAG("waits", schedule=None) as made:
        Until(task_id="wait", mode="reschedule") >> Add(task_id="after", numbers=[1])
    run = DagRun(made, AS_OF)
    run.go(NOW)
    assert run.output("wait") == (NOW + timedelta(hours=3)).isoformat()
    assert run.output("after", "at") == NOW.isoformat()


def test_a_failed_task_is_named_and_the_report_runs() -> None:
    run = DagRun(dag(), AS_OF, {"numbers": [12]})
    with pytest.raises(LocalError, match="The task each of the DAG sums failed: no sum of 13"):
        run.go(NOW)
    assert run.states == {"numbers": "success", "each": "failed", "total": "upstream_failed", "report": "success"}


def test_a_question_is_answered_by_the_approver() -> None:
    with DAG("question", schedule=None) as made:
        ask = ApprovalOperator(task_id="ask", subject="May it?")
        ask >> Add(task_id="after", numbers=[1])
    run = DagRun(made, AS_OF, approver="ann")
    run.go(NOW)
    assert run.output("ask")["responded_by_user"]["name"] == "ann"
    assert run.states == {"ask": "success", "after": "success"}


def test_a_file_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken_dag.py").write_text(
        "import airflow  # for a dag\nraise ValueError('a fault')\n", encoding="utf-8"
    )
    with pytest.raises(LocalError, match=r"broken_dag\.py cannot be imported: (?s:.*)a fault"):
        load_dags(tmp_path)
