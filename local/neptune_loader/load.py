"""The load of one file into Gremlin Server: what becomes a record, a duplicate or an error."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from gremlin_python.process.graph_traversal import GraphTraversalSource, __
from gremlin_python.process.traversal import CardinalityValue, Direction, Merge, T

from local.config import LocalError
from local.neptune_csv import Column, check_header, column, split_cell

BATCH = 1000
#: [model GetLoaderJobStatus] "stores the last 10,000 error details per job".
KEPT_ERRORS = 10_000


class LoadError(Exception):
    """An error of one record, by the loader's code [loader: loader-message]; its text quotes ids, as the real one."""

    def __init__(self, code: str, kind: str, message: str) -> None:
        super().__init__(message)
        self.code, self.kind = code, kind


class Row(NamedTuple):
    """A line of a file: a vertex, or an edge, which has two ends."""

    number: int
    id: str
    label: str
    ends: tuple[str, str] | None
    cells: list[tuple[Column, Any]]


@dataclass
class Counts:
    """[loader: load-api-reference-status-response] The figures of a job, or of a file.

    `totalRecords` are records "loaded or attempted to load", duplicates and errors included.
    """

    records: int = 0
    duplicates: int = 0
    errors: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("parsing", "datatypeMismatch", "insert"), 0))
    logs: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: "Counts") -> None:
        self.records += other.records
        self.duplicates += other.duplicates
        self.errors = {kind: number + other.errors[kind] for kind, number in self.errors.items()}
        self.logs = [*self.logs, *other.logs][-KEPT_ERRORS:]

    def failed(self) -> bool:
        return any(self.errors.values())

    def note(self, error: LoadError, uri: str, number: int) -> None:
        self.errors[error.kind] += 1
        self.logs.append(
            {"errorCode": error.code, "errorMessage": str(error), "fileName": uri, "recordNum": number}
        )  # fmt: skip


def is_edge_file(content: bytes) -> bool:
    """Whether a file has edges, by its header."""
    return b"~from" in content.partition(b"\n")[0]


def load_file(
    g: GraphTraversalSource, content: bytes, uri: str, *, update_single: bool, fail_on_error: bool, share: float = 1.0,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Counts:  # fmt: skip
    """Load a file, or the first share of its lines; stop early where the job is cancelled.

    [model failOnError] with it the loader "stops as soon as it encounters an error. Data loaded up to that point
    persists"; without it, entries with errors are skipped.
    """
    counts = Counts()
    try:
        rows = list(_rows(content))
    except LoadError as error:
        counts.note(error, uri, 0)
        return counts
    remaining = iter(rows[: round(len(rows) * share)])
    while not is_cancelled() and (batch := list(islice(remaining, BATCH))):
        good: list[Row] = []
        for row in batch:
            if isinstance(row, tuple) and not isinstance(row, Row):
                counts.note(row[1], uri, row[0])
                if fail_on_error:
                    break
            else:
                good.append(row)
        _load_batch(g, good, counts, uri, update_single, fail_on_error)
        if fail_on_error and counts.failed():
            break
    return counts


def _rows(content: bytes) -> Iterator[Any]:
    """The lines of a file, each a Row or a pair of its number and its error; raises LoadError for a wrong header."""
    try:
        text = content.decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(reader, [])
        columns = [column("header", name) for name in header]
        check_header("header", header)
    except (LocalError, UnicodeDecodeError, csv.Error) as error:
        raise LoadError("PARSING_ERROR", "parsing", f"Invalid header: {error}") from None
    number = 0
    while True:
        number += 1
        try:
            cells = next(reader, None)
            if cells is None:
                return
            if cells:
                yield _row(number, columns, cells)
        except LoadError as error:
            yield number, error
        except csv.Error as error:
            yield number, LoadError("PARSING_ERROR", "parsing", f"Invalid line: {error}")
            return


def _row(number: int, columns: list[Column], cells: list[str]) -> Row:
    if len(cells) != len(columns):
        raise LoadError("PARSING_ERROR", "parsing", f"{len(cells)} cells under a header of {len(columns)}: {cells[:1]}")
    system = {each.name: cell for each, cell in zip(columns, cells, strict=True) if each.name.startswith("~")}
    if missing := [name for name, cell in system.items() if not cell]:
        raise LoadError("PARSING_ERROR", "parsing", f"{missing[0]} is empty")
    values: list[tuple[Column, Any]] = []
    for each, cell in zip(columns, cells, strict=True):
        if not each.name.startswith("~") and cell:
            try:
                values += [(each, value) for value in split_cell(each, cell)]
            except ValueError:
                what = f"{cell!r} of {system['~id']} is not a valid {each.type}"
                raise LoadError("PARSING_ERROR", "datatypeMismatch", what) from None
    ends = (system["~from"], system["~to"]) if "~from" in system else None
    return Row(number, system["~id"], system["~label"].replace(";", "::"), ends, values)


def _load_batch(
    g: GraphTraversalSource, rows: list[Row], counts: Counts, uri: str, update_single: bool, fail_on_error: bool
) -> None:
    """Compare each row with what the graph has, and write what is new."""
    known = _edges(g, rows) if rows and rows[0].ends else _vertices(g, rows)
    there = _existing_ends(g, rows)
    new: list[dict[str, Any]] = []
    for row in rows:
        try:
            new += _judge(row, known, there, counts, update_single)
        except LoadError as error:
            counts.note(error, uri, row.number)
            if fail_on_error:
                break
    _write(g, new)


def _judge(
    row: Row, known: dict[str, Any], there: set[str], counts: Counts, update_single: bool
) -> Iterable[dict[str, Any]]:
    """The elements to merge for a row; counts its records: its label, and each value of a property."""
    counts.records += 1 + len(row.cells)
    before = known.get(row.id)
    if row.ends and not set(row.ends) <= there:
        missing = next(end for end in row.ends if end not in there)
        raise LoadError("FROM_OR_TO_VERTEX_ARE_MISSING", "insert", f"vertex {missing} of edge {row.id} does not exist")
    if before and (before["label"], before["ends"]) != (row.label, row.ends):
        if row.ends:
            raise LoadError("ID_ASSIGNED_TO_MULTIPLE_EDGES", "insert", f"{row.id} is another edge")
        raise LoadError("NOT_EMULATED", "insert", f"{row.id} has another label, and one label is emulated")
    counts.duplicates += before is not None
    element = known.setdefault(row.id, {"label": row.label, "ends": row.ends, "values": {}})
    key = {T.id: row.id, T.label: row.label}
    if row.ends:
        key |= {Direction.OUT: row.ends[0], Direction.IN: row.ends[1]}
    first: dict[str, Any] = {}
    further: list[dict[str, Any]] = []
    for each, value in row.cells:
        values = element["values"].setdefault(each.name, [])
        is_single = each.is_single or row.ends is not None  # an edge's property is always single
        if any(_same(value, other) for other in values):
            counts.duplicates += 1
            continue
        if is_single and values and not update_single:
            raise LoadError(
                "SINGLE_CARDINALITY_VIOLATION", "insert", f"{row.id} has another value of {each.name}, which is single"
            )
        element["values"][each.name] = [value] if is_single else [*values, value]
        as_single = is_single and not row.ends  # only a vertex property has a cardinality in Gremlin
        new = CardinalityValue.single(value) if as_single else value
        if each.name in first:
            further.append({"key": key, "properties": {each.name: new}})
        else:
            first[each.name] = new
    if before and not first:
        return []
    return [{"key": key, "properties": first}, *further]


def _same(one: Any, other: Any) -> bool:
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _vertices(g: GraphTraversalSource, rows: list[Row]) -> dict[str, Any]:
    ids = list({row.id for row in rows})
    if not ids:
        return {}
    found = g.V(*ids).project("id", "label", "values").by(T.id).by(T.label).by(__.value_map()).to_list()
    return {each["id"]: {"label": each["label"], "ends": None, "values": dict(each["values"])} for each in found}


def _edges(g: GraphTraversalSource, rows: list[Row]) -> dict[str, Any]:
    ids = list({row.id for row in rows})
    steps = g.E(*ids).project("id", "label", "out", "in", "values").by(T.id).by(T.label)
    found = steps.by(__.out_v().id_()).by(__.in_v().id_()).by(__.value_map()).to_list()
    return {
        each["id"]: {
            "label": each["label"], "ends": (each["out"], each["in"]),
            "values": {name: [value] for name, value in each["values"].items()},
        }
        for each in found
    }  # fmt: skip


def _existing_ends(g: GraphTraversalSource, rows: list[Row]) -> set[str]:
    ids = list({end for row in rows if row.ends for end in row.ends})
    return set(g.V(*ids).id_().to_list()) if ids else set()


def _write(g: GraphTraversalSource, new: list[dict[str, Any]]) -> None:
    while new:
        some, new = new[:5000], new[5000:]
        rows = g.inject(some).unfold().as_("row")
        is_edge = Direction.OUT in some[0]["key"]
        merged = rows.merge_e(__.select("key")) if is_edge else rows.merge_v(__.select("key"))
        properties = __.select("row").select("properties")
        merged.option(Merge.on_create, properties).option(Merge.on_match, properties).count().next()
