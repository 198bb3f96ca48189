"""The figures of the pages: counts of cohorts and of launches, without a player. Each model is the value of an XCom."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Literal

from pydantic import Field, JsonValue

from cohort_flywheel.campaign.launch import ApprovalAnswer
from cohort_flywheel.common.records import Record
from cohort_flywheel.config.cohorts import Cohort, Direction
from cohort_flywheel.config.decimals import Number, number_text, read_number
from cohort_flywheel.engagement.effect import LaunchEffect, PooledEffect
from cohort_flywheel.engagement.engagement_outputs import EngagementReport
from cohort_flywheel.engagement.event_counts import LaunchCounts
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.runs.as_of import Instant
from cohort_flywheel.runs.report import Outcome, Report
from cohort_flywheel.runs.result import Result, RunIds
from cohort_flywheel.segment.members import Score
from cohort_flywheel.segment.outputs import LimitResult

#: The maximum number of days of a cohort, of thresholds that are counted, and of launches.
MAX_DAYS, MAX_THRESHOLDS, MAX_LAUNCHES = 400, 200, 200
#: The widest range of thresholds that is counted: a list of so many numbers is in memory.
MAX_RANGE = 100_000
#: The days before the newest one for which the players that are still members are counted.
LOOKBACKS = (1, 7, 30, 90)
#: The XComs of all cohorts and of all launches; a cohort's own is `cohort_key`.
OVERVIEW, LAUNCHES = "overview", "launches"


def cohort_key(cohort: str) -> str:
    """The key of a cohort's XCom."""
    return f"cohort_{cohort}"


class Day(Record):
    """The result of one as-of.

    `joined` and `left` compare with the day before in the list; they are None for the first day, and where a snapshot
    is gone or cannot be compared. `recorded` is the time at which the result was written, None if it is not known.
    """

    as_of: Instant
    threshold: Number
    threshold_from: str
    members: int
    rows: int
    rejects: dict[str, int]
    joined: int | None = None
    left: int | None = None
    started_by: str | None = None
    recorded: Instant | None = None
    run: RunIds


class ThresholdCounts(Record):
    """The members that other thresholds give on a day, one number for each; the first is the floor of the snapshot."""

    as_of: Instant
    thresholds: list[Number]
    members: list[int]


class Stayed(Record):
    """How many members of the newest day were also members `days` days before."""

    days: int
    members: int


class Overlap(Record):
    """How many members of the newest day are also members of another cohort, by that cohort's newest result."""

    cohort: str
    members: int


class CohortFigures(Record):
    """The figures of one cohort; days in the order of time."""

    version: Literal[1] = 1
    cohort: str
    description: str
    property: str
    direction: Direction
    threshold: Number
    lowest_threshold: Number
    highest_threshold: Number
    days: list[Day] = Field(default_factory=list)
    limits: list[LimitResult] = Field(default_factory=list)
    thresholds: ThresholdCounts | None = None
    stayed: list[Stayed] = Field(default_factory=list)
    overlaps: list[Overlap] = Field(default_factory=list)


class CohortSummary(Record):
    """One cohort in the overview. `day` is the newest result, `before` the members of the one before.

    `dag_id` is the DAG of the cohort's scheduled runs, or None; `figures_run` is the run whose XCom has the cohort's
    own figures and `counted` the time at which it counted them, None where they were not counted yet.
    """

    cohort: str
    description: str
    direction: Direction
    threshold: Number
    dag_id: str | None
    day: Day | None = None
    before: int | None = None
    counted: Instant | None = None
    figures_run: str | None = None


class Overview(Record):
    """All cohorts of the registry. `dag_ids` are the DAGs whose runs the pages ask for."""

    version: Literal[1] = 1
    destination: str
    schedule: str
    counted: Instant
    newest_as_of: Instant
    next_as_of: Instant
    dag_ids: list[str]
    cohorts: list[CohortSummary]
    #: Cohorts that the registry names and that cannot be read.
    unreadable: list[str] = Field(default_factory=list)


class Engagement(Record):
    """What became of the messages of a launch by the events up to an as-of."""

    as_of: Instant
    counts: LaunchCounts


class Launch(Record):
    """One launch of a campaign, by its report: counts, and the address of a list.

    `engagement` is None until a report of the DAG `engagement` has the launch, `effect` also for one without a holdout.
    """

    name: str
    cohort: str
    threshold: Number
    as_of: Instant
    template: str
    sender: str
    rows: int
    outcome: Outcome
    answer: ApprovalAnswer | None
    launched: dict[str, JsonValue]
    reported: Instant
    run: RunIds
    engagement: Engagement | None = None
    effect: LaunchEffect | None = None


class Launches(Record):
    """The launches, the latest first, and the effects of months, the newest first."""

    version: Literal[1] = 1
    launches: list[Launch] = Field(default_factory=list)
    pooled: list[PooledEffect] = Field(default_factory=list)


def day_of(results: Mapping[Number, Result], in_force: Number | None) -> Day:
    """Return the day of the results of one as-of, by threshold; there is at least one.

    The first of: the result for the registry's threshold of its day; that for the threshold `in_force` now; any.
    """
    by_registry = [number for number, each in results.items() if each.threshold_from.startswith("registry")]
    candidates = by_registry or list(results)
    threshold = in_force if in_force in candidates else max(candidates)
    result = results[threshold]
    return Day(
        as_of=result.as_of,
        threshold=threshold,
        threshold_from=result.threshold_from,
        members=result.members,
        rows=result.rows,
        rejects=result.rejects,
        started_by=result.started_by,
        run=result.run,
    )


def threshold_in_force(cohort: Cohort, as_of: datetime, zone: tzinfo) -> Number | None:
    """Return the threshold of an as-of, or None before the first entry of the history."""
    try:
        return cohort.threshold_at(as_of, zone)
    except FlywheelError:
        return None


def earlier_days(days: Sequence[Day], zone: tzinfo) -> dict[int, Day]:
    """Return the day of each of LOOKBACKS before the newest, by the dates of the schedule's zone.

    In UTC, two as-ofs around a change of the zone's clock may have one date.
    """
    by_date = {day.as_of.astimezone(zone).date(): day for day in days}
    newest = days[-1].as_of.astimezone(zone).date()
    found = {number: by_date.get(newest - timedelta(days=number)) for number in LOOKBACKS}
    return {number: day for number, day in found.items() if day}


def unit(cohort: Cohort, floor: Score) -> Decimal:
    """The distance of two thresholds that are counted: 1, or a power of ten with the decimals that the cohort uses."""
    numbers = (floor, cohort.threshold_range.min, cohort.threshold_range.max, *cohort.thresholds())
    return Decimal(1).scaleb(-max(len(number_text(number).partition(".")[2]) for number in numbers))


def count_thresholds(scores: Iterable[tuple[Score, int]], cohort: Cohort, floor: Score) -> list[int]:
    """Count the members by distance from the floor: how many units stricter a threshold may be to keep them.

    `scores` has each score with its number of members. The last count has all that stay beyond the strictest threshold
    that is counted.
    """
    above, step = cohort.direction == "above", unit(cohort, floor)
    strictest = cohort.threshold_range.max if above else cohort.threshold_range.min
    beginning = _in_units(floor, step)
    counts = [0] * (min(abs(int(_in_units(strictest, step) - beginning)), MAX_RANGE) + 1)
    for score, members in scores:
        beyond = _in_units(score, step) - beginning if above else beginning - _in_units(score, step)
        counts[min(math.ceil(beyond) - 1, len(counts) - 1)] += members
    return counts


def _in_units(number: Score, step: Decimal) -> int | Decimal:
    return number if isinstance(number, int) and step == 1 else Decimal(repr(number)) / step


def threshold_counts(counts: Sequence[int], cohort: Cohort, floor: Score, as_of: datetime) -> ThresholdCounts:
    """Return the members by threshold, of the output of `count_thresholds`, at most MAX_THRESHOLDS of them."""
    last = max((distance for distance, number in enumerate(counts) if number), default=0)
    # one threshold more than the last that has members, so that the list ends with 0 where the range allows it
    last = min(last + 1, len(counts) - 1)
    every = -(-(last + 1) // MAX_THRESHOLDS)
    step = unit(cohort, floor) if cohort.direction == "above" else -unit(cohort, floor)
    total, thresholds, members = sum(counts), list[Number](), list[int]()
    for distance in range(last + 1):
        if distance % every == 0:
            thresholds.append(read_number(float(Decimal(repr(floor)) + distance * step)))
            members.append(total)
        total -= counts[distance]
    return ThresholdCounts(as_of=as_of, thresholds=thresholds, members=members)


def summarize(figures: CohortFigures, *, dag_id: str | None, counted: datetime, figures_run: str) -> CohortSummary:
    """Return a cohort's entry of the overview."""
    days = figures.days
    return CohortSummary(
        cohort=figures.cohort,
        description=figures.description,
        direction=figures.direction,
        threshold=figures.threshold,
        dag_id=dag_id,
        day=days[-1] if days else None,
        before=days[-2].members if len(days) > 1 else None,
        counted=counted,
        figures_run=figures_run,
    )


def launch_of(report: Report, name: str) -> Launch | None:
    """Return the launch that a report tells of, or None."""
    plan, campaign = report.plan, report.campaign
    if not plan or not campaign or not campaign.launched:
        return None
    return Launch(
        name=name,
        cohort=plan.cohort,
        threshold=plan.threshold,
        as_of=datetime.fromisoformat(plan.as_of),
        template=campaign.template,
        sender=campaign.sender,
        rows=campaign.rows,
        outcome=report.outcome,
        answer=campaign.answer,
        launched=campaign.launched,
        reported=datetime.fromisoformat(report.run.reported),
        run=RunIds(dag_id=report.run.dag_id, run_id=report.run.run_id),
    )


def add_engagement(launches: Mapping[str, Launch], report: EngagementReport) -> dict[str, Launch]:
    """Return the launches that a report of the DAG engagement names, by their names, with its counts and effects."""
    effects, found = {each.launch: each for each in report.effects.launches}, dict[str, Launch]()
    for name, launch in launches.items():
        if counts := report.launches.get(name):
            engagement = Engagement(as_of=report.as_of, counts=counts)
            found[name] = launch.model_copy(update={"engagement": engagement})
        if effect := effects.get(name):
            found[name] = found.get(name, launch).model_copy(update={"effect": effect})
    return found
