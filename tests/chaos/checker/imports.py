"""Invariants of imports: segment folders, jobs, and the contact list."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from tests.chaos.checker.results import segment_rows
from tests.chaos.checker.world import IMPORT, Stored, Violation, World, address_of, player_of, rows


def one_segment_per_content(world: World) -> Iterator[Violation]:
    """The segment folders of one run name differ: their name is of their content.

    A folder that an erasure may have rewritten, which keeps its name, may have become equal to another.
    """
    folders: dict[str, dict[str, Stored]] = defaultdict(dict)
    for key in world.below(IMPORT, "segments/"):
        folder, _, part = key.rpartition("/")
        folders[folder][part] = world.buckets[IMPORT][key]
    same: dict[tuple[str, tuple[tuple[str, bytes], ...]], list[str]] = defaultdict(list)
    for folder, parts in folders.items():
        if all(each.modified.timestamp() < world.first_erasure for each in parts.values()):
            name = folder.removeprefix("segments/").rpartition("_")[0]
            same[name, tuple((part, each.body) for part, each in parts.items())].append(folder)
    for (name, _), equal in same.items():
        if len(equal) > 1:
            yield Violation("one segment per content", f"{' and '.join(equal)} have the same rows", (name,))


def one_job_per_content(world: World) -> Iterator[Violation]:
    """An import file was imported by one job, but for jobs that failed or refused contacts."""
    good = [job for job in world.jobs if job["JobStatus"] not in ("FAILED", "CANCELLED")]
    good = [job for job in good if not job.get("FailedRecordsCount") and not job.get("FailureInfo")]
    for url, number in Counter(str(job["ImportDataSource"]["S3Url"]) for job in good).items():
        if number > 1:
            name = url.rpartition("/contacts/")[2].rpartition("_")[0]
            yield Violation("one job per content", f"{number} jobs have imported {url}", (name.partition("/")[0],))


def membership(world: World) -> Iterator[Violation]:
    """The contact list has each row of the newest result of each cohort and threshold, but for erased players.

    Each of its contacts is in an import file, or was mailed: SES adds a recipient to the list.
    """
    newest: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for cohort, threshold, as_of, result in world.results():
        newest[cohort, threshold] = max(newest.get((cohort, threshold), ("", result)), (as_of, result), key=_first)
    for (cohort, threshold), (as_of, result) in sorted(newest.items()):
        addresses = {address_of(row) for row in segment_rows(world, result) if player_of(row) not in world.gone}
        if missing := addresses - world.contacts:
            name = f"{cohort}_{threshold}_{as_of}"
            said = f"{name}: {len(missing)} of {len(addresses)} rows are not on the contact list"
            yield Violation("membership", said, (name, *_players(world, missing)))
    imported = {address_of(row) for key in world.below(IMPORT, "contacts/") for row in rows(world.buckets[IMPORT][key])}
    # an erasure takes rows out of import files, and cleanup removes the files
    imported |= world.remembered.get("imported addresses", frozenset())
    world.remembered["imported addresses"] = frozenset(imported)
    mailed = {address.lower() for mail in world.mails for address in mail["to"]}
    left = {address for address in world.contacts if world.players.get(address) in world.gone}
    if more := world.contacts - imported - mailed - left:
        said = f"{len(more)} contacts of the list are in no import file, and were not mailed"
        yield Violation("membership", said, _players(world, more))


def _players(world: World, addresses: set[str]) -> tuple[str, ...]:
    return tuple(sorted(world.players.get(each, "?") for each in addresses)[:5])


def _first(pair: tuple[str, object]) -> str:
    return pair[0]


CHECKS = (one_segment_per_content, one_job_per_content, membership)
