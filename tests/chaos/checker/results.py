"""Invariants of results: each player of a run is accounted for, and its files are those that were verified."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from tests.chaos.checker.reports import subjects_of
from tests.chaos.checker.world import IMPORT, STATE, Violation, World, player_of, rows


class Compared(NamedTuple):
    """A report whose files are all as it saw them: the players of its extract, and of its rows and rejects."""

    key: str
    subjects: tuple[str, ...]
    extracted: Counter[str]
    found: Counter[str]


def every_player_accounted(world: World) -> Iterator[Violation]:
    """Each player of an extract is one row of its segment file or one reject, where all are as the report saw them."""
    for key, subjects, extracted, found in comparable(world):
        wrong = {player: number for player, number in (found - extracted).items() if number}
        missing = extracted - found
        if wrong or missing:
            said = f"{key}: {sum(missing.values())} players are neither a row nor a reject, {len(wrong)} are too often"
            yield Violation("every player accounted", said, (*subjects, *sorted({*missing, *wrong})[:5]))


def comparable(world: World) -> Iterator[Compared]:
    """The reports that `every_player_accounted` can compare."""
    for key, report in world.reports():
        if not (report["extract"] and report["segment"] and report["imported"]):
            continue
        seen = datetime.fromisoformat(report["run"]["reported"])
        extracted = _players_of_extract(world, report["extract"], seen)
        found = _rows_and_rejects(world, report["segment"], seen)
        if extracted is not None and found is not None:
            yield Compared(key, subjects_of(report), extracted, found)


def compared(world: World) -> int:
    """How many reports `every_player_accounted` can compare: a checker that compares nothing finds nothing."""
    return sum(1 for _ in comparable(world))


def _players_of_extract(world: World, extract: dict[str, Any], seen: datetime) -> Counter[str] | None:
    role, key = world.at_url(extract["url"])
    stored = world.buckets[role].get(key)
    if not stored or stored.modified > seen or hashlib.sha256(stored.body).hexdigest() != extract["sha256"]:
        return None  # another run of the name, or an erasure, has written it since
    return Counter(str(player) for each in json.loads(stored.body) for player in each["playerId"])


def _rows_and_rejects(world: World, segment: dict[str, Any], seen: datetime) -> Counter[str] | None:
    parts = [world.buckets[IMPORT].get(part["s3_key"]) for part in segment["parts"]]
    rejects = [world.buckets[STATE][key] for key in world.below(STATE, segment["rejects_key"])]
    files = [each for each in (*parts, *rejects) if each and each.modified <= seen]
    if len(files) < len(parts) + len(rejects):
        return None
    # the rejects of a run are there before its rows are released: newer ones are of another run of the same extract
    released = min(each.modified for each in parts if each)
    if any(each.modified > released for each in rejects):
        return None
    return Counter(player_of(row) for file in files for row in rows(file))


def result_files(world: World) -> Iterator[Violation]:
    """The segment file of each result has as many rows as the result says, and those of before, but for erased players.

    What is missing where a segment file is seen first is only counted: nothing else has its players.
    """
    for cohort, threshold, as_of, result in world.results():
        name = f"{cohort}_{threshold}_{as_of}"
        if result["members"] != result["rows"] + sum(result["rejects"].values()):
            yield Violation("result files", f"{name}: {result['members']} members are not rows and rejects", (name,))
        found = [player_of(row) for row in segment_rows(world, result)]
        players = frozenset(found)
        before = world.remembered.setdefault(f"rows of {result['s3_url']}", players)
        if not 0 <= result["rows"] - len(found) <= len(world.gone) or len(players) != len(found):
            said = f"{name}: {result['rows']:,} rows were recorded, and {len(found):,} are there"
            yield Violation("result files", said, (name,))
        elif wrong := (players - before) | (before - players - world.gone):
            said = f"{name}: {len(wrong)} players are new in a file that was verified, or have left it"
            yield Violation("result files", said, (name, *sorted(wrong)[:5]))


def segment_rows(world: World, result: dict[str, Any]) -> list[dict[str, str]]:
    role, folder = world.at_url(result["s3_url"])
    return [row for key in world.below(role, folder, ".csv") for row in rows(world.buckets[role][key])]


CHECKS = (every_player_accounted, result_files)
