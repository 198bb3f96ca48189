"""The outputs of the tasks of `engagement`."""

from __future__ import annotations

from pydantic import Field

from cohort_flywheel.common.records import Record
from cohort_flywheel.engagement.campaign_counts import CountedCampaigns
from cohort_flywheel.engagement.effect import Effects
from cohort_flywheel.engagement.event_counts import EventCounts, LaunchCounts
from cohort_flywheel.engagement.graph_values import GraphPlan
from cohort_flywheel.engagement.suppressions import SuppressionCounts
from cohort_flywheel.runs.as_of import Instant


class EngagementPlan(Record):
    """The as-of and the buckets of a run.

    `ses_topic` is the topic of our mails, empty if it is not known; `graph` is None if nothing is written to the graph.
    """

    as_of: Instant
    event_bucket: str
    state_bucket: str
    ses_topic: str = ""
    graph: GraphPlan | None = None


class AwaitedSnapshots(Record):
    """The output of FinalSnapshotsSensor: the cohorts whose snapshot of the as-of was not final in time."""

    not_final: list[str]


class GraphWritten(Record):
    """What a run changed in the graph.

    `skipped` is a run whose as-of is not the newest, which writes nothing. `properties` are those that differed,
    `gone` those of vertices that were deleted meanwhile; `without_vertex` are players with numbers that the graph does
    not have, `erased` the vertices of erased players that lost our properties.
    """

    skipped: bool = False
    properties: int = 0
    gone: int = 0
    without_vertex: int = 0
    erased: int = 0
    campaigns: int = 0
    campaigns_removed: int = 0
    edges: int = 0
    edges_removed: int = 0


class MeasuredEffects(Record):
    """The output of MeasureEffectOperator."""

    effects_url: str
    launches: int
    measured: int


class EngagementReport(Record):
    """The report of an as-of: its events, and the launches of the last 62 days by their run names.

    `unknown_launches` are messages with a tag that no folder of `launches/` has. `effects` are those of the launches
    with a holdout, and `campaigns` what the destination itself counts of the launches that it mails.
    """

    as_of: Instant
    events: EventCounts
    suppressions: SuppressionCounts = Field(default_factory=SuppressionCounts)
    launches: dict[str, LaunchCounts]
    unknown_launches: int = 0
    effects: Effects = Field(default_factory=Effects)
    campaigns: CountedCampaigns = Field(default_factory=CountedCampaigns)
