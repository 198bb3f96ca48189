"""Record the verified segment as the result of its as-of, and release the run lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.records import Json
from cohort_flywheel.destinations.import_result import ImportedSegment, RecordedImport
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.lock_store import release, this_run
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.result import Result
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.outputs import CheckedSegment
from cohort_flywheel.segment.source import is_canonical_run

if TYPE_CHECKING:
    from airflow.sdk import Context


class CohortResultOperator(BaseOperator):
    """Record a verified segment as the result of its cohort, threshold and as-of, and release the run lock.

    A run that is not canonical (`source.is_canonical_run`) records no result, so later runs are not compared with it.
    Returns (each also as a separate XCom) `result_key` (None for such a run) and the output of the destination's last
    task.

    :param plan: the output of CohortPlanOperator. (templated)
    :param checked: the output of CohortLimitsOperator. (templated)
    :param imported: the output of the destination's last task. (templated)
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    template_fields = ("plan", "checked", "imported")
    ui_color = "#c9e8c4"

    def __init__(
        self, *, plan: Json, checked: Json, imported: Json, aws_conn_id: str | None = "aws_default", **kwargs: Any
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.checked = checked
        self.imported = imported
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Json:
        with describe_failure("Clearing this task is safe: it writes the same again.") as side_effects:
            plan, checked = Plan.model_validate(self.plan), CheckedSegment.model_validate(self.checked)
            state = State(S3Hook(aws_conn_id=self.aws_conn_id), plan.state_bucket)
            key = None
            if is_canonical_run(plan):
                result = Result(
                    as_of=plan.as_of,
                    members=checked.segment.members,
                    rows=checked.segment.rows,
                    s3_url=checked.segment.s3_url,
                    snapshot=checked.snapshot,
                    imported=ImportedSegment.model_validate(self.imported),
                    run=this_run(context),
                )
                key = state.put_result(plan.cohort, plan.threshold, plan.as_of, result)
                side_effects.append(f"the result was put at {key}")
            release(state, plan, context)
        self.log.info("Recorded the result of %s and released its lock", plan.name)
        return RecordedImport(**self.imported, result_key=key).model_dump(mode="json", exclude_unset=True)
