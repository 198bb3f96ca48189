"""Reading the files of a graph load: our validation, DuckDB's own reading, and Python's csv reader.

A stage returns the number of rows, of the same files.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

MEMORY_MB = 128
#: DuckDB's names of Neptune's types in the modeler's headers.
TYPES = {"Int": "INTEGER", "Date": "DATE", "String": "VARCHAR"}


def validate(job: dict[str, Any]) -> Iterator[Any]:
    """Headers, values, ids, ends and records."""
    from cohort_flywheel.graph_load import validation

    paths = [Path(path) for path in job["files"]]
    folder = Path(job["folder"], "ids")
    folder.mkdir()
    yield None
    files = [validation.GraphFile(path.name, partial(FileIO, path)) for path in paths]
    found = validation.validate(files, folder=folder, single=["ea_*"], self_contained=True, memory_mb=MEMORY_MB)
    yield {
        "rows": sum(file.rows for file in found.files),
        "findings": len(found.findings),
        "disk_mb": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6,
    }


def duckdb(job: dict[str, Any]) -> Iterator[Any]:
    """Every cell read as its type, on one thread; nothing is compared."""
    import duckdb

    folder = str(Path(job["folder"], "spill"))
    config: dict[str, Any] = {"memory_limit": f"{MEMORY_MB}MiB", "temp_directory": folder, "threads": 1}
    yield None
    rows = 0
    with duckdb.connect(config=config) as connection:
        for path in job["files"]:
            with Path(path).open(newline="", encoding="utf-8") as file:
                header = next(csv.reader(file))
            columns = {f"c{number}": TYPES[name.partition(":")[2] or "String"] for number, name in enumerate(header)}
            read = connection.read_csv(
                path, auto_detect=False, header=True, sep=",", quotechar='"', escapechar='"', columns=columns
            )
            # the maximum of each column has every cell converted
            rows += read.aggregate(", ".join(["count(*)", *(f"max({name})" for name in columns)])).fetchall()[0][0]
    yield {"rows": rows}


def csv_reader(job: dict[str, Any]) -> Iterator[Any]:
    """Rows split into cells, and no more."""
    yield None
    rows = 0
    for path in job["files"]:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows += sum(1 for _ in csv.reader(file)) - 1
    yield {"rows": rows}
