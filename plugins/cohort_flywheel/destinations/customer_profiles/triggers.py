"""Wait for an upload job of Amazon Connect Customer Profiles in the triggerer."""

from __future__ import annotations

from typing import ClassVar

from cohort_flywheel.common.waiting.triggers import WaitingTrigger
from cohort_flywheel.destinations.customer_profiles.hook import CustomerProfilesHook


class CustomerProfilesUploadJobTrigger(WaitingTrigger):
    """Fires when an upload job has ended, successfully or not; see WaitingTrigger.

    :param domain: the domain of Customer Profiles.
    :param job_id: the upload job.
    """

    hook_class = CustomerProfilesHook
    label = "upload job"
    waiter = "upload_job_complete"
    status_query = "Status"
    arguments: ClassVar = {"domain": "DomainName", "job_id": "JobId"}
