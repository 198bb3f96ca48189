"""Invariants of what is kept: unknown objects, and personal data in logs and in Airflow's database."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from itertools import pairwise

from tests.chaos.checker.world import EXPORT, IMPORT, STATE, Violation, World

_RUN = r"[A-Za-z]\w*_-?[\d.]+_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(?:_live|_extract_[0-9a-f]{16})?"
_AS_OF = r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d"
_HEX = "[0-9a-f]{16}"
_PARTITION = rf"cohort=\w+/as_of={_AS_OF}"
#: The objects of a bucket that the documentation names ("Names" in how-it-works.md), and which cleanup, an erasure or
#: the bucket's rules remove.
KNOWN: Mapping[str, str] = {
    EXPORT: rf"export/{_RUN}\.json|dropped/.+",
    IMPORT: rf"segments/{_RUN}_{_HEX}/\d+\.csv|contacts/{_RUN}_{_HEX}/.+\.csv",
    STATE: rf"(?:dry_run/)?(?:"
    rf"export/{_RUN}\.json|staged/{_RUN}\.json|staged/{_RUN}/.+\.csv|rejects/{_RUN}/{_HEX}_\d+/\d+\.csv"
    rf"|rejects/{_RUN}/unusable_vertices\.csv"
    rf"|claims/[^/]+\.json|last_runs/[^/]+\.json|reports/[^/]+/[^/]+\.(?:json|html))"
    rf"|staged/graph_loads/.+|snapshots(?:/{_PARTITION}/snapshot|_pending/{_PARTITION}/{_HEX})\.parquet"
    rf"|results/\w+/-?[\d.]+/{_AS_OF}\.json|results/(?:\w+/)?[a-z_]+\.json|do_not_contact\.txt"
    rf"|engagement/(?:suppressions\.(?:csv|json)|remove\.txt|manifests/.+|events/.+|counts/.+|reports/.+|feedback/.+"
    rf"|graph/.+|effects/.+|launch_effects/.+|effect_reports/.+|launches/.+|removals/.+)"
    rf"|erasure/(?:players\.txt|salt|tombstones/[0-9a-f]+|done/[0-9a-f]+\.json)|memberships/.+"
    rf"|sends/\w+/{_RUN}(?:\.\d+|\.\w+_holdout)?\.jsonl|launches/{_RUN}/.+|launches/message_templates/.+"
    rf"|what_if/[^/]+\.(?:csv|svg)",
}
_WORD = re.compile(r"[A-Za-z0-9_]+")
_DOMAIN = re.compile(r"[a-z0-9.-]+")
#: Characters before the @ of an address.
_LONGEST = 64
#: A playerId that is shorter may be a part of an English word, or a word itself.
_SHORTEST = 6


def nothing_left(world: World) -> Iterator[Violation]:
    """Each object is of a kind that the documentation names."""
    for role, pattern in KNOWN.items():
        for key in sorted(world.buckets[role]):
            if not re.fullmatch(pattern, key):
                yield Violation("nothing left", f"{role} bucket: {key} is of no known kind", (key,))


def no_personal_data(world: World) -> Iterator[Violation]:
    """No log and no row of Airflow's database has an address or a playerId."""
    ids = {player for player in world.players.values() if len(player) >= _SHORTEST}
    for place, text in world.texts:
        if found := leaks(text, ids, world.players.keys()):
            yield Violation("no personal data", f"{place} has {len(found)} playerIds or addresses", (place, found[0]))


def leaks(text: str, ids: Set[str], addresses: Set[str]) -> list[str]:
    """The playerIds that are words of a text, and the addresses in it."""
    found = sorted(ids & set(_WORD.findall(text)))
    if "@" in text:
        found += _addresses_in(text.lower(), addresses)
    return found


def _addresses_in(text: str, addresses: Set[str]) -> list[str]:
    """The addresses in a text in lower case, without a search for each of them: what may end in one is before an @."""
    found = {address for address in addresses if address.count("@") != 1 and address in text}
    for before, after in pairwise(text.split("@")):
        begin, domain = before[-_LONGEST:], _DOMAIN.match(after)
        if domain:
            found.update({f"{begin[n:]}@{domain[0].rstrip('.')}" for n in range(len(begin))} & addresses)
    return sorted(found)


CHECKS = (nothing_left, no_personal_data)
