"""What Amazon Connect counts of its outbound campaigns (connect: GetMetricDataV2).

Dimensions and metrics: botocore's model of `connect`, and "Outbound campaign metrics" of the administrator guide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from itertools import batched
from typing import Any

from botocore.config import Config

from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.engagement.campaign_counts import COUNTED_FOR, CampaignCounts
from cohort_flywheel.hooks.shared_session import SharedSessionHook

#: Filter values of a request, and its largest page.
_VALUES, _PAGE = 100, 100
#: Metrics that are grouped by campaign, and their fields.
_METRICS = {
    "RECIPIENTS_TARGETED": "targeted",
    "CAMPAIGN_SEND_ATTEMPTS": "send_attempts",
    "CAMPAIGN_SEND_EXCLUSIONS": "excluded",
    "CAMPAIGN_INTERACTIONS": "interactions",
}
_CAMPAIGN, _OUTCOME, _ATTEMPTS = "CAMPAIGN", "CAMPAIGN_DELIVERY_EVENT_TYPE", "DELIVERY_ATTEMPTS"


class ConnectMetricsHook(SharedSessionHook):
    """Thin wrapper around boto3's `connect` client. Every call only reads, and may be repeated.

    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["client_type"] = "connect"
        super().__init__(*args, **kwargs)

    @cached_property
    def _patient(self) -> Any:
        return self.get_client_type(config=Config(retries={"mode": "standard", "total_max_attempts": 5}))

    def counts(self, instance_id: str, campaigns: Sequence[str], until: datetime) -> dict[str, CampaignCounts]:
        """Return the counts of campaigns by their ids, of the 30 days before a time.

        :param campaigns: the ARNs of campaigns that exist.
        """
        found: dict[str, dict[str, Any]] = {_id_of(arn): {"delivery_attempts": {}} for arn in campaigns}
        for some in batched(campaigns, _VALUES):
            request = _request(instance_id, some, until)
            for dimensions, values in self._rows(request, [_CAMPAIGN], list(_METRICS)):
                found[_id_of(dimensions[_CAMPAIGN])] |= {_METRICS[name]: number for name, number in values.items()}
            for dimensions, values in self._rows(request, [_CAMPAIGN, _OUTCOME], [_ATTEMPTS]):
                outcomes = found[_id_of(dimensions[_CAMPAIGN])]["delivery_attempts"]
                outcomes[dimensions[_OUTCOME]] = values[_ATTEMPTS]
        return {campaign_id: CampaignCounts.model_validate(counts) for campaign_id, counts in found.items()}

    def _rows(
        self, request: AwsStructure, groupings: list[str], metrics: list[str]
    ) -> Iterator[tuple[Mapping[str, str], dict[str, int]]]:
        """Yield the dimensions and the metrics of each row, page by page; a metric without data is 0."""
        token: dict[str, str] = {}
        while True:
            page = self._patient.get_metric_data_v2(
                **request, Groupings=groupings, Metrics=[{"Name": name} for name in metrics], MaxResults=_PAGE, **token
            )
            for row in page.get("MetricResults", ()):
                values = {each["Metric"]["Name"]: int(each.get("Value") or 0) for each in row["Collections"]}
                yield row["Dimensions"], values
            if not page.get("NextToken"):
                return
            token = {"NextToken": page["NextToken"]}


def _request(instance_id: str, campaigns: Sequence[str], until: datetime) -> AwsStructure:
    _, partition, _, region, account, _ = campaigns[0].split(":", 5)
    return {
        "ResourceArn": f"arn:{partition}:connect:{region}:{account}:instance/{instance_id}",
        "StartTime": until - COUNTED_FOR,
        "EndTime": until,
        "Filters": [{"FilterKey": _CAMPAIGN, "FilterValues": list(campaigns)}],
    }


def _id_of(campaign: str) -> str:
    # whether the dimension is the campaign's ARN or its id is not documented
    return campaign.rpartition("/")[2]
