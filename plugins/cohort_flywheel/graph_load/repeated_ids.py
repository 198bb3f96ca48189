"""Ids that several rows have: what the loader merges, and what it rejects; read in a second pass over the files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

from cohort_flywheel.graph_load.compression import UnreadableError
from cohort_flywheel.graph_load.findings import FindingCollector, FindingKind
from cohort_flywheel.graph_load.graph_file import GraphFile
from cohort_flywheel.graph_load.header_checks import single_columns
from cohort_flywheel.graph_load.id_sets import IdSets, file_and_line, first_place
from cohort_flywheel.graph_load.load_format import FROM, ID, LABEL, TO, Header, stored_form
from cohort_flywheel.graph_load.row_blocks import RowBlocks


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
        for number, line in map(file_and_line, places):
            # [format] "Multiple vertex rows with identical ~id values are applied to a single vertex in the graph"
            text = "an earlier row has the same ~id: the loader merges the rows"
            findings.add(FindingKind.REPEATED_ID, number, [line], ID, text)
        findings.count(FindingKind.REPEATED_ID, repeated - len(places))
        if repeated:
            for number, (file, header) in enumerate(zip(files, headers, strict=True)):
                if header and header.elements == elements:
                    lines = ids.repeated_lines(number)
                    ids.add_single_values(_single_values(file, first_place(number), header, single, lines))
    for name, place in ids.different_values():
        number, line = file_and_line(place)
        if name in (FROM, TO, LABEL):
            text = "an earlier row has another edge under the same ~id: give each edge its own"
            findings.add(FindingKind.EDGE_ID_REUSED, number, [line], name, text)
        else:
            text = "an earlier row has another value for the same ~id, and the property takes one: keep one of the rows"
            findings.add(FindingKind.SINGLE_VALUES, number, [line], name, text)


def _single_values(
    file: GraphFile, base: int, header: Header, single: Sequence[str], lines: Iterator[int]
) -> Iterator[tuple[str, int, str, str]]:
    """The id, place, name and value of each cell on these lines that must be the same for an id."""
    # an edge must have the same ends and label too
    system = [column for column in header.columns if column.name in (FROM, TO, LABEL)]
    compared = [*(system if header.elements == "edges" else []), *single_columns(header, single)]
    positions = [(header.columns.index(column), column) for column in compared]
    own = header.position(ID)
    wanted = next(lines, None)
    with closing(file.open()) as stream:
        blocks = iter(RowBlocks(stream, file.name))
        while wanted is not None and positions and own is not None:
            try:
                block = next(blocks, None)
            except UnreadableError:
                return  # the first pass has found it
            if block is None:
                return
            if wanted > block.lines[-1]:
                continue
            for line, row in zip(block.lines, block.rows, strict=True):
                if line == wanted:
                    for position, column in positions:
                        if row[position]:
                            # the ids of vertices and of edges are two sets
                            key = f"{header.elements} {row[own]}"
                            yield key, base + line, column.name, stored_form(column, row[position])
                    wanted = next(lines, None)
