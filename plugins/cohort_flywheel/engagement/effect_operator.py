"""Measure what launches have changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.progress import Progress
from cohort_flywheel.common.records import Json
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.engagement.effect_store import EffectStore
from cohort_flywheel.engagement.engagement_outputs import EngagementPlan, MeasuredEffects
from cohort_flywheel.engagement.event_objects import effects_key
from cohort_flywheel.hooks.s3 import S3Hook

if TYPE_CHECKING:
    from airflow.sdk import Context


class MeasureEffectOperator(TemporaryFolderMixin, BaseOperator):
    """Compare the players that each launch mailed with those that it held out, `effect_days` after its as-of.

    A launch is measured once, by the first final snapshot of its cohort since then; what was measured stays, also after
    an erasure. Writes the effects of the launches of the last months, as JSON and as Parquet without players. Returns
    (each also as a separate XCom) `effects_url`, `launches` (with a holdout) and `measured`.

    :param plan: the output of EngagementPlanOperator. (templated)
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    template_fields = ("plan",)
    ui_color = "#d9d2e9"

    def __init__(
        self, *, plan: Json, memory_mb: int | None = None, aws_conn_id: str | None = "aws_default", **kwargs: Any
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.memory_mb = memory_mb
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: what was measured stays, and the same is written again."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            plan, s3 = EngagementPlan.model_validate(self.plan), S3Hook(aws_conn_id=self.aws_conn_id)
            progress = Progress(self.log, "vertices of snapshots read")
            store = EffectStore(s3, plan, folder, progress, self.memory_mb)
            effects = store.measure()
            measured = sum(each.status == "measured" for each in effects.launches)
            side_effects.append(f"{measured:,} of {len(effects.launches):,} launches with a holdout are measured")
            store.keep(effects)
        url = f"s3://{plan.state_bucket}/{effects_key(plan.as_of)}"
        self.log.info("%s: %s", url, side_effects[0])
        return MeasuredEffects(effects_url=url, launches=len(effects.launches), measured=measured).model_dump(
            mode="json"
        )
