"""DuckDB for the files of one folder, in bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: Beside the interpreter's own memory.
MEMORY_MB = 64


def connect(folder: Path, memory_mb: int = MEMORY_MB) -> DuckDBPyConnection:
    """Open a database in memory that reads, writes and spills in a folder only, and loads no extension.

    An error's text may quote values: raise another error instead. It has one thread, so that a time-out stops a query,
    and rows keep the order of their file.
    """
    import duckdb  # here, so that the parse of a DAG does not load it

    connection = duckdb.connect(
        config={
            "memory_limit": f"{memory_mb}MiB",
            "temp_directory": str(folder / "spill"),
            "threads": 1,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    connection.execute("SET allowed_directories = ?", [[str(folder)]])
    connection.execute("SET enable_external_access = false")
    return connection
