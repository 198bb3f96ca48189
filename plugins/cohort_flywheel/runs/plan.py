"""The plan of a run: the cohort's definition, the threshold and all names, fixed before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, JsonValue, model_validator

from cohort_flywheel.campaign.settings import NONE, NoCampaign, RunCampaign
from cohort_flywheel.common.records import Record
from cohort_flywheel.config.attribute_paths import AttributePath
from cohort_flywheel.config.cohorts import Cohort, Consent, Direction, Limits
from cohort_flywheel.config.conditions import Condition
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.config.params import RunParams
from cohort_flywheel.config.registry_head import Engagement, Tuning
from cohort_flywheel.engagement.sender_rates import SenderLimits, sender_limits
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.runs import names
from cohort_flywheel.runs.as_of import Instant
from cohort_flywheel.segment.source import EXTRACT


class Override(Record):
    """Who runs outside the limits, and why."""

    by: str
    reason: str


class Withhold(Record):
    """The settings that exclude contacts from the segment, for `contacts.exclusion_reason`.

    `placeholders` must have values, and a player who was mailed `template` after `since` is left out. `suppressions` is
    the key of the suppression list, None without one. `launch_holdout_percent` is drawn for this run's launch,
    `holdout_percent` for every campaign.
    """

    holdout_percent: int = 0
    launch_holdout_percent: int = 0
    placeholders: dict[str, str | None] = Field(default_factory=dict)
    template: str | None = None
    since: Instant | None = None
    suppressions: str | None = None


class Plan(Record):
    """All that the tasks after `plan` need: they never read the registry again.

    `where`, `limits` and `consent` are models of the registry, which refuse a key of a later version: it may exclude
    players.
    """

    name: str
    as_of: Instant
    schedule: str
    timezone: str = "UTC"
    cohort: str
    property: str
    direction: Direction
    threshold: int | float
    threshold_from: str
    floor: int | float
    where: dict[str, Condition] = Field(default_factory=dict)
    source: Literal["auto", "live", "snapshot", "extract"]
    extract_only: bool
    extract_uri: str | None
    extract_sha256: str | None
    limits: Limits
    override: Override | None
    dry_run: bool
    attributes: dict[str, AttributePath]
    score_column: str | None
    consent: Consent | None
    campaign: Annotated[RunCampaign | NoCampaign, Field(discriminator="mode")]
    withhold: Withhold
    layout: str
    contacts_table: str
    export_bucket: str
    extract_bucket: str
    extract_key: str
    state_bucket: str
    staged_folder: str
    segment_bucket: str
    segment_folder: str
    rejects_key: str
    claim_key: str
    report_folder: str
    do_not_contact_key: str | None
    shard_members: int | None = None
    lookups_in_flight: int | None = None
    data_schema: DataSchema = Field(default_factory=DataSchema)
    connection: str | None = None
    may_be_empty: bool = False
    sender_limits: SenderLimits | None = None
    reads_engagement: bool = False

    @model_validator(mode="before")
    @classmethod
    def _where_of_an_earlier_version(cls, plan: object) -> object:
        """Take the conditions of a plan that has `require`: without them, excluded players would be members."""
        if not isinstance(plan, dict) or not (require := plan.get("require")) or "where" in plan:
            return plan
        return plan | {"where": {name: {"one_of": values} for name, values in require.items()}}

    def require_campaign(self) -> RunCampaign:
        """Return the campaign; raise FlywheelError for a run without one."""
        if isinstance(self.campaign, NoCampaign):
            raise FlywheelError(
                "this run has campaign=none: only campaign=launch mails players", code=Code.NOT_TO_LAUNCH
            )
        return self.campaign


def make_plan(
    cohort: Cohort,
    *,
    params: RunParams,
    as_of: datetime,
    run_type: str,
    user: str | None,
    layout: str,
    schedule: str,
    timezone: str = "UTC",
    settings: Mapping[str, JsonValue],
    extract_sha256: str | None = None,
    campaign: RunCampaign | NoCampaign = NONE,
    tuning: Tuning | None = None,
    data_schema: DataSchema | None = None,
    engagement: Engagement | None = None,
) -> Plan:
    """Return the plan of a run.

    `settings` are the deployment's; a dry run writes to the state bucket only. `extract_sha256` is the digest of the
    extract that `extract_uri` names, `campaign` the result of `settings.with_mail`.

    Raises FlywheelError for a threshold outside the cohort's range, an override that is not allowed or has no reason,
    and buckets that are not three.
    """
    as_of = datetime.fromisoformat(as_of.isoformat())  # pendulum's isoformat loses its zone in a subtraction
    requested, zone = params.threshold, ZoneInfo(timezone)
    number = cohort.threshold_at(as_of, zone) if requested is None else cohort.check_threshold(requested)
    buckets = {role: str(settings[f"{role}_bucket"]) for role in ("export", "import", "state")}
    if len(set(buckets.values())) < 3:
        raise FlywheelError(
            f"the export, import and state buckets must be three, not {', '.join(buckets.values())}: an object in the"
            " export bucket may start a Lambda, and an object in the import bucket may be imported",
            code=Code.VARIABLE,
        )
    dry_run, extract_uri = params.dry_run, params.extract_uri or None
    source = EXTRACT if extract_uri else params.source
    name = names.run_name(cohort.name, number, as_of, live=source == "live", extract_sha256=extract_sha256)
    folder = "dry_run/" if dry_run else ""
    staged_folder = folder + names.STAGED_FOLDER
    return Plan(
        name=name,
        as_of=as_of,
        schedule=schedule,
        timezone=timezone,
        cohort=cohort.name,
        property=cohort.property,
        direction=cohort.direction,
        threshold=number,
        threshold_from=_threshold_from(cohort, as_of.astimezone(zone).date()) if requested is None else "param",
        floor=cohort.snapshot_floor(),
        where=cohort.where,
        source=source,
        extract_only=params.extract_only,
        extract_uri=extract_uri,
        extract_sha256=extract_sha256,
        limits=cohort.limits,
        override=_override(params, run_type, user),
        dry_run=dry_run,
        attributes=cohort.attributes,
        score_column=cohort.score_as,
        consent=None if cohort.consent == "none" else cohort.consent,
        campaign=campaign,
        withhold=_withhold(cohort, campaign, as_of, engagement or Engagement()),
        layout=layout,
        contacts_table=str(settings["contacts_table"]),
        export_bucket=buckets["export"],
        extract_bucket=buckets["state" if dry_run or extract_uri else "export"],
        extract_key=(
            names.staged_extract_key(staged_folder, name) if extract_uri else folder + names.extract_key(name)
        ),
        state_bucket=buckets["state"],
        staged_folder=staged_folder,
        segment_bucket=buckets["import"],
        segment_folder=names.SEGMENT_FOLDER,
        rejects_key=folder + names.rejects_key(name),
        claim_key=folder + names.claim_key(name),
        report_folder=folder + names.report_folder(name),
        do_not_contact_key=names.DO_NOT_CONTACT_KEY,
        shard_members=tuning.shard_members if tuning else None,
        lookups_in_flight=tuning.lookups_in_flight if tuning else None,
        data_schema=cohort.schema_of(data_schema or DataSchema()),
        connection=cohort.connection,
        may_be_empty=cohort.may_be_empty,
        sender_limits=sender_limits(engagement) if engagement else None,
        reads_engagement=bool(engagement and engagement.read_events),
    )


def check_extract(params: RunParams, run_type: str) -> None:
    """Raise FlywheelError for params of an extract that contradict each other, or the run."""
    only, uri = params.extract_only, params.extract_uri
    if only and uri:
        raise FlywheelError(
            "extract_only ends a run at the extract, and extract_uri begins with one: nothing would be done; remove one"
            " of them",
            code=Code.PARAMS_CONTRADICT,
        )
    if only and params.override_limits:
        raise FlywheelError(
            "extract_only ends a run before its limits are evaluated: leave override_limits out",
            code=Code.PARAMS_CONTRADICT,
        )
    if uri and params.source != "auto":
        raise FlywheelError(
            f"extract_uri and source={params.source} both choose where the members come from: remove one of them",
            code=Code.PARAMS_CONTRADICT,
        )
    if uri and run_type == "backfill":
        raise FlywheelError(
            "a backfill cannot use extract_uri, because one extract is not for many days: trigger one run with it",
            code=Code.PARAMS_CONTRADICT,
        )


def _withhold(cohort: Cohort, campaign: RunCampaign | NoCampaign, as_of: datetime, engagement: Engagement) -> Withhold:
    suppressions = names.SUPPRESSIONS_KEY if engagement.read_events else None
    if isinstance(campaign, NoCampaign):
        return Withhold(holdout_percent=cohort.holdout_percent, suppressions=suppressions)
    since = campaign.not_again_since(as_of)
    return Withhold(
        holdout_percent=cohort.holdout_percent,
        launch_holdout_percent=campaign.holdout_percent,
        placeholders=campaign.placeholders,
        template=campaign.template if since else None,
        since=since,
        suppressions=suppressions,
    )


def _threshold_from(cohort: Cohort, day: date) -> str:
    if not isinstance(cohort.threshold, list):
        return "registry"
    return f"registry, from {max(e.first for e in cohort.threshold if e.first <= day)}"


def _override(params: RunParams, run_type: str, user: str | None) -> Override | None:
    """The user and the reason of a limits override; None without one."""
    override, reason = params.override_limits, (params.override_reason or "").strip()
    if not override and not reason:
        return None
    if not override:
        raise FlywheelError(
            "override_reason is given without override_limits: switch it on, or leave the reason out",
            code=Code.PARAMS_CONTRADICT,
        )
    if run_type == "backfill":
        raise FlywheelError(
            "a backfill cannot override the limits, because its days are not reviewed one by one: trigger a run for the"
            " day, with override_limits and override_reason",
            code=Code.PARAMS_CONTRADICT,
        )
    if not reason:
        raise FlywheelError(
            "override_limits needs an override_reason: write why the figures are right, for the report",
            code=Code.PARAMS_CONTRADICT,
        )
    return Override(by=user or "unknown", reason=reason)
