"""Invariants of engagement: what was kept of the events equals what the emulated SES has published."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from tests.chaos.checker.mails import launch_tag, names_of_launches
from tests.chaos.checker.world import EVENTS, STATE, Stored, Violation, World, rows_of_parquet

_OBJECTS = {"Rendering Failure": "failure", "DeliveryDelay": "deliveryDelay"}
_BEGIN = '{"eventType"'
_HOUR = re.compile(r"events/(\d{4}/\d\d/\d\d/\d\d)/")
#: An as-of reads objects of so many hours before it.
_WINDOW = timedelta(hours=48)
#: A manifest has the objects that were there so long before it was written: they are listed just before.
_LISTED = timedelta(minutes=10)


class Manifest(NamedTuple):
    """The objects that an as-of reads."""

    as_of: str
    written: datetime
    keys: list[str]


class Said(NamedTuple):
    """An event: of which mail, what, and when."""

    message_id: str
    type: str
    at: datetime


def events_once(world: World) -> Iterator[Violation]:
    """Each event of the objects that were read is kept once, and no other event is."""
    kept = Counter[Said]()
    keys = Counter[str]()
    for key in world.below(STATE, "engagement/events/", ".parquet"):
        for row in rows_of_parquet(world.buckets[STATE][key]):
            kept[Said(row["message_id"], row["type"], row["time"].replace(tzinfo=UTC))] += 1
            keys[str(row["key"])] += 1
    read = Counter(key for each in _manifests(world) for key in each.keys)
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


def objects_read(world: World) -> Iterator[Violation]:
    """Each object of events is in a manifest, and each manifest has its events beside it."""
    manifests = list(_manifests(world))
    read = {key for each in manifests for key in each.keys}
    for each in manifests:
        if f"engagement/events/as_of={each.as_of}/events.parquet" not in world.buckets[STATE]:
            said = f"the manifest of {each.as_of} has {len(each.keys)} objects, and their events are not kept"
            yield Violation("objects read", said, (each.as_of,))
    for key, stored in sorted(world.buckets[EVENTS].items()):
        since = [each.as_of for each in manifests if _reads(each, key, stored)]
        if key not in read and since:
            said = f"{key} is in no manifest, and was there before that of {since[0]} was written"
            yield Violation("objects read", said, (key,))


def messages_counted(world: World) -> Iterator[Violation]:
    """The newest report of engagement has the messages of each launch of which events were kept until then.

    A file that was written after the report is of a later as-of, or was read late, or is the same again: what it has
    may be in the report, and need not be.
    """
    newest = max(world.below(STATE, "engagement/reports/", ".json"), default="")
    least: dict[str, set[str]] = defaultdict(set)
    most: dict[str, set[str]] = defaultdict(set)
    for key in world.below(STATE, "engagement/events/", ".parquet"):
        stored = world.buckets[STATE][key]
        if newest and _as_of(key) > newest.rpartition("/")[2].removesuffix(".json"):
            continue
        for row in rows_of_parquet(stored):
            most[row["launch"]].add(row["message_id"])
            if newest and stored.modified < world.buckets[STATE][newest].modified:
                least[row["launch"]].add(row["message_id"])
    if not newest:
        if most:
            yield Violation("messages counted", f"events of {len(most)} launches were kept, and no report has them")
        return
    reported = world.json(STATE, newest)["launches"]
    for name in sorted({*reported, *names_of_launches(world).values()}):
        number, tag = reported.get(name, {"messages": 0})["messages"], launch_tag(name)
        if not len(least[tag]) <= number <= len(most[tag]):
            said = (
                f"{newest}: {name} has {number} messages, and events of {len(least[tag])} to {len(most[tag])} are kept"
            )
            yield Violation("messages counted", said, (name,))


def _manifests(world: World) -> Iterator[Manifest]:
    for key in world.below(STATE, "engagement/manifests/", ".json"):
        as_of = key.rpartition("/")[2].removesuffix(".json")
        yield Manifest(as_of, world.buckets[STATE][key].modified, world.json(STATE, key)["keys"])


def _reads(manifest: Manifest, key: str, stored: Stored) -> bool:
    """Whether an as-of reads an object that no other has: one of its 48 hours, by the hour in the name."""
    if not (hour := _HOUR.match(key)) or stored.modified + _LISTED > manifest.written:
        return False
    as_of = datetime.strptime(manifest.as_of, "%Y-%m-%d_%H-%M-%S").replace(tzinfo=UTC)
    return as_of - _WINDOW < datetime.strptime(hour[1], "%Y/%m/%d/%H").replace(tzinfo=UTC) < as_of


def _as_of(key: str) -> str:
    return key.split("as_of=")[1].partition("/")[0]


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


CHECKS = (events_once, objects_read, messages_counted)
