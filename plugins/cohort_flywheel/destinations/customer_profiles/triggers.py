"""Waits, in the triggerer, for an upload job of Amazon Connect Customer Profiles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.providers.amazon.aws.triggers.base import AwsBaseWaiterTrigger
from airflow.triggers.base import TriggerEvent

from cohort_flywheel.destinations.customer_profiles.hook import CustomerProfilesHook


class CustomerProfilesUploadJobTrigger(AwsBaseWaiterTrigger):
    """Fires when an upload job has ended, well or badly, or the attempts are used up.

    :param domain: the domain of Customer Profiles.
    :param job_id: the upload job.
    :param waiter_delay: seconds between two looks.
    :param waiter_max_attempts: looks, at most.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    def __init__(
        self,
        *,
        domain: str,
        job_id: str,
        waiter_delay: int = 10,
        waiter_max_attempts: int = 720,
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            serialized_fields={"domain": domain, "job_id": job_id},
            waiter_name="upload_job_complete",
            waiter_args={"DomainName": domain, "JobId": job_id},
            failure_message="the upload job failed",
            status_message="the upload job is",
            status_queries=["Status"],
            return_key="job_id",
            return_value=job_id,
            waiter_delay=waiter_delay,
            waiter_max_attempts=waiter_max_attempts,
            aws_conn_id=aws_conn_id,
            **kwargs,
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        # No upload is done at once; and a trigger that fires while its task still leaves the worker makes Airflow
        # take the attempt for failed ("finished with state success, but the task instance's state is queued").
        await asyncio.sleep(self.waiter_delay)
        async for event in super().run():
            yield event

    def hook(self) -> CustomerProfilesHook:
        return CustomerProfilesHook(
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            verify=self.verify,
            config=self.botocore_config,
        )
