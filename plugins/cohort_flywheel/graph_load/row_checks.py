"""Checks of one file, row by row: what its header, its rows and its values must be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress

from cohort_flywheel.graph_load.compression import UnreadableError
from cohort_flywheel.graph_load.findings import FileSummary, FindingCollector, FindingKind
from cohort_flywheel.graph_load.load_format import (
    LABEL,
    Column,
    Header,
    expected,
    invalid_cells,
    labels_of,
    not_boolean,
    parse_header,
    values_of,
)
from cohort_flywheel.graph_load.row_blocks import Block, RowBlocks

#: How many different valid cells of a column are remembered, so that each is judged once.
REMEMBERED = 20_000


class CheckedRows:
    """Iterates over a file's columns block by block and collects its findings, rows and expected records.

    A block is the header, the lines of its rows and, for each column, its cells; rows of another length are left out.
    header: None before the first block, and if it cannot be read; then there are no blocks.
    """

    def __init__(self, blocks: RowBlocks, number: int, findings: FindingCollector) -> None:
        self.header: Header | None = None
        self.rows = self.records = 0
        self.complete = False
        self._blocks = blocks
        self._number = number
        self._findings = findings
        self._valid: list[set[str]] = []

    def __iter__(self) -> Iterator[tuple[Header, Sequence[int], Sequence[Sequence[str]]]]:
        blocks = iter(self._blocks)
        try:
            first = next(blocks, None)
            if self._blocks.has_bom:
                self._add(FindingKind.BYTE_ORDER_MARK, [1], None, "save the file as UTF-8 without a byte order mark")
            if first:
                self._add_misquoted(first)
            self._read_header(first.rows[0] if first else [])
            if self.header:
                for block in blocks:
                    lines, columns = self._well_formed(block, self.header)
                    self._check(lines, columns, self.header)
                    yield self.header, lines, columns
                self.complete = True
        except UnreadableError as error:
            self._add(error.kind, [error.line], None, error.text)

    def summary(self, name: str) -> FileSummary:
        """What the file holds, after the iteration."""
        return FileSummary(
            file=name,
            elements=self.header.elements if self.header else None,
            rows=self.rows,
            records=self.records,
            complete=self.complete,
        )

    def _add(self, kind: FindingKind, lines: Sequence[int | None], column: str | None, text: str) -> None:
        self._findings.add(kind, self._number, lines, column, text)

    def _read_header(self, cells: Sequence[str]) -> None:
        if not cells:
            self._add(FindingKind.EMPTY_FILE, [None], None, "the file has no header in its first line")
            return
        self.header, faults = parse_header(cells)
        for fault in faults:
            self._add(fault.kind, [1], fault.column, fault.text)
        if self.header:
            self._valid = [set() for _ in self.header.columns]

    def _add_misquoted(self, block: Block) -> None:
        if block.misquoted:
            text = "a cell has a quotation mark and is not quoted as RFC 4180 has it"
            self._add(FindingKind.QUOTING, block.misquoted, None, text)

    def _well_formed(self, block: Block, header: Header) -> tuple[Sequence[int], Sequence[Sequence[str]]]:
        self._add_misquoted(block)
        lines, columns = block.lines, block.columns
        if block.unequal:
            width, rows = len(header.columns), block.unequal
            blank = [line for line, row in zip(lines, rows, strict=True) if not row]
            if blank:
                self._add(FindingKind.BLANK_LINE, blank, None, "the line is blank")
            for line, row in zip(lines, rows, strict=True):
                if row and len(row) != width:
                    self._add(FindingKind.ROW_LENGTH, [line], None, f"{len(row)} cells under a header of {width}")
            good = [len(row) == width for row in rows]
            lines = list(compress(lines, good))
            columns = list(zip(*compress(rows, good), strict=True)) or [()] * width
        self.rows += len(lines)
        return lines, columns

    def _check(self, lines: Sequence[int], columns: Sequence[Sequence[str]], header: Header) -> None:
        # a file without ~label has a label for each row nevertheless
        if LABEL not in header.names:
            self.records += len(lines)
        for number, (column, cells) in enumerate(zip(header.columns, columns, strict=True)):
            blank = cells.count("")
            if not column.is_system:
                self._check_values(number, column, lines, cells, blank)
                continue
            if blank:
                self._found(FindingKind.BLANK_REQUIRED, column, lines, cells, {""}, "the cell is blank")
            if column.name == LABEL:
                self._check_labels(column, lines, cells, header)

    def _check_labels(self, column: Column, lines: Sequence[int], cells: Sequence[str], header: Header) -> None:
        several = {cell for cell in set(cells) if len(labels_of(cell)) > 1}
        self.records += len(cells)
        if several and header.elements == "edges":
            # [format] "Edges can only have a single label"
            self._found(FindingKind.EDGE_LABELS, column, lines, cells, several, "an edge has one label: remove the ;")
        elif several:
            self.records += sum(len(labels_of(cell)) - 1 for cell in cells if cell in several)

    def _check_values(
        self, number: int, column: Column, lines: Sequence[int], cells: Sequence[str], blank: int
    ) -> None:
        if column.is_array:
            self.records += sum(len(values_of(column, cell)) for cell in cells)
        else:
            self.records += len(cells) - blank
        if column.type == "string":
            return
        valid = self._valid[number]
        fresh = set(cells) - valid - {""}
        if not fresh:
            return
        if invalid := invalid_cells(column, fresh):
            text = f"the value is not a valid {column.value_type}: write {expected(column)}"
            self._found(FindingKind.VALUE, column, lines, cells, invalid, text)
        if doubtful := not_boolean(column, fresh):
            text = "the value is neither true nor false in lower case, and is read as false"
            self._found(FindingKind.BOOLEAN_TEXT, column, lines, cells, doubtful, text)
        if len(valid) < REMEMBERED:
            valid |= fresh - invalid - doubtful

    def _found(
        self, kind: FindingKind, column: Column, lines: Sequence[int], cells: Sequence[str], faulty: set[str], text: str
    ) -> None:
        found = [line for line, cell in zip(lines, cells, strict=True) if cell in faulty]
        self._add(kind, found, column.name, text)
