"""Checks of the headers of all files of a load against each other and against `single`."""

from __future__ import annotations

from collections.abc import Sequence

from cohort_flywheel.graph_load.findings import FindingCollector, FindingKind
from cohort_flywheel.graph_load.load_format import Column, Elements, Header, matches


def single_columns(header: Header, single: Sequence[str]) -> list[Column]:
    """The properties of a file that have one value for each id, once `single` is in its header."""
    properties = [column for column in header.columns if not column.is_system]
    if header.elements == "edges":
        return properties
    return [
        column
        for column in properties
        if not column.is_array and (column.cardinality == "single" or matches(column.name, single))
    ]


class HeaderComparison:
    """Finds properties that differ between files of vertices, or between files of edges.

    single: the names and globs of the properties whose headers will get `(single)`.
    """

    def __init__(self, names: Sequence[str], findings: FindingCollector, single: Sequence[str]) -> None:
        self._names = names
        self._findings = findings
        self._single = single
        self._unused = list(dict.fromkeys(single))
        self._seen: dict[tuple[Elements, str], tuple[Column, str, int]] = {}

    def add(self, number: int, header: Header) -> None:
        """Compare the header of a file with those before it."""
        for column in header.columns:
            if column.is_system:
                continue
            if header.elements == "vertices":
                self._unused = [pattern for pattern in self._unused if not matches(column.name, [pattern])]
                if column.is_array and matches(column.name, self._single):
                    self._add(
                        FindingKind.SINGLE_ARRAY, number, column, "an array cannot be single: leave it out of single"
                    )
            described = self._described(column, header)
            key = header.elements, column.name.lower()
            before, before_is, file = self._seen.setdefault(key, (column, described, number))
            if before.name != column.name:
                text = f"upper and lower case differ from {before.name} in {self._names[file]}: they are two properties"
                self._add(FindingKind.COLUMN_CASE, number, column, text)
            elif before_is != described:
                text = f"it is {described} here and {before_is} in {self._names[file]}: write one of them in both"
                self._add(FindingKind.COLUMN_DIFFERS, number, column, text)

    def add_unused(self) -> None:
        """Add a finding for each part of `single` that names no property; call it when every header was added."""
        for pattern in self._unused:
            text = f"single names {pattern}, which is not a property in a vertex file: correct or remove it"
            self._findings.add(FindingKind.SINGLE_UNUSED, None, [None], None, text)

    def _described(self, column: Column, header: Header) -> str:
        is_single = header.elements == "edges" or column in single_columns(header, self._single)
        return column.value_type + ("(single)" if is_single and header.elements == "vertices" else "")

    def _add(self, kind: FindingKind, number: int, column: Column, text: str) -> None:
        self._findings.add(kind, number, [1], column.name, text)
