"""Wait for import jobs of Amazon SES."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.common.waiting.sensors import WaitingSensor
from cohort_flywheel.destinations.ses.hook import SesV2Hook
from cohort_flywheel.destinations.ses.triggers import SesImportJobTrigger
from cohort_flywheel.errors import Code, FlywheelError

if TYPE_CHECKING:
    from airflow.sdk import Context

#: What a user does about a job with errors, by whether it is COMPLETED.
_ADVICE = {
    True: (
        "look at its file of failed records (`aws sesv2 get-import-job`), then correct these contacts or put them on"
        " the do-not-contact list, and clear enrich with downstream"
    ),
    False: (
        "look at its FailureInfo (`aws sesv2 get-import-job`), correct the cause, then clear enrich with"
        " downstream, which imports the contacts that are not on the list yet"
    ),
}


class SesImportJobsSensor(WaitingSensor[SesV2Hook]):
    """Wait until each import job is COMPLETED; fail, with its counts, when one FAILED or refused a contact.

    The parameters of the wait are WaitingSensor's.

    :param job_ids: the import jobs. (templated)
    """

    aws_hook_class = SesV2Hook
    template_fields = aws_template_fields("job_ids")
    trigger_class = SesImportJobTrigger
    label = "import job"
    side_effect = "may have added contacts"
    inspection = "look at it with `aws sesv2 get-import-job`"

    def __init__(self, *, job_ids: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_ids = job_ids

    def pending_ids(self) -> Sequence[str]:
        return self.job_ids

    def has_ended(self, job_id: str, context: Context) -> bool:
        job = self.hook.get_import_job(job_id)
        self.log.info("import job %s is %s", job_id, job["JobStatus"])
        if job["JobStatus"] not in ("COMPLETED", "FAILED", "CANCELLED"):
            return False
        refused, completed = self._failed_records(job), job["JobStatus"] == "COMPLETED"
        if refused or not completed:
            raise FlywheelError(
                f"import job {job_id} has ended as {job['JobStatus']}: {refused:,} contacts refused,"
                f" {job.get('ProcessedRecordsCount', 0):,} processed: {_ADVICE[completed]}",
                code=Code.JOB_FAILED,
            )
        return True

    def _failed_records(self, job: AwsStructure) -> int:
        """The contacts that a job refused: its own count, or the lines of its file of failed records if more."""
        count = int(job.get("FailedRecordsCount", 0))
        url = job.get("FailureInfo", {}).get("FailedRecordsS3Url")
        if not url:
            return count
        try:
            return max(count, self.hook.count_failed_records(url))
        except OSError as error:  # its text may hold the signed address
            self.log.warning(
                "the failed records cannot be counted (%s): using the job's own count", type(error).__name__
            )
            return max(count, 1)
