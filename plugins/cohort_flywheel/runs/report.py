"""The report of a run: counts of what happened to every player."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from cohort_flywheel.campaign.launch import ApprovalAnswer, CampaignOutputs
from cohort_flywheel.common.records import Record
from cohort_flywheel.common.table import format_table
from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.config.decimals import number_text
from cohort_flywheel.destinations.import_result import ImportResult
from cohort_flywheel.engagement.effect import ReportedEffect, effect_lines
from cohort_flywheel.engagement.suppressions import AwaitedSuppressions
from cohort_flywheel.errors import Code
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.segment.limits import describe_violations
from cohort_flywheel.segment.outputs import (
    Extract,
    ExtractSource,
    JudgedSegment,
    LimitResults,
    PartFile,
    RecordSums,
    Segment,
    VertexCounts,
)
from cohort_flywheel.segment.source import EXTRACT

#: The version of the report's shape, which `report.schema.json` describes.
VERSION: Literal[5] = 5

type Outcome = Literal[
    "launched", "not approved", "not approved in time", "approved too late", "imported", "dry run", "extract only",
    "empty cohort", "not imported", "stopped by limits", "failed",
]  # fmt: skip

_READ = ("vertices_read", "vertices_not_beyond", "vertices_not_as_required", "vertices_erased")
_GRAPH = ("vertices", "merged", "vertices_without_playerId", "members")


class ReportedRun(Record):
    """The run of the DAG; times in ISO 8601."""

    dag_id: str
    run_id: str
    run_type: str
    started: str | None
    reported: str
    triggered_by: str | None


class ReportedPlan(Record):
    """The plan of the run, as far as the report has it."""

    cohort: str
    property: str
    direction: Direction
    threshold: int | float
    threshold_from: str
    as_of: str
    dry_run: bool
    source: Literal["auto", "live", "snapshot", "extract"]
    extract_only: bool
    extract_uri: str | None
    where: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    limits: dict[str, int]
    holdout_percent: int
    campaign: Literal["none", "draft", "test", "launch"]


class ReportedExtract(VertexCounts, ExtractSource):
    """The extract, and what was read for it."""

    url: str
    bytes: int
    sha256: str
    vertices_erased: int


class ReportedSegment(RecordSums):
    """The segment file: a folder, and its parts."""

    url: str
    parts: list[PartFile]
    rejects_key: str
    do_not_contact_matched: int


class ReportedCampaign(Record):
    """The result of the campaign, without the text of the e-mail, which only the approver gets."""

    mode: Literal["draft", "test", "launch"]
    template: str
    template_digest: str
    sender: Annotated[str, Field(alias="from")]
    rows: int
    segment_sha256: str
    answer: ApprovalAnswer | None
    launched: dict[str, JsonValue] | None


class Report(Record):
    """The report of a run: counts and locations, no players. A part that the run did not reach is None."""

    version: Literal[5] = VERSION
    run: ReportedRun
    outcome: Outcome
    tasks: dict[str, str]
    plan: ReportedPlan | None
    extract: ReportedExtract | None
    segment: ReportedSegment | None
    limits: LimitResults | None
    imported: dict[str, JsonValue] | None
    campaign: ReportedCampaign | None
    suppressions: AwaitedSuppressions | None = None
    effect: ReportedEffect | None = None
    faults: list[str]


class ReportOutput(Record):
    """The output of CohortReportOperator."""

    report_url: str
    outcome: Outcome


def make_report(
    run: ReportedRun,
    tasks: Mapping[str, str],
    *,
    plan: Plan | None = None,
    extract: Extract | None = None,
    judged: JudgedSegment | None = None,
    imported: ImportResult | None = None,
    campaign: CampaignOutputs | None = None,
    suppressions: AwaitedSuppressions | None = None,
    effect: ReportedEffect | None = None,
) -> Report:
    """Return the report of a run; a part that the run did not reach is None."""
    segment = judged.segment if judged else None
    return Report(
        run=run,
        outcome=outcome(tasks, plan, extract, judged, imported, campaign),
        tasks=dict(tasks),
        plan=_planned(plan) if plan else None,
        extract=(
            ReportedExtract(url=f"s3://{extract.s3_bucket}/{extract.s3_key}", **extract.model_dump())
            if extract
            else None
        ),
        segment=ReportedSegment(url=segment.s3_url, **segment.model_dump()) if segment else None,
        limits=LimitResults(**judged.model_dump(include=set(LimitResults.model_fields))) if judged else None,
        imported=imported.model_dump(mode="json", exclude_unset=True) if imported else None,
        campaign=_campaign(campaign) if campaign else None,
        suppressions=suppressions,
        effect=effect,
        faults=faults(extract, segment, imported, campaign),
    )


def _planned(plan: Plan) -> ReportedPlan:
    about = {"holdout_percent": plan.withhold.holdout_percent, "campaign": plan.campaign.mode}
    return ReportedPlan(**plan.model_dump(mode="json") | about)


def outcome(
    tasks: Mapping[str, str],
    plan: Plan | None,
    extract: Extract | None,
    judged: JudgedSegment | None,
    imported: ImportResult | None,
    campaign: CampaignOutputs | None = None,
) -> Outcome:
    """Return how the run ended."""
    if judged and not judged.override and describe_violations(judged.limits):
        return "stopped by limits"
    failed = [task for task, state in tasks.items() if state in ("failed", "upstream_failed")]
    if failed or not plan:
        return "failed"
    if plan.extract_only and extract:
        return "extract only"
    if not judged:
        return "failed"
    if campaign and campaign.launched:
        return "launched"
    if campaign and (answer := campaign.answer):
        if answer.approved:  # but not launched: a newer as-of had begun
            return "approved too late"
        return "not approved in time" if answer.timed_out else "not approved"
    if imported:
        return "imported"
    return "dry run" if plan.dry_run else "empty cohort" if not judged.segment.rows else "not imported"


def _campaign(campaign: CampaignOutputs) -> ReportedCampaign | None:
    if not (prepared := campaign.prepared):
        return None
    launched: dict[str, JsonValue] = {}
    for output in (campaign.launched, campaign.followed):
        launched |= output.model_dump(mode="json", exclude_unset=True) if output else {}
    return ReportedCampaign(
        mode=prepared.mode,
        template=prepared.template,
        template_digest=prepared.template_digest,
        sender=prepared.sender,
        rows=prepared.rows,
        segment_sha256=prepared.segment_sha256,
        answer=campaign.answer,
        launched=launched or None,
    )


def faults(
    extract: Extract | None,
    segment: Segment | None,
    imported: ImportResult | None,
    campaign: CampaignOutputs | None = None,
) -> list[str]:
    """Return an error text for each sum that does not hold; empty for a consistent run."""
    found = []
    if extract:
        total = extract.vertices + extract.vertices_not_beyond + extract.vertices_not_as_required
        total += extract.vertices_erased
        if extract.vertices_read != total:
            found.append(f"{extract.vertices_read} vertices read are not the {total} that were classified")
        total = extract.members + extract.merged + extract.vertices_without_player_id
        if extract.vertices != total:
            found.append(f"{extract.vertices} vertices are not the {total} that were counted")
    if segment:
        total = segment.rows + sum(segment.rejects.values())
        if segment.members != total:
            found.append(f"{segment.members} members are not the {total} rows and rejects")
    if extract and segment and extract.members != segment.members:
        found.append(f"the extract has {extract.members} members, but {segment.members} were looked up")
    if segment and imported and imported.segment_size != segment.rows:
        found.append(f"the segment's size is {imported.segment_size}, and its file has {segment.rows} rows")
    if segment and campaign and (launched := campaign.launched) and launched.accounted != segment.rows:
        found.append(
            f"the launch accounts for {launched.accounted} players, and the segment file has {segment.rows} rows"
        )
    return found


def table(report: Report) -> str:
    """Format the report as a table for a log or a terminal."""
    lines = [("outcome", str(report.outcome))]
    if plan := report.plan:
        lines.append(("cohort", f"{plan.cohort}: {plan.property} {plan.direction} {number_text(plan.threshold)}"))
        lines.append(("threshold from", plan.threshold_from))
        lines.append(("as-of", plan.as_of))
        if plan.extract_uri:
            lines.append(("extract of", plan.extract_uri))
    if extract := report.extract:
        kind = f"{extract.snapshot} snapshot" if extract.source == "snapshot" else extract.source
        verb = "uploaded" if extract.source == EXTRACT else "read"
        lines.append(("source", f"{kind}, {verb} at {extract.read_at}"))
        numbers = extract.model_dump(mode="json")
        lines += [(key.replace("_", " "), f"{numbers[key]:,}") for key in (*_READ, *_GRAPH)]
        if extract.source == "graph":
            number = extract.vertices_without_number
            lines.append(("vertices without number", "not counted" if number is None else f"{number:,}"))
        lines.append(("extract", extract.url))
    if report.suppressions:
        lines.append(("suppressions", report.suppressions.sentence))
    if segment := report.segment:
        lines.append(("rows", f"{segment.rows:,}"))
        lines.append(("rejects", f"{sum(segment.rejects.values()):,}"))
        lines += [(f"  {reason}", f"{number:,}") for reason, number in segment.rejects.items()]
        lines.append(("do-not-contact entries", f"{segment.do_not_contact:,}"))
        lines.append(("  that match a member", f"{segment.do_not_contact_matched:,}"))
        lines.append(("records", f"{segment.records:,}"))
        lines += [(f"  without {name}", f"{number:,}") for name, number in segment.records_without.items() if number]
        lines.append(("segment file", segment.url))
    if limits := report.limits:
        for result in limits.limits:
            said = "holds" if result.holds else "DOES NOT HOLD"
            lines.append((result.limit.replace("_", " "), f"{result.allowed:,} {said}: {result.sentence}"))
        if override := limits.override:
            lines.append(("overridden", f"by {override.by}: {override.reason}"))
    if imported := report.imported:
        lines += [(key.replace("_", " "), str(value)) for key, value in imported.items()]
    if campaign := report.campaign:
        lines.append(("campaign", f"{campaign.mode}, template {campaign.template}, from {campaign.sender}"))
        if answer := campaign.answer:
            said = "approved" if answer.approved else "not approved"
            who = "no answer in time" if answer.timed_out else f"by {answer.by}"
            lines.append(("approval", f"{said}: {who}, {answer.at}"))
        for key, value in (campaign.launched or {}).items():
            if isinstance(value, dict):
                value = ", ".join(f"{number:,} {why}" for why, number in value.items()) or "0"
            lines.append((key.replace("_", " "), str(value)))
    lines += effect_lines(report.effect) if report.effect else ()
    lines += [("FAULT", f"{Code.DO_NOT_ADD_UP}: {fault}") for fault in report.faults]
    lines += [("task " + state, task) for task, state in report.tasks.items() if state.endswith("failed")]
    return format_table(lines)
