"""The outputs of the tasks of this destination."""

from __future__ import annotations

from cohort_flywheel.campaign.launch import PreparedCampaign
from cohort_flywheel.common.records import Record
from cohort_flywheel.destinations.import_result import ImportResult


class UploadJobs(Record):
    """The upload jobs, and the numbers of players that they set `in` and `out`."""

    job_ids: list[str]
    set_in: int
    set_out: int


class ProfilesImport(ImportResult):
    """A segment whose `segment_id` is its ARN, and the profiles that the upload jobs created and updated."""

    job_ids: list[str]
    domain: str
    segment_name: str
    set_in: int
    set_out: int
    created: int
    updated: int


class ConnectPreparedCampaign(PreparedCampaign):
    """The ARN of the version of the message template."""

    template_arn: str


class RecordedLaunch(Record):
    """The record of the one campaign of a launch, put before the campaign is started.

    A launch by Amazon SES has a record under the same key, without these fields.
    """

    campaign_id: str | None = None
    segment_sha256: str | None = None
    template_arn: str | None = None
