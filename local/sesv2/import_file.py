"""Parse the file of an import into contact records or error texts of its rows.

A file that cannot be read as a whole fails the job (FileError); an invalid row fails alone, and the job still
ends COMPLETED [shape GetImportJobResponse.FailedRecordsCount]. Error texts name lines and columns, never a value.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .contacts import is_address

csv.field_size_limit(2**31 - 1)

_TOPIC = "topicPreferences."
_COLUMNS = ("emailAddress", "unsubscribeAll", "attributesData")
_BOOLEANS = {"true": True, "false": False}
_STATUSES = ("OPT_IN", "OPT_OUT")


class FileError(ValueError):
    """A file that cannot be imported; the text says why."""


@dataclass
class Row:
    """One record of the file: its contact, or its error text."""

    line: int
    content: Any
    address: str = ""
    record: dict[str, Any] = field(default_factory=dict)
    fault: str | None = None


def rows(content: bytes, data_format: str) -> Iterator[Row]:
    """The rows of a file, lazily; raises FileError only before the first row."""
    try:
        text = content.decode("utf-8")  # [strict] compressed files are not documented, so refused
    except UnicodeDecodeError:
        raise FileError("The file is not UTF-8.") from None
    if not text:
        raise FileError("The file is empty.")
    return _csv_rows(text) if data_format == "CSV" else _json_rows(text)


def _csv_rows(text: str) -> Iterator[Row]:
    """[SES docs: list management] "The first line of the file [...] should be a header line"; a topic is a column."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = _header(reader)

    def read() -> Iterator[Row]:
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error:
                yield Row(line, None, fault="The quotes of the line are not as RFC 4180 has them.")
                continue
            if cells is None:
                return
            yield _csv_row(line, header, cells)

    return read()


def _header(reader: Any) -> list[str]:
    try:
        header: list[str] = next(reader)
    except csv.Error:
        raise FileError("The quotes of the header are not as RFC 4180 has them.") from None
    if "emailAddress" not in header:
        raise FileError("The header lacks emailAddress, which is mandatory.")
    if len(set(header)) != len(header):
        raise FileError("The header has a column twice.")
        # [strict] An unknown column fails the file; names are case-sensitive.
    if any(name not in _COLUMNS and not name.startswith(_TOPIC) for name in header):
        raise FileError("The header has an unknown column; names are case-sensitive.")
    return header


def _csv_row(line: int, header: list[str], cells: list[str]) -> Row:
    row = Row(line, cells)
    if len(cells) != len(header):  # RFC 4180, 2.4. [strict] A blank line is one of no fields.
        row.fault = f"The row has {len(cells)} values and the header has {len(header)}."
        return row
    found = {name: cell for name, cell in zip(header, cells, strict=True) if cell}  # an empty cell says nothing
    flag = found.get("unsubscribeAll", "false")
    if flag not in _BOOLEANS:  # [strict] in small letters, as in the guide's example
        row.fault = "unsubscribeAll must be true or false."
        return row
    topics = [(name.removeprefix(_TOPIC), cell) for name, cell in found.items() if name.startswith(_TOPIC)]
    return _checked_row(row, found.get("emailAddress", ""), _BOOLEANS[flag], found.get("attributesData"), topics)


def _json_rows(text: str) -> Iterator[Row]:
    """[SES docs: list management] "Only newline-delimited JSON files are supported": one contact per line."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return (_json_row(number, line) for number, line in enumerate(lines, start=1))


def _json_row(number: int, line: str) -> Row:
    row = Row(number, line)
    try:
        item = json.loads(line)
        if set(item) - {*_COLUMNS, "topicPreferences"}:
            row.fault = "The line has an unknown member; names are case-sensitive."
            return row
        topics = [(t["topicName"], t["subscriptionStatus"]) for t in item.get("topicPreferences", [])]
        return _checked_row(
            row, item.get("emailAddress", ""), item.get("unsubscribeAll", False), item.get("attributesData"), topics
        )
    except (ValueError, TypeError, AttributeError, KeyError):
        row.fault = "The line is not a contact's JSON object."
        return row


def _checked_row(row: Row, address: Any, unsubscribed: Any, attributes: Any, topics: list[tuple[Any, Any]]) -> Row:
    if not isinstance(address, str) or not is_address(address):
        row.fault = "emailAddress is mandatory, and an address of 7-bit ASCII characters."
    elif not isinstance(unsubscribed, bool):
        row.fault = "unsubscribeAll must be true or false."
    elif attributes is not None and not _is_json_object(attributes):
        # [SES docs: list management] of AttributesData: "It must be a valid JSON object."
        row.fault = "attributesData must be a JSON object, as a text."
    elif any(status not in _STATUSES for _, status in topics):
        row.fault = "A topic's preference must be OPT_IN or OPT_OUT."
    else:
        row.address = address
        row.record = {
            "UnsubscribeAll": unsubscribed,
            "TopicPreferences": [{"TopicName": name, "SubscriptionStatus": status} for name, status in topics],
        }
        if attributes is not None:
            row.record["AttributesData"] = attributes
    return row


def _is_json_object(text: Any) -> bool:
    try:
        return isinstance(text, str) and isinstance(json.loads(text), dict)
    except ValueError:
        return False
