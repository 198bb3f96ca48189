"""A snapshot: one read of the graph, kept for its as-of, because the graph itself has no history.

A file of JSON lines: the header, one line per vertex (`["wayne96", 3, ["Active"]]`: playerId or null, score, and the
values of each property of `where` in the header's order), and the number of vertices, without which the file is
truncated. Vertices are merged into members on reading.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal, NamedTuple

import orjson
from pydantic import Field, ValidationError

from cohort_flywheel.config.cohorts import Direction, Strict
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.config.decimals import number_text
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.segment.members import Score, Vertex, is_beyond, is_score

#: The Cohort Modeler's names, which a snapshot of an earlier version has.
_MODELERS = DataSchema()
#: The version of the file's shape.
VERSION: Literal[1] = 1

#: The maximum size of a header: the first bytes of a file that are read for it.
MAX_HEADER_BYTES = 8192


class Header(Strict):
    """The first line of a snapshot, which holds the vertices beyond the floor as they were at `read_at`."""

    version: Literal[1] = VERSION
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


class Snapshot(NamedTuple):
    """A stored snapshot: its key, its header, and whether it is the final one of its as-of."""

    key: str
    header: Header
    final: bool


def select_snapshot(snapshots: Iterable[Snapshot]) -> Snapshot | None:
    """Return the snapshot of a past day that a run reads: the final one, else the latest read; None without any."""
    return max(snapshots, key=lambda s: (s.final, s.header.read_at, s.key), default=None)


class SnapshotFile:
    """Write a snapshot, without vertices that are not beyond its floor."""

    def __init__(self, path: Path, header: Header) -> None:
        self._path = path
        self._header = header
        self.clear()

    def clear(self) -> None:
        """Remove all vertices, before an interrupted read of the graph begins again."""
        self._vertices = 0
        self._path.write_text(self._header.model_dump_json() + "\n", encoding="utf-8")

    def add(self, vertices: Iterable[Vertex]) -> None:
        header = self._header
        with self._path.open("ab") as file:
            for vertex in vertices:
                if is_beyond(vertex.score, header.direction, header.floor):
                    file.write(_line(vertex, header.required))
                    self._vertices += 1

    def close(self) -> None:
        """Write the last line, the number of vertices."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"vertices": self._vertices}) + "\n")


def _line(vertex: Vertex, required: list[str]) -> bytes:
    if not required:
        return orjson.dumps([vertex.player_id, vertex.score], option=orjson.OPT_APPEND_NEWLINE)
    # such a property can have any value: half of a surrogate pair, which orjson refuses, and whole numbers beyond
    # 64 bits, which it rounds
    properties = [vertex.properties.get(name, []) for name in required]
    return json.dumps([vertex.player_id, vertex.score, *properties], default=str).encode() + b"\n"


def read_header(line: bytes, place: str) -> Header:
    """Return the header; raise FlywheelError for a file that is not a snapshot of this version."""
    try:
        return Header.model_validate_json(line)
    except ValidationError:
        raise FlywheelError(
            f"{place} is not a snapshot that this version reads: move it away", code=Code.STATE_DAMAGED
        ) from None


def read_vertices(lines: Iterable[bytes], place: str) -> Iterator[Vertex]:
    """Read the vertices line by line; raise FlywheelError, without the text, for an invalid line or a lost end."""
    iterator = iter(lines)
    header = read_header(next(iterator, b""), place)
    loads = json.loads if header.required else orjson.loads
    number, end = 0, None
    for line in iterator:
        try:
            entry: object = loads(line)
            if isinstance(entry, dict):
                end = entry["vertices"]
                continue
            player_id, score, properties = _checked(entry)
            vertex = Vertex(player_id, score, dict(zip(header.required, properties, strict=True)))
        except (ValueError, KeyError, TypeError):
            raise FlywheelError(
                f"line {number + 2} of {place} is not a vertex: restore the file as it was", code=Code.STATE_DAMAGED
            ) from None
        number += 1
        yield vertex
    if end != number:
        raise FlywheelError(
            f"{place} is truncated after {number} vertices: restore the file as it was", code=Code.STATE_DAMAGED
        )


def _checked(entry: object) -> tuple[str | None, Score, list[list[object]]]:
    if not isinstance(entry, list):
        raise TypeError
    player_id, score, *properties = entry
    if not (
        (player_id is None or isinstance(player_id, str))
        and is_score(score)
        and all(isinstance(values, list) for values in properties)
    ):
        raise TypeError
    return player_id, score, properties
