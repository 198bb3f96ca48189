"""The outputs of the tasks of `engagement`."""

from __future__ import annotations

from pydantic import Field

from cohort_flywheel.common.records import Record
from cohort_flywheel.engagement.event_counts import EventCounts, LaunchCounts
from cohort_flywheel.engagement.suppressions import SuppressionCounts
from cohort_flywheel.runs.as_of import Instant


class EngagementPlan(Record):
    """The as-of and the buckets of a run, and the topic of our mails, empty if it is not known."""

    as_of: Instant
    event_bucket: str
    state_bucket: str
    ses_topic: str = ""


class EngagementReport(Record):
    """The report of an as-of: its events, and the launches of the last 62 days by their run names.

    `unknown_launches` are messages with a tag that no folder of `launches/` has.
    """

    as_of: Instant
    events: EventCounts
    suppressions: SuppressionCounts = Field(default_factory=SuppressionCounts)
    launches: dict[str, LaunchCounts]
    unknown_launches: int = 0
