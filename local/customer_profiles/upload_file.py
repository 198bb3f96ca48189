"""Parse the file of an upload job into a profile's values or an error text per row.

A file that cannot be read as a whole fails the job (FileError); an invalid row fails alone. Error texts name lines
and columns, never a value.
"""

import csv
import io
import re
from collections.abc import Iterator
from typing import Any

from local.rest_json import shapes

from .profiles import Path, target

csv.field_size_limit(2**31 - 1)

# RFC 4180, 2.5-2.7: a quoted field stands between separators, and a quote inside it is doubled.
_QUOTED = re.compile(r'(?:^|(?<=[,\r\n]))"[^"]*(?:""[^"]*)*"(?=[,\r\n]|$)')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# [shape FieldContentType] names the types. [strict] A value that is not of its column's type fails its row.
_CONTENT = {
    "EMAIL_ADDRESS": re.compile(r"[^\s@,;]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z0-9-]+"),
    "PHONE_NUMBER": re.compile(r"\+[1-9][0-9]{1,14}"),
    "NUMBER": re.compile(r"-?[0-9]+(?:\.[0-9]+)?"),
}

# The line number, and the row's values or its error text.
Row = tuple[int, dict[Path, str] | str]


class FileError(ValueError):
    """A file that cannot be read; the text says why."""


def rows(content: bytes, fields: dict[str, dict[str, str]], unique_key: str) -> Iterator[Row]:
    """The rows of a file, lazily; raises FileError only before the first row."""
    if content.startswith(b"\xef\xbb\xbf"):
        # [Connect guide: imported files] "UTF-8 with BOM (Byte Order Mark) is not supported."
        raise FileError("The file begins with a byte order mark.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        # [Connect guide: imported files] "UTF-8 encoded". A compressed file is not.
        raise FileError("The file is not UTF-8.") from None
    if '"' in text and '"' in _QUOTED.sub("", text):
        raise FileError("The file's quotes are not as RFC 4180 has them.")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = next(reader, None)
    if not header:
        # [Connect guide: imported files] the file must "contain headers".
        raise FileError("The file has no header.")
    _check_header(header, fields)
    columns = [(name, *target(fields[name]["Target"]), fields[name].get("ContentType", "STRING")) for name in header]

    def read() -> Iterator[Row]:
        line = reader.line_num + 1
        for cells in reader:
            yield line, _values(cells, columns, unique_key)
            line = reader.line_num + 1

    return read()


def _check_header(header: list[str], fields: dict[str, dict[str, str]]) -> None:
    if any("." in name for name in header):
        # [Connect guide: object type mappings] "does not support ingesting data from CSV headers that contain dot
        # notation", though [shape fieldName] has the dot in its pattern.
        raise FileError("A column's name has a dot.")
    if len(set(header)) != len(header):
        raise FileError("The file has a column twice.")
    if set(header) != set(fields):
        # [strict] A column that is not mapped, or a mapping without its column, fails the file.
        raise FileError("The file's columns are not those of the job's Fields.")


def _values(cells: list[str], columns: list[tuple[str, Path, Any, str]], unique_key: str) -> dict[Path, str] | str:
    if len(cells) != len(columns):
        # RFC 4180, 2.4: each line has the same number of fields. [strict] A blank line is one of no fields.
        return f"The row has {len(cells)} values and the header has {len(columns)}."
    found: dict[Path, str] = {}
    for cell, (name, path, expected, content_type) in zip(cells, columns, strict=True):
        if not cell:
            if name == unique_key:
                return f"{name} is empty and is the unique key."
            continue  # [strict] an empty cell does not remove what a profile holds
        if _CONTROL.search(cell):
            return f"{name} contains a control character."  # [strict]
        if wrong := shapes.problems(cell, expected, name):
            return wrong[0]  # [shape Profile] lengths and enumerations
        pattern = _CONTENT.get(content_type)
        if pattern and not pattern.fullmatch(cell):
            return f"{name} is not of its type {content_type}."
        found[path] = cell
    return found
