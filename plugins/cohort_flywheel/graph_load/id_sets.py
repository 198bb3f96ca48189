"""Questions about the ids of all files at once, answered by DuckDB with a memory limit and a spill directory."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import batched, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from cohort_flywheel.common.duckdb import connect, hide_values
from cohort_flywheel.graph_load.load_format import FROM, ID, REQUIRED, TO, Elements

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

#: The limit of DuckDB for the hashes of ids, beside the buffers of the files.
MEMORY_MB = 128
BATCH = 1000
#: How many bits of a place are the row.
ROW_BITS = 40
ROW_MASK = (1 << ROW_BITS) - 1
#: DuckDB spills neither what it groups or sorts from several files nor the states of arg_min: first into a table, then
#: groups, with min alone. The hashes of the ids take less memory than the ids; the few rows that may be equal are
#: compared in full.
REPEATED = (
    "CREATE OR REPLACE TABLE keys AS SELECT hash(id) AS key FROM elements WHERE id <> ''",
    "CREATE OR REPLACE TABLE repeated_keys AS SELECT key FROM keys GROUP BY key HAVING count(*) > 1",
    "DROP TABLE keys",
    """
    CREATE OR REPLACE TABLE repeated_rows AS
    SELECT id, place FROM elements WHERE hash(id) IN (SELECT key FROM repeated_keys) AND id <> ''
    """,
    """
    CREATE OR REPLACE TABLE repeated AS
    SELECT id, place, row_number() OVER (PARTITION BY id ORDER BY place) AS occurrence
    FROM repeated_rows QUALIFY count(*) OVER (PARTITION BY id) > 1
    """,
    "DROP TABLE repeated_rows",
)
DIFFERENT_VALUES = """
    SELECT name, min(place) AS place FROM (
        SELECT id, place, name, value, first_value(value) OVER (PARTITION BY id, name ORDER BY place) AS first
        FROM single_values
    )
    WHERE value <> first GROUP BY id, name ORDER BY place, name
"""
#: Joined by hashes of 64 bits, which fit in memory where the ids would be spilled: one of 10 ** 13 missing ends has the
#: hash of one of a million vertices, and is left to the loader. The few ends that are left by the join are grouped.
UNRESOLVED_ENDS = (
    "CREATE OR REPLACE TABLE vertex_rows AS SELECT hash(id) AS key, place FROM vertices",
    "CREATE OR REPLACE TABLE vertex_keys AS SELECT key, min(place) AS place FROM vertex_rows GROUP BY key",
    "DROP TABLE vertex_rows",
    """
    CREATE OR REPLACE TABLE unresolved_rows AS
    SELECT ends.id, 2 * ends.place + is_to::BIGINT AS place_and_side, v.place IS NOT NULL AS later
    FROM ends LEFT JOIN vertex_keys AS v ON hash(ends.id) = v.key
    WHERE ends.id <> '' AND (v.key IS NULL OR ($in_order AND v.place > ends.place))
    """,
    """
    CREATE OR REPLACE TABLE unresolved AS
    SELECT id, min(place_and_side) AS place_and_side, bool_or(later) AS later FROM unresolved_rows GROUP BY id
    """,
    "DROP TABLE unresolved_rows",
)


class UnresolvedEnd(NamedTuple):
    """An end of an edge that is not a vertex of the files, or only of a later file.

    place: its first edge, for `file_and_line`. is_to: whether it is that edge's `~to`. later: whether a later file has
    it.
    """

    id: str
    place: int
    is_to: bool
    later: bool


class IdSets:
    """Collects the ids of files on disk and compares them; use it in a `with`.

    folder: an empty folder on local disk. memory_mb: the limit of DuckDB, in MiB. Each system column of a file becomes
    a file of ids, one in a line, which DuckDB reads as often as it is asked. In DuckDB a place is the file's number and
    the row's in one integer, so that places sort as the files and their rows do.
    """

    def __init__(self, folder: Path, memory_mb: int) -> None:
        self._folder = folder
        self._memory_mb = memory_mb
        self._elements: dict[int, Elements] = {}
        #: The files of ids that are written: those of one file of the load, as there may be more than can be open.
        self._lines: IO[bytes] | None = None
        self._columns: dict[str, IO[str]] = {}
        self._single_values = (folder / "single_values.csv").open("w", encoding="utf-8", newline="")
        self._opened: DuckDBPyConnection | None = None

    def __enter__(self) -> IdSets:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close_written()
        self._single_values.close()
        if self._opened:
            self._opened.close()

    def add(self, file: int, elements: Elements, lines: Sequence[int], cells: dict[str, Sequence[str]]) -> None:
        """Add rows of a file, with the cells of `~id` and, for edges, of `~from` and `~to`; not after a question.

        Files, and the rows of a file, are added in their order. A blank cell is never compared.
        """
        if file not in self._elements:
            self._close_written()
            self._elements[file] = elements
            self._lines = (self._folder / f"{file}.lines").open("wb")
            self._columns = {
                column: self._path(file, column).open("w", encoding="utf-8", newline="")
                for column in REQUIRED[elements]
            }
        if not lines or self._lines is None:
            return
        array("q", lines).tofile(self._lines)
        for column, written in self._columns.items():
            # all are quoted, as DuckDB rejects a bare carriage return
            text = '"\n"'.join(cells[column])
            if text.count('"') != 2 * (len(lines) - 1):
                text = '"\n"'.join([each.replace('"', '""') for each in cells[column]])
            written.write(f'"{text}"\n')

    def add_single_values(self, file: int, rows: Iterable[tuple[str, int, str, str]]) -> None:
        """Add an id, its row, and a name with a value that must be the same for the id in all rows."""
        writer = csv.writer(self._single_values, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerows((each, file << ROW_BITS | row, name, value) for each, row, name, value in rows)

    def collect_repeated(self, elements: Elements) -> int:
        """Collect the rows whose id is in several rows; return how many ids that is.

        `repeated_places` and `repeated_rows` then answer from these rows.
        """
        for statement in REPEATED:
            list(self._fetched(statement.replace("elements", elements)))
        ((number,),) = self._fetched("SELECT count(*) FROM repeated WHERE occurrence = 1")
        return int(number)

    def repeated_places(self, limit: int) -> list[int]:
        """The places at which an id is repeated first, at most `limit`."""
        places = "SELECT place FROM repeated WHERE occurrence = 2 ORDER BY place LIMIT ?"
        return [place for (place,) in self._fetched(places, [limit])]

    def repeated_rows(self, file: int) -> Iterator[int]:
        """The rows of a file, from 0, with an id that is repeated, in order."""
        places = "SELECT place FROM repeated WHERE place >> ? = ? ORDER BY place"
        for (place,) in self._fetched(places, [ROW_BITS, file]):
            yield place & ROW_MASK

    def different_values(self) -> Iterator[tuple[str, int]]:
        """Each name of an id that has two values, with the place of the second, in order."""
        yield from self._fetched(DIFFERENT_VALUES)

    def unresolved_ends(self, in_order: bool) -> Iterator[list[UnresolvedEnd]]:
        """Yield the different ends that are no vertex of the files, or with in_order of an earlier file, in batches."""
        for statement in UNRESOLVED_ENDS:
            list(self._fetched(statement.replace("$in_order", str(in_order))))
        ends = self._fetched("""
            SELECT id, place_and_side >> 1, place_and_side & 1 = 1, later FROM unresolved ORDER BY place_and_side, id
        """)
        while batch := [UnresolvedEnd(*row) for row in islice(ends, BATCH)]:
            yield batch

    def file_and_line(self, place: int) -> tuple[int, int]:
        """The number of a file, and the line on which a row begins."""
        file, row = place >> ROW_BITS, place & ROW_MASK
        with (self._folder / f"{file}.lines").open("rb") as lines:
            lines.seek(row * 8)
            found = array("q")
            found.fromfile(lines, 1)
        return file, found[0]

    def _close_written(self) -> None:
        for file in (self._lines, *self._columns.values()):
            if file:
                file.close()

    def _fetched(self, query: str, values: Sequence[int | bool] = ()) -> Iterator[Any]:
        self._single_values.flush()
        with (
            hide_values("compare the ids of the files, which takes local disk of about their size"),
            closing(self._sql.cursor()) as cursor,
        ):
            cursor.execute(query, list(values))
            while rows := cursor.fetchmany(BATCH):
                yield from rows

    @property
    def _sql(self) -> DuckDBPyConnection:
        if self._opened is None:
            self._close_written()
            self._opened = self._connection()
        return self._opened

    def _connection(self) -> DuckDBPyConnection:
        from duckdb import CSVLineTerminator

        connection = connect(self._folder, self._memory_mb)  # of one thread: row_number() is the order of the file

        def read(path: Path, columns: dict[str, str]) -> DuckDBPyRelation:
            return connection.read_csv(
                str(path),
                auto_detect=False,
                header=False,
                sep=",",
                quotechar='"',
                escapechar='"',
                lineterminator=CSVLineTerminator.LINE_FEED,  # by default the first line break, in a quoted value too
                columns=columns,
                parallel=False,
                # an id or a value is a cell of the parser; DuckDB's own buffers are 32 MB for each file of a query
                max_line_size=2_000_000,
                buffer_size=4_000_000,
            )

        def union(elements: Elements, columns: Sequence[str]) -> DuckDBPyRelation:
            parts = [connection.sql("SELECT '' AS id, 0::BIGINT AS place, false AS is_to LIMIT 0")] + [
                read(self._path(file, column), {"id": "VARCHAR"}).project(
                    f"id, {file << ROW_BITS} + row_number() OVER () - 1 AS place, {column == TO} AS is_to"
                )
                for file, its_elements in self._elements.items()
                for column in columns
                if its_elements == elements
            ]
            while len(parts) > 1:  # in pairs, as DuckDB limits the depth of a query
                parts = [one.union(two[0]) if two else one for one, *two in batched(parts, 2)]
            return parts[0]

        union("vertices", [ID]).create_view("vertices")
        union("edges", [ID]).create_view("edges")
        union("edges", [FROM, TO]).create_view("ends")
        values = {"id": "VARCHAR", "place": "BIGINT", "name": "VARCHAR", "value": "VARCHAR"}
        read(self._folder / "single_values.csv", values).create_view("single_values")
        # DuckDB takes a CSV file for a few rows, and would build the hash table of the larger side
        connection.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
        return connection

    def _path(self, file: int, column: str) -> Path:
        return self._folder / f"{file}{column}.csv"
