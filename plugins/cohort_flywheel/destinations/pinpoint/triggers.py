"""Wait for an import job of Amazon Pinpoint in the triggerer."""

from __future__ import annotations

from typing import ClassVar

from cohort_flywheel.common.waiting.triggers import WaitingTrigger
from cohort_flywheel.destinations.pinpoint.hook import PinpointHook


class PinpointImportJobTrigger(WaitingTrigger):
    """Fires when an import job is COMPLETED or FAILED; see WaitingTrigger.

    :param application_id: the Pinpoint app.
    :param job_id: the import job.
    """

    hook_class = PinpointHook
    label = "import job"
    waiter = "import_job_complete"
    status_query = "ImportJobResponse.JobStatus"
    arguments: ClassVar = {"application_id": "ApplicationId", "job_id": "JobId"}
