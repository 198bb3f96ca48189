"""The outputs of the tasks of this destination."""

from __future__ import annotations

from cohort_flywheel.campaign.launch import PreparedCampaign
from cohort_flywheel.common.records import Json, Record
from cohort_flywheel.destinations.import_result import ImportResult


class SesImportJobs(Record):
    """The import jobs, and the rows that are on the contact list, new, or in a job that runs (`under_way`)."""

    job_ids: list[str]
    on_list: int
    under_way: int
    new: int


class SesImport(ImportResult):
    """The contacts of a segment: imported by its jobs, on the list before, and unsubscribed."""

    job_ids: list[str]
    contact_list: str
    topic: str
    new_contacts: int
    already_on_list: int
    unsubscribed: int


class SesPreparedCampaign(PreparedCampaign):
    """The e-mail template in SES, its placeholders with their defaults, and the configuration set of the mails."""

    ses_template: str
    placeholders: dict[str, str | None]
    configuration_set: str | None = None

    def launch_record(self) -> Json:
        """Return the record of a launch: a result is launched with the same fields only.

        Without a None, as earlier versions recorded no reply_to and no configuration set.
        """
        fields = {"ses_template", "template_digest", "sender", "reply_to", "segment_sha256", "configuration_set"}
        return self.model_dump(mode="json", include=fields, exclude_none=True)

    def is_launched_by(self, record: Json) -> bool:
        """Whether a record has the same fields; another configuration set changes no mail, but where its events go."""
        events = {"configuration_set": None}
        return record | events == self.launch_record() | events
