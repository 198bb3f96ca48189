"""Ids that several rows have: what the loader merges, and what it rejects; read in a second pass over the files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

from cohort_flywheel.graph_load.compression import UnreadableError
from cohort_flywheel.graph_load.findings import FindingCollector, FindingKind
from cohort_flywheel.graph_load.graph_file import GraphFile
from cohort_flywheel.graph_load.header_checks import single_columns
from cohort_flywheel.graph_load.id_sets import IdSets
from cohort_flywheel.graph_load.load_format import FROM, ID, LABEL, TO, Header, stored_form
from cohort_flywheel.graph_load.row_blocks import RowBlocks

DIFFERENT = {
    FindingKind.EDGE_ID_REUSED: "an earlier row has another edge under the same ~id: give each edge its own",
    FindingKind.SINGLE_VALUES: "an earlier row has another value for the same ~id, and the property takes one: keep one"
    " of the rows",
}


def check_repeated_ids(
    files: Sequence[GraphFile],
    headers: Sequence[Header | None],
    single: Sequence[str],
    findings: FindingCollector,
    ids: IdSets,
) -> None:
    """Add a finding for each id that repeats, and for each value that differs where the loader takes one.

    headers: of the files, in their order; None for one that cannot be read. ids has the vertices and edges of all.
    """
    for elements in ("vertices", "edges"):
        repeated = ids.collect_repeated(elements)
        places = ids.repeated_places(findings.room(FindingKind.REPEATED_ID))
        for number, line in map(ids.file_and_line, places):
            # [format] "Multiple vertex rows with identical ~id values are applied to a single vertex in the graph"
            text = "an earlier row has the same ~id: the loader merges the rows"
            findings.add(FindingKind.REPEATED_ID, number, [line], ID, text)
        findings.count(FindingKind.REPEATED_ID, repeated - len(places))
        if repeated:
            for number, (file, header) in enumerate(zip(files, headers, strict=True)):
                if header and header.elements == elements:
                    ids.add_single_values(number, _single_values(file, header, single, ids.repeated_rows(number)))
    for name, place in ids.different_values():
        kind = FindingKind.EDGE_ID_REUSED if name in (FROM, TO, LABEL) else FindingKind.SINGLE_VALUES
        if findings.room(kind):
            number, line = ids.file_and_line(place)
            findings.add(kind, number, [line], name, DIFFERENT[kind])
        else:
            findings.count(kind, 1)


def _single_values(
    file: GraphFile, header: Header, single: Sequence[str], rows: Iterator[int]
) -> Iterator[tuple[str, int, str, str]]:
    """The id, row, name and value of each cell in these rows that must be the same for an id."""
    # an edge must have the same ends and label too
    system = [column for column in header.columns if column.name in (FROM, TO, LABEL)]
    compared = [*(system if header.elements == "edges" else []), *single_columns(header, single)]
    positions = [(header.columns.index(column), column) for column in compared]
    own, width = header.names.index(ID), len(header.columns)
    wanted = next(rows, None) if compared else None
    first = 0
    with closing(file.open()) as stream:
        blocks = iter(RowBlocks(stream, file.name))
        next(blocks)  # the header
        while wanted is not None:
            try:
                block = next(blocks, None)
            except UnreadableError:
                return  # the first pass has found it
            if block is None:
                return
            # rows of another length are not counted
            block_rows = [row for row in block.rows if len(row) == width]
            while wanted is not None and wanted < first + len(block_rows):
                row = block_rows[wanted - first]
                for position, column in positions:
                    if row[position]:
                        # the ids of vertices and of edges are two sets
                        yield f"{header.elements} {row[own]}", wanted, column.name, stored_form(column, row[position])
                wanted = next(rows, None)
            first += len(block_rows)
