"""The last task of a run, whatever happened before it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk import BaseOperator

from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.names import report_file_name, report_folder
from cohort_flywheel.operators.claim import word
from cohort_flywheel.operators.notify import tell_of_the_untold
from cohort_flywheel.operators.outside import outside
from cohort_flywheel.operators.schedule import Clock, utc_now
from cohort_flywheel.operators.settings import read_settings
from cohort_flywheel.registry import Notify
from cohort_flywheel.report import make_report, table

if TYPE_CHECKING:
    from airflow.sdk import Context


class CohortReportOperator(BaseOperator):
    """Write what the run reached to the state bucket as JSON, and as a table to the log.

    Meant as a teardown, so that it runs after failures and skips, and a failed run stays failed. Fails when the
    sums do not hold. Takes the output of a task only where the task succeeded in this run: after a clear, one that
    is skipped still has its earlier output. Returns (each also an XCom of its own) `report_url` and `outcome`.

    :param plan: the task_id of CohortPlanOperator.
    :param extract: the task_id of GremlinToS3Operator.
    :param checked: the task_id of CohortLimitsOperator.
    :param imported: the task_id of CohortResultOperator.
    :param aws_conn_id: the Airflow connection used for AWS credentials. (templated)
    :param notify: who is told of a task that failed without a last word.
    :param clock: gives the time, with its zone.
    """

    template_fields = ("aws_conn_id",)
    ui_color = "#c9e8c4"

    def __init__(
        self,
        *,
        plan: str,
        extract: str,
        checked: str,
        imported: str,
        aws_conn_id: str | None = "aws_default",
        notify: Notify | None = None,
        clock: Clock = utc_now,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan, self.extract, self.checked, self.imported = plan, extract, checked, imported
        self.aws_conn_id, self.notify, self.clock = aws_conn_id, notify or Notify(), clock

    def _not_before(self, task_id: str) -> set[str]:
        """This task, and those that do not come before it: whether they have run yet is chance."""
        dag = self.get_dag()
        return set(dag.task_ids) - self.get_flat_relative_ids(upstream=True) if dag else {task_id}

    def execute(self, context: Context) -> dict[str, Any]:
        with outside("Clearing this task is safe: it writes the same report again.") as done:
            dag_run, ti = context["dag_run"], context["ti"]
            states = ti.get_task_states(dag_run.dag_id, run_ids=[dag_run.run_id]).get(dag_run.run_id, {})
            tasks = {task: word(state) for task, state in states.items() if task not in self._not_before(ti.task_id)}
            run = {
                "dag_id": dag_run.dag_id,
                "run_id": dag_run.run_id,
                "run_type": word(dag_run.run_type),
                "started": dag_run.start_date.isoformat() if dag_run.start_date else None,
                "reported": self.clock().isoformat(),
                "triggered_by": getattr(dag_run, "triggering_user_name", None),
            }
            plan, extract, imported = (
                ti.xcom_pull(task_ids=task, key=key) if tasks.get(task) == "success" else None
                for task, key in ((self.plan, "return_value"), (self.extract, "facts"), (self.imported, "return_value"))
            )
            # the segment as it was put together, and the extract, which another run's snapshot may have changed
            judged = tasks.get(self.checked) in ("success", "failed") and ti.xcom_pull(
                task_ids=self.checked, key="judged"
            )
            if judged:
                extract = judged["extract"]
            report = make_report(run, tasks, plan=plan, extract=extract, judged=judged or None, imported=imported)
            self.log.info("\n%s", table(report))
            if plan:
                bucket, folder = plan["state_bucket"], plan["report_folder"]
            else:  # the plan refused the run, so there is no name to file it under but the run's own
                bucket, folder = (
                    read_settings(["state_bucket"])["state_bucket"],
                    report_folder(dag_run.dag_id),
                )
            key = folder + report_file_name(dag_run.dag_id, dag_run.run_id)
            body = json.dumps(report, indent=2, sort_keys=True)
            S3Hook(aws_conn_id=self.aws_conn_id).load_string(body, key, bucket, replace=True)
            url = f"s3://{bucket}/{key}"
            done.append(f"the report was put at {url}")
            if report["faults"]:
                raise FlywheelError(
                    f"the figures do not add up: {'; '.join(report['faults'])}; send to nobody, and ask for help"
                )
            tell_of_the_untold(self.notify, context, tasks)
        self.log.info("the report is at %s", url)
        return {"report_url": url, "outcome": report["outcome"]}
