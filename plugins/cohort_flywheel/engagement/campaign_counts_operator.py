"""Ask the destination what it counts of the launches that it mails itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.records import Json
from cohort_flywheel.config.variables import read_settings
from cohort_flywheel.destinations import get_destination
from cohort_flywheel.engagement import events_store as store
from cohort_flywheel.engagement.campaign_counts import CountedCampaigns, counted_names, with_names
from cohort_flywheel.engagement.engagement_outputs import EngagementPlan
from cohort_flywheel.hooks.s3 import S3Hook

if TYPE_CHECKING:
    from airflow.sdk import Context


class CountCampaignsOperator(BaseOperator):
    """Read the destination's own counts of the launches of the last 30 days, up to the as-of.

    Returns (each also as a separate XCom) the values of CountedCampaigns.

    :param plan: the output of EngagementPlanOperator. (templated)
    :param destination: the name of a destination.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    template_fields = ("plan",)
    ui_color = "#d5c7f2"

    def __init__(self, *, plan: Json, destination: str, aws_conn_id: str | None = "aws_default", **kwargs: Any) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.destination = destination
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Json:
        with describe_failure("Correct it and clear this task: it only reads."):
            plan, s3 = EngagementPlan.model_validate(self.plan), S3Hook(aws_conn_id=self.aws_conn_id)
            launched = store.launches_by_tag(s3, plan.state_bucket).values()
            names = counted_names(launched, plan.as_of)
            campaigns = store.campaign_ids(s3, plan.state_bucket, names)
            found = CountedCampaigns()
            destination = get_destination(self.destination)
            if campaigns and destination.campaign_settings:
                settings = read_settings(destination.campaign_settings)
                counts = destination.campaign_counts(settings, campaigns.values(), plan.as_of, self.aws_conn_id)
                found = with_names(counts, campaigns)
        self.log.info("%s", store.as_text(found.model_dump()))
        return found.model_dump(mode="json")
