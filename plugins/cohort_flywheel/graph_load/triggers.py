"""Wait for a job of Neptune's bulk loader in the triggerer."""

from __future__ import annotations

from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from botocore.exceptions import BotoCoreError, ClientError

from cohort_flywheel.common.waiting.triggers import WaitingTrigger
from cohort_flywheel.graph_load.hook import NeptuneLoaderHook


class NeptuneBulkLoadTrigger(WaitingTrigger):
    """Fires when a load job has ended; cancels it when a user ends the task. See WaitingTrigger.

    :param load_id: the job.
    :param neptune_conn_id: the Airflow connection of the graph.
    :param cancel_on_kill: cancel the job when a user fails, clears or skips the deferred task (Airflow 3.3 and later).
    """

    hook_class = NeptuneLoaderHook
    label = "load job"
    waiter = "load_job_ended"
    status_query = "payload.overallStatus.status"
    arguments: ClassVar = {"load_id": "loadId"}

    def __init__(self, *, neptune_conn_id: str, cancel_on_kill: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.neptune_conn_id = neptune_conn_id
        self.cancel_on_kill = cancel_on_kill
        self.serialized_fields |= {"neptune_conn_id": neptune_conn_id, "cancel_on_kill": cancel_on_kill}

    def hook(self) -> NeptuneLoaderHook:
        return NeptuneLoaderHook(
            neptune_conn_id=self.neptune_conn_id,
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            verify=self.verify,
            config=self.botocore_config,
        )

    async def on_kill(self) -> None:
        """Cancel the job, as the run is not to go on."""
        if not self.cancel_on_kill:
            return
        load_id = str(self.return_value)
        try:
            cancelled = await sync_to_async(self.hook().cancel)(load_id)
        except (BotoCoreError, ClientError) as error:
            self.log.warning("Load job %s could not be cancelled (%s)", load_id, type(error).__name__)
        else:
            self.log.info("Load job %s %s", load_id, "is cancelled" if cancelled else "was not active any more")
