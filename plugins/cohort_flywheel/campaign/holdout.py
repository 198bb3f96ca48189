"""The players that a launch would have mailed but holds out, and where they are recorded.

Both lists of an effect are written at the launch: the players that it may mail, and those that it holds out. They have
personal data, and are in the state bucket only.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from cohort_flywheel.campaign.send_ledger import ledger_folder
from cohort_flywheel.common.records import Record
from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.runs.as_of import Instant

if TYPE_CHECKING:
    from cohort_flywheel.runs.plan import Plan

#: The lists of a launch, each with the reason of its rejects: who is held out of this launch, and of every campaign.
Holdout = Literal["launch_holdout", "global_holdout"]
REASON_OF: dict[Holdout, str] = {"launch_holdout": "launch_holdout", "global_holdout": "holdout"}


class LaunchFacts(Record):
    """What the effect of a launch is measured by, fixed at the launch: `launches/<run>/holdout.json`.

    `mailed`, `launch_holdout` and `global_holdout` are the numbers of players of the lists as they were written.
    """

    launch: str
    cohort: str
    template: str
    as_of: Instant
    timezone: str
    property: str
    direction: Direction
    threshold: int | float
    vertex_label: str
    player_id: str
    destination: str
    effect_days: int
    holdout_percent: int
    global_holdout_percent: int
    launched_at: Instant
    mailed: int
    launch_holdout: int
    global_holdout: int


def due(facts: LaunchFacts) -> datetime:
    """Return the as-of from which an effect is measured: `effect_days` later, by the dates of the schedule's zone."""
    local = facts.as_of.astimezone(ZoneInfo(facts.timezone)) + timedelta(days=facts.effect_days)
    return local.astimezone(UTC)


def holdout_key(template: str, name: str, holdout: Holdout) -> str:
    """The key of a list of held-out players, beside the send ledger: later launches count them as mailed."""
    return f"{ledger_folder(template)}{name}.{holdout}.jsonl"


def mailed_key(name: str) -> str:
    """The key of the list of players that a launch may mail, as it begins: a send ledger may lose some of them."""
    return f"launches/{name}/mailed.txt"


def facts_key(name: str) -> str:
    return f"launches/{name}/holdout.json"


def holdouts(plan: Plan) -> dict[Holdout, int]:
    """Return the holdouts that a launch of this plan records, with their percentages; empty without `effect_days`."""
    campaign = plan.require_campaign()
    if campaign.effect_days is None:
        return {}
    percent: dict[Holdout, int] = {
        "launch_holdout": plan.withhold.launch_holdout_percent,
        "global_holdout": plan.withhold.holdout_percent,
    }
    return {holdout: number for holdout, number in percent.items() if number}
