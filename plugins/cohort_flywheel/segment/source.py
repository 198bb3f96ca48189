"""The source of a run's members: the graph, the snapshot of its as-of, or an uploaded extract."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.segment.snapshot import Snapshot, select_snapshot

if TYPE_CHECKING:
    from cohort_flywheel.runs.plan import Plan

SOURCES = {
    "auto": "the graph for the newest day, until its snapshot is final; the snapshot of the day for any other",
    "live": "the current graph for any day, under separate names that end in _live",
    "snapshot": "the snapshot of the day, never the graph",
}

#: The source of a run with the param `extract_uri`; it is not a value of the param `source`.
EXTRACT: Literal["extract"] = "extract"


def is_canonical_run(plan: Plan) -> bool:
    """Whether a run is the canonical run of its as-of: not with source `live` or an uploaded extract.

    Other runs record no result, are not used as a previous result, do not change current members, and are not launched.
    """
    return plan.source not in ("live", EXTRACT)


def choose_source(
    plan: Plan, *, newest: datetime, snapshots: list[Snapshot], days: Callable[[], Iterable[datetime]]
) -> Snapshot | None:
    """Return the snapshot that a run reads, by its `source` and as-of, or None for the graph or an extract.

    `newest` is the newest complete as-of; `snapshots` are those of the run's as-of, and `days` returns the as-ofs with
    snapshots. Raises FlywheelError if no compatible snapshot exists.
    """
    source, as_of = plan.source, plan.as_of
    if not is_canonical_run(plan):
        return None
    chosen = select_snapshot(snapshots)
    if source == "auto" and as_of >= newest and not (chosen and chosen.final):
        return None
    day = f"{as_of:%Y-%m-%d %H:%M} UTC"
    advice = "run with source=live to use the current graph, under a separate name"
    if chosen is None:
        raise FlywheelError(
            f"cohort {plan.cohort} has no snapshot of {day} ({_nearest(as_of, days())}): {advice}",
            code=Code.NO_SNAPSHOT,
        )
    why_not = chosen.header.incompatibility(
        property=plan.property,
        direction=plan.direction,
        threshold=plan.threshold,
        required=plan.where,
        schema=plan.data_schema,
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
        return "no other day has one"
    return "the nearest others are of " + " and ".join(f"{day:%Y-%m-%d %H:%M} UTC" for day in around)
