"""Waits, in the triggerer, for an import job of Amazon SES."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.providers.amazon.aws.triggers.base import AwsBaseWaiterTrigger
from airflow.triggers.base import TriggerEvent

from cohort_flywheel.destinations.ses.hook import SesV2Hook


class SesImportJobTrigger(AwsBaseWaiterTrigger):
    """Fires when an import job is COMPLETED, FAILED or CANCELLED, or the attempts are used up.

    :param job_id: the import job.
    :param waiter_delay: seconds between two looks.
    :param waiter_max_attempts: looks, at most.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    def __init__(
        self,
        *,
        job_id: str,
        waiter_delay: int = 10,
        waiter_max_attempts: int = 720,
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            serialized_fields={"job_id": job_id},
            waiter_name="import_job_complete",
            waiter_args={"JobId": job_id},
            failure_message="the import job failed",
            status_message="the import job is",
            status_queries=["JobStatus"],
            return_key="job_id",
            return_value=job_id,
            waiter_delay=waiter_delay,
            waiter_max_attempts=waiter_max_attempts,
            aws_conn_id=aws_conn_id,
            **kwargs,
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        # No import is done at once; and a trigger that fires while its task still leaves the worker makes Airflow
        # take the attempt for failed ("finished with state success, but the task instance's state is queued").
        await asyncio.sleep(self.waiter_delay)
        async for event in super().run():
            yield event

    def hook(self) -> SesV2Hook:
        return SesV2Hook(
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            verify=self.verify,
            config=self.botocore_config,
        )
