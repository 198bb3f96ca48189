"""Wait for a job of Neptune's bulk loader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from cohort_flywheel.common.waiting.sensors import WaitingSensor
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.graph_load.hook import NeptuneLoaderHook
from cohort_flywheel.graph_load.triggers import NeptuneBulkLoadTrigger
from cohort_flywheel.hooks.neptune_connection import DEFAULT_CONN_NAME

if TYPE_CHECKING:
    from airflow.sdk import Context


class NeptuneBulkLoadSensor(WaitingSensor[NeptuneLoaderHook]):
    """Wait until a load job has completed; fail if it ended in another way. It never cancels the job.

    The parameters of the wait are WaitingSensor's.

    :param load_id: the job. (templated)
    :param neptune_conn_id: the Airflow connection of the graph. (templated)
    """

    aws_hook_class = NeptuneLoaderHook
    template_fields = aws_template_fields("load_id", "neptune_conn_id")
    trigger_class = NeptuneBulkLoadTrigger
    label = "load job"
    side_effect = "may have changed the graph"
    inspection = "look at its status (aws neptunedata get-loader-job-status)"

    def __init__(self, *, load_id: str, neptune_conn_id: str = DEFAULT_CONN_NAME, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.load_id = load_id
        self.neptune_conn_id = neptune_conn_id

    @property
    def _hook_parameters(self) -> dict[str, object]:
        return {**super()._hook_parameters, "neptune_conn_id": self.neptune_conn_id}

    def pending_ids(self) -> list[str]:
        return [self.load_id]

    def trigger_arguments(self, job_id: str) -> dict[str, str]:
        return {"neptune_conn_id": self.neptune_conn_id, "load_id": job_id}

    def has_ended(self, job_id: str, context: Context) -> bool:
        job = self.hook.job(job_id)
        if job is None:
            raise FlywheelError(
                f"the loader knows no load job {job_id}: it keeps the newest 1,024; correct the ID",
                Code.GRAPH_LOAD_FAILED,
            )
        self.log.info("Load job %s is %s", job_id, job.status)
        if not job.is_active and not job.is_completed:
            raise FlywheelError(
                f"load job {job_id} ended as {job.status}, with {job.errors:,} errors: read them with"
                " `aws neptunedata get-loader-job-status --errors`, correct the cause, and load again",
                Code.GRAPH_LOAD_FAILED,
            )
        return job.is_completed
