"""Waits for import jobs of Amazon SES."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.sensors.base_aws import AwsBaseSensor
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
from airflow.providers.common.compat.sdk import conf
from airflow.sdk.exceptions import AirflowException

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.destinations.ses.hook import SesV2Hook
from cohort_flywheel.destinations.ses.triggers import SesImportJobTrigger
from cohort_flywheel.errors import FlywheelError

if TYPE_CHECKING:
    from airflow.sdk import Context

#: What a person does next, by whether the job came to its end.
_ADVICE = {
    True: (
        "look at its file of failed records (`aws sesv2 get-import-job`), then correct these contacts or put them on"
        " the do-not-contact list, and clear enrich and what follows it"
    ),
    False: (
        "look at its FailureInfo (`aws sesv2 get-import-job`), correct the cause, then clear enrich and what"
        " follows it, which imports who is not on the list yet"
    ),
}


class SesImportJobsSensor(AwsBaseSensor[SesV2Hook]):
    """Wait until each import job is COMPLETED; fail, with its counts, when one FAILED or refused a contact.

    :param job_ids: the import jobs; without any there is nothing to wait for. (templated)
    :param poke_interval: seconds between two looks.
    :param max_attempts: looks at one job, at most.
    :param deferrable: wait in the triggerer (needs aiobotocore) instead of on a worker.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    aws_hook_class = SesV2Hook
    template_fields = aws_template_fields("job_ids")
    ui_color = "#d5c7f2"

    def __init__(
        self,
        *,
        job_ids: Any,
        poke_interval: float = 5,
        max_attempts: int = 1440,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=poke_interval * max_attempts, **kwargs)
        self.job_ids, self.max_attempts, self.deferrable = job_ids, max_attempts, deferrable

    def execute(self, context: Context) -> None:
        if not self.deferrable:
            super().execute(context)
        elif running := self._running():
            self._defer(running[0])

    def _defer(self, job_id: str) -> None:
        self.defer(
            trigger=SesImportJobTrigger(
                job_id=job_id,
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
        """Judge the jobs once the triggerer has seen the end of one, or has given up; then wait for the next."""
        told = event or {}
        running = self._running()
        if not running:
            return
        if told.get("status") == "success" and told.get("job_id") not in running:  # so each job is waited for once
            self._defer(running[0])
        with describe_failure("Clearing this task is safe: it only reads."):
            if "max attempts" not in str(told.get("message")):
                raise AirflowException(f"the wait for import job {running[0]} broke off: a later try waits on")
            raise FlywheelError(
                f"import job {running[0]} has not ended after {self.timeout:g} s: look at it with `aws sesv2"
                " get-import-job`, then clear this task to wait on"
            )

    def poke(self, context: Context) -> bool:
        return not self._running()

    def _running(self) -> list[str]:
        """The jobs that have not ended; raises for one that ended badly."""
        running = []
        with describe_failure("Clearing this task is safe: it only reads.") as side_effects:
            for job_id in self.job_ids:
                side_effects.append(f"import job {job_id} runs, or ran, and may have added contacts")
                job = self.hook.get_import_job(job_id)
                self.log.info("import job %s is %s", job_id, job["JobStatus"])
                if job["JobStatus"] not in ("COMPLETED", "FAILED", "CANCELLED"):
                    running.append(job_id)
                    continue
                refused, completed = self._failed_records(job), job["JobStatus"] == "COMPLETED"
                if refused or not completed:
                    raise FlywheelError(
                        f"import job {job_id} has ended as {job['JobStatus']}: {refused:,} contacts refused,"
                        f" {job.get('ProcessedRecordsCount', 0):,} processed: {_ADVICE[completed]}"
                    )
        return running

    def _failed_records(self, job: dict[str, Any]) -> int:
        """How many contacts a job refused: what it says, or the lines of its file of them if those are more."""
        said = int(job.get("FailedRecordsCount", 0))
        url = job.get("FailureInfo", {}).get("FailedRecordsS3Url")
        if not url:
            return said
        try:
            return max(said, self.hook.count_failed_records(url))
        except OSError as error:  # its text may hold the signed address
            self.log.warning(
                "the failed records cannot be counted (%s): the job's own figure stands", type(error).__name__
            )
            return max(said, 1)
