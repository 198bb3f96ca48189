"""Reads the world at a quiet point, from the servers themselves and not through the proxies."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2  # type: ignore[import-untyped,unused-ignore]  # Airflow's driver of PostgreSQL has no types
from gremlin_python.driver.client import Client

from local.servers import control
from tests.chaos.checker.world import STATE, Approval, No, Stored, World
from tests.chaos.history import Event
from tests.chaos.installation import Installation
from tests.chaos.plan import APPROVER, TRIGGERS

#: The tables of Airflow's database that hold what a task or a user has written, or what a task was given.
_TABLES = (
    "xcom", "rendered_task_instance_fields", "task_instance", "task_instance_history", "task_instance_note", "dag_run",
    "dag_run_note", "hitl_detail", "hitl_detail_history", "asset_event", "log", "import_error",
)  # fmt: skip
#: The folders of the state bucket of which an erasure removes earlier versions too.
_SEARCHED = (
    "snapshots/", "snapshots_pending/", "staged/", "rejects/", "dry_run/", "memberships/", "sends/", "launches/",
)  # fmt: skip
_VERTICES = (
    "g.V().has('player', 'playerId', within(players)).project('player', 'names').by(values('playerId').fold())"
    ".by(union(properties().key(), outE().label()).fold())"
)


class Reader:
    """Reads again only what has changed since the last quiet point."""

    def __init__(self, made: Installation) -> None:
        self._made = made
        self._bodies: dict[tuple[str, str, str], bytes] = {}
        self._read_until: dict[Path, int] = {}
        self._remembered: dict[str, frozenset[str]] = {}
        self._written = defaultdict[str, dict[str, float]](dict)

    def world(self, events: Iterable[Event], addresses: dict[str, str]) -> World:
        """The world now.

        :param events: the history of the installation.
        :param addresses: the playerIds of the addresses before the first event.
        """
        self.note_versions()
        (account,) = [each for each in control(self._made.servers, "sesv2")["accounts"] if each["lists"]]
        contacts = [contact for each in account["lists"] for contact in each["Contacts"]]
        made = World(
            buckets={role: dict(self._objects(bucket)) for role, bucket in self._made.buckets.items()},
            names=self._made.buckets,
            mails=account["mails"],
            jobs=account["jobs"],
            contacts={contact["EmailAddress"].lower() for contact in contacts},
            opted_out={contact["EmailAddress"].lower() for contact in contacts if _has_opted_out(contact)},
            players=dict(addresses),
            approvers=(APPROVER, TRIGGERS),
            texts=[*self._logs(), *self._rows()],
            remembered=self._remembered,
            earlier=self.earlier(self._made.buckets[STATE]),
            written={key: sorted(times.values()) for key, times in self._written.items()},
        )
        for event in events:
            add_event(made, event)
        made.graph = self._vertices(made.erased)
        return made

    def _objects(self, bucket: str) -> Iterator[tuple[str, Stored]]:
        s3 = self._made.client("s3")
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", ()):
                place = (bucket, item["Key"], item["ETag"])
                if place not in self._bodies:
                    self._bodies[place] = s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
                yield item["Key"], Stored(self._bodies[place], item["LastModified"])

    def earlier(self, bucket: str) -> dict[str, list[Stored]]:
        """The earlier versions, the oldest first; none of a bucket without versions."""
        s3, found = self._made.client("s3"), defaultdict[str, list[Stored]](list)
        for prefix in _SEARCHED:
            for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
                for item in page.get("Versions", ()):
                    if item["IsLatest"]:
                        continue
                    which = {"Bucket": bucket, "Key": item["Key"], "VersionId": item["VersionId"]}
                    place = (bucket, item["Key"], item["VersionId"])
                    if place not in self._bodies:
                        self._bodies[place] = s3.get_object(**which)["Body"].read()
                    found[item["Key"]].insert(0, Stored(self._bodies[place], item["LastModified"]))  # newest first
        return {key: sorted(each, key=lambda stored: stored.modified) for key, each in found.items()}

    def note_versions(self) -> None:
        """Note when each snapshot was written: an erasure removes earlier versions."""
        pages = self._made.client("s3").get_paginator("list_object_versions")
        for page in pages.paginate(Bucket=self._made.buckets[STATE], Prefix="snapshots/"):
            for item in page.get("Versions", ()):
                self._written[item["Key"]][item["VersionId"]] = item["LastModified"].timestamp()

    def _vertices(self, players: Iterable[str]) -> dict[str, set[str]]:
        """The names of the properties and the labels of the edges of players' vertices."""
        found = defaultdict[str, set[str]](set)
        if wanted := sorted(players):
            with closing(Client(self._made.servers.gremlin_url, "g")) as client:
                rows = client.submit(_VERTICES, {"players": wanted}).all().result(timeout=60)
            for row in rows:
                for player in row["player"]:
                    found[player].update(row["names"])
        return dict(found)

    def _logs(self) -> Iterator[tuple[str, str]]:
        """What was written to the logs since the last quiet point."""
        folders = (self._made.logs, self._made.folder / "processes")
        for path in sorted(each for folder in folders for each in folder.rglob("*.log")):
            with path.open("rb") as file:
                file.seek(self._read_until.get(path, 0))
                text = file.read()
            self._read_until[path] = self._read_until.get(path, 0) + len(text)
            if text:
                yield str(path.relative_to(self._made.folder)), text.decode(errors="replace")

    def _rows(self) -> Iterator[tuple[str, str]]:
        with psycopg2.connect(self._made.database_url.replace("+psycopg2", "")) as connection:
            for table in _TABLES:
                with connection.cursor() as cursor:
                    cursor.execute(f"SELECT * FROM {table}")  # noqa: S608 - one of _TABLES
                    yield f"table {table}", "\n".join(map(repr, cursor.fetchall()))


def _has_opted_out(contact: dict[str, Any]) -> bool:
    statuses = [each["SubscriptionStatus"] for each in contact["TopicPreferences"]]
    return bool(contact["UnsubscribeAll"]) or "OPT_OUT" in statuses


def add_event(world: World, event: Event) -> None:
    """What an event says of approvals, noes, addresses and erasures."""
    facts: dict[str, Any] = event.about
    if erasing := facts.get("erasing"):
        world.erasing.update(erasing)
        world.erasures.append((event.at, math.inf))
    if erasing or (event.kind, event.name) == ("action", "erase"):
        world.first_erasure = min(world.first_erasure, event.at)
    if event.kind != "done":
        return
    if about := facts.get("approval"):
        world.approvals.append(Approval(**about))
    for no in facts.get("noes", ()):
        world.noes.append(No(no["player"], no["at"], no["kind"], no.get("address", "")))
    world.players.update(facts.get("addresses", {}))
    if "erased" in facts:  # one erasure runs at a time
        world.erasures = [(begin, min(end, event.at)) for begin, end in world.erasures]
    for player in facts.get("erased", ()):
        world.erased.add(player)
        world.noes.append(No(player, event.at, "erased"))
