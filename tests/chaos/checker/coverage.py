"""How much of a world the checker can check: one that compares nothing finds nothing."""

from __future__ import annotations

from typing import NamedTuple

from tests.chaos.checker.results import comparable
from tests.chaos.checker.world import STATE, World, rows_of_parquet


class Coverage(NamedTuple):
    """What was there to check: `players` were compared one by one, `erasures` have ended."""

    results: int
    players: int
    mails: int
    events: int
    erasures: int
    launches: int


def coverage(world: World) -> Coverage:
    """Count what the invariants of a world could be checked on."""
    kept = [world.buckets[STATE][key] for key in world.below(STATE, "engagement/events/", ".parquet")]
    return Coverage(
        results=sum(1 for _ in world.results()),
        players=sum(each.extracted.total() for each in comparable(world)),
        mails=sum(address.lower() in world.players for mail in world.mails for address in mail["to"]),
        events=sum(len(rows_of_parquet(each)) for each in kept),
        erasures=sum(1 for _ in world.below(STATE, "erasure/done/", ".json")),
        launches=sum(1 for _ in world.below(STATE, "launches/", "/launch.json")),
    )
