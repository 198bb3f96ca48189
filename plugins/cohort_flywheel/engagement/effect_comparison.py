"""Compare the mailed with a holdout, for a launch and for the launches of a month."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import TypedDict
from zoneinfo import ZoneInfo

from cohort_flywheel.campaign.holdout import Holdout, LaunchFacts, due
from cohort_flywheel.common.records import Record
from cohort_flywheel.config.decimals import number_text
from cohort_flywheel.engagement.effect import (
    Comparison,
    Effects,
    LaunchEffect,
    MeanEffect,
    PooledEffect,
    ShareEffect,
    Verdict,
)
from cohort_flywheel.engagement.effect_intervals import (
    MIN_CHANGED,
    MIN_OUTCOMES,
    MIN_PLAYERS,
    Interval,
    Values,
    detectable_mean,
    detectable_share,
    mean_difference,
    share_difference,
)
from cohort_flywheel.engagement.effect_outcomes import Group, GroupOutcomes, Outcomes
from cohort_flywheel.runs.as_of import Instant

HOLDOUTS: tuple[Holdout, ...] = ("launch_holdout", "global_holdout")

_FURTHER, _LEFT = "went further beyond the threshold", "left the cohort"
_CANNOT_LEAVE = "no score has moved back to the threshold: where scores only grow away from it, leaving cannot happen"


class LaunchRecord(Record):
    """A measured launch: its facts, the as-of and the floor of the snapshots, and the outcomes of its groups."""

    facts: LaunchFacts
    measured_at: Instant
    floor: int | float
    groups: dict[Group, GroupOutcomes]


def compare(mailed: Outcomes, held_out: Outcomes, floor: float | None, erased: int) -> Comparison:
    """Return the comparison of two groups.

    :param floor: what the changes of the scores are clipped at; None if it is not the same in all launches.
    :param erased: the players of both lists that an erasure has removed.
    """
    never_back = mailed.players and held_out.players and not mailed.back and not held_out.back
    left = _share(_LEFT, mailed.left, mailed.players, held_out.left, held_out.players)
    return Comparison(
        mailed=mailed.players,
        held_out=held_out.players,
        erased=erased + mailed.without_score + held_out.without_score,
        further=_share(_FURTHER, mailed.further, mailed.players, held_out.further, held_out.players),
        left=left.model_copy(update={"sentence": _CANNOT_LEAVE}) if never_back else left,
        change=_mean(mailed, held_out, floor),
    )


def launch_effect(record: LaunchRecord) -> LaunchEffect:
    """Return the effect of a measured launch."""
    facts, mailed = record.facts, record.groups.get("mailed", GroupOutcomes()).all
    found: dict[Holdout, Comparison] = {}
    for holdout in HOLDOUTS:
        if not _percent(facts, holdout):
            continue
        held_out = record.groups.get(holdout, GroupOutcomes()).all
        found[holdout] = compare(mailed, held_out, record.floor, _erased(record, holdout))
    about = _about(facts) | {"status": "measured", "measured_at": record.measured_at}
    return LaunchEffect.model_validate(about | found)


def unmeasured(facts: LaunchFacts, *, is_due: bool) -> LaunchEffect:
    """Return the entry of a launch without an effect: too early, or without a snapshot that can be read."""
    return LaunchEffect.model_validate(_about(facts) | {"status": "no snapshot" if is_due else "waiting"})


def pool(records: Iterable[LaunchRecord]) -> list[PooledEffect]:
    """Return the pooled effects of the months in which more than one launch was measured, the newest first.

    Launches with other percentages are pooled apart: a difference between them would look like an effect.
    """
    found = []
    for key, several in groupby(sorted(records, key=lambda each: (_pool_key(each.facts), _order(each))), _record_key):
        launches = list(several)
        if len(launches) < 2:
            continue
        mailed = _sum(each.groups.get("mailed", GroupOutcomes()).first for each in launches)
        floors = {each.floor for each in launches}
        floor, facts, comparisons = floors.pop() if len(floors) == 1 else None, launches[0].facts, {}
        for holdout in HOLDOUTS:
            if _percent(facts, holdout):
                held_out = _sum(each.groups.get(holdout, GroupOutcomes()).first for each in launches)
                erased = sum(_erased(each, holdout) for each in launches)
                comparisons[holdout] = compare(mailed, held_out, floor, erased)
        about = facts.model_dump(include=set(PooledEffect.model_fields) - set(HOLDOUTS))
        found.append(
            PooledEffect.model_validate(
                about
                | {"month": key[1], "launches": [each.facts.launch for each in launches]}
                | {"repeated": sum(group.repeated for each in launches for group in each.groups.values())}
                | comparisons
            )
        )
    return sorted(found, key=lambda each: (each.month, each.template, each.property), reverse=True)


def effects(records: Sequence[LaunchRecord], others: Iterable[LaunchEffect]) -> Effects:
    """Return the effects of measured launches and the entries of the others, the newest launch first."""
    launches = [*map(launch_effect, records), *others]
    launches.sort(key=lambda each: (each.as_of, each.launch), reverse=True)
    return Effects(launches=launches, pooled=pool(records))


def month_of(facts: LaunchFacts) -> str:
    """Return the month of a launch's as-of, in the zone of the schedule."""
    return f"{facts.as_of.astimezone(ZoneInfo(facts.timezone)):%Y-%m}"


def _about(facts: LaunchFacts) -> dict[str, object]:
    # the numbers of players of the lists have the names of the comparisons
    return facts.model_dump(include=set(LaunchEffect.model_fields) - set(HOLDOUTS)) | {"due": due(facts)}


def _percent(facts: LaunchFacts, holdout: Holdout) -> int:
    return facts.holdout_percent if holdout == "launch_holdout" else facts.global_holdout_percent


def _listed(facts: LaunchFacts, group: Group) -> int:
    return {
        "mailed": facts.mailed, "launch_holdout": facts.launch_holdout, "global_holdout": facts.global_holdout,
    }[group]  # fmt: skip


def _erased(record: LaunchRecord, holdout: Holdout) -> int:
    """The players that were in the two lists as they were written, and are in neither now."""
    groups: tuple[Group, Group] = ("mailed", holdout)
    there = (record.groups.get(group, GroupOutcomes()).all for group in groups)
    return sum(_listed(record.facts, group) for group in groups) - sum(a.players + a.without_score for a in there)


def _pool_key(facts: LaunchFacts) -> tuple[str, str, str, str, int, int, int]:
    which = facts.template, month_of(facts), facts.property, facts.direction
    return (*which, facts.effect_days, facts.holdout_percent, facts.global_holdout_percent)


def _record_key(record: LaunchRecord) -> tuple[str, str, str, str, int, int, int]:
    return _pool_key(record.facts)


def _order(record: LaunchRecord) -> tuple[str, str]:
    return record.facts.as_of.isoformat(), record.facts.launch


def _sum(several: Iterable[Outcomes]) -> Outcomes:
    found, changes = list(several), Counter[float]()
    for each in found:
        changes.update(dict(each.changes))
    names = ("players", "without_score", "further", "left", "back")
    numbers = {name: sum(getattr(each, name) for each in found) for name in names}
    return Outcomes(**numbers, changes=sorted(changes.items()))


# --- one outcome


def _share(what: str, mailed: int, of_mailed: int, held_out: int, of_held_out: int) -> ShareEffect:
    found: Interval | None = None
    detectable: float | None = None
    if of_mailed and of_held_out:
        detectable = detectable_share(mailed + held_out, of_mailed, of_held_out)
        if min(of_mailed, of_held_out) >= MIN_PLAYERS and mailed + held_out >= MIN_OUTCOMES:
            found = share_difference(mailed, of_mailed, held_out, of_held_out)
        text = (
            f"{_percent_text(mailed / of_mailed)} of {of_mailed:,} mailed and {_percent_text(held_out / of_held_out)}"
            f" of {of_held_out:,} held out {what}"
        )
    else:
        text = f"{of_mailed:,} mailed and {of_held_out:,} held out can be compared"
    sentence = f"{text}{_conclusion(found, detectable, _points)}"
    return ShareEffect(mailed=mailed, held_out=held_out, **_numbers(found, detectable), sentence=sentence)


def _mean(mailed: Outcomes, held_out: Outcomes, floor: float | None) -> MeanEffect:
    one, other = _values(mailed), _values(held_out)
    means: tuple[float, float] | tuple[None, None] = None, None
    found: Interval | None = None
    detectable: float | None = None
    text = f"{one.players:,} mailed and {other.players:,} held out can be compared"
    if one.players and other.players:
        means = round(one.mean(), 6), round(other.mean(), 6)
        detectable = detectable_mean(one, other)
        if min(one.players, other.players) >= MIN_PLAYERS and min(one.changed, other.changed) >= MIN_CHANGED:
            found = mean_difference(one, other)
        where = "the floor" if floor is None else f"the floor {number_text(floor)}"
        text = f"the mean change is {means[0]:+g} of the mailed and {means[1]:+g} of the held out, clipped at {where}"
    return MeanEffect(
        clipped_at=floor,
        mailed=means[0],
        held_out=means[1],
        **_numbers(found, detectable),
        sentence=f"{text}{_conclusion(found, detectable, '{:+.3g}'.format)}",
    )


def _values(outcomes: Outcomes) -> Values:
    return Values([value for value, _ in outcomes.changes], [count for _, count in outcomes.changes])


class _Numbers(TypedDict):
    difference: float | None
    low: float | None
    high: float | None
    detectable: float | None
    verdict: Verdict


def _numbers(found: Interval | None, detectable: float | None) -> _Numbers:
    could = None if detectable is None else round(detectable, 6)
    if found is None:
        return _Numbers(difference=None, low=None, high=None, detectable=could, verdict="too few to tell")
    verdict: Verdict = "higher" if found.low > 0 else "lower" if found.high < 0 else "not seen"
    low, high = round(found.low, 6), round(found.high, 6)
    return _Numbers(difference=round(found.difference, 6), low=low, high=high, detectable=could, verdict=verdict)


def _conclusion(found: Interval | None, detectable: float | None, number: Callable[[float], str]) -> str:
    if detectable is None:
        return ": too few to tell"
    could = f"a difference of {number(detectable).removeprefix('+')} could have been seen"
    if found is None:
        return f": too few to tell; {could}"
    text = f": {number(found.difference)} ({number(found.low)} to {number(found.high)})"
    return text if found.low > 0 or found.high < 0 else f"{text}, no difference seen; {could}"


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points"


def _percent_text(share: float) -> str:
    return f"{100 * share:.1f} %"
