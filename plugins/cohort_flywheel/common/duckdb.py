"""DuckDB for the files of one folder, in bounded memory."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohort_flywheel.errors import Code, FlywheelError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

#: Beside the interpreter's own memory.
MEMORY_MB = 64
#: How many rows are fetched, or are written to a file, at a time.
BATCH = 10_000
#: The rows of a group of a Parquet file, which is in memory until it is complete; rows with JSON can be wide.
ROW_GROUP, WIDE_ROW_GROUP = 20_000, 2_048


def connect(folder: Path, memory_mb: int | None = None) -> DuckDBPyConnection:
    """Open a database in memory that reads, writes and spills in a folder only, and loads no extension.

    An error's text may quote values: raise another error instead (`hide_values`). It has one thread, so that a time-out
    stops a query, and rows keep the order of their file. A second one in the same folder needs a folder of its own.

    :param memory_mb: its limit, in MiB, which a task takes from `tuning`; None for MEMORY_MB.
    """
    import duckdb  # here, so that the parse of a DAG does not load it

    connection = duckdb.connect(
        config={
            "memory_limit": f"{memory_mb or MEMORY_MB}MiB",
            "temp_directory": str(folder / "spill"),
            "threads": 1,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    connection.execute("SET allowed_directories = ?", [[str(folder)]])
    connection.execute("SET enable_external_access = false")
    return connection


@contextmanager
def hide_values(what: str) -> Iterator[None]:
    """Raise an error of DuckDB without its text, which may quote values: `what` names the work.

    Raises FlywheelError for too little memory or disk. Any other error, of a bug or a damaged file, keeps its type and
    its traceback.
    """
    import duckdb

    try:
        yield
    except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
        raise FlywheelError(
            f"DuckDB could not {what} ({type(error).__name__}): look at the free disk and memory of the worker, and set"
            " a larger memory_mb under tuning in cohorts.yaml",
            code=Code.WORKER_FULL,
        ) from None
    except duckdb.Error as error:
        raise type(error)(f"DuckDB could not {what}").with_traceback(error.__traceback__) from None


class Rows(csv.Dialect):
    """The form of the files that `read_rows` reads; without pyarrow, the fastest way of many rows into DuckDB."""

    delimiter = ","
    quotechar = '"'
    doublequote = True
    lineterminator = "\n"
    quoting = csv.QUOTE_STRINGS


def write_rows(path: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows for `read_rows`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, Rows).writerows(rows)


def read_rows(connection: DuckDBPyConnection, path: Path, columns: Mapping[str, str]) -> DuckDBPyRelation:
    """Return the rows of a file in the form of Rows; `columns` has their names and types, in their order.

    None and an empty text are NULL.
    """
    from duckdb import CSVLineTerminator

    return connection.read_csv(
        str(path),
        auto_detect=False,
        header=False,
        sep=",",
        quotechar='"',
        escapechar='"',
        columns=dict(columns),
        lineterminator=CSVLineTerminator.LINE_FEED,  # by default the first line break, in a quoted value too
        parallel=False,
        hive_partitioning=False,
        # a value may be long; DuckDB's own buffers are 32 MB for each file of a query
        max_line_size=2_000_000,
        buffer_size=4_000_000,
    )


def read_parquet(connection: DuckDBPyConnection, path: Path) -> DuckDBPyRelation:
    """Return the rows of a Parquet file; the names of its folders are not columns."""
    return connection.read_parquet(str(path), hive_partitioning=False)


def fetch(connection: DuckDBPyConnection, query: str) -> Iterator[Any]:
    """Yield the rows of a query, a batch at a time; the connection runs no other query meanwhile."""
    connection.execute(query)
    while rows := connection.fetchmany(BATCH):
        yield from rows


def count_rows(relation: DuckDBPyRelation) -> int:
    """The number of rows of a relation."""
    ((number,),) = relation.count("*").fetchall()
    return int(number)


def write_parquet(
    connection: DuckDBPyConnection, query: str, path: Path, metadata: Mapping[str, str], row_group: int = ROW_GROUP
) -> None:
    """Write the rows of a query, of ours, to a Parquet file with key-value metadata."""
    pairs = ", ".join(f"{name}: {quoted(text)}" for name, text in metadata.items())
    options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {row_group}, KV_METADATA {{{pairs}}}"
    connection.execute(f"COPY ({query}) TO {quoted(str(path))} ({options})")


def quoted(text: str) -> str:
    """A text as a literal of SQL, where a parameter is not possible."""
    return "'" + text.replace("'", "''") + "'"
