"""The outputs of the tasks of this destination."""

from __future__ import annotations

from pydantic import Field

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


_SETS = ("configuration_set", "untracked_configuration_set")


class SesPreparedCampaign(PreparedCampaign):
    """The e-mail template in SES, its placeholders with their defaults, and the configuration sets of the mails.

    Players who have not agreed to tracking get theirs by `untracked_configuration_set`; all of them, if it is the only
    set. `links` are those of the e-mail that are the same for all players, whose clicks are counted by link.
    """

    ses_template: str
    placeholders: dict[str, str | None]
    configuration_set: str | None = None
    untracked_configuration_set: str | None = None
    links: list[str] = Field(default_factory=list)

    def set_of(self, *, agreed: bool) -> str | None:
        """Return the configuration set of a mail to a player who has, or has not, agreed to tracking."""
        if self.untracked_configuration_set and not (agreed and self.configuration_set):
            return self.untracked_configuration_set
        return self.configuration_set

    def launch_record(self) -> Json:
        """Return the record of a launch: a result is launched with the same fields only.

        Without a None, as earlier versions recorded no reply_to and no configuration set, and without an empty list.
        """
        fields = {"ses_template", "template_digest", "sender", "reply_to", "segment_sha256", *_SETS}
        return self.model_dump(mode="json", include=fields | ({"links"} if self.links else set()), exclude_none=True)

    def is_launched_by(self, record: Json) -> bool:
        """Whether a record has the same fields; another configuration set changes no mail, but where its events go."""
        events = dict.fromkeys((*_SETS, "links"))
        return record | events == self.launch_record() | events
