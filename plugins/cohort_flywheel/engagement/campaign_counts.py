"""What a destination itself counts of a launch that it mails: numbers, and no players."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from pydantic import Field

from cohort_flywheel.common.records import Record
from cohort_flywheel.runs.names import from_instant, is_instant

#: How long a launch is counted: Connect answers for less than 35 days at a time, and the campaign is deleted later.
COUNTED_FOR = timedelta(days=30)
_INSTANT_LENGTH = len("2026-11-22_00-00-00")


class CampaignCounts(Record):
    """The numbers of a launch by Amazon Connect, of its events and not of its messages.

    `delivery_attempts` are by Connect's own names of their outcomes. An interaction is an open or a click, also a
    repeated one. `excluded` are recipients to which nothing was sent.
    """

    targeted: int = 0
    send_attempts: int = 0
    excluded: int = 0
    delivery_attempts: dict[str, int] = Field(default_factory=dict)
    interactions: int = 0


class CountedCampaigns(Record):
    """The output of CountCampaignsOperator: the counts by run names, and the launches whose campaign is deleted."""

    launches: dict[str, CampaignCounts] = Field(default_factory=dict)
    deleted: int = 0


def counted_names(names: Iterable[str], as_of: datetime) -> list[str]:
    """Return the launches that an as-of counts, by the as-ofs in their run names."""
    found = []
    for name in names:
        text = name[-_INSTANT_LENGTH:]
        if is_instant(text) and as_of - COUNTED_FOR < from_instant(text) <= as_of:
            found.append(name)
    return sorted(found)


def with_names(counts: Mapping[str, CampaignCounts], names: Mapping[str, str]) -> CountedCampaigns:
    """Return the counts of campaigns by the run names of their launches; a launch without any is deleted.

    :param counts: by the ids of the campaigns.
    :param names: the ids of the campaigns by run names.
    """
    found = {name: counts[campaign_id] for name, campaign_id in names.items() if campaign_id in counts}
    return CountedCampaigns(launches=found, deleted=len(names) - len(found))
