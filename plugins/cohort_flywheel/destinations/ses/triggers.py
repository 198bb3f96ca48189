"""Wait for an import job of Amazon SES in the triggerer."""

from __future__ import annotations

from typing import ClassVar

from cohort_flywheel.common.waiting.triggers import WaitingTrigger
from cohort_flywheel.destinations.ses.hook import SesV2Hook


class SesImportJobTrigger(WaitingTrigger):
    """Fires when an import job is COMPLETED, FAILED or CANCELLED; see WaitingTrigger.

    :param job_id: the import job.
    """

    hook_class = SesV2Hook
    label = "import job"
    waiter = "import_job_complete"
    status_query = "JobStatus"
    arguments: ClassVar = {"job_id": "JobId"}
