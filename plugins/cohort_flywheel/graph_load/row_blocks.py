"""The rows of a CSV file in blocks, with the line of each: streaming, compressed or not."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import chain, islice
from typing import NamedTuple

from cohort_flywheel.graph_load.compression import ByteStream, UnreadableError, decompressed
from cohort_flywheel.graph_load.findings import FindingKind

#: A line of this length has no line breaks that could be found.
MAX_LINE = 16 << 20
ROWS = 4096
BOM = "\ufeff"
#: RFC 4180, with the blanks that Neptune ignores: "Fields containing a line-break, double-quote, or commas must be
#: quoted. (If they are not, load aborts immediately.)" "Surrounding spaces between delimiters are ignored."
_CELL = r' *(?:"(?:[^"]|"")*+" *|[^",\r\n]*)'
_RECORD = re.compile(rf"{_CELL}(?:,{_CELL})*+\r?\n?")


class Block(NamedTuple):
    """Rows, the line from 1 on which each begins, and the lines whose quotes are not as RFC 4180 has them."""

    rows: list[list[str]]
    lines: Sequence[int]
    misquoted: list[int]


class RowBlocks:
    """Iterates over the blocks of a file; the first row of the first block is the header.

    has_bom: whether the file begins with a byte order mark, known after the first block. Raises UnreadableError;
    blocks before the fault are given first.
    """

    def __init__(self, stream: ByteStream, name: str) -> None:
        self.has_bom = False
        self._stream = stream
        self._name = name
        self._has_quotes = self._has_spaces = False
        self._line = self._next_line = 1
        self._quoted_lines: dict[int, str] = {}

    def __iter__(self) -> Iterator[Block]:
        # strict: a quoted cell must end before a comma or a line break
        reader = csv.reader(self._lines(), strict=True, skipinitialspace=True)
        size = 1  # the header alone, so that the rest can be judged by it
        while True:
            rows: list[list[str]] = []
            fault: UnreadableError | None = None
            try:
                rows.extend(islice(reader, size))
            except csv.Error as error:
                fault = self._quoting_fault(error)
            except UnreadableError as error:
                fault = error
            if rows:
                block = self._block(rows, reader.line_num)
                yield block
            if fault:
                if fault.line is None and fault.kind is FindingKind.QUOTING:
                    fault.line = self._line
                raise fault
            if len(rows) < size:
                return
            size = ROWS

    def _block(self, rows: list[list[str]], last_line: int) -> Block:
        start = self._line
        lines: Sequence[int] = range(start, start + len(rows))
        if last_line - start + 1 != len(rows):
            # a quoted cell has line breaks, or the reader stopped within a record
            ends = []
            for row in rows:
                ends.append(start)
                start += 1 + sum(cell.count("\n") for cell in row)
            lines, self._line = ends, start
        else:
            self._line = start + len(rows)
        misquoted = self._misquoted(rows, lines) if self._has_quotes else []
        if self._has_spaces:
            # a quoted cell that ends with a space loses it here too, which only a comparison of ids could notice
            rows = [[cell.rstrip(" ") for cell in row] for row in rows]
        return Block(rows, lines, misquoted)

    def _misquoted(self, rows: list[list[str]], lines: Sequence[int]) -> list[int]:
        found = []
        for number, row in enumerate(rows):
            if any('"' in cell for cell in row):
                end = lines[number + 1] if number + 1 < len(rows) else self._line
                record = "".join(self._quoted_lines.get(line, "") for line in range(lines[number], end))
                if not _RECORD.fullmatch(record):
                    found.append(lines[number])
        for line in [line for line in self._quoted_lines if line < self._line]:
            del self._quoted_lines[line]
        return found

    def _quoting_fault(self, error: csv.Error) -> UnreadableError:
        text = "a quotation mark or a line break stands in a cell that is not quoted as RFC 4180 has it"
        if "field limit" in str(error) or "end of data" in str(error):
            text = "a quoted cell does not end: its closing quotation mark is missing"
        return UnreadableError(FindingKind.QUOTING, None, f"{text}; the rows after it are not read")

    def _lines(self) -> Iterator[str]:
        return chain.from_iterable(map(self._lines_of, texts(self._stream, self._name)))

    def _lines_of(self, text: str) -> Iterator[str]:
        first, self._next_line = self._next_line, self._next_line + text.count("\n")
        self.has_bom = self.has_bom or (first == 1 and text.startswith(BOM))
        self._has_spaces = self._has_spaces or " ," in text or " \n" in text or " \r\n" in text
        self._has_quotes = self._has_quotes or '"' in text
        lines = StringIO(text.removeprefix(BOM) if first == 1 else text, newline="\n")
        return self._remembered(lines, first) if self._has_quotes else lines

    def _remembered(self, lines: Iterator[str], first: int) -> Iterator[str]:
        for number, line in enumerate(lines, start=first):
            self._quoted_lines[number] = line
            yield line


def texts(stream: ByteStream, name: str) -> Iterator[str]:
    """Yield the text of a file in parts that end with a line, the last as it ends; raise UnreadableError."""
    line = 1
    rest = b""
    for chunk in decompressed(stream, name):
        end = chunk.rfind(b"\n") + 1
        if not end:
            rest += chunk
            if len(rest) > MAX_LINE:
                raise UnreadableError(FindingKind.QUOTING, line, f"the line has more than {MAX_LINE:,} bytes")
            continue
        yield from _decoded(rest + chunk[:end], line)
        line += chunk.count(b"\n", 0, end)
        rest = chunk[end:]
    if rest:
        yield from _decoded(rest, line)


def _decoded(data: bytes, line: int) -> Iterator[str]:
    fault = "it is not UTF-8"
    try:
        text = data.decode()
        bad = data.find(b"\0")
        fault = "it has a NUL character"
    except UnicodeDecodeError as error:
        bad = error.start
    if bad < 0:
        yield text
        return
    good = data[: data.rfind(b"\n", 0, bad) + 1]
    if good:
        yield good.decode()
    # [load data formats] "All load-data files must be encoded in UTF-8 form"
    text = f"{fault}: save the file as UTF-8; it is not read from here"
    raise UnreadableError(FindingKind.ENCODING, line + good.count(b"\n"), text)
