"""Wait for an import job of Amazon Pinpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from cohort_flywheel.common.waiting.sensors import WaitingSensor
from cohort_flywheel.destinations.pinpoint.hook import PinpointHook
from cohort_flywheel.destinations.pinpoint.import_failures import reasons
from cohort_flywheel.destinations.pinpoint.triggers import PinpointImportJobTrigger
from cohort_flywheel.errors import Code, FlywheelError

if TYPE_CHECKING:
    from airflow.sdk import Context


class PinpointImportJobSensor(WaitingSensor[PinpointHook]):
    """Wait until an import job is COMPLETED; fail, with its counts and reasons, when it FAILED.

    The parameters of the wait are WaitingSensor's.

    :param application_id: the Pinpoint app. (templated)
    :param job_id: the import job. (templated)
    """

    aws_hook_class = PinpointHook
    template_fields = aws_template_fields("application_id", "job_id")
    trigger_class = PinpointImportJobTrigger
    label = "import job"
    side_effect = "may have registered endpoints"
    inspection = "look at it in Pinpoint"

    def __init__(self, *, application_id: str, job_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.application_id = application_id
        self.job_id = job_id

    def execute(self, context: Context) -> Any:
        if self.deferrable:  # without a first request: the job was created a moment ago
            self._defer(self.job_id)
        return super().execute(context)

    def pending_ids(self) -> list[str]:
        return [self.job_id]

    def trigger_arguments(self, job_id: str) -> dict[str, str]:
        return {"application_id": self.application_id, "job_id": job_id}

    def has_ended(self, job_id: str, context: Context) -> bool:
        job = self.hook.get_import_job(self.application_id, job_id)
        self.log.info("import job %s is %s", job_id, job["JobStatus"])
        if job["JobStatus"] == "FAILED":
            raise FlywheelError(
                f"import job {job_id} FAILED: {job.get('TotalFailures', 0)} rows of"
                f" {job.get('TotalProcessed', 0)}, {job.get('FailedPieces', 0)} pieces of"
                f" {job.get('TotalPieces', 0)} ({reasons(job.get('Failures', []))}): correct the cause, then"
                " clear enrich with downstream",
                code=Code.JOB_FAILED,
            )
        return bool(job["JobStatus"] == "COMPLETED")
