"""Load Neptune's bulk-load CSV (Gremlin format) into a Gremlin Server, with Neptune's semantics.

https://docs.aws.amazon.com/neptune/latest/userguide/bulk-load-tutorial-format-gremlin.html: system columns `~id`,
`~label`, `~from`, `~to`; property columns `name:Type`, `name:Type(single)`, `name:Type[]`; an empty cell sets no
property. A vertex property has set cardinality by default: loading another value for a vertex adds it.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from gremlin_python.driver.driver_remote_connection import DriverRemoteConnection
from gremlin_python.driver.protocol import GremlinServerError
from gremlin_python.driver.serializer import GraphBinarySerializersV1
from gremlin_python.process.anonymous_traversal import traversal
from gremlin_python.process.graph_traversal import GraphTraversalSource, __
from gremlin_python.process.traversal import CardinalityValue, Direction, Merge, T
from gremlin_python.statics import SingleByte, long, short

from local.config import LocalError

#: The Cohort Modeler's seven files in the order in which they must be loaded: an edge needs its vertices.
LOAD_ORDER = (
    "user_vertices.csv",
    "campaign_vertices.csv",
    "action_vertices.csv",
    "interaction_edges.csv",
    "engagement_edges.csv",
    "campaign_edges.csv",
    "campaign_bidirectional_edges.csv",
)
BATCH = 1000

Element = dict[Any, Any]


def load_folder(folder: Path, gremlin_url: str, files: Iterable[str] = LOAD_ORDER, source: str = "g") -> dict[str, int]:
    """Load the files of a folder in order; return the number of elements of each."""
    with closing(
        DriverRemoteConnection(gremlin_url, source, message_serializer=GraphBinarySerializersV1())
    ) as connection:
        g = traversal().with_(connection)
        return {name: load_file(g, folder / name) for name in files}


def load_file(g: GraphTraversalSource, path: Path) -> int:
    """Load one file; return its number of vertices or edges."""
    loaded = 0
    for is_edge, batch in _batches(path):
        rows = g.inject(batch).unfold().as_("row")
        merged = rows.merge_e(__.select("key")) if is_edge else rows.merge_v(__.select("key"))
        properties = __.select("row").select("properties")
        try:
            # `iterate()` sends `discard()`, which Gremlin Server 3.7 does not have
            merged.option(Merge.on_create, properties).option(Merge.on_match, properties).count().next()
        except GremlinServerError as error:
            raise LocalError(
                f"{path.name}: the graph rejected one of the elements {loaded + 1} to {loaded + len(batch)}: {error}"
            ) from error
        loaded += len({id(row["key"]) for row in batch})
    return loaded


def elements(path: Path) -> Iterator[Element]:
    """The file's vertices and edges as `{"key": …, "properties": …}`; a further value of an array is a further element
    with the very same key."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, None)
            if header is None:
                raise LocalError(f"{path.name} is empty: it needs a header line.")
            columns = [column(f"{path.name}, line 1", name) for name in header]
            check_header(path.name, header)
            for row in reader:
                if row:
                    yield from _row(f"{path.name}, line {reader.line_num}", columns, row)
        except (csv.Error, UnicodeDecodeError) as error:
            raise LocalError(f"{path.name}, after line {reader.line_num}: not UTF-8 CSV ({error}).") from error


def _batches(path: Path) -> Iterator[tuple[bool, list[Element]]]:
    rows = elements(path)
    while batch := list(islice(rows, BATCH)):
        yield Direction.OUT in batch[0]["key"], batch


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError
    return text.lower() == "true"


def _integer(bits: int, kind: Callable[[int], int]) -> Callable[[str], int]:
    def convert(text: str) -> int:
        number = int(text)
        if not -(2 ** (bits - 1)) <= number < 2 ** (bits - 1):
            raise ValueError
        return kind(number)

    return convert


def _floating(text: str) -> float:
    words = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
    return words[text.lower()] if text.lower() in words else float(text)


def _date(text: str) -> datetime:
    date = datetime.fromisoformat(text)
    return date if date.tzinfo else date.replace(tzinfo=UTC)


# A Float becomes a Double: gremlinpython has no smaller type.
TYPES: dict[str, Callable[[str], Any]] = {
    "bool": _boolean,
    "boolean": _boolean,
    "byte": _integer(8, SingleByte),
    "short": _integer(16, short),
    "int": _integer(32, int),
    "long": _integer(64, long),
    "float": _floating,
    "double": _floating,
    "string": str,
    "date": _date,
}
SYSTEM = {"~id": T.id, "~label": T.label, "~from": Direction.OUT, "~to": Direction.IN}


@dataclass(frozen=True)
class Column:
    """A column of the header: its name, and for a property its type and whether it is single or an array."""

    name: str
    type: str = "string"
    is_single: bool = False
    is_array: bool = False


def column(where: str, header: str) -> Column:
    """The column of a header's cell; raises LocalError."""
    if header in SYSTEM:
        return Column(header)
    match = re.fullmatch(r"([^~:]+)(?::([A-Za-z]+))?(\[\])?(?:\((single|set)\))?(\[\])?", header, re.IGNORECASE)
    if not match:
        raise LocalError(f"{where}: column {header!r} is neither ~id, ~label, ~from, ~to nor name:Type.")
    kind, cardinality, is_array = (match[2] or "string").lower(), (match[4] or "").lower(), bool(match[3] or match[5])
    if kind not in TYPES:
        raise LocalError(f"{where}: column {header!r} has an unknown type: write one of {', '.join(TYPES)}.")
    if is_array and cardinality == "single":
        raise LocalError(f"{where}: column {header!r} is an array, which cannot be single.")
    return Column(match[1], kind, cardinality == "single", is_array)


def check_header(name: str, header: list[str]) -> None:
    """Raise LocalError for a header that lacks a column, or has one twice; `name` is the file's."""
    missing = [each for each in ("~id", "~label") if each not in header]
    if ("~from" in header) != ("~to" in header):
        missing.append("~to" if "~from" in header else "~from")
    if missing:
        raise LocalError(f"{name}, line 1: the column {' and the column '.join(missing)} is missing.")
    twice = sorted({each for each in header if header.count(each) > 1})
    if twice:
        raise LocalError(f"{name}, line 1: column {twice[0]} occurs twice.")


def _row(where: str, columns: list[Column], row: list[str]) -> Iterator[Element]:
    if len(row) != len(columns):
        raise LocalError(f"{where}: {len(row)} cells under a header of {len(columns)}.")
    key: Element = {}
    properties: Element = {}
    further: list[Element] = []
    is_edge = any(column.name == "~from" for column in columns)
    for column, cell in zip(columns, row, strict=True):
        if column.name in SYSTEM:
            if not cell:
                raise LocalError(f"{where}: {column.name} is empty.")
            key[SYSTEM[column.name]] = cell.replace(";", "::") if column.name == "~label" else cell
        elif cell:
            values = _values(where, column, cell)
            # only a vertex property has a cardinality
            properties[column.name] = (
                CardinalityValue.single(values[0]) if column.is_single and not is_edge else values[0]
            )
            further += [{column.name: value} for value in values[1:]]
    for each in [properties, *further]:
        yield {"key": key, "properties": each}


def split_cell(column: Column, cell: str) -> list[Any]:
    """The values of a cell; raises ValueError for one that is not of the column's type."""
    texts = re.split(r"(?<!\\);", cell) if column.is_array else [cell]
    return [TYPES[column.type](text.replace("\\;", ";")) for text in texts]


def _values(where: str, column: Column, cell: str) -> list[Any]:
    try:
        return split_cell(column, cell)
    except ValueError:
        # the cell itself may be personal data
        raise LocalError(
            f"{where}, column {column.name}: the cell is not a valid {column.type.capitalize()}."
        ) from None
