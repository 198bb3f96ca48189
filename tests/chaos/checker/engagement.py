"""Invariants of engagement: what was kept of the events equals what the emulated SES has published."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import duckdb

from tests.chaos.checker.mails import launch_tag
from tests.chaos.checker.world import EVENTS, STATE, Stored, Violation, World

_OBJECTS = {"Rendering Failure": "failure", "DeliveryDelay": "deliveryDelay"}
_BEGIN = '{"eventType"'


class Said(NamedTuple):
    """An event: of which mail, what, and when."""

    message_id: str
    type: str
    at: datetime


def events_once(world: World) -> Iterator[Violation]:
    """Each event of the objects that were read is kept once, and no other event is."""
    kept = Counter[Said]()
    keys = Counter[str]()
    read = Counter[str]()
    for key in world.below(STATE, "engagement/events/", ".parquet"):
        for row in rows_of_parquet(world.buckets[STATE][key]):
            kept[Said(row["message_id"], row["type"], row["time"].replace(tzinfo=UTC))] += 1
            keys[str(row["key"])] += 1
        as_of = key.split("as_of=")[1].partition("/")[0]
        read.update(world.json(STATE, f"engagement/manifests/{as_of}.json")["keys"])
    if twice := [key for key, number in read.items() if number > 1]:
        yield Violation("events once", f"{len(twice)} objects were read by two as-ofs", tuple(twice[:3]))
    truth = {said for key in read if key in world.buckets[EVENTS] for said in events_of(world.buckets[EVENTS][key])}
    gone = any(key not in world.buckets[EVENTS] for key in read)
    if again := [key for key, number in keys.items() if number > 1]:
        yield Violation("events once", f"{len(again)} events are kept twice", tuple(again[:3]))
    if missing := truth - kept.keys():
        yield Violation("events once", f"{len(missing)} events of {len(truth)} are missing", _ids(missing))
    if (more := kept.keys() - truth) and not gone:
        yield Violation("events once", f"{len(more)} events were never published", _ids(more))


def messages_counted(world: World) -> Iterator[Violation]:
    """The newest report of engagement has the messages of each launch of which events were kept until then."""
    newest = max(world.below(STATE, "engagement/reports/", ".json"), default=None)
    if not newest:
        return
    ids: dict[str, set[str]] = defaultdict(set)
    as_of = newest.rpartition("/")[2].removesuffix(".json")
    for key in world.below(STATE, "engagement/events/", ".parquet"):
        stored = world.buckets[STATE][key]
        if stored.modified > world.buckets[STATE][newest].modified:
            return  # a later as-of, or one that was read again
        if key.split("as_of=")[1].partition("/")[0] <= as_of:
            for row in rows_of_parquet(stored):
                ids[row["launch"]].add(row["message_id"])
    for name, counts in world.json(STATE, newest)["launches"].items():
        if counts["messages"] != (number := len(ids[launch_tag(name)])):
            said = f"{newest}: {name} has {counts['messages']} messages, and events of {number} were kept"
            yield Violation("messages counted", said, (name,))


def rows_of_parquet(stored: Stored) -> list[dict[str, Any]]:
    """The rows of a Parquet file, by their columns."""
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file, duckdb.connect() as sql:
        file.write(stored.body)
        file.flush()
        found = sql.read_parquet(file.name)
        return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def events_of(stored: Stored) -> Iterator[Said]:
    """The events of an object that have the tags of a launch; pieces that are no JSON are left out."""
    text = gzip.decompress(stored.body).decode()
    for piece in text.split(_BEGIN)[1:]:
        try:
            record = json.loads(_BEGIN + piece)
        except ValueError:
            continue
        mail = record["mail"]
        if {"launch", "row"} <= mail["tags"].keys():
            about = record[_OBJECTS.get(record["eventType"], record["eventType"].lower())]
            at = datetime.fromisoformat(about.get("timestamp", mail["timestamp"]))
            yield Said(mail["messageId"], record["eventType"], at)


def _ids(events: set[Said]) -> tuple[str, ...]:
    return tuple(sorted({each.message_id for each in events})[:3])


CHECKS = (events_once, messages_counted)
