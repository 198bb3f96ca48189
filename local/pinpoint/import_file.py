"""Parse one file of an import into endpoints or error texts of its rows.

A file that cannot be read is rejected as a whole (PieceError: a FailedPiece); an invalid row fails alone, and the job
still ends COMPLETED. Error texts name lines and columns, never a value.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, cast

from . import shapes
from .endpoints import Item, attribute_name_fault

csv.field_size_limit(2**31 - 1)

# A row is its line number, and an endpoint's definition or an error text.
Row = tuple[int, Item | str]

_SINGLE = ("ChannelType", "Address", "Id", "OptOut", "User.UserId")
_NAMED = ("User.UserAttributes", "Attributes", "Metrics")
_FIXED = {"Location": "EndpointLocation", "Demographic": "EndpointDemographic"}
# [strict] The documentation contradicts itself about the values of these two, so a file must leave them out.
_UNCLEAR = ("EffectiveDate", "EndpointStatus")
# [Pinpoint docs: importing segments] no line breaks and no tabs inside a value.
_CONTROL = re.compile(r"[\t\r\n]")
# RFC 4180, 2.5-2.7: a quoted field stands between separators, and a quote inside it is doubled.
_QUOTED = re.compile(r'(?:^|(?<=[,\r\n]))"[^"]*(?:""[^"]*)*"(?=[,\r\n]|$)')


class PieceError(ValueError):
    """A file that cannot be imported; the text says why."""


def rows(content: bytes, file_format: str) -> Iterator[Row]:
    """The rows of a file, lazily; raises PieceError only before the first row."""
    if content.startswith(b"\x1f\x8b"):
        # [Pinpoint docs: importing segments] the file must not be compressed.
        raise PieceError("The file is compressed; an import requires an uncompressed file.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        # [Pinpoint docs: importing segments] the file is UTF-8.
        raise PieceError("The file is not UTF-8.") from None
    if not text:
        raise PieceError("The file is empty.")
    return _csv_rows(text) if file_format == "CSV" else _json_rows(text)


def _csv_rows(text: str) -> Iterator[Row]:
    if '"' in _QUOTED.sub("", text):
        raise PieceError("The file's quotes are not as RFC 4180 has them.")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = next(reader)
    if not header:
        raise PieceError("The file has no header.")
    columns = [_column(name) for name in header]
    if len(set(header)) != len(header):
        raise PieceError("The file has a column twice.")

    def read() -> Iterator[Row]:
        line = reader.line_num + 1
        for cells in reader:
            yield line, _csv_item(header, columns, cells)
            line = reader.line_num + 1

    return read()


Column = tuple[tuple[str, ...], Callable[[str], Any]]


def _column(name: str) -> Column:
    """Where a column's cells go in an endpoint's definition, and as what; header names are case-sensitive.

    [Pinpoint docs: importing segments] lists the names. [strict] An unknown one fails the piece.
    """
    if name in _SINGLE:
        return tuple(name.split(".")), str
    for group in _NAMED:
        if name.startswith(f"{group}."):
            attribute = name.removeprefix(f"{group}.")
            if fault := attribute_name_fault(attribute):
                raise PieceError(f"The header is wrong: {fault}.")
            return (*group.split("."), attribute), float if group == "Metrics" else _one_value
    group, _, member = name.partition(".")
    if group in _FIXED:
        found = cast(Any, shapes.shape(_FIXED[group])).members.get(member)
        if found is not None:
            return (group, member), float if found.type_name == "double" else str
    if name in _UNCLEAR:
        raise PieceError(f"The header has {name}, about which the documentation contradicts itself: leave it out.")
    raise PieceError("The header has an unknown column; names are case-sensitive.")


def _one_value(cell: str) -> list[str]:
    """[shape EndpointBatchItem.Attributes] an attribute is an array of values; a cell of a CSV file is one."""
    return [cell]


def _csv_item(header: list[str], columns: list[Column], cells: list[str]) -> Item | str:
    if len(cells) != len(header):
        # RFC 4180, 2.4: each line has the same number of fields. [strict] A blank line is one of no fields.
        return f"The row has {len(cells)} values and the header has {len(header)}."
    item: Item = {}
    for name, (path, convert), cell in zip(header, columns, cells, strict=True):
        if not cell:
            continue  # an empty cell says nothing about the endpoint
        if _CONTROL.search(cell):
            return f"{name} contains a line break or a tab."
        try:
            value = convert(cell)
        except ValueError:
            return f"{name} is not a number."
        place = item
        for step in path[:-1]:
            place = place.setdefault(step, {})
        place[path[-1]] = value
    return item


def _json_rows(text: str) -> Iterator[Row]:
    """[shape ImportJobRequest.Format] "JSON, for newline-delimited JSON format": one EndpointBatchItem per line."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return ((number, _json_item(line)) for number, line in enumerate(lines, start=1))


def _json_item(line: str) -> Item | str:
    try:
        item = json.loads(line)
    except ValueError:
        return "The line is not JSON."
    if wrong := shapes.problems(item, shapes.shape("EndpointBatchItem"), "the line"):
        return wrong[0]
    for name in _UNCLEAR:
        if name in item:
            return f"The line has {name}, about which the documentation contradicts itself: leave it out."
    if any(_CONTROL.search(text) for text in _texts(item)):
        return "A value contains a line break or a tab."
    return cast(Item, item)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
