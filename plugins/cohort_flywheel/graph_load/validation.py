"""Validation of the CSV files of a graph load before anything is loaded: streaming, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

from cohort_flywheel.common.collector import seldom_collecting
from cohort_flywheel.graph_load.findings import FileSummary, FindingCollector, FindingKind, Validation
from cohort_flywheel.graph_load.graph_file import GraphFile
from cohort_flywheel.graph_load.header_checks import HeaderComparison
from cohort_flywheel.graph_load.id_sets import MEMORY_MB, IdSets
from cohort_flywheel.graph_load.load_format import FROM, REQUIRED, TO, Header
from cohort_flywheel.graph_load.repeated_ids import check_repeated_ids
from cohort_flywheel.graph_load.row_blocks import RowBlocks
from cohort_flywheel.graph_load.row_checks import CheckedRows

__all__ = ["GraphFile", "validate"]

_LATER = "the vertex is in a later file: load vertices before their edges"
_NOT_IN_FILES = "the vertex is in none of the files: add it, or remove its edges"
_NOT_IN_GRAPH = "the vertex is neither in the files nor in the graph: add it, or remove its edges"

FindInGraph = Callable[[list[str]], Iterable[str]]


def validate(
    files: Sequence[GraphFile],
    *,
    folder: Path,
    single: Sequence[str] = (),
    self_contained: bool = False,
    in_order: bool = True,
    find_in_graph: FindInGraph | None = None,
    max_findings: int = 20,
    memory_mb: int = MEMORY_MB,
) -> Validation:
    """Validate files as Neptune's bulk loader would read them; nothing is raised for a fault of a file.

    folder: an empty folder on local disk for ids; it takes about the size of the files. single: names or globs of the
    properties whose headers will get `(single)`. self_contained: both ends of each edge must be in the files.
    in_order: each file is a load of its own, so vertices must come before their edges. find_in_graph: takes at most
    1,000 vertex ids and returns those that the graph has; it is asked for ends that are not in the files, unless
    self_contained. memory_mb: the limit of DuckDB, in MiB.
    """
    findings = FindingCollector([file.name for file in files], max_findings)
    comparison = HeaderComparison([file.name for file in files], findings, single)
    headers: list[Header | None] = []
    summaries: list[FileSummary] = []
    with IdSets(folder, memory_mb) as ids, seldom_collecting():
        for number, file in enumerate(files):
            with closing(file.open()) as stream:
                rows = CheckedRows(RowBlocks(stream, file.name), number, findings)
                for header, lines, columns in rows:
                    cells = {name: columns[header.names.index(name)] for name in REQUIRED[header.elements]}
                    ids.add(number, header.elements, lines, cells)
            headers.append(rows.header)
            summaries.append(rows.summary(file.name))
            if rows.header:
                comparison.add(number, rows.header)
        if all(headers):
            comparison.add_unused()
        check_repeated_ids(files, headers, single, findings, ids)
        # with a part of the vertices every other end would be missing
        if all(summary.complete or summary.elements == "edges" for summary in summaries):
            asked = None if self_contained else find_in_graph
            looked_up, unchecked = _check_ends(ids, findings, in_order, self_contained, asked)
        else:
            looked_up, unchecked = 0, sum(map(len, ids.unresolved_ends(in_order)))
    return Validation(
        files=summaries,
        findings=findings.listed(),
        unlisted={kind: number for kind, number in findings.unlisted.items() if number},
        ends_looked_up=looked_up,
        ends_unchecked=unchecked,
    )


def _check_ends(
    ids: IdSets, findings: FindingCollector, in_order: bool, self_contained: bool, find_in_graph: FindInGraph | None
) -> tuple[int, int]:
    """Add a finding for each vertex that an edge needs and the load will not have; return how many were looked up in
    the graph, and how many were not checked."""
    looked_up = unchecked = 0
    for batch in ids.unresolved_ends(in_order):
        present: set[str] = set()
        if find_in_graph:
            present = set(find_in_graph([end.id for end in batch]))
            looked_up += len(batch)
        for end in batch:
            if end.id in present:
                continue
            if not (end.later or self_contained or find_in_graph):
                unchecked += 1
                continue
            kind = FindingKind.END_LOADED_LATER if end.later else FindingKind.MISSING_END
            if findings.room(kind):
                number, line = ids.file_and_line(end.place)
                text = _LATER if end.later else _NOT_IN_FILES if self_contained else _NOT_IN_GRAPH
                findings.add(kind, number, [line], TO if end.is_to else FROM, text)
            else:
                findings.count(kind, 1)
    return looked_up, unchecked
