"""The base of triggers that wait for one job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import ClassVar

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.providers.amazon.aws.triggers.base import AwsBaseWaiterTrigger
from airflow.triggers.base import TriggerEvent


class WaitingTrigger(AwsBaseWaiterTrigger):
    """Fires when a job has ended, successfully or not, or when the attempts are used up.

    A throttled request is retried by the waiter and does not count as an attempt. The event holds `status`, and the
    job's ID under the name of the last of `arguments`.

    :param waiter_delay: the seconds between two requests.
    :param waiter_max_attempts: the maximum number of requests.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    :param region_name: the region; None for the connection's.
    :param verify: whether TLS certificates are verified, or the path of a CA bundle.
    :param botocore_config: the configuration of the client.
    :param job: what names the job, as `arguments` lists it.
    """

    hook_class: ClassVar[type[AwsBaseHook]]
    #: What the log calls the job.
    label: ClassVar[str]
    #: The waiter of `hook_class`, and the JMESPath of the status in its response.
    waiter: ClassVar[str]
    status_query: ClassVar[str]
    #: The parameters that name the job, and the waiter's argument for each; the job's ID is the last.
    arguments: ClassVar[Mapping[str, str]]

    def __init__(
        self,
        *,
        waiter_delay: int = 10,
        waiter_max_attempts: int = 720,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, object] | None = None,
        **job: str,
    ) -> None:
        if job.keys() != self.arguments.keys():
            raise TypeError(f"{type(self).__name__} takes {', '.join(self.arguments)}")
        id_name = list(self.arguments)[-1]
        super().__init__(
            serialized_fields=dict(job),
            waiter_name=self.waiter,
            waiter_args={self.arguments[name]: value for name, value in job.items()},
            failure_message=f"the {self.label} failed",
            status_message=f"the {self.label} is",
            status_queries=[self.status_query],
            return_key=id_name,
            return_value=job[id_name],
            waiter_delay=waiter_delay,
            waiter_max_attempts=waiter_max_attempts,
            aws_conn_id=aws_conn_id,
            region_name=region_name,
            verify=verify,
            botocore_config=botocore_config,
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        # Wait first: a job does not end at once, and when a trigger fires before its task has left the worker, Airflow
        # fails the attempt ("finished with state success, but the task instance's state is queued").
        await asyncio.sleep(self.waiter_delay)
        async for event in super().run():
            yield event

    def hook(self) -> AwsBaseHook:
        return self.hook_class(
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            verify=self.verify,
            config=self.botocore_config,
        )
