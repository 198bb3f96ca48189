"""Waits, in the triggerer, for an outbound campaign of Amazon Connect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.providers.amazon.aws.triggers.base import AwsBaseWaiterTrigger
from airflow.triggers.base import TriggerEvent

from cohort_flywheel.destinations.customer_profiles.campaign.hook import ConnectCampaignsHook


class ConnectCampaignTrigger(AwsBaseWaiterTrigger):
    """Fires when a campaign has ended, well or badly, or the attempts are used up.

    :param campaign_id: the campaign.
    :param waiter_delay: seconds between two looks.
    :param waiter_max_attempts: looks, at most.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    def __init__(
        self,
        *,
        campaign_id: str,
        waiter_delay: int = 60,
        waiter_max_attempts: int = 1560,
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            serialized_fields={"campaign_id": campaign_id},
            waiter_name="campaign_complete",
            waiter_args={"id": campaign_id},
            failure_message="the campaign failed",
            status_message="the campaign is",
            status_queries=["state"],
            return_key="campaign_id",
            return_value=campaign_id,
            waiter_delay=waiter_delay,
            waiter_max_attempts=waiter_max_attempts,
            aws_conn_id=aws_conn_id,
            **kwargs,
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        # No campaign is done at once; and a trigger that fires while its task still leaves the worker makes Airflow
        # take the attempt for failed ("finished with state success, but the task instance's state is queued").
        await asyncio.sleep(self.waiter_delay)
        async for event in super().run():
            yield event

    def hook(self) -> ConnectCampaignsHook:
        return ConnectCampaignsHook(
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            verify=self.verify,
            config=self.botocore_config,
        )
