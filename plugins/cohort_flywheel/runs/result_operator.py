"""Record the verified segment as the result of its as-of, announce it, and release the run lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias, BaseOperator
from pydantic import JsonValue

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.records import Json
from cohort_flywheel.destinations.import_result import ImportedSegment, RecordedImport
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.lock_store import enum_value, release, this_run
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.result import Result
from cohort_flywheel.runs.schedule import Clock, schedule_in_force, utc_now
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.outputs import CheckedSegment
from cohort_flywheel.segment.source import is_canonical_run

if TYPE_CHECKING:
    from airflow.sdk import Context

#: A cohort has a new result, or a campaign was launched: what starts the DAG cohort_figures.
RESULTS = Asset(name="cohort-flywheel-results", uri="cohort-flywheel://results")
#: The alias by which `record_result` emits the Asset of a cohort's segment.
SEGMENTS = AssetAlias("cohort-flywheel-segments")


def segment_asset(cohort: str) -> Asset:
    """The Asset of a cohort's verified segment, for the DAGs of others."""
    return Asset(name=f"cohort-flywheel-segment-{cohort}", uri=f"cohort-flywheel://segment/{cohort}")


class CohortResultOperator(BaseOperator):
    """Record a verified segment as the result of its cohort, threshold and as-of, and release the run lock.

    A run that is not canonical (`source.is_canonical_run`) records no result, so later runs are not compared with it.
    Returns (each also as a separate XCom) `result_key` (None for such a run) and the output of the destination's last
    task.

    With the outlet SEGMENTS it emits the cohort's Asset (`segment_asset`) if this is the result of the newest as-of and
    not of a backfill; the extra of the event has the facts of the result.

    :param plan: the output of CohortPlanOperator. (templated)
    :param checked: the output of CohortLimitsOperator. (templated)
    :param imported: the output of the destination's last task. (templated)
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    :param clock: gives the time, with its zone.
    """

    template_fields = ("plan", "checked", "imported")
    ui_color = "#c9e8c4"

    def __init__(
        self,
        *,
        plan: Json,
        checked: Json,
        imported: Json,
        aws_conn_id: str | None = "aws_default",
        clock: Clock = utc_now,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.checked = checked
        self.imported = imported
        self.aws_conn_id = aws_conn_id
        self.clock = clock

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
                    rejects=checked.segment.rejects,
                    limits=checked.limits,
                    threshold_from=plan.threshold_from,
                    started_by=getattr(context["dag_run"], "triggering_user_name", None),
                )
                key = state.put_result(plan.cohort, plan.threshold, plan.as_of, result)
                side_effects.append(f"the result was put at {key}")
                self._announce(context, plan, result, key)
            release(state, plan, context)
        self.log.info("Recorded the result of %s and released its lock", plan.name)
        return RecordedImport(**self.imported, result_key=key).model_dump(mode="json", exclude_unset=True)

    def _announce(self, context: Context, plan: Plan, result: Result, key: str) -> None:
        if RESULTS in self.outlets:
            context["outlet_events"][RESULTS].extra = {"cohort": plan.cohort}
        if SEGMENTS not in self.outlets or plan.dry_run or enum_value(context["dag_run"].run_type) == "backfill":
            return
        if plan.as_of >= schedule_in_force(context, plan).last(self.clock()):
            facts: dict[str, JsonValue] = {
                "cohort": plan.cohort,
                "threshold": plan.threshold,
                "as_of": plan.as_of.isoformat(),
                "members": result.members,
                "rows": result.rows,
                "segment_id": result.imported.segment_id,
                "result": f"s3://{plan.state_bucket}/{key}",
            }
            context["outlet_events"][SEGMENTS].add(segment_asset(plan.cohort), extra=facts)
