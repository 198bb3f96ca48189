"""Copies of vertex files whose headers say `(single)`, so that a second load replaces values and adds none."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence

from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.graph_load.compression import ByteStream, UnreadableError, compressed, decompressed
from cohort_flywheel.graph_load.load_format import Column, matches, parse_header
from cohort_flywheel.graph_load.row_blocks import MAX_LINE

_TYPED = re.compile(r"(?<!\\):")


def with_single_headers(stream: ByteStream, name: str, single: Sequence[str]) -> Iterator[bytes]:
    """Yield the bytes of a copy of the file in which the columns that `single` names have `(single)` in the header.

    name: as the loader reads it; a `.gz` or `.bz2` file is read and written compressed. single: property names or globs
    such as `ea_*`. The rows, and the header of an edge file, whose properties are single anyway, are copied as they
    are; `(set)` becomes `(single)`. Raises FlywheelError for a header that cannot be read and for an array.
    """
    return compressed(_parts(stream, name, single), name)


def _parts(stream: ByteStream, name: str, single: Sequence[str]) -> Iterator[bytes]:
    start: bytes | None = b""
    try:
        for part in decompressed(stream, name):
            if start is None:
                yield part
                continue
            start += part
            if b"\n" in start or len(start) > MAX_LINE:
                yield _with_single(start, name, single)
                start = None
    except UnreadableError as error:
        raise _refusal(name, error.text) from error
    if start is not None:
        yield _with_single(start, name, single)


def _with_single(start: bytes, name: str, single: Sequence[str]) -> bytes:
    """The beginning of a file, header and all, with the header changed."""
    line, newline, rest = start.partition(b"\n")
    end = ("\r" if line.endswith(b"\r") else "") + newline.decode()
    try:
        text = line.decode("utf-8-sig").removesuffix("\r")
        cells = next(csv.reader([text], strict=True, skipinitialspace=True), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise _refusal(name, "its header is not UTF-8 CSV") from error
    header, _ = parse_header(cells)
    if header is None:
        raise _refusal(name, "its header is not of Neptune's format")
    chosen = [not column.is_system and matches(column.name, single) for column in header.columns]
    if header.elements == "edges" or not any(chosen):
        return start
    for column, is_chosen in zip(header.columns, chosen, strict=True):
        if is_chosen and column.is_array:
            raise _refusal(name, f"the property {column.name} is an array")
    written = io.StringIO()
    csv.writer(written, lineterminator=end).writerow(
        _single_cell(cell.strip(" "), column) if is_chosen else cell
        for cell, column, is_chosen in zip(cells, header.columns, chosen, strict=True)
    )
    return written.getvalue().encode() + rest


def _single_cell(cell: str, column: Column) -> str:
    if column.cardinality == "single":
        return cell
    typed = cell if _TYPED.search(cell) else f"{cell}:String"
    return f"{typed.removesuffix('(set)')}(single)"


def _refusal(name: str, reason: str) -> FlywheelError:
    return FlywheelError(
        f"cannot copy {name} with (single) in its header, because {reason}: correct the file, or `single` of this load"
        " in cohorts.yaml; then clear the task",
        code=Code.GRAPH_LOAD_FILES,
    )
