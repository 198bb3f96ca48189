"""Where a run's members come from: the graph as it is now, the snapshot of its as-of, or a dropped extract."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.segment.snapshot import Snapshot, of_the_day

if TYPE_CHECKING:
    from cohort_flywheel.runs.plan import Plan

SOURCES = {
    "auto": "the graph for the newest day, until a run has made its snapshot final; the day's snapshot for any other",
    "live": "today's graph, whatever the day, under names of its own that end in _live",
    "snapshot": "the day's snapshot, never the graph",
}

#: The source of a run whose param `extract_uri` names an extract; no param `source` says it.
EXTRACT: Literal["extract"] = "extract"


def is_the_days(plan: Plan) -> bool:
    """Whether what a run makes stands for its day; today's graph under any day, and a dropped extract, never do.

    What does not is nobody's previous and no result, changes no current membership, and is never launched.
    """
    return plan.source not in ("live", EXTRACT)


def choose_source(
    plan: Plan, *, newest: datetime, snapshots: list[Snapshot], days: Callable[[], Iterable[datetime]]
) -> Snapshot | None:
    """Return the snapshot that a run reads, or None for the graph or an extract: by its `source`, and by age.

    `newest` is the newest complete as-of now; `snapshots` are those of the run's as-of, and `days` gives the as-ofs
    that have any. Raises FlywheelError where there is none that serves.
    """
    source, as_of = plan.source, plan.as_of
    if not is_the_days(plan):
        return None
    chosen = of_the_day(snapshots)
    if source == "auto" and as_of >= newest and not (chosen and chosen.final):
        return None
    day = f"{as_of:%Y-%m-%d %H:%M} UTC"
    advice = "run with source=live to accept today's graph, under a name of its own"
    if chosen is None:
        raise FlywheelError(
            f"cohort {plan.cohort} has no snapshot of {day} ({_nearest(as_of, days())}): {advice}",
            code=Code.NO_SNAPSHOT,
        )
    why_not = chosen.header.serves(
        property=plan.property,
        direction=plan.direction,
        threshold=plan.threshold,
        required=plan.require,
    )
    if why_not:
        raise FlywheelError(
            f"the snapshot of cohort {plan.cohort} of {day} {why_not} ({_nearest(as_of, days())}):"
            f" choose another day or threshold, or {advice}",
            code=Code.NO_SNAPSHOT,
        )
    return chosen


def _nearest(as_of: datetime, days: Iterable[datetime]) -> str:
    others = sorted(day for day in days if day != as_of)
    around = [*[d for d in others if d < as_of][-1:], *[d for d in others if d > as_of][:1]]
    if not around:
        return "there is none of another day"
    return "the nearest others are of " + " and ".join(f"{day:%Y-%m-%d %H:%M} UTC" for day in around)
