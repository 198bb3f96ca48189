"""The rows of a CSV file in blocks, with the line of each: streaming, compressed or not."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from itertools import chain, islice
from typing import NamedTuple

from cohort_flywheel.graph_load.compression import CHUNK, ByteStream, UnreadableError, decompressed
from cohort_flywheel.graph_load.findings import FindingKind

#: A line of this length has no line breaks that could be found.
MAX_LINE = 16 << 20
ROWS = 4096
#: The characters of a cell, as in Python's csv module.
MAX_CELL = 131_072
BOM = "\ufeff"
_MARK = "\x01"
_NOT_PLAIN = ('"', "\r", _MARK)
_SPACES = (" ,", ", ", " \n", "\n ")
#: RFC 4180, with the blanks that Neptune ignores: "Fields containing a line-break, double-quote, or commas must be
#: quoted. (If they are not, load aborts immediately.)" "Surrounding spaces between delimiters are ignored."
_CELL = r' *(?:"(?:[^"]|"")*+" *|[^",\r\n]*)'
_RECORD = re.compile(rf"{_CELL}(?:,{_CELL})*+\r?\n?")


class Block(NamedTuple):
    """Rows of a file.

    lines: the line from 1 on which each row begins. columns: the cells of each column, if every row has as many as the
    header; else they are empty, and unequal has the rows. misquoted: the lines with quotes that RFC 4180 forbids.
    """

    lines: Sequence[int]
    columns: Sequence[Sequence[str]]
    unequal: Sequence[Sequence[str]] = ()
    misquoted: Sequence[int] = ()

    @property
    def rows(self) -> Sequence[Sequence[str]]:
        """The cells of each row."""
        return self.unequal or list(zip(*self.columns, strict=True))


class RowBlocks:
    """Iterates over the blocks of a file; the first has the header alone.

    has_bom: whether the file begins with a byte order mark, known after the first block. Raises UnreadableError;
    blocks before the fault are given first.
    """

    def __init__(self, stream: ByteStream, name: str) -> None:
        self.has_bom = False
        self._texts = texts(stream, name)
        self._width = 0
        self._has_quotes = self._has_spaces = False
        self._line = self._next_line = 1
        self._quoted_lines: dict[int, str] = {}

    def __iter__(self) -> Iterator[Block]:
        first = next(self._texts, "")
        self.has_bom = first.startswith(BOM)
        first = first.removeprefix(BOM)
        line, newline, rest = first.partition("\n")
        header = split_plain(f"{line}{newline}", line.count(",") + 1)
        if header is None:
            yield from self._parsed(chain([first], self._texts))
            return
        self._width = len(header)
        yield Block(range(1, 2), header)
        self._line = 2
        for text in filter(None, chain([rest], self._texts)):
            columns = split_plain(text, self._width)
            if columns is None:
                # a quoted cell may go on in the next text
                yield from self._parsed(chain([text], self._texts))
                return
            lines = range(self._line, self._line + len(columns[0]))
            yield Block(lines, columns)
            self._line = lines.stop

    def _parsed(self, parts: Iterator[str]) -> Iterator[Block]:
        """The blocks of the rest of the file, by a parser that knows quotes."""
        self._next_line = self._line
        # strict: a quoted cell must end before a comma or a line break
        reader = csv.reader(chain.from_iterable(map(self._lines_of, parts)), strict=True, skipinitialspace=True)
        before = self._line - 1
        while True:
            # the header alone, so that the rest can be judged by it
            size = ROWS if self._width else 1
            rows: list[list[str]] = []
            fault: UnreadableError | None = None
            try:
                with _cell_limit():
                    rows.extend(islice(reader, size))
            except csv.Error as error:
                fault = _quoting_fault(error)
            except UnreadableError as error:
                fault = error
            if rows:
                self._width = self._width or len(rows[0])
                yield self._block(rows, before + reader.line_num)
            if fault:
                if fault.line is None and fault.kind is FindingKind.QUOTING:
                    fault.line = self._line
                raise fault
            if len(rows) < size:
                return

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
        if set(map(len, rows)) == {self._width}:
            return Block(lines, list(zip(*rows, strict=True)), misquoted=misquoted)
        return Block(lines, [], rows, misquoted)

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

    def _lines_of(self, text: str) -> Iterator[str]:
        first, self._next_line = self._next_line, self._next_line + text.count("\n")
        spaces = " ," in text or " \n" in text or " \r" in text or text.endswith(" ")
        self._has_spaces = self._has_spaces or spaces
        self._has_quotes = self._has_quotes or '"' in text
        lines = StringIO(text, newline="\n")
        return self._remembered(lines, first) if self._has_quotes else lines

    def _remembered(self, lines: Iterator[str], first: int) -> Iterator[str]:
        for number, line in enumerate(lines, start=first):
            self._quoted_lines[number] = line
            yield line


def split_plain(text: str, width: int) -> list[Sequence[str]] | None:
    """The columns of a text of lines, or None if it needs a parser: for quotes, spaces beside commas, or another width.

    One split of the whole text takes a quarter of the time of a parser, and a file of edges has nothing else.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n")
    text = text.removesuffix("\n")
    # a blank line would be a blank cell where there is one column, and a text is long because of a long line; the
    # longer marks are looked for last, as that is slow
    if width < 2 or not text or len(text) > 2 * CHUNK or any(mark in text for mark in _NOT_PLAIN):
        return None
    if " " in text and (text[0] == " " or text[-1] == " " or any(mark in text for mark in _SPACES)):
        return None
    # Each row but the first begins with a mark. If all marks are in the first column, every row has the same width.
    cells = text.replace("\n", f",{_MARK}").split(",")
    rows = text.count("\n") + 1
    if len(cells) != rows * width:
        return None
    first = "".join(cells[::width]).split(_MARK)
    if len(first) != rows:
        return None
    return [first, *(cells[number::width] for number in range(1, width))]


@contextmanager
def _cell_limit() -> Iterator[None]:
    """Limit a cell to MAX_CELL: the limit of the parser is the process's, and a library may have raised it."""
    before = csv.field_size_limit(MAX_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _quoting_fault(error: csv.Error) -> UnreadableError:
    text = "a quotation mark or a line break stands in a cell that is not quoted as RFC 4180 has it"
    if "field limit" in str(error) or "end of data" in str(error):
        text = f"a cell has more than {MAX_CELL:,} characters, or its closing quotation mark is missing"
    return UnreadableError(FindingKind.QUOTING, None, f"{text}; the rows after it are not read")


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
