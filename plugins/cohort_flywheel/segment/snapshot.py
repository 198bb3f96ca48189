"""A snapshot: one read of the graph, kept for its as-of, because the graph itself has no history.

A Parquet file with a row per vertex: `score`, `player_id` (NULL for a vertex without a usable one) and `properties`
(JSON: the values of each property of `where` by its name; NULL without `where`). Its header is in the file's key-value
metadata and in the object's. Vertices are merged into members on reading.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, ValidationError

from cohort_flywheel.common.duckdb import (
    ROW_GROUP,
    WIDE_ROW_GROUP,
    connect,
    count_rows,
    fetch,
    hide_values,
    read_parquet,
    write_parquet,
)
from cohort_flywheel.config.cohorts import Direction, Strict
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.config.decimals import number_text
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.segment.members import Members, Score, Vertex, beyond_sql, is_beyond, plain_score

#: The Cohort Modeler's names, which a header without names has.
_MODELERS = DataSchema()
#: The version of the file's shape.
VERSION: Literal[2] = 2

#: The key of the header in the metadata of the file and of the object.
HEADER = "header"
#: In the object's metadata: the digest that the read was named by when it was written. It stays the same in the final
#: snapshot that a pending one becomes, and in a snapshot without erased players.
READ = "read"


class Header(Strict):
    """The header of a snapshot, which holds the vertices beyond the floor as they were at `read_at`."""

    version: Literal[2] = VERSION
    cohort: str
    as_of: datetime
    property: str
    direction: Direction
    floor: int | float
    required: list[str] = Field(default_factory=list)
    read_at: datetime
    vertex_label: str = _MODELERS.vertex_label
    player_id: str = _MODELERS.player_id

    def incompatibility(
        self, *, property: str, direction: str, threshold: Score, required: Iterable[str], schema: DataSchema
    ) -> str | None:
        """Return why a run cannot read its members from this snapshot, as a part of a sentence; None if it can."""
        held, wanted = (self.vertex_label, self.player_id), (schema.vertex_label, schema.player_id)
        if held != wanted:
            return f"holds {held[0]} vertices by their {held[1]}, and the registry now says {wanted[0]} and {wanted[1]}"
        if (self.property, self.direction) != (property, direction):
            return f"holds {self.property} {self.direction} a floor, and the registry now says {property} {direction}"
        if is_beyond(self.floor, self.direction, threshold):
            return f"has the floor {number_text(self.floor)}, and the threshold {number_text(threshold)} is looser"
        if missing := sorted(set(required) - set(self.required)):
            return f"was written before `where` named {', '.join(missing)}"
        return None

    def text(self) -> str:
        """Return the header as JSON in ASCII, as S3 takes it in an object's metadata."""
        return json.dumps(self.model_dump(mode="json"))


class Snapshot(NamedTuple):
    """A stored snapshot: its key, its header, whether it is the final one of its as-of, and the name of its read."""

    key: str
    header: Header
    final: bool
    read: str

    def is_of(self, snapshot_key: str) -> bool:
        """Whether this is the snapshot of a key, or the final one that it has become."""
        return snapshot_key == self.key or snapshot_key.endswith(f"/{self.read}.parquet")


def select_snapshot(snapshots: Iterable[Snapshot]) -> Snapshot | None:
    """Return the snapshot of a past day that a run reads: the final one, else the latest read; None without any."""
    return max(snapshots, key=lambda s: (s.final, s.header.read_at, s.key), default=None)


def write_snapshot(members: Members, header: Header, path: Path) -> None:
    """Write the vertices that were read, without those that are not beyond the floor."""
    members.write_vertices(path, beyond_sql(header.direction, header.floor), *_form(header))


def _form(header: Header) -> tuple[dict[str, str], int]:
    """The metadata and the rows of a group of a snapshot's file."""
    return {HEADER: header.text()}, WIDE_ROW_GROUP if header.required else ROW_GROUP


def read_header(text: str | None, place: str) -> Header:
    """Return the header; raise FlywheelError for what is not one of this version."""
    try:
        return Header.model_validate_json(text or "")
    except ValidationError:
        raise FlywheelError(
            f"{place} is not a snapshot that this version reads: move it, with all of its versions, to another folder,"
            " and clear this task; if check_limits has failed, and the snapshot is of the run's own as-of, clear"
            " extract instead, with downstream",
            code=Code.STATE_DAMAGED,
        ) from None


def read_file_header(path: Path, place: str, memory_mb: int | None = None) -> Header:
    """Return the header of a file; raise FlywheelError for a file that is not a snapshot of this version."""
    return read_header(_header_text(path, memory_mb), place)


def _header_text(path: Path, memory_mb: int | None) -> str | None:
    import duckdb

    with connect(path.parent, memory_mb) as sql, hide_values("read the header of the snapshot"):
        try:
            rows = sql.execute("SELECT key, value FROM parquet_kv_metadata(?)", [str(path)]).fetchall()
        except (duckdb.OutOfMemoryException, duckdb.IOException):
            raise
        except duckdb.Error:  # it is not Parquet
            return None
    return next((value.decode() for key, value in rows if key == HEADER.encode()), None)


def read_vertices(path: Path, memory_mb: int | None = None) -> Iterator[Vertex]:
    """Yield the vertices of a snapshot; Members takes and merges them faster."""
    with connect(path.parent, memory_mb) as sql, hide_values("read the snapshot"):
        read_parquet(sql, path).create_view("vertex")
        for player_id, score, properties in fetch(sql, "FROM vertex SELECT player_id, score, properties"):
            yield Vertex(player_id, plain_score(score), json.loads(properties) if properties else {})


def write_without(path: Path, players: Iterable[str], rest: Path, place: str, memory_mb: int | None = None) -> int:
    """Write a snapshot without players to a file of its folder; return the number of its vertices that are theirs.

    Raises FlywheelError for a file that is not a snapshot of this version, which cannot be searched.
    """
    header = read_file_header(path, place, memory_mb)
    with connect(path.parent, memory_mb) as sql, hide_values("search the snapshot"):
        sql.execute("CREATE TABLE player AS SELECT unnest(?::VARCHAR[]) AS player_id", [list(players)])
        read_parquet(sql, path).create_view("vertex")
        found = count_rows(sql.sql("FROM vertex SEMI JOIN player USING (player_id)"))
        if found:
            write_parquet(sql, "FROM vertex ANTI JOIN player USING (player_id)", rest, *_form(header))
    return found
