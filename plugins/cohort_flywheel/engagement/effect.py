"""What a launch changed: the players that it mailed, compared with those that it would have mailed but held out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from cohort_flywheel.common.records import Record
from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.engagement.event_counts import LaunchCounts
from cohort_flywheel.runs.as_of import Instant

#: `higher` and `lower`: of the mailed, and the interval of 95 % does not have 0. `not seen`: it has 0, which does
#: not prove equality.
Verdict = Literal["higher", "lower", "not seen", "too few to tell"]


class ShareEffect(Record):
    """One outcome: how many of the mailed and of the held out have it, and the difference of their shares.

    `low` to `high` is the interval of 95 % of `difference`, the share of the mailed minus that of the held out (0.02 is
    2 points), None if there are too few to tell. `detectable` is the difference that groups of this size could show,
    None where a group is empty.
    """

    mailed: int
    held_out: int
    difference: float | None
    low: float | None
    high: float | None
    detectable: float | None
    verdict: Verdict
    sentence: str


class MeanEffect(Record):
    """The mean change of the scores since the launch, clipped at the floor; otherwise as ShareEffect."""

    clipped_at: float | None
    mailed: float | None
    held_out: float | None
    difference: float | None
    low: float | None
    high: float | None
    detectable: float | None
    verdict: Verdict
    sentence: str


class Comparison(Record):
    """The mailed against one holdout: the players of both lists who were not erased, each once, whatever they got.

    `further`: the score is further beyond the threshold than at the launch. `left`: the score is not beyond the
    threshold, or the player is not in the snapshot.
    """

    mailed: int
    held_out: int
    erased: int
    further: ShareEffect
    left: ShareEffect
    change: MeanEffect


class LaunchEffect(Record):
    """The effect of a launch `effect_days` after its as-of: from the as-of `due` on.

    `launch_holdout` compares with the share that this launch held out: the effect of this e-mail. `global_holdout`
    compares with the players that no campaign mails: the effect of being mailed at all. Each is None without such a
    holdout, and before `status` is `measured`; `measured_at` is the as-of of the snapshot that was read.
    """

    launch: str
    cohort: str
    template: str
    as_of: Instant
    property: str
    direction: Direction
    threshold: int | float
    effect_days: int
    due: Instant
    holdout_percent: int
    global_holdout_percent: int
    status: Literal["measured", "waiting", "no snapshot"]
    measured_at: Instant | None = None
    launch_holdout: Comparison | None = None
    global_holdout: Comparison | None = None


class PooledEffect(Record):
    """The effect of the launches of one template in one month with the same property, direction and holdouts.

    Each player counts in the first launch of the month that mailed them or held them out; `repeated` are those of later
    launches, who are left out.
    """

    template: str
    month: str
    property: str
    direction: Direction
    effect_days: int
    holdout_percent: int
    global_holdout_percent: int
    launches: list[str]
    repeated: int
    launch_holdout: Comparison | None = None
    global_holdout: Comparison | None = None


class Effects(Record):
    """The effects of the launches up to an as-of, the newest launch first, and pooled, the newest month first."""

    launches: list[LaunchEffect] = Field(default_factory=list)
    pooled: list[PooledEffect] = Field(default_factory=list)


class EngagementShares(Record):
    """What became of the messages of a launch, beside its effect; it is not an effect.

    `messages` is the sum of `states`, one for each message. The others are shares of `delivered`: the messages that
    were delivered, and those of which only opens, clicks or complaints came; None if there are none. `_unlikely_bot`
    are those that SES flagged Unlikely, `_no_flag` those without a flag; without a suffix all count, also by bots.
    `untracked` are the e-mails of players who have not agreed to tracking, which have neither opens nor clicks, also
    those of them that were not delivered.
    """

    messages: int
    states: dict[str, int]
    delivered: int
    opened: float | None
    opened_unlikely_bot: float | None
    opened_no_flag: float | None
    clicked: float | None
    clicked_unlikely_bot: float | None
    clicked_no_flag: float | None
    unsubscribed: float | None
    complained: float | None
    untracked: float | None


class ReportedEffect(Effects):
    """What the cohort's earlier launches changed, and what became of their messages, by run name.

    `as_of` is that of the report of the DAG `engagement` which has them.
    """

    as_of: Instant
    engagement: dict[str, EngagementShares]


def effect_lines(effects: Effects) -> Iterator[tuple[str, str]]:
    """Yield the lines of the log of a report: how many went further, of each launch and holdout, or when it is due."""
    for each in effects.launches:
        if each.status == "waiting":
            yield f"effect of {each.launch}", f"due on {each.due:%Y-%m-%d}"
        if each.launch_holdout:
            yield f"effect of {each.launch}", each.launch_holdout.further.sentence
        if each.global_holdout:
            yield f"effect of being mailed, {each.launch}", each.global_holdout.further.sentence


#: The counts of a launch that are shares of delivered.
_SHARES = (
    "opened", "opened_unlikely_bot", "opened_no_flag", "clicked", "clicked_unlikely_bot", "clicked_no_flag",
    "unsubscribed", "complained", "untracked",
)  # fmt: skip


def engagement_shares(counts: LaunchCounts) -> EngagementShares:
    """Return the counts of a launch as shares of delivered messages."""
    delivered = counts.states.get("delivered", 0) + counts.states.get("tracked", 0)
    numbers = counts.model_dump(include=set(_SHARES))
    return EngagementShares(
        messages=counts.messages,
        states=counts.states,
        delivered=delivered,
        **{name: round(number / delivered, 6) if delivered else None for name, number in numbers.items()},
    )
