"""Merge vertices into members, sorted by playerId, in memory that does not grow with the cohort."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeGuard

from cohort_flywheel.common.duckdb import (
    Rows,
    connect,
    count_rows,
    fetch,
    hide_values,
    read_parquet,
    read_rows,
    write_parquet,
    write_rows,
)
from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.config.conditions import Condition
from cohort_flywheel.config.data_schema import PLAYER_ID
from cohort_flywheel.config.decimals import MAX_INT, number_text
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.segment.outputs import VertexCounts

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


#: Of vertices in a table or snapshot. `properties` is JSON: the values by property of `where`; NULL without `where`.
VERTEX_COLUMNS = {"score": "DOUBLE", "player_id": "VARCHAR", "properties": "VARCHAR"}


def beyond_sql(direction: Direction, threshold: Score) -> str:
    """Return `is_beyond` as a condition on the column `score`."""
    return f"score {'>' if direction == 'above' else '<'} {threshold!r}"


class Members:
    """Collects vertices, or takes those of a snapshot, and then iterates over members: DuckDB merges and sorts them.

    These sums hold: `vertices_read = vertices + vertices_not_beyond + vertices_not_as_required`, and
    `vertices = members + merged + vertices_without_playerId`. Vertices of erased players are in neither;
    `vertices_erased` counts them.

    :param folder: a folder on local disk, where no other Members are open.
    :param where: the conditions on other properties, by their names.
    :param erased: tells whether a playerId is of an erased player; None if there are none.
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    """

    def __init__(
        self,
        folder: Path,
        *,
        direction: Direction,
        threshold: Score,
        where: Mapping[str, Condition] | None = None,
        erased: Callable[[str], bool] | None = None,
        memory_mb: int | None = None,
    ) -> None:
        self._folder = folder
        self._direction = direction
        self._threshold = threshold
        self._where = {name: condition.test() for name, condition in (where or {}).items()}
        self._erased = erased
        self._file = (folder / "vertices.csv").open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, Rows)
        self._snapshot: Path | None = None
        self._counts: VertexCounts | None = None
        self.vertices_erased = 0
        self._sql = connect(folder, memory_mb)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._file.close()
        self._sql.close()

    def clear(self) -> None:
        """Remove all vertices, before an interrupted read of the graph begins again."""
        self._file.truncate(0)
        self._file.seek(0)

    def add(self, vertices: Iterable[Vertex]) -> None:
        """Add vertices; not after the members were asked for."""
        self._writer.writerows((each.score, each.player_id, _properties_text(each.properties)) for each in vertices)

    def add_columns(
        self, player_ids: Sequence[str], scores: Sequence[Score], properties: Mapping[str, Sequence[Sequence[object]]]
    ) -> None:
        """Add vertices that are given as columns."""
        rows = (dict(zip(properties, values, strict=True)) for values in zip(*properties.values(), strict=True))
        texts = map(_properties_text, rows) if properties else repeat(None, len(player_ids))
        self._writer.writerows(zip(scores, player_ids, texts, strict=True))

    def add_snapshot(self, path: Path) -> None:
        """Take the vertices of a snapshot, instead of those that are added."""
        self._snapshot = path

    def counts(self) -> VertexCounts:
        """The counts of vertices and members for the report."""
        with hide_values("merge the vertices"):
            self._counts = self._counts or self._find()
        return self._counts

    def __iter__(self) -> Iterator[Member]:
        """Every member, sorted by playerId (by code point)."""
        for player_id, score in self.rows("player_id, score"):
            yield Member(player_id, plain_score(score))

    def rows(self, expressions: str) -> Iterator[Any]:
        """The values of expressions, of ours, on `player_id` and `score` of every member, sorted by playerId."""
        self.counts()
        with hide_values("sort the members"):
            yield from fetch(self._sql, f"FROM member SELECT {expressions} ORDER BY player_id")

    def count_scores(self) -> Iterator[tuple[Score, int]]:
        """Each score of a member, with the number of members that have it."""
        self.counts()
        with hide_values("count the scores"):
            for score, number in fetch(self._sql, "FROM member SELECT score, count(*) GROUP BY score"):
                yield plain_score(score), number

    def write_player_ids(self, path: Path) -> None:
        """Write the playerIds to a Parquet file, for `joined_and_left`."""
        self.counts()
        with hide_values("write the members"):
            write_parquet(self._sql, "FROM member SELECT player_id", path, {})

    def write_vertices(self, path: Path, condition: str, metadata: Mapping[str, str], row_group: int) -> None:
        """Write the vertices that meet a condition, a snapshot, to a Parquet file with key-value metadata."""
        self.counts()
        with hide_values("write the snapshot"):
            write_parquet(self._sql, f"FROM vertex WHERE {condition}", path, metadata, row_group)

    def _find(self) -> VertexCounts:
        """Create the view `vertex`, without erased players, and the table `member`."""
        self._load()
        vertices = self._sql.table("read_vertex")
        number_read = count_rows(vertices)
        if self._erased is not None:
            self._select("erased", "player_id", self._erased)
            vertices = vertices.filter("player_id IS NULL OR player_id NOT IN (FROM erased)")
        vertices.create_view("vertex")
        beyond = vertices.filter(beyond_sql(self._direction, self._threshold))
        required = beyond
        if self._where:
            self._select("as_required", "properties", self._is_as_required)
            required = beyond.filter("properties IN (FROM as_required)")
        with_id = required.filter("player_id IS NOT NULL")
        extreme = "max" if self._direction == "above" else "min"
        with_id.aggregate(f"player_id, {extreme}(score) AS score").create("member")
        tables = (vertices, beyond, required, with_id, self._sql.table("member"))
        others, number_beyond, number, number_with_id, members = map(count_rows, tables)
        self.vertices_erased = number_read - others
        return VertexCounts(
            vertices_read=others,
            vertices_not_beyond=others - number_beyond,
            vertices_not_as_required=number_beyond - number,
            vertices=number,
            members=members,
            merged=number_with_id - members,
            vertices_without_player_id=number - number_with_id,
        )

    def _load(self) -> None:
        """Create `read_vertex`: a table, or a view of the snapshot."""
        self._file.close()
        if self._snapshot:
            read_parquet(self._sql, self._snapshot).create_view("read_vertex")
            return
        path = Path(self._file.name)
        read_rows(self._sql, path, VERTEX_COLUMNS).create("read_vertex")
        path.unlink()

    def _select(self, table: str, column: str, holds: Callable[[str], bool]) -> None:
        """Create a table of the different texts of a column of `read_vertex` for which a function is true."""
        path = self._folder / f"{table}.csv"
        texts = fetch(self._sql, f"FROM read_vertex SELECT DISTINCT {column} WHERE {column} IS NOT NULL")
        write_rows(path, ((text,) for (text,) in texts if holds(text)))
        read_rows(self._sql, path, {"text": "VARCHAR"}).create(table)
        path.unlink()

    def _is_as_required(self, properties: str) -> bool:
        values = json.loads(properties)
        return all(holds(values.get(name, ())) for name, holds in self._where.items())


def _properties_text(properties: Mapping[str, Sequence[object]]) -> str | None:
    """Return the values of properties as JSON; None without a property.

    Such a property can have any value. A number that is not finite becomes a text: no condition tells them apart.
    """
    if not properties:
        return None
    values = {
        name: [str(each) if isinstance(each, float) and not isfinite(each) else each for each in found]
        for name, found in properties.items()
    }
    # json keeps half of a surrogate pair, which orjson refuses, and whole numbers beyond 64 bits, which it rounds
    return json.dumps(values, default=str)


def plain_score(score: float) -> Score:
    """A score of DuckDB: a whole one is an int, where a double holds each of them."""
    return int(score) if score.is_integer() and abs(score) <= MAX_INT else score


def is_score(value: object) -> TypeGuard[Score]:
    """Whether a value is a valid score: a finite number that a double holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isfinite(value) if isinstance(value, float) else abs(value) <= MAX_INT


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
