"""What the checker knows: what is there at a quiet point, and what the driver has done until then."""

from __future__ import annotations

import csv
import functools
import io
import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import duckdb

#: The roles of the buckets.
EXPORT, IMPORT, STATE, EVENTS = "export", "import", "state", "events"


class Violation(NamedTuple):
    """An invariant that does not hold. `subjects` are names in the history: runs, launches, cohorts, players."""

    invariant: str
    sentence: str
    subjects: tuple[str, ...] = ()


class Stored(NamedTuple):
    """An object of a bucket."""

    body: bytes
    modified: datetime


class No(NamedTuple):
    """A player who is not to be mailed from a time on: the driver had made the change by then.

    `address` is the only one that the no is for; empty for all of the player's.
    """

    player: str
    at: float
    kind: str
    address: str = ""


class Approval(NamedTuple):
    """An answer that the driver gave to the question of a launch; Airflow may have refused it."""

    launch: str
    by: str
    option: str
    at: float
    triggered_by: str | None


@dataclass
class World:
    """Everything at a quiet point.

    `buckets` are the objects by role and key; `names` the buckets' own names by role; `mails`, `jobs` and `contacts`
    (of the contact list) are the emulated SES's; `players` has the playerId of each address that the contacts table
    has had, in lower case; `erased` are those whose erasure has succeeded; `texts` are log lines and rows of Airflow's
    database since the last quiet point, by place.

    `erasing` are the players of each erasure that has begun, `first_erasure` the time before which none had, `erasures`
    the begin and the end of each; `written` are the times at which each snapshot was written, also of versions that an
    erasure has removed since; `earlier` are the earlier versions of objects of the state bucket, the oldest first, if
    it keeps them; `opted_out` are the contacts that have unsubscribed; `graph` has the names of the properties and the
    labels of the edges of the erased players' vertices.
    """

    buckets: dict[str, dict[str, Stored]]
    names: dict[str, str]
    mails: list[dict[str, Any]] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    contacts: set[str] = field(default_factory=set)
    players: dict[str, str] = field(default_factory=dict)
    noes: list[No] = field(default_factory=list)
    approvals: list[Approval] = field(default_factory=list)
    approvers: tuple[str, ...] = ()
    erased: set[str] = field(default_factory=set)
    texts: list[tuple[str, str]] = field(default_factory=list)
    erasing: set[str] = field(default_factory=set)
    first_erasure: float = math.inf
    erasures: list[tuple[float, float]] = field(default_factory=list)
    written: dict[str, list[float]] = field(default_factory=dict)
    earlier: dict[str, list[Stored]] = field(default_factory=dict)
    opted_out: set[str] = field(default_factory=set)
    graph: dict[str, set[str]] = field(default_factory=dict)
    #: what earlier quiet points have seen, by place
    remembered: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def gone(self) -> set[str]:
        """The players who may be missing: an erasure that has failed has removed a part of them."""
        return self.erased | self.erasing

    def json(self, role: str, key: str) -> Any:
        return json.loads(self.buckets[role][key].body)

    def below(self, role: str, prefix: str, suffix: str = "") -> Iterator[str]:
        return (key for key in sorted(self.buckets[role]) if key.startswith(prefix) and key.endswith(suffix))

    def at_url(self, url: str) -> tuple[str, str]:
        """The role of the bucket and the key of an S3 address."""
        bucket, _, key = url.removeprefix("s3://").partition("/")
        return next(role for role, name in self.names.items() if name == bucket), key

    def reports(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The key and the content of each report of a run."""
        for prefix in ("reports/", "dry_run/reports/"):
            for key in self.below(STATE, prefix, ".json"):
                yield key, self.json(STATE, key)

    def results(self) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
        """The cohort, threshold, as-of and content of each result."""
        for key in self.below(STATE, "results/", ".json"):
            if len(parts := key.split("/")) == 4:
                yield parts[1], parts[2], parts[3].removesuffix(".json"), self.json(STATE, key)


def rows(stored: Stored) -> list[dict[str, str]]:
    """The rows of a CSV file by its header."""
    return list(csv.DictReader(io.StringIO(stored.body.decode(), newline="")))


def rows_of_parquet(stored: Stored) -> tuple[dict[str, Any], ...]:
    """The rows of a Parquet file, by their columns."""
    return _rows_of_parquet(stored.body)


@functools.lru_cache(maxsize=10_000)
def _rows_of_parquet(body: bytes) -> tuple[dict[str, Any], ...]:
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file, duckdb.connect() as sql:
        file.write(body)
        file.flush()
        found = sql.read_parquet(file.name)
        return tuple(dict(zip(found.columns, row, strict=True)) for row in found.fetchall())


def player_of(row: Mapping[str, str]) -> str:
    return row.get("playerId") or row.get("User.UserId") or ""


def address_of(row: Mapping[str, str]) -> str:
    return (row.get("emailAddress") or row.get("Address") or "").lower()
