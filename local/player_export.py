"""All that is stored of one player, for `python -m local export`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from botocore.exceptions import ClientError

from local.player_events import events_of, suppressions_of
from local.support import read_player, read_settings, rows_of
from local.support_desk import Desk, Place, status_of

#: The folders of the buckets that hold players, as an erasure searches them.
PLACES = (
    ("export", "export/"), ("export", "dropped/"), ("state", "snapshots/"), ("state", "snapshots_pending/"),
    ("state", "staged/"), ("state", "rejects/"), ("state", "dry_run/"), ("state", "memberships/"), ("state", "sends/"),
    ("state", "launches/"), ("import", "segments/"), ("import", "contacts/"),
)  # fmt: skip


def export(desk: Desk) -> Iterator[Place]:
    """Yield each place with all that it has of the player, in every version."""
    from cohort_flywheel.governance.erasure import kind_of

    record = desk.record()
    addresses = desk.addresses(record)
    yield record
    yield _place("suppression list", lambda: suppressions_of(desk, addresses))
    yield _place("engagement events", lambda: [event._asdict() for event in events_of(desk)])
    for role, prefix in PLACES:
        place = f"s3://{desk.buckets[role]}/{prefix}"
        try:
            versions = list(desk.versions(role, prefix))
        except ClientError as error:
            yield Place(place, status_of(error), [])
            continue
        found, denied = [], False
        for key, version in versions:
            kind = kind_of(desk.buckets[role], key)
            if not kind:
                continue
            try:
                content = desk.body(role, key, VersionId=version)
            except ClientError as error:
                denied |= status_of(error) != "expired"
                continue
            entries = list(_entries(kind, content, desk.player, addresses))
            found += [
                {"object": f"s3://{desk.buckets[role]}/{key}", "version": version, "data": each} for each in entries
            ]
        yield Place(place, "not read (no right)" if denied else "read", found)


def _place(place: str, find: Callable[[], list[Any]]) -> Place:
    try:
        return Place(place, "read", find())
    except ClientError as error:
        return Place(place, status_of(error), [])


def export_command() -> None:
    """Print all that is stored of the player, as JSON."""
    desk = Desk(read_player(sys.stdin), read_settings())
    places = [place._asdict() for place in export(desk)]
    json.dump(
        {"at": datetime.now(UTC).isoformat(), "places": places}, sys.stdout, indent=2, ensure_ascii=False, default=str
    )
    print()


def _entries(kind: str, content: bytes, player: str, addresses: set[str]) -> Iterator[Any]:
    """The lines of a file that belong to the player; in a file without playerIds, those of the addresses."""
    if kind in ("file of rows", "import file"):
        yield from rows_of(content, player, addresses)
    elif kind in ("membership", "send ledger", "list of a launch"):
        yield from (kind for line in content.decode(errors="replace").splitlines() if line == player)
    elif kind == "snapshot":
        yield from _vertices(content, player)
    else:
        yield from (each for each in _json_values(content) if player in _texts(each))


def _vertices(content: bytes, player: str) -> Iterator[Any]:
    """The player's vertices of a snapshot."""
    from cohort_flywheel.segment.snapshot import read_vertices

    with TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot.parquet"
        path.write_bytes(content)
        yield from [vertex._asdict() for vertex in read_vertices(path) if vertex.player_id == player]


def _json_values(content: bytes) -> Iterator[object]:
    """The records of a JSON list, or the value of each line."""
    text = content.decode(errors="replace")
    with suppress(ValueError):
        whole = json.loads(text)
        yield from whole if isinstance(whole, list) else [whole]
        return
    for line in text.splitlines():
        with suppress(ValueError):
            yield json.loads(line)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
