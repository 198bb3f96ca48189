"""Invariants of snapshots."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise

from tests.chaos.checker.world import STATE, Stored, Violation, World, rows_of_parquet


def snapshots_stay(world: World) -> Iterator[Violation]:
    """A final snapshot is written once, and is that of each result of its as-of. An erasure removes rows of it."""
    state = world.buckets[STATE]
    for key in world.below(STATE, "snapshots/", "/snapshot.parquet"):
        now = _vertices(state[key])
        if not _is_rest(world, now, world.remembered.get(key, now)):
            yield Violation("snapshots stay", f"{key} has changed", (_cohort(key),))
        world.remembered[key] = now
        versions = [*world.earlier.get(key, ()), state[key]]
        # an erasure whose answer is lost writes the same again
        times = [at for at in world.written.get(key, ()) if not _is_in_erasure(world, at)]
        if len(times) > 1 or (len(versions) > 1 and not world.gone):
            number = max(len(times), len(versions))
            yield Violation("snapshots stay", f"{key} was written {number} times", (_cohort(key),))
        elif not all(_is_rest(world, _vertices(later), _vertices(one)) for one, later in pairwise(versions)):
            yield Violation("snapshots stay", f"{key} has rows that an earlier version has not", (_cohort(key),))
    for key in sorted(world.remembered):
        if key.startswith("snapshots/") and key not in state:
            yield Violation("snapshots stay", f"{key} is gone", (_cohort(key),))
    for cohort, threshold, as_of, result in world.results():
        final = f"snapshots/cohort={cohort}/as_of={as_of}/snapshot.parquet"
        if result["snapshot"] and (result["snapshot"] != final or final not in state):
            name = f"{cohort}_{threshold}_{as_of}"
            said = f"the result of {name} has snapshot {result['snapshot']}, which is not the final one"
            yield Violation("snapshots stay", said, (name, cohort))


def _vertices(snapshot: Stored) -> frozenset[str]:
    """The rows as texts."""
    return frozenset(json.dumps(row, sort_keys=True, default=str) for row in rows_of_parquet(snapshot))


def _is_rest(world: World, now: frozenset[str], before: frozenset[str]) -> bool:
    """Whether rows are those of before, without some of erased players."""
    return now <= before and all(json.loads(row)["player_id"] in world.gone for row in before - now)


def _is_in_erasure(world: World, at: float) -> bool:
    """Whether an erasure was under way at a time, which S3 gives in seconds."""
    return any(begin - 1 <= at <= end + 1 for begin, end in world.erasures)


def _cohort(key: str) -> str:
    return key.split("/")[1].removeprefix("cohort=")


CHECKS = (snapshots_stay,)
