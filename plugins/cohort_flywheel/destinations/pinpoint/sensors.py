"""Waits for an import job of Amazon Pinpoint."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.sensors.base_aws import AwsBaseSensor
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
from airflow.providers.common.compat.sdk import conf
from airflow.sdk.exceptions import AirflowException

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.destinations.pinpoint.hook import PinpointHook
from cohort_flywheel.destinations.pinpoint.import_failures import reasons
from cohort_flywheel.destinations.pinpoint.triggers import PinpointImportJobTrigger
from cohort_flywheel.errors import FlywheelError

if TYPE_CHECKING:
    from airflow.sdk import Context


class PinpointImportJobSensor(AwsBaseSensor[PinpointHook]):
    """Wait until an import job is COMPLETED; fail, with its counts and reasons, when it FAILED.

    :param application_id: the Pinpoint app. (templated)
    :param job_id: the import job. (templated)
    :param poke_interval: seconds between two looks.
    :param max_attempts: looks, at most.
    :param deferrable: wait in the triggerer (needs aiobotocore) instead of on a worker.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    aws_hook_class = PinpointHook
    template_fields = aws_template_fields("application_id", "job_id")
    ui_color = "#d5c7f2"

    def __init__(
        self,
        *,
        application_id: Any,
        job_id: Any,
        poke_interval: float = 5,
        max_attempts: int = 1440,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=poke_interval * max_attempts, **kwargs)
        self.application_id, self.job_id = application_id, job_id
        self.max_attempts, self.deferrable = max_attempts, deferrable

    def execute(self, context: Context) -> None:
        if not self.deferrable:
            super().execute(context)
            return
        self.defer(
            trigger=PinpointImportJobTrigger(
                application_id=self.application_id,
                job_id=self.job_id,
                waiter_delay=max(1, int(self.poke_interval)),
                waiter_max_attempts=self.max_attempts,
                aws_conn_id=self.aws_conn_id,
                region_name=self.region_name,
                verify=self.verify,
                botocore_config=self.botocore_config,
            ),
            method_name="execute_complete",
            # longer than the looks take: the waiter's own end comes first, with our sentence. It does not count
            # answers that throttle it, so it alone could wait without end.
            timeout=timedelta(seconds=2 * self.timeout + 600),
        )

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> None:
        """Judge the job once the triggerer has seen its end, or has given up."""
        if self.poke(context):
            return
        with describe_failure("Clearing this task is safe: it only reads."):
            if "max attempts" not in str((event or {}).get("message")):
                raise AirflowException(f"the wait for import job {self.job_id} broke off: a later try waits on")
            raise FlywheelError(
                f"import job {self.job_id} has not ended after {self.timeout:g} s: look at it in Pinpoint, then"
                " clear this task to wait on"
            )

    def poke(self, context: Context) -> bool:
        with describe_failure("Clearing this task is safe: it only reads.") as side_effects:
            side_effects.append(f"import job {self.job_id} runs, or ran, and may have registered endpoints")
            job = self.hook.get_import_job(self.application_id, self.job_id)
            if job["JobStatus"] == "FAILED":
                raise FlywheelError(
                    f"import job {self.job_id} FAILED: {job.get('TotalFailures', 0)} rows of"
                    f" {job.get('TotalProcessed', 0)}, {job.get('FailedPieces', 0)} pieces of"
                    f" {job.get('TotalPieces', 0)} ({reasons(job.get('Failures', []))}): correct the cause, then"
                    " clear enrich and what follows it"
                )
        self.log.info("import job %s is %s", self.job_id, job["JobStatus"])
        return bool(job["JobStatus"] == "COMPLETED")
