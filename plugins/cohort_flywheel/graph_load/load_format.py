"""Neptune's Gremlin load data format: the header of a CSV file and the values under it.

Each rule names its source. [format] is
https://docs.aws.amazon.com/neptune/latest/userguide/bulk-load-tutorial-format-gremlin.html, [status] is
https://docs.aws.amazon.com/neptune/latest/userguide/load-api-reference-status-response.html, [model] is
`StartLoaderJob` of botocore's neptunedata. [strict] is the stricter reading where these are not clear.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import chain
from typing import Literal, NamedTuple

from cohort_flywheel.graph_load.findings import FindingKind

Elements = Literal["vertices", "edges"]
Cardinality = Literal["", "single", "set"]

ID, LABEL, FROM, TO = "~id", "~label", "~from", "~to"
#: [format] "System Column Headers": what each kind of file must have. A missing `~label` gives `vertex` or `edge`.
REQUIRED: dict[Elements, tuple[str, ...]] = {"vertices": (ID,), "edges": (ID, FROM, TO)}

#: [format] "Gremlin Data Types"; names are not case-sensitive.
INTEGER_BITS = {"byte": 8, "short": 16, "int": 32, "long": 64}
TYPES = {
    name.lower(): name
    for name in ("Bool", "Byte", "Short", "Int", "Long", "Float", "Double", "String", "Date", "Datetime")
}
ALIASES = {"boolean": "bool"}

#: [format] A colon in a name is written `\:`; spaces, commas and line breaks are not allowed. The documented
#: combinations are name:type, name:type[], name:type(single), name:type(set), name:type(set)[]; [strict] in this order.
#: [status] has columns without a type; [strict] they are String.
_PROPERTY = re.compile(r"((?:\\:|[^:\s,~\\])(?:\\:|[^:\s,])*)(?::([A-Za-z]+)(?:\((\w+)\))?(\[\])?)?")
_CARDINALITIES: dict[str | None, Cardinality] = {None: "", "single": "single", "set": "set"}
#: [format] An array is separated by semicolons; `\;` is a semicolon in a value.
_SEPARATOR = re.compile(r"(?<!\\);")

_WHOLE = re.compile(r"[+-]?[0-9]+")
#: [format] Decimal or scientific notation, Infinity and NaN; "INF is not supported". [strict] case-sensitive.
_DECIMAL = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|Infinity)|NaN")
#: [format] yyyy-MM-dd, yyyy-MM-ddTHH:mm, yyyy-MM-ddTHH:mm:ss, yyyy-MM-ddTHH:mm:ssZ; Z is a letter or an offset.
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:Z|[+-][0-9]{2}:?[0-9]{2})?)?)?")


@dataclass(frozen=True)
class Column:
    """A column of the header.

    name: a system column, or the property's name with `\\:` read as a colon. type: a key of TYPES. cardinality: as
    written; empty is `set` for a vertex, and an edge's properties are always single.
    """

    name: str
    type: str = "string"
    cardinality: Cardinality = ""
    is_array: bool = False

    @property
    def is_system(self) -> bool:
        """Whether it is `~id`, `~label`, `~from` or `~to`."""
        return self.name.startswith("~")

    @property
    def value_type(self) -> str:
        """The type as it is written in a header, such as `Int[]`."""
        return TYPES[self.type] + "[]" * self.is_array


@dataclass(frozen=True)
class Header:
    """The columns of a file in their order, and which elements it holds."""

    columns: tuple[Column, ...]
    elements: Elements

    @property
    def names(self) -> list[str]:
        """The names of the columns; no two are the same, and each required column is among them."""
        return [column.name for column in self.columns]


class HeaderFault(NamedTuple):
    """A fault of a header; column is a name, or `#3` where the cell cannot be read and may be data."""

    kind: FindingKind
    column: str | None
    text: str


def parse_header(cells: Sequence[str]) -> tuple[Header | None, list[HeaderFault]]:
    """Return the header, or None if its columns cannot be told, and its faults."""
    columns: list[Column] = []
    faults: list[HeaderFault] = []
    for number, cell in enumerate(cells, start=1):
        parsed = _column(cell.strip(" "), number)
        if isinstance(parsed, HeaderFault):
            faults.append(parsed)
        else:
            columns.append(parsed)
    names = [column.name for column in columns]
    elements: Elements = "edges" if FROM in names or TO in names else "vertices"
    missing = [name for name in REQUIRED[elements] if name not in names]
    if missing:
        # the first line may be a row of data: none of its cells may be named
        absent = [HeaderFault(FindingKind.MISSING_COLUMN, None, f"the header has no column {name}") for name in missing]
        return None, [*absent, *faults]
    # [format] "Each system column can appear only once in a header"; [strict] a property too
    faults += [
        HeaderFault(FindingKind.REPEATED_COLUMN, name, "the header has this column more than once")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    faults += [
        HeaderFault(FindingKind.SINGLE_ARRAY, column.name, "an array cannot be (single): remove one of them")
        for column in columns
        if column.is_array and column.cardinality == "single"
    ]
    # [format] "cardinality is always single and specifying any other cardinality causes the loader to throw an
    # exception"; "Edge properties can only have a single value and will cause an error if an array type is specified"
    faults += [
        HeaderFault(
            FindingKind.EDGE_CARDINALITY, column.name, "a property of an edge has one value: remove (set) or []"
        )
        for column in columns
        if elements == "edges" and (column.is_array or column.cardinality == "set")
    ]
    readable = len(columns) == len(cells) == len(set(names))
    return Header(tuple(columns), elements) if readable else None, faults


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a property's name is one of these names or globs; upper and lower case differ."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def values_of(column: Column, cell: str) -> list[str]:
    """The values of a cell: the parts of an array that are not blank, and none for a blank cell.

    [model] allowEmptyStrings is false unless set: an empty string is not loaded.
    """
    if not column.is_array:
        return [cell] if cell else []
    return [part.replace("\\;", ";") for part in _SEPARATOR.split(cell) if part]


def labels_of(cell: str) -> list[str]:
    """The labels of a `~label` cell: [format] "Multiple label values are allowed, separated by semicolons"."""
    return _SEPARATOR.split(cell)


def invalid_cells(column: Column, cells: Collection[str]) -> set[str]:
    """Those of these different cells, none of them blank, that the loader rejects for the column's type."""
    if column.type in ("string", "bool"):
        return set()
    if not column.is_array:
        return _invalid(column.type, cells)
    invalid = _invalid(column.type, set(chain.from_iterable(_SEPARATOR.split(cell) for cell in cells)))
    return {cell for cell in cells if not invalid.isdisjoint(_SEPARATOR.split(cell))}


def not_boolean(column: Column, cells: Collection[str]) -> set[str]:
    """Those of these cells of a Bool that are read as false without saying so.

    [format] "Any value other than true will be treated as false"; [strict] TRUE is another value.
    """
    if column.type != "bool":
        return set()
    return {cell for cell in cells if not {"true", "false"}.issuperset(values_of(column, cell))}


def stored_form(column: Column, cell: str) -> str:
    """The same text for two cells that are one value, such as `3` and `03`; a cell that is not valid as it is."""
    if invalid_cells(column, [cell]):
        return cell
    if column.type in INTEGER_BITS:
        return str(int(cell))
    if column.type in ("float", "double"):
        return repr(float(cell))
    if column.type == "bool":
        return str(cell == "true")
    return cell


def expected(column: Column) -> str:
    """What a value of the column's type must be, as half a sentence."""
    if bits := INTEGER_BITS.get(column.type):
        return f"a whole number from {-(2 ** (bits - 1)):,} to {2 ** (bits - 1) - 1:,}"
    if column.type in ("float", "double"):
        return "a decimal number such as 0.5 or 5e-1, Infinity, -Infinity or NaN"
    return "an existing date as yyyy-MM-dd, yyyy-MM-ddTHH:mm, yyyy-MM-ddTHH:mm:ss or yyyy-MM-ddTHH:mm:ssZ"


def _column(cell: str, number: int) -> Column | HeaderFault:
    if cell in (ID, LABEL, FROM, TO):
        return Column(cell)
    match = _PROPERTY.fullmatch(cell)
    if not match:
        return HeaderFault(
            FindingKind.HEADER_COLUMN,
            f"#{number}",
            "it is neither ~id, ~label, ~from, ~to nor name:Type, name:Type(single), name:Type(set), name:Type[] or"
            " name:Type(set)[] without spaces",
        )
    name, kind, cardinality = match[1].replace("\\:", ":"), (match[2] or "string").lower(), match[3]
    kind = ALIASES.get(kind, kind)
    if kind not in TYPES:
        return HeaderFault(
            FindingKind.HEADER_COLUMN, f"#{number}", f"its type is not one of {', '.join(TYPES.values())}"
        )
    if cardinality not in _CARDINALITIES:
        return HeaderFault(FindingKind.HEADER_COLUMN, f"#{number}", "its cardinality is neither (single) nor (set)")
    return Column(name, kind, _CARDINALITIES[cardinality], bool(match[4]))


def _invalid(kind: str, cells: Collection[str]) -> set[str]:
    if bits := INTEGER_BITS.get(kind):
        highest = 2 ** (bits - 1)
        numbers = set(filter(_WHOLE.fullmatch, cells))
        # int() of a text of thousands of digits is slow, and refused by Python
        far = {cell for cell in numbers if len(cell) > 30 or not -highest <= int(cell) < highest}
        return set(cells) - numbers | far
    pattern = _DATE if kind in ("date", "datetime") else _DECIMAL
    matched = set(filter(pattern.fullmatch, cells))
    return set(cells) - matched | (set(filter(_no_date, matched)) if pattern is _DATE else set())


def _no_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return True
    return False
