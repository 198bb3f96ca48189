"""Waits for upload jobs of Amazon Connect Customer Profiles."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.sensors.base_aws import AwsBaseSensor
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
from airflow.providers.common.compat.sdk import conf
from airflow.sdk.exceptions import AirflowException

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.destinations.customer_profiles.hook import CustomerProfilesHook
from cohort_flywheel.destinations.customer_profiles.triggers import CustomerProfilesUploadJobTrigger
from cohort_flywheel.errors import FlywheelError

if TYPE_CHECKING:
    from airflow.sdk import Context


class CustomerProfilesUploadJobsSensor(AwsBaseSensor[CustomerProfilesHook]):
    """Wait until each upload job has SUCCEEDED; fail, with its counts, when one ended otherwise or refused a row.

    :param domain: the domain of Customer Profiles. (templated)
    :param job_ids: the upload jobs; without any there is nothing to wait for. (templated)
    :param poke_interval: seconds between two looks.
    :param max_attempts: looks at one job, at most.
    :param deferrable: wait in the triggerer (needs aiobotocore) instead of on a worker.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    aws_hook_class = CustomerProfilesHook
    template_fields = aws_template_fields("domain", "job_ids")
    ui_color = "#d5c7f2"

    def __init__(
        self,
        *,
        domain: Any,
        job_ids: Any,
        poke_interval: float = 5,
        max_attempts: int = 1440,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=poke_interval * max_attempts, **kwargs)
        self.domain, self.job_ids = domain, job_ids
        self.max_attempts, self.deferrable = max_attempts, deferrable

    def execute(self, context: Context) -> None:
        if not self.deferrable:
            super().execute(context)
        elif running := self._running():
            self._defer(running[0])

    def _defer(self, job_id: str) -> None:
        self.defer(
            trigger=CustomerProfilesUploadJobTrigger(
                domain=self.domain,
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
                raise AirflowException(f"the wait for upload job {running[0]} broke off: a later try waits on")
            raise FlywheelError(
                f"upload job {running[0]} has not ended after {self.timeout:g} s: look at it with `aws"
                " customer-profiles get-upload-job`, then clear this task to wait on"
            )

    def poke(self, context: Context) -> bool:
        return not self._running()

    def _running(self) -> list[str]:
        """The jobs that have not ended; raises for one that ended badly."""
        running = []
        with describe_failure("Clearing this task is safe: it only reads.") as side_effects:
            for job_id in self.job_ids:
                side_effects.append(f"upload job {job_id} runs, or ran, and may have changed the membership")
                job = self.hook.get_upload_job(self.domain, job_id)
                self.log.info("upload job %s is %s", job_id, job["Status"])
                if job["Status"] in ("CREATED", "IN_PROGRESS"):
                    running.append(job_id)
                    continue
                results = job.get("ResultsSummary", {})
                created, updated, failed = (
                    results.get(f"{kind}Records", 0) for kind in ("Created", "Updated", "Failed")
                )
                if job["Status"] != "SUCCEEDED" or failed:
                    why = f" ({job['StatusReason']})" if job.get("StatusReason") else ""
                    raise FlywheelError(
                        f"upload job {job_id} has ended as {job['Status']}{why}: {failed:,} rows refused, {created:,}"
                        f" profiles created, {updated:,} updated: do not send to the segment. Look at the job in the"
                        " console of Amazon Connect (Customer segments), correct the cause, then clear"
                        " enrich and what follows it, which uploads all again"
                    )
        return running
