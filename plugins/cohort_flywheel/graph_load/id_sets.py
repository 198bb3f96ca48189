"""Questions about the ids of all files at once, answered by DuckDB with a memory limit and a spill directory.

A place is a file's number and a line in one integer, so that places sort as the files and their lines do.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from cohort_flywheel.graph_load.load_format import Elements

#: How many bits of a place are the line.
LINE_BITS = 40
BATCH = 1000
#: Each table is a CSV file that is written row by row, and a view of DuckDB that reads it.
TABLES = {
    "vertices": {"id": "VARCHAR", "place": "BIGINT"},
    "edges": {"id": "VARCHAR", "place": "BIGINT"},
    "ends": {"id": "VARCHAR", "place": "BIGINT", "is_to": "BOOLEAN"},
    "single_values": {"id": "VARCHAR", "place": "BIGINT", "name": "VARCHAR", "value": "VARCHAR"},
}
#: The hashes of the ids take less memory than the ids; the few rows that may be equal are compared in full.
REPEATED = {
    "vertices": """
        CREATE OR REPLACE TABLE repeated AS
        SELECT id, place, row_number() OVER (PARTITION BY id ORDER BY place) AS occurrence
        FROM vertices WHERE hash(id) IN (SELECT hash(id) FROM vertices GROUP BY 1 HAVING count(*) > 1)
        QUALIFY count(*) OVER (PARTITION BY id) > 1
    """,
    "edges": """
        CREATE OR REPLACE TABLE repeated AS
        SELECT id, place, row_number() OVER (PARTITION BY id ORDER BY place) AS occurrence
        FROM edges WHERE hash(id) IN (SELECT hash(id) FROM edges GROUP BY 1 HAVING count(*) > 1)
        QUALIFY count(*) OVER (PARTITION BY id) > 1
    """,
}
DIFFERENT_VALUES = """
    SELECT name, min(place) AS place FROM (
        SELECT id, place, name, value, first_value(value) OVER (PARTITION BY id, name ORDER BY place) AS first
        FROM single_values
    )
    WHERE value <> first GROUP BY id, name ORDER BY place, name
"""
UNRESOLVED_ENDS = """
    SELECT e.id, e.place, e.is_to, v.place IS NOT NULL
    FROM (SELECT id, min(place) AS place, arg_min(is_to, place) AS is_to FROM ends GROUP BY id) AS e
    LEFT JOIN (SELECT id, min(place) AS place FROM vertices GROUP BY id) AS v ON e.id = v.id
    WHERE v.id IS NULL OR (? AND v.place > e.place)
    ORDER BY e.place, e.id
"""


def first_place(file_number: int) -> int:
    """The place of line 0 of a file."""
    return file_number << LINE_BITS


def file_and_line(place: int) -> tuple[int, int]:
    """The file's number and the line of a place."""
    return place >> LINE_BITS, place & ((1 << LINE_BITS) - 1)


class UnresolvedEnd(NamedTuple):
    """An end of an edge that no file before the edge's has.

    place: its first edge. is_to: whether it is that edge's `~to`. later: whether a later file has it.
    """

    id: str
    place: int
    is_to: bool
    later: bool


class IdSets:
    """Collects ids with their places on disk and compares them; close it, or use it in a `with`.

    folder: an empty folder on local disk. memory_mb: the limit of DuckDB, in MiB.
    """

    def __init__(self, folder: Path, memory_mb: int) -> None:
        self._folder = folder
        self._memory_mb = memory_mb
        self._files = {table: (folder / f"{table}.csv").open("w", encoding="utf-8", newline="") for table in TABLES}
        self._opened: DuckDBPyConnection | None = None

    def __enter__(self) -> IdSets:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files and DuckDB."""
        for file in self._files.values():
            file.close()
        if self._opened:
            self._opened.close()

    def add_ids(self, elements: Elements, ids: Iterable[str], places: Iterable[int]) -> None:
        """Add vertices or edges."""
        # every text is quoted, as DuckDB rejects a bare carriage return; csv.writer takes twice the time
        self._files[elements].writelines(map('"%s",%d\n'.__mod__, zip(_escaped(ids), places, strict=True)))

    def add_ends(self, ids: Iterable[str], places: Iterable[int], *, is_to: bool) -> None:
        """Add ends of edges."""
        line = f'"%s",%d,{is_to}\n'
        self._files["ends"].writelines(map(line.__mod__, zip(_escaped(ids), places, strict=True)))

    def add_single_values(self, rows: Iterable[tuple[str, int, str, str]]) -> None:
        """Add an id, a place, and a name with a value that must be the same for the id in all rows."""
        writer = csv.writer(self._files["single_values"], lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerows(rows)

    def collect_repeated(self, table: Elements) -> int:
        """Collect the rows whose id is in the table more than once; return how many ids that is.

        `repeated_places` and `repeated_lines` then answer from these rows.
        """
        self._sql.execute(REPEATED[table])
        return self._number("SELECT count(*) FROM repeated WHERE occurrence = 1")

    def repeated_places(self, limit: int) -> list[int]:
        """The places at which an id is repeated first, at most `limit`."""
        found = self._sql.execute("SELECT place FROM repeated WHERE occurrence = 2 ORDER BY place LIMIT ?", [limit])
        return [place for (place,) in found.fetchall()]

    def repeated_lines(self, file_number: int) -> Iterator[int]:
        """The lines of a file with an id that is repeated, in order."""
        places = "SELECT place FROM repeated WHERE place >= ? AND place < ? ORDER BY place"
        with closing(self._sql.cursor()) as cursor:
            cursor.execute(places, [first_place(file_number), first_place(file_number + 1)])
            while rows := cursor.fetchmany(BATCH):
                yield from (file_and_line(place)[1] for (place,) in rows)

    def different_values(self) -> Iterator[tuple[str, int]]:
        """Each name of an id that has two values in `single_values`, with the place of the second, in order."""
        with closing(self._sql.cursor()) as cursor:
            cursor.execute(DIFFERENT_VALUES)
            while rows := cursor.fetchmany(BATCH):
                yield from rows

    def unresolved_ends(self, in_order: bool) -> Iterator[list[UnresolvedEnd]]:
        """Yield the different ends that are no vertex of the files, or with in_order of an earlier file, in batches."""
        with closing(self._sql.cursor()) as cursor:
            cursor.execute(UNRESOLVED_ENDS, [in_order])
            while rows := cursor.fetchmany(BATCH):
                yield [UnresolvedEnd(*row) for row in rows]

    @property
    def _sql(self) -> DuckDBPyConnection:
        for file in self._files.values():
            file.flush()
        if self._opened is None:
            import duckdb  # here, so that the parse of a DAG does not load it

            self._opened = duckdb.connect(
                config={
                    "memory_limit": f"{self._memory_mb}MiB",
                    "temp_directory": str(self._folder / "spill"),
                    # with one thread a time-out stops a query
                    "threads": 1,
                    "preserve_insertion_order": False,
                    "autoinstall_known_extensions": False,
                    "autoload_known_extensions": False,
                }
            )
            for table, columns in TABLES.items():
                self._opened.read_csv(
                    str(self._folder / f"{table}.csv"),
                    auto_detect=False,
                    header=False,
                    sep=",",
                    quotechar='"',
                    escapechar='"',
                    columns=columns,
                    parallel=False,
                ).create_view(table)
            self._opened.execute("SET allowed_directories = ?", [[str(self._folder)]])
            self._opened.execute("SET enable_external_access = false")
        return self._opened

    def _number(self, query: str) -> int:
        row = self._sql.execute(query).fetchone()
        return int(row[0]) if row else 0


def _escaped(ids: Iterable[str]) -> Iterable[str]:
    joined = list(ids)
    return [each.replace('"', '""') for each in joined] if '"' in "".join(joined) else joined
