"""Vertices in, members out: merged, sorted by playerId, in memory that does not grow with the cohort."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

from cohort_flywheel.cohorts import Direction
from cohort_flywheel.errors import FlywheelError

Score = int | float


class Member(NamedTuple):
    """A player beyond the threshold, with the most extreme of the player's scores."""

    player_id: str
    score: Score


def is_beyond(score: Score, direction: Direction, threshold: int) -> bool:
    """Membership is strict: above means > threshold, below means < threshold."""
    return score > threshold if direction == "above" else score < threshold


_MERGE: dict[Direction, str] = {
    "above": "INSERT INTO member VALUES (?, ?)"
    " ON CONFLICT (player_id) DO UPDATE SET score = max(score, excluded.score)",
    "below": "INSERT INTO member VALUES (?, ?)"
    " ON CONFLICT (player_id) DO UPDATE SET score = min(score, excluded.score)",
}


class Members:
    """Collects vertices and gives members; a temporary SQLite file sorts and merges them.

    Always: `vertices = members + merged + vertices_without_playerId`.
    """

    def __init__(self, folder: Path, *, property: str, direction: Direction, threshold: int) -> None:
        self._property, self._direction, self._threshold = property, direction, threshold
        self._most_extreme = max if direction == "above" else min
        self._database = sqlite3.connect(folder / "members.sqlite", isolation_level=None)
        # a crash loses the temporary file anyway: no journal, no sync
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE member (player_id TEXT PRIMARY KEY, score NUMERIC) WITHOUT ROWID"
        )
        self._merge = _MERGE[direction]
        self.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._database.close()

    def clear(self) -> None:
        """Forget every vertex: a read of the graph that broke begins again."""
        self._database.execute("DELETE FROM member")
        self.vertices = self.vertices_without_player_id = 0

    def add(self, vertices: Iterable[tuple[list[Any], list[Any]]]) -> None:
        """Add vertices, each as its playerId values and its scores (Neptune's set cardinality: lists)."""
        rows = []
        for player_ids, scores in vertices:
            score = self._score(scores)
            self.vertices += 1
            player_id = usable_player_id(player_ids)
            if player_id is None:
                self.vertices_without_player_id += 1
            else:
                rows.append((player_id, score))
        self._database.execute("BEGIN")
        self._database.executemany(self._merge, rows)
        self._database.execute("COMMIT")

    def _score(self, scores: list[Any]) -> Score:
        numbers = [s for s in scores if _is_score(s)]
        if not numbers or len(numbers) < len(scores):
            raise FlywheelError(
                f"property {self._property} of a vertex is no finite number: name a numeric property in the registry,"
                " or correct the graph"
            )
        score: Score = self._most_extreme(numbers)
        if not is_beyond(score, self._direction, self._threshold):
            # the graph was asked for these alone: it must not be believed in the rest
            raise FlywheelError(
                f"the graph gave a vertex that is not {self._direction} {self._threshold}: this is a fault of"
                " the query or of the graph database, so nothing was written"
            )
        return score

    def counts(self) -> dict[str, int]:
        """The first sum of every report."""
        members = self._database.execute("SELECT count(*) FROM member").fetchone()[0]
        return {
            "vertices": self.vertices,
            "members": members,
            "merged": self.vertices - self.vertices_without_player_id - members,
            "vertices_without_playerId": self.vertices_without_player_id,
        }

    def __iter__(self) -> Iterator[Member]:
        """Every member, sorted by playerId (by code point)."""
        for player_id, score in self._database.execute("SELECT player_id, score FROM member ORDER BY player_id"):
            yield Member(player_id, score)


def _is_score(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 2**63  # SQLite's and Gremlin's long


def usable_player_id(values: list[Any]) -> str | None:
    """The one playerId of a vertex, or None.

    A vertex made through the modeler's own API has none. One with two different ids cannot be told apart from
    either player, and mailing the wrong one is the failure that matters: it counts as having none.
    """
    if None in values or len(set(map(str, values))) != 1:
        return None
    player_id = str(values[0])
    try:
        player_id.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: neither S3 nor DynamoDB can hold it
        return None
    return player_id or None


def write_extract(members: Iterable[Member], property: str, file: BinaryIO) -> None:
    """Write the seed's shape, `[{"playerId": ["wayne96"], "ea_atrisk": [3]}, …]`: valid JSON, a record a line."""
    separator = "[\n"
    for member in members:
        record = {"playerId": [member.player_id], property: [member.score]}
        file.write(f"{separator}{json.dumps(record, ensure_ascii=False)}".encode())
        separator = ",\n"
    file.write(b"[]\n" if separator == "[\n" else b"\n]\n")


def read_extract(lines: Iterable[bytes], property: str) -> Iterator[Member]:
    """Read an extract line by line.

    Raises FlywheelError, with the number of the line and never its text, for anything but our own shape: a
    record a line, sorted by playerId, nobody twice, and the bracket that shows that the end is the end.
    """
    last, number, text = "", 0, b""
    for number, line in enumerate(lines, start=1):
        text = line.strip().rstrip(b",") or text
        if not line.strip() or text in (b"[", b"]", b"[]"):
            continue
        try:
            record = json.loads(text)
            (player_id,), (score,) = record["playerId"], record[property]
            ours = isinstance(record["playerId"], list) and isinstance(record[property], list) and _is_score(score)
            if not ours or not player_id.encode():
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise FlywheelError(
                f"line {number} of the extract is not a record with one playerId and one {property}:"
                " write one record a line, as this package does"
            ) from None
        if player_id <= last:
            raise FlywheelError(
                f"line {number} of the extract does not come after the one before: sort it by playerId, each once"
            )
        last = player_id
        yield Member(player_id, score)
    if text not in (b"]", b"[]"):
        raise FlywheelError(f"the extract breaks off after line {number}: write it again, whole")
