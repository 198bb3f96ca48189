"""Reads the world at a quiet point, from the servers themselves and not through the proxies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg2  # type: ignore[import-untyped,unused-ignore]  # Airflow's driver of PostgreSQL has no types

from tests.chaos.checker.world import Approval, No, Stored, World
from tests.chaos.history import Event
from tests.chaos.installation import Installation, control
from tests.chaos.plan import APPROVER, TRIGGERS

#: The tables of Airflow's database that hold what a task has returned or was given.
_TABLES = ("xcom", "rendered_task_instance_fields", "task_instance_note", "dag_run", "hitl_detail")


class Reader:
    """Reads again only what has changed since the last quiet point."""

    def __init__(self, made: Installation) -> None:
        self._made = made
        self._bodies: dict[tuple[str, str, str], bytes] = {}
        self._read_until: dict[Path, int] = {}
        self._remembered: dict[str, str] = {}

    def world(self, events: Iterable[Event], addresses: dict[str, str]) -> World:
        """The world now.

        :param events: the history of the installation.
        :param addresses: the playerIds of the addresses before the first event.
        """
        (account,) = [each for each in control(self._made.servers, "sesv2")["accounts"] if each["lists"]]
        made = World(
            buckets={role: dict(self._objects(bucket)) for role, bucket in self._made.buckets.items()},
            names=self._made.buckets,
            mails=account["mails"],
            jobs=account["jobs"],
            contacts={contact["EmailAddress"].lower() for each in account["lists"] for contact in each["Contacts"]},
            players=dict(addresses),
            approvers=(APPROVER, TRIGGERS),
            texts=[*self._logs(), *self._rows()],
            remembered=self._remembered,
        )
        for event in events:
            _add(made, event)
        return made

    def _objects(self, bucket: str) -> Iterator[tuple[str, Stored]]:
        s3 = self._made.client("s3")
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", ()):
                place = (bucket, item["Key"], item["ETag"])
                if place not in self._bodies:
                    self._bodies[place] = s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
                yield item["Key"], Stored(self._bodies[place], item["LastModified"])

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


def _add(world: World, event: Event) -> None:
    """What an event says of approvals, noes, addresses and erasures."""
    facts: dict[str, Any] = event.about
    if event.kind != "done":
        return
    if about := facts.get("approval"):
        world.approvals.append(Approval(**about))
    for no in facts.get("noes", ()):
        world.noes.append(No(no["player"], no["at"], no["kind"]))
    world.players.update(facts.get("addresses", {}))
    for player in facts.get("erased", ()):
        world.erased.add(player)
        world.noes.append(No(player, event.at, "erased"))
