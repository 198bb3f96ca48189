"""Models of the keys of cohorts.yaml beside its cohorts."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool, StrictInt, field_validator, model_validator

from cohort_flywheel.config.cohorts import Consent, Name, Strict
from cohort_flywheel.config.cron import read_schedule, read_timezone
from cohort_flywheel.config.data_schema import DataSchema, GraphName


class Approval(Strict):
    """The users who may approve a launch, by their names in Airflow, and the hours that the question waits."""

    approvers: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    own_runs: StrictBool = False
    hours: Annotated[StrictInt, Field(ge=1, le=168)] = 12


class Notify(Strict):
    """The Airflow notifiers of each group, each `{notifier: dotted.path.of.its.class, …its arguments}`."""

    on_call: list[dict[str, object]] = Field(default_factory=list)
    producers: list[dict[str, object]] = Field(default_factory=list)
    approvers: list[dict[str, object]] = Field(default_factory=list)
    success: list[dict[str, object]] = Field(default_factory=list)

    @field_validator("on_call", "producers", "approvers", "success")
    @classmethod
    def _names_a_class(cls, targets: list[dict[str, object]]) -> list[dict[str, object]]:
        if [t for t in targets if not re.fullmatch(r"[\w.]+\.[A-Z]\w*", str(t.get("notifier")))]:
            raise ValueError(
                "each target needs the key notifier with the path of an Airflow notifier's class, such as"
                " airflow.providers.amazon.aws.notifications.sns.SnsNotifier, and that class's arguments beside it"
            )
        return targets


class Tuning(Strict):
    """Speeds and sizes of a run; None is the package's default."""

    lookups_in_flight: Annotated[StrictInt, Field(ge=1, le=50)] | None = None
    shard_members: Annotated[StrictInt, Field(ge=1_000, le=250_000)] | None = None
    memory_mb: Annotated[StrictInt, Field(ge=32, le=4096)] | None = None
    import_poll_seconds: Annotated[StrictInt, Field(ge=1, le=600)] | None = None
    campaign_poll_seconds: Annotated[StrictInt, Field(ge=1, le=600)] | None = None


#: What SES tracks of an e-mail: nothing, clicks, or opens and clicks.
Tracking = Literal["none", "clicks", "all"]
#: A share of e-mails; 0 is allowed to refuse any.
Share = Annotated[float, Field(strict=True, ge=0, le=1)]


#: Prefixes of the modeler's own properties, which this package never writes.
_MODELERS = ("stat_", "ea_")


class EngagementNames(Strict):
    """The names of the properties that `write_graph` sets; no vertex may have a property of that name before."""

    clicks: GraphName = "eng_clicks_30d"
    opens: GraphName = "eng_opens_30d"
    last_click_day: GraphName = "eng_last_click_day"

    @model_validator(mode="after")
    def _are_ours_alone(self) -> EngagementNames:
        names = [self.clicks, self.opens, self.last_click_day]
        if any(name.startswith(_MODELERS) for name in names):
            raise ValueError("names that begin with stat_ or ea_ are the Cohort Modeler's: choose others, as eng_…")
        if len(set(names)) < len(names):
            raise ValueError("each number needs a name of its own")
        return self


class Engagement(Strict):
    """What is done with the events of the e-mails that SES sends; nothing by default.

    No launch begins above `max_bounce_rate` or `max_complaint_rate` of the last 7 days, if at least `min_sends` e-mails
    were sent then. `tracking` is what SES tracks of an e-mail, with `tracking_consent` only of players who have agreed.
    With `write_graph` the players' vertices get three numbers, and each launch a vertex, for `graph_keep_days`, at most
    the days that SES tracks a mail. With `campaign_counts` Amazon Connect is asked for the counts of its campaigns.
    """

    read_events: StrictBool = False
    campaign_counts: StrictBool = False
    max_bounce_rate: Share | None = None
    max_complaint_rate: Share | None = None
    min_sends: Annotated[StrictInt, Field(ge=1, le=1_000_000)] = 1_000
    tracking: Tracking = "all"
    tracking_consent: Consent | None = None
    write_graph: StrictBool = False
    graph_names: EngagementNames = Field(default_factory=EngagementNames)
    graph_edges: Literal["none", "clicked", "all"] = "clicked"
    graph_keep_days: Annotated[StrictInt, Field(ge=1, le=60)] = 60

    @model_validator(mode="after")
    def _rates_are_read(self) -> Engagement:
        if not self.read_events and (self.max_bounce_rate is not None or self.max_complaint_rate is not None):
            raise ValueError("max_bounce_rate and max_complaint_rate need read_events: true, which counts the events")
        if not self.read_events and self.campaign_counts:
            raise ValueError("campaign_counts needs read_events: true, as the DAG engagement reads the counts")
        if not self.read_events and self.write_graph:
            raise ValueError("write_graph needs read_events: true, which reads the events that are written")
        return self

    @model_validator(mode="after")
    def _consent_is_asked_for_something(self) -> Engagement:
        if self.tracking == "none" and self.tracking_consent:
            raise ValueError("tracking: none tracks no player: remove tracking_consent, or write clicks or all")
        return self


class RegistryKeys(Strict):
    """The keys beside `cohorts`."""

    default_cohort: str
    schedule: str
    timezone: str = "UTC"
    destination: Name
    graph_pool: Annotated[str, Field(min_length=1)] | None = None
    opt_outs: Literal["none"] | None = None
    notify: Notify = Field(default_factory=Notify)
    approval: Approval = Field(default_factory=Approval)
    tuning: Tuning = Field(default_factory=Tuning)
    data_schema: Annotated[DataSchema, Field(alias="schema")] = Field(default_factory=DataSchema)
    engagement: Engagement = Field(default_factory=Engagement)

    @field_validator("schedule")
    @classmethod
    def _fires(cls, schedule: str) -> str:
        return read_schedule(schedule)

    @field_validator("timezone")
    @classmethod
    def _is_a_timezone(cls, timezone: str) -> str:
        return read_timezone(timezone)

    @model_validator(mode="after")
    def _events_are_read_every_day(self) -> Self:
        if self.engagement.read_events and set(self.schedule.split()[2:]) != {"*"}:
            raise ValueError(
                f"engagement.read_events needs a schedule that fires every day, as 0 0 * * *, and not {self.schedule}:"
                " an as-of reads the events of 48 hours"
            )
        return self


class RegistryHead(RegistryKeys):
    """The keys of the file; the loader reads each of `cohorts` and of `graph_loads` by itself."""

    cohorts: dict[str, object] = Field(min_length=1)
    graph_loads: dict[str, object] = Field(default_factory=dict)
