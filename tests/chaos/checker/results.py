"""Invariants of results, reports, segments and jobs."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tests.chaos.checker.world import IMPORT, STATE, Violation, World, address_of, player_of, rows

_READ = ("vertices", "vertices_not_beyond", "vertices_not_as_required", "vertices_erased")
_VERTICES = ("members", "merged", "vertices_without_playerId")


def report_sums(world: World) -> Iterator[Violation]:
    """The sums of each report hold, and it says so itself."""
    for key, report in world.reports():
        extract, segment, imported = report["extract"], report["segment"], report["imported"]
        pairs = []
        if extract:
            pairs.append(("vertices read", extract["vertices_read"], sum(extract[name] for name in _READ)))
            pairs.append(("vertices", extract["vertices"], sum(extract[name] for name in _VERTICES)))
        if segment:
            pairs.append(("members", segment["members"], segment["rows"] + sum(segment["rejects"].values())))
        if segment and imported:
            pairs.append(("the segment's size", imported["segment_size"], segment["rows"]))
        for what, one, other in pairs:
            if one != other:
                yield Violation("report sums", f"{key}: {what} {one:,}, and the parts are {other:,}", _run(report))
        for fault in report["faults"]:
            yield Violation("report sums", f"{key}: {fault}", _run(report))


def every_player_accounted(world: World) -> Iterator[Violation]:
    """Each player of an extract is one row of its segment file or one reject, where all are as the report saw them."""
    for key, report in world.reports():
        extract, segment = report["extract"], report["segment"]
        if not (extract and segment and report["imported"]):
            continue
        seen = datetime.fromisoformat(report["run"]["reported"])
        extracted = _players_of_extract(world, extract, seen)
        found = _rows_and_rejects(world, segment, seen)
        if extracted is None or found is None:
            continue
        wrong = {player: number for player, number in (found - extracted).items() if number}
        missing = extracted - found
        if wrong or missing:
            said = f"{key}: {sum(missing.values())} players are neither a row nor a reject, {len(wrong)} are too often"
            yield Violation("every player accounted", said, (*_run(report), *sorted({*missing, *wrong})[:5]))


def compared(world: World) -> int:
    """How many reports `every_player_accounted` can compare: a checker that compares nothing finds nothing."""
    number = 0
    for _, report in world.reports():
        if report["extract"] and report["segment"] and report["imported"]:
            seen = datetime.fromisoformat(report["run"]["reported"])
            number += _players_of_extract(world, report["extract"], seen) is not None and (
                _rows_and_rejects(world, report["segment"], seen) is not None
            )
    return number


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
    return Counter(player_of(row) for file in files for row in rows(file))


def result_files(world: World) -> Iterator[Violation]:
    """The segment file of each result has as many rows as the result says, but for erased players."""
    for cohort, threshold, as_of, result in world.results():
        name = f"{cohort}_{threshold}_{as_of}"
        if result["members"] != result["rows"] + sum(result["rejects"].values()):
            yield Violation("result files", f"{name}: {result['members']} members are not rows and rejects", (name,))
        found = _segment_rows(world, result)
        short = result["rows"] - len(found)
        if short < 0 or short > len(world.erased) or len({player_of(row) for row in found}) != len(found):
            said = f"{name}: {result['rows']:,} rows were recorded, and {len(found):,} are there"
            yield Violation("result files", said, (name,))


def _segment_rows(world: World, result: dict[str, Any]) -> list[dict[str, str]]:
    role, folder = world.at_url(result["s3_url"])
    return [row for key in world.below(role, folder, ".csv") for row in rows(world.buckets[role][key])]


def one_job_per_content(world: World) -> Iterator[Violation]:
    """An import file was imported by one job, but for jobs that failed or refused contacts."""
    good = [job for job in world.jobs if job["JobStatus"] not in ("FAILED", "CANCELLED")]
    good = [job for job in good if not job.get("FailedRecordsCount") and not job.get("FailureInfo")]
    for url, number in Counter(str(job["ImportDataSource"]["S3Url"]) for job in good).items():
        if number > 1:
            name = url.rpartition("/contacts/")[2].rpartition("_")[0]
            yield Violation("one job per content", f"{number} jobs have imported {url}", (name.partition("/")[0],))


def membership(world: World) -> Iterator[Violation]:
    """The contact list has each row of the newest result of each cohort and threshold, but for erased players."""
    newest: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for cohort, threshold, as_of, result in world.results():
        newest[cohort, threshold] = max(newest.get((cohort, threshold), ("", result)), (as_of, result), key=_first)
    for (cohort, threshold), (as_of, result) in sorted(newest.items()):
        addresses = {address_of(row) for row in _segment_rows(world, result) if player_of(row) not in world.erased}
        if missing := addresses - world.contacts:
            name = f"{cohort}_{threshold}_{as_of}"
            players = sorted(world.players.get(each, "?") for each in missing)[:5]
            said = f"{name}: {len(missing)} of {len(addresses)} rows are not on the contact list"
            yield Violation("membership", said, (name, *players))


def _first(pair: tuple[str, object]) -> str:
    return pair[0]


def snapshots_stay(world: World) -> Iterator[Violation]:
    """A final snapshot remains the same, and is that of each result of its as-of."""
    state = world.buckets[STATE]
    for key in world.below(STATE, "snapshots/", "/snapshot.parquet"):
        digest = hashlib.sha256(state[key].body).hexdigest()
        if world.remembered.setdefault(key, digest) != digest and not world.erased:
            yield Violation("snapshots stay", f"{key} has changed", (_cohort(key),))
    for key in sorted(world.remembered):
        if key.startswith("snapshots/") and key not in state:
            yield Violation("snapshots stay", f"{key} is gone", (_cohort(key),))
    for cohort, threshold, as_of, result in world.results():
        final = f"snapshots/cohort={cohort}/as_of={as_of}/snapshot.parquet"
        if result["snapshot"] and (result["snapshot"] != final or final not in state):
            name = f"{cohort}_{threshold}_{as_of}"
            said = f"the result of {name} has snapshot {result['snapshot']}, which is not the final one"
            yield Violation("snapshots stay", said, (name, cohort))


def _cohort(key: str) -> str:
    return key.split("/")[1].removeprefix("cohort=")


def _run(report: dict[str, Any]) -> tuple[str, ...]:
    cohort = report["plan"]["cohort"] if report["plan"] else ""
    return (str(report["run"]["run_id"]), cohort)


CHECKS = (
    report_sums, every_player_accounted, result_files, one_job_per_content, membership, snapshots_stay,
)  # fmt: skip
