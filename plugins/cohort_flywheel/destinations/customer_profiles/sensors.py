"""Wait for upload jobs of Amazon Connect Customer Profiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from cohort_flywheel.common.waiting.sensors import WaitingSensor
from cohort_flywheel.destinations.customer_profiles.hook import CustomerProfilesHook
from cohort_flywheel.destinations.customer_profiles.triggers import CustomerProfilesUploadJobTrigger
from cohort_flywheel.errors import Code, FlywheelError

if TYPE_CHECKING:
    from airflow.sdk import Context


class CustomerProfilesUploadJobsSensor(WaitingSensor[CustomerProfilesHook]):
    """Wait until each upload job has SUCCEEDED; fail, with its counts, when one ended otherwise or refused a row.

    The parameters of the wait are WaitingSensor's.

    :param domain: the domain of Customer Profiles. (templated)
    :param job_ids: the upload jobs. (templated)
    """

    aws_hook_class = CustomerProfilesHook
    template_fields = aws_template_fields("domain", "job_ids")
    trigger_class = CustomerProfilesUploadJobTrigger
    label = "upload job"
    side_effect = "may have changed the members of the segment"
    inspection = "look at it with `aws customer-profiles get-upload-job`"

    def __init__(self, *, domain: str, job_ids: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.domain = domain
        self.job_ids = job_ids

    def pending_ids(self) -> Sequence[str]:
        return self.job_ids

    def trigger_arguments(self, job_id: str) -> dict[str, str]:
        return {"domain": self.domain, "job_id": job_id}

    def has_ended(self, job_id: str, context: Context) -> bool:
        job = self.hook.get_upload_job(self.domain, job_id)
        self.log.info("upload job %s is %s", job_id, job["Status"])
        if job["Status"] in ("CREATED", "IN_PROGRESS"):
            return False
        results = job.get("ResultsSummary", {})
        created, updated, failed = (results.get(f"{kind}Records", 0) for kind in ("Created", "Updated", "Failed"))
        if job["Status"] != "SUCCEEDED" or failed:
            why = f" ({job['StatusReason']})" if job.get("StatusReason") else ""
            raise FlywheelError(
                f"upload job {job_id} has ended as {job['Status']}{why}: {failed:,} rows refused, {created:,}"
                f" profiles created, {updated:,} updated: do not send to the segment. Look at the job in the"
                " console of Amazon Connect (Customer segments), correct the cause, then clear"
                " enrich with downstream, which uploads all again",
                code=Code.JOB_FAILED,
            )
        return True
