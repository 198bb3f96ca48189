"""Merge vertices into members, sorted by playerId, in memory that does not grow with the cohort."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Protocol, Self, TypeGuard

import orjson

from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.config.conditions import Condition
from cohort_flywheel.config.data_schema import PLAYER_ID
from cohort_flywheel.config.decimals import number_text
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.segment.outputs import Shard, VertexCounts

Score = int | float


class Member(NamedTuple):
    """A player beyond the threshold, with the player's most extreme score."""

    player_id: str
    score: Score


#: A row of `valueMap`: Neptune's set cardinality gives a list of values per property.
type GraphRow = Mapping[str, Sequence[object]]


class Vertex(NamedTuple):
    """A player vertex of the graph: its usable playerId or None, its most extreme score, and all values of each
    property of `where`."""

    player_id: str | None
    score: Score
    properties: Mapping[str, Sequence[object]] = {}


class UnusableScoreError(FlywheelError):
    """The property of the score has a value that is not a valid score."""


class VertexSink(Protocol):
    """What a read of the graph writes vertices to."""

    def clear(self) -> None:
        """Remove all vertices, before an interrupted read begins again."""

    def add(self, vertices: Iterable[Vertex]) -> None:
        """Add vertices."""


def is_beyond(score: Score, direction: Direction, threshold: Score) -> bool:
    """Whether a score is strictly beyond a threshold: above means >, below means <."""
    return score > threshold if direction == "above" else score < threshold


def to_vertex(
    row: GraphRow,
    *,
    property: str,
    direction: Direction,
    threshold: Score,
    required: Iterable[str] = (),
    player_id: str = PLAYER_ID,
) -> Vertex:
    """Turn a row of `valueMap` (Neptune's set cardinality: lists) into a vertex.

    Raises UnusableScoreError for a score that is not a finite number, and FlywheelError for one that is not beyond the
    threshold: the query asks only for scores beyond it, so the rest of the answer would be wrong too.
    """
    scores = row.get(property, [])
    numbers = [s for s in scores if is_score(s)]
    if not numbers or len(numbers) < len(scores):
        raise UnusableScoreError(
            f"property {property} of a vertex is not a finite number: name a numeric property in the registry,"
            " or correct the graph",
            code=Code.GRAPH_PROPERTY,
        )
    score: Score = max(numbers) if direction == "above" else min(numbers)
    if not is_beyond(score, direction, threshold):
        raise FlywheelError(
            f"the graph returned a vertex that is not {direction} {number_text(threshold)}: this is a fault of"
            " the query or of the graph database, so nothing was written",
            code=Code.DO_NOT_ADD_UP,
        )
    return Vertex(usable_player_id(row.get(player_id, [])), score, {name: row.get(name, []) for name in required})


_MERGE: dict[Direction, str] = {
    "above": "INSERT INTO member VALUES (?, ?)"
    " ON CONFLICT (player_id) DO UPDATE SET score = max(score, excluded.score)",
    "below": "INSERT INTO member VALUES (?, ?)"
    " ON CONFLICT (player_id) DO UPDATE SET score = min(score, excluded.score)",
}


class Members:
    """Collect vertices and iterate over members; a temporary SQLite file sorts and merges them.

    These sums hold: `vertices_read = vertices + vertices_not_beyond + vertices_not_as_required`, and
    `vertices = members + merged + vertices_without_playerId`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        direction: Direction,
        threshold: Score,
        where: Mapping[str, Condition] | None = None,
    ) -> None:
        self._direction = direction
        self._threshold = threshold
        self._where = [(name, condition.test()) for name, condition in (where or {}).items()]
        self._database = sqlite3.connect(folder / "members.sqlite", isolation_level=None)
        # a crash loses the temporary file anyway: no journal, no sync
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "DROP TABLE IF EXISTS member;"
            "CREATE TABLE member (player_id TEXT PRIMARY KEY, score NUMERIC) WITHOUT ROWID"
        )
        self._merge = _MERGE[direction]
        self.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._database.close()

    def clear(self) -> None:
        """Remove all vertices, before an interrupted read of the graph begins again."""
        self._database.execute("DELETE FROM member")
        self.vertices_read = self.vertices_not_beyond = self.vertices_not_as_required = 0
        self.vertices_without_player_id = 0

    def add(self, vertices: Iterable[Vertex]) -> None:
        """Add vertices; those that are not beyond the threshold, or not as `where` says, are only counted."""
        self._database.execute("BEGIN")
        self._database.executemany(self._merge, self._rows(vertices))
        self._database.execute("COMMIT")

    def _rows(self, vertices: Iterable[Vertex]) -> Iterator[tuple[str, Score]]:
        for vertex in vertices:
            self.vertices_read += 1
            if not is_beyond(vertex.score, self._direction, self._threshold):
                self.vertices_not_beyond += 1
            elif not all(holds(vertex.properties.get(name, ())) for name, holds in self._where):
                self.vertices_not_as_required += 1
            elif vertex.player_id is None:
                self.vertices_without_player_id += 1
            else:
                yield vertex.player_id, vertex.score

    def counts(self) -> VertexCounts:
        """The counts of vertices and members for the report."""
        members = self._database.execute("SELECT count(*) FROM member").fetchone()[0]
        vertices = self.vertices_read - self.vertices_not_beyond - self.vertices_not_as_required
        return VertexCounts(
            vertices_read=self.vertices_read,
            vertices_not_beyond=self.vertices_not_beyond,
            vertices_not_as_required=self.vertices_not_as_required,
            vertices=vertices,
            members=members,
            merged=vertices - self.vertices_without_player_id - members,
            vertices_without_player_id=self.vertices_without_player_id,
        )

    def __iter__(self) -> Iterator[Member]:
        """Every member, sorted by playerId (by code point)."""
        for player_id, score in self._database.execute("SELECT player_id, score FROM member ORDER BY player_id"):
            yield Member(player_id, score)


def is_score(value: object) -> TypeGuard[Score]:
    """Whether a value is a valid score: a finite number, within 64 bits if it is whole."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 2**63  # SQLite's and Gremlin's long


def usable_player_id(values: Sequence[object]) -> str | None:
    """Return the only playerId of a vertex, or None.

    A vertex created through the modeler's API has none. One with two different ids also counts as without an id,
    because its e-mail could go to the wrong player.
    """
    plain = len(values) == 1 and type(values[0]) is str  # the fast path for most vertices
    if not plain and (None in values or len(set(map(str, values))) != 1):
        return None
    player_id = str(values[0])
    try:
        player_id.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: neither S3 nor DynamoDB can hold it
        return None
    return player_id or None


#: The members of a shard, about a minute of work; more if there would be more shards than Airflow maps.
SHARD_MEMBERS = 50_000
#: Airflow's `max_map_length`, which MWAA does not raise.
MAX_SHARDS = 1024


def shard_size(members: int, shard_members: int | None = None) -> int:
    return max(shard_members or SHARD_MEMBERS, -(-members // MAX_SHARDS))


def write_extract(members: Iterable[Member], property: str, file: BinaryIO, size: int = SHARD_MEMBERS) -> list[Shard]:
    """Write the seed's format, `[{"playerId": ["wayne96"], "ea_atrisk": [3]}, …]`: valid JSON, one record per line.

    Returns the shards, each of `size` members, the last one of fewer. Every member is in exactly one shard; an empty
    cohort has one empty shard. Their `of`, the digest of the file, is empty until the file is closed.
    """
    starts: list[int] = []
    number, separator, end = -1, b"[\n", 0
    for number, member in enumerate(members):
        record = orjson.dumps({"playerId": [member.player_id], property: [member.score]})
        file.write(separator + record)
        if number % size == 0:
            starts.append(end + len(separator))
        end += len(separator) + len(record)
        separator = b",\n"
    file.write(b"\n]\n" if starts else b"[]\n")
    ends = [*(start - len(separator) for start in starts[1:]), end]
    return [
        Shard(
            index=index, first=first, bytes=last - first, members=min(size, number + 1 - index * size), size=size, of=""
        )
        for index, (first, last) in enumerate(zip(starts or [0], ends, strict=True))
    ]


def read_shard(lines: Iterable[bytes], property: str, members: int) -> Iterator[Member]:
    """Read the lines of one shard; raises FlywheelError like read_extract, and for another number of members."""
    number = 0
    for member in read_extract(chain([b"["], lines, [b"]"]), property):
        number += 1
        yield member
    if number != members:
        raise FlywheelError(
            f"the shard has {number} members and not {members}: write the extract again", code=Code.FILE_CHANGED
        )


def read_extract(lines: Iterable[bytes], property: str) -> Iterator[Member]:
    """Read an extract line by line.

    Raises FlywheelError, with the line number and not the text, for any other format than ours: one record per line,
    sorted by playerId, each playerId once, and the closing bracket, without which the file is truncated.
    """
    last, number, text = "", 0, b""
    for number, line in enumerate(lines, start=1):
        text = line.strip().rstrip(b",") or text
        if not line.strip() or text in (b"[", b"]", b"[]"):
            continue
        try:
            record = orjson.loads(text)
            (player_id,), (score,) = record["playerId"], record[property]
            ours = isinstance(record["playerId"], list) and isinstance(record[property], list) and is_score(score)
            if not ours or not player_id.encode():
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise FlywheelError(
                f"line {number} of the extract is not a record with one playerId and one {property}:"
                " write one record per line, as this package does",
                code=Code.FILE_CHANGED,
            ) from None
        if player_id <= last:
            raise FlywheelError(
                f"line {number} of the extract does not come after the one before: sort it by playerId, each once",
                code=Code.FILE_CHANGED,
            )
        last = player_id
        yield Member(player_id, score)
    if text not in (b"]", b"[]"):
        raise FlywheelError(f"the extract is truncated after line {number}: write it again", code=Code.FILE_CHANGED)
