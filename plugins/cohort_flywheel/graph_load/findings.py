"""What a validation finds in the files of a graph load, and the figures that the loader is compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Severity(StrEnum):
    """Whether a finding stops a load."""

    ERROR = "error"
    WARNING = "warning"


class NeptuneCode(StrEnum):
    """The loader's own error codes that a file can cause.

    https://docs.aws.amazon.com/neptune/latest/userguide/load-api-reference-status-response.html, `errorLogs`.
    """

    PARSING_ERROR = "PARSING_ERROR"
    FROM_OR_TO_VERTEX_ARE_MISSING = "FROM_OR_TO_VERTEX_ARE_MISSING"
    ID_ASSIGNED_TO_MULTIPLE_EDGES = "ID_ASSIGNED_TO_MULTIPLE_EDGES"
    SINGLE_CARDINALITY_VIOLATION = "SINGLE_CARDINALITY_VIOLATION"


class FindingKind(StrEnum):
    """What is wrong; each kind has a severity and a sentence."""

    COMPRESSION = "compression"
    ENCODING = "encoding"
    BYTE_ORDER_MARK = "byte_order_mark"
    EMPTY_FILE = "empty_file"
    HEADER_COLUMN = "header_column"
    MISSING_COLUMN = "missing_column"
    REPEATED_COLUMN = "repeated_column"
    EDGE_CARDINALITY = "edge_cardinality"
    SINGLE_ARRAY = "single_array"
    COLUMN_DIFFERS = "column_differs"
    COLUMN_CASE = "column_case"
    SINGLE_UNUSED = "single_unused"
    QUOTING = "quoting"
    ROW_LENGTH = "row_length"
    BLANK_LINE = "blank_line"
    BLANK_REQUIRED = "blank_required"
    EDGE_LABELS = "edge_labels"
    VALUE = "value"
    BOOLEAN_TEXT = "boolean_text"
    REPEATED_ID = "repeated_id"
    EDGE_ID_REUSED = "edge_id_reused"
    SINGLE_VALUES = "single_values"
    MISSING_END = "missing_end"
    END_LOADED_LATER = "end_loaded_later"


class Finding(BaseModel):
    """One fault and its place; never a value of the file, which may be personal data.

    file: None for the load as a whole. line: from 1, the line on which the record begins; None for the file. column:
    the property or system column, `#3` for a column of the header that cannot be read, or None for the whole record.
    """

    model_config = ConfigDict(frozen=True)

    kind: FindingKind
    severity: Severity
    neptune_code: NeptuneCode | None
    file: str | None
    line: int | None
    column: str | None
    text: str

    def __str__(self) -> str:
        place = ", ".join(
            part
            for part in (
                self.file or "",
                f"line {self.line:,}" if self.line else "",
                f"column {self.column}" if self.column else "",
            )
            if part
        )
        code = f" ({self.neptune_code})" if self.neptune_code else ""
        return f"{place or 'all files'}: {self.text}{code}"


class FileSummary(BaseModel):
    """What a file holds.

    records: what the loader counts as `totalRecords` for the file, that is labels and non-empty values. complete: False
    where reading stopped at a fault, so that the figures are those before it.
    """

    model_config = ConfigDict(frozen=True)

    file: str
    elements: Literal["vertices", "edges"] | None
    rows: int
    records: int
    complete: bool


class Validation(BaseModel):
    """The result of a validation; `model_dump(mode="json")` fits an XCom.

    findings: at most `max_findings` of each kind. unlisted: how many more were found, by kind. ends_looked_up: ids of
    edge ends that are in none of the files and were looked up in the graph. ends_unchecked: those that were not,
    because there was no graph to ask or a vertex file could not be read to its end.
    """

    model_config = ConfigDict(frozen=True)

    files: list[FileSummary]
    findings: list[Finding]
    unlisted: dict[FindingKind, int]
    ends_looked_up: int = 0
    ends_unchecked: int = 0

    @property
    def records(self) -> int:
        """The records of all files, as the loader counts them."""
        return sum(file.records for file in self.files)

    @property
    def errors(self) -> list[Finding]:
        """The listed findings that stop a load."""
        return [finding for finding in self.findings if finding.severity is Severity.ERROR]

    @property
    def counts(self) -> dict[FindingKind, int]:
        """How many findings there are of each kind, listed or not."""
        listed = Counter(finding.kind for finding in self.findings)
        return {kind: listed[kind] + self.unlisted.get(kind, 0) for kind in listed}


#: Neptune's code for each kind that has one; [strict] where its documentation names none for the fault.
NEPTUNE_CODES = dict.fromkeys(
    (
        FindingKind.BYTE_ORDER_MARK,
        FindingKind.EMPTY_FILE,
        FindingKind.HEADER_COLUMN,
        FindingKind.MISSING_COLUMN,
        FindingKind.REPEATED_COLUMN,
        FindingKind.EDGE_CARDINALITY,
        FindingKind.SINGLE_ARRAY,
        FindingKind.QUOTING,
        FindingKind.ROW_LENGTH,
        FindingKind.BLANK_REQUIRED,
        FindingKind.EDGE_LABELS,
        FindingKind.VALUE,
    ),
    NeptuneCode.PARSING_ERROR,
) | {
    FindingKind.MISSING_END: NeptuneCode.FROM_OR_TO_VERTEX_ARE_MISSING,
    FindingKind.END_LOADED_LATER: NeptuneCode.FROM_OR_TO_VERTEX_ARE_MISSING,
    FindingKind.EDGE_ID_REUSED: NeptuneCode.ID_ASSIGNED_TO_MULTIPLE_EDGES,
    FindingKind.SINGLE_VALUES: NeptuneCode.SINGLE_CARDINALITY_VIOLATION,
}
#: What the loader takes, though perhaps not as it is meant.
WARNINGS = {FindingKind.COLUMN_CASE, FindingKind.BLANK_LINE, FindingKind.BOOLEAN_TEXT, FindingKind.REPEATED_ID}


class FindingCollector:
    """Keeps the first findings of each kind and counts the rest.

    files: the names of the files in their order; a file's number is its position. limit: how many of each kind to keep.
    """

    def __init__(self, files: Sequence[str], limit: int) -> None:
        self._files = files
        self._limit = limit
        self._kept: dict[FindingKind, list[tuple[int, Finding]]] = {}
        self.unlisted: Counter[FindingKind] = Counter()

    def add(
        self, kind: FindingKind, file: int | None, lines: Sequence[int | None], column: str | None, text: str
    ) -> None:
        """Add a fault at these lines of a file; None is the load, or the file, as a whole."""
        kept = self._kept.setdefault(kind, [])
        listed = lines[: max(self._limit - len(kept), 0)]
        self.unlisted[kind] += len(lines) - len(listed)
        kept += [
            (
                -1 if file is None else file,
                Finding(
                    kind=kind,
                    severity=Severity.WARNING if kind in WARNINGS else Severity.ERROR,
                    neptune_code=NEPTUNE_CODES.get(kind),
                    file=None if file is None else self._files[file],
                    line=line,
                    column=column,
                    text=text,
                ),
            )
            for line in listed
        ]

    def count(self, kind: FindingKind, number: int) -> None:
        """Count findings that are not listed."""
        self.unlisted[kind] += number

    def room(self, kind: FindingKind) -> int:
        """How many more findings of a kind are kept."""
        return self._limit - len(self._kept.get(kind, []))

    def listed(self) -> list[Finding]:
        """The findings that are kept, by file and line."""
        found = [each for kept in self._kept.values() for each in kept]
        return [finding for _, finding in sorted(found, key=lambda each: (each[0], each[1].line or 0))]
