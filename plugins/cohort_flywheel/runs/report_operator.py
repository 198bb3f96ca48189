"""The last task of a run, which also runs after failures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow.sdk import AssetAlias, BaseOperator
from pydantic import TypeAdapter

from cohort_flywheel.campaign.launch import (
    CampaignOutputs,
    FollowedCampaign,
    PreparedCampaign,
    SentMails,
    StartedCampaign,
)
from cohort_flywheel.campaign.launch_store import PARTIAL_OUTPUT, recorded_answer
from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.records import Json, Record
from cohort_flywheel.config.registry_head import Notify
from cohort_flywheel.config.variables import StateSettings, read_settings
from cohort_flywheel.destinations.import_result import ImportResult
from cohort_flywheel.engagement.effect_store import effect_of_cohort
from cohort_flywheel.engagement.suppressions import AwaitedSuppressions
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.lock_store import enum_value
from cohort_flywheel.runs.names import report_file_name, report_folder
from cohort_flywheel.runs.notifications import notify_of_success, notify_unreported_failures
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.report import Report, ReportedRun, ReportOutput, make_report, table
from cohort_flywheel.runs.result_operator import RESULTS
from cohort_flywheel.runs.schedule import Clock, utc_now
from cohort_flywheel.segment.outputs import Extract, JudgedSegment

if TYPE_CHECKING:
    from airflow.sdk import Context


#: The alias by which `report` says that a campaign was launched.
LAUNCHES = AssetAlias("cohort-flywheel-launches")
#: The XCom of the report, for the tab Report of a run; without the parts of the segment file, of which there are many.
REPORT = "report"

_LAUNCHED: TypeAdapter[SentMails | StartedCampaign] = TypeAdapter(SentMails | StartedCampaign)


class CohortReportOperator(BaseOperator):
    """Write the report of the run to the state bucket as JSON, and as a table to the log.

    Use it as a teardown, so that it runs after failures and skips, and a failed run remains failed. Fails if the sums
    do not hold. Reads the output of a task only if the task succeeded in this run: after a clear, a skipped task still
    has its earlier output. Returns (each also an XCom of its own) `report_url` and `outcome`; the
    XCom `report` has the report.

    :param aws_conn_id: the Airflow connection used for AWS credentials. (templated)
    :param notify: the notifiers for failed tasks without a notification, and for a run that succeeded.
    :param clock: gives the time, with its zone.
    """

    template_fields = ("aws_conn_id",)
    ui_color = "#c9e8c4"

    def __init__(
        self,
        *,
        aws_conn_id: str | None = "aws_default",
        notify: Notify | None = None,
        clock: Clock = utc_now,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.aws_conn_id = aws_conn_id
        self.notify = notify or Notify()
        self.clock = clock

    def execute(self, context: Context) -> Json:
        with describe_failure(
            "Clearing this task is safe: it writes the same report and notifies again."
        ) as side_effects:
            report, url = write_report(self, context, self.clock, self.aws_conn_id)
            self.log.info("\n%s", table(report))
            side_effects.append(f"the report was put at {url}")
            counts = report.model_dump(mode="json", exclude={"segment": {"parts"}})
            context["ti"].xcom_push(key=REPORT, value=counts | {"report_url": url})
            if LAUNCHES in self.outlets and report.plan and report.campaign and report.campaign.launched:
                context["outlet_events"][LAUNCHES].add(RESULTS, extra={"cohort": report.plan.cohort})
            if report.faults:
                raise FlywheelError(
                    f"report consistency check failed: {'; '.join(report.faults)}; do not launch, and file a bug",
                    code=Code.DO_NOT_ADD_UP,
                )
            notify_unreported_failures(self.notify, context, report.tasks)
            notify_of_success(self.notify, context, report, url)
        self.log.info("the report is at %s", url)
        return ReportOutput(report_url=url, outcome=report.outcome).model_dump(mode="json")


def write_report(
    task: BaseOperator,
    context: Context,
    clock: Clock = utc_now,
    aws_conn_id: str | None = "aws_default",
) -> tuple[Report, str]:
    """Write the report of the tasks before this one; return it and its S3 address."""
    dag_run, ti = context["dag_run"], context["ti"]
    states = ti.get_task_states(dag_run.dag_id, run_ids=[dag_run.run_id]).get(dag_run.run_id, {})
    later = _not_before(task)
    tasks = {name: enum_value(state) for name, state in states.items() if name not in later}
    run = ReportedRun(
        dag_id=dag_run.dag_id,
        run_id=dag_run.run_id,
        run_type=enum_value(dag_run.run_type),
        started=dag_run.start_date.isoformat() if dag_run.start_date else None,
        reported=clock().isoformat(),
        triggered_by=getattr(dag_run, "triggering_user_name", None),
    )

    def output(name: str, key: str = "return_value", states: tuple[str, ...] = ("success",)) -> Json | None:
        return ti.xcom_pull(task_ids=name, key=key) if tasks.get(name) in states else None

    def output_or_partial(name: str) -> Json | None:
        return output(name) or output(name, PARTIAL_OUTPUT, ("failed",))

    plan, s3 = _read(Plan, output("plan")), S3Hook(aws_conn_id=aws_conn_id)
    extract = _read(Extract, output("extract", "facts"))
    # the combined segment, and the extract, which check_limits may have made again from another run's snapshot
    judged = _read(JudgedSegment, output("check_limits", "judged", ("success", "failed")))
    prepared = _read(PreparedCampaign, output("prepare_campaign"))
    answer, launched = output("approve_campaign", "answer", ("success", "failed")), output_or_partial("launch_campaign")
    report = make_report(
        run,
        tasks,
        plan=plan,
        extract=judged.extract if judged else extract,
        judged=judged,
        imported=_read(ImportResult, output("record_result")),
        campaign=CampaignOutputs(
            prepared=prepared,
            answer=recorded_answer(answer, s3, plan, prepared) if plan and prepared else None,
            launched=_LAUNCHED.validate_python(launched) if launched else None,
            followed=_read(FollowedCampaign, output_or_partial("follow_campaign")),
        ),
        suppressions=_read(AwaitedSuppressions, output("wait_for_suppressions")),
        effect=effect_of_cohort(s3, plan) if plan else None,
    )
    if plan:
        bucket, folder = plan.state_bucket, plan.report_folder
    else:  # the plan failed, so the report is stored under the ids of the run
        bucket, folder = str(read_settings(StateSettings)["state_bucket"]), report_folder(dag_run.dag_id)
    key = folder + report_file_name(dag_run.dag_id, dag_run.run_id)
    body = json.dumps(report.model_dump(mode="json"), indent=2, sort_keys=True)
    s3.load_string(body, key, bucket, replace=True)
    return report, f"s3://{bucket}/{key}"


def _read[Model: Record](model: type[Model], output: Json | None) -> Model | None:
    return model.model_validate(output) if output else None


def _not_before(task: BaseOperator) -> set[str]:
    """Return this task and the tasks that are not upstream of it: they may or may not have run yet."""
    dag = task.get_dag()
    return set(dag.task_ids) - task.get_flat_relative_ids(upstream=True) if dag else {task.task_id}
