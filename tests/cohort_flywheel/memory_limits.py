"""The memory limit of each database that a task opens: all must have that of the registry's tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest
from airflow.sdk import DAG

MEMORY_MB = 177


class MemoryLimits:
    """Notes the limit of each database that is opened from now on, also in a process that is forked.

    :param path: the file of the notes.
    """

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path, connect = path, duckdb.connect

        def noted(*arguments: Any, **options: Any) -> duckdb.DuckDBPyConnection:
            connection = connect(*arguments, **options)
            ((limit,),) = connection.execute("SELECT current_setting('memory_limit')").fetchall()
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{limit}\n")
            return connection

        monkeypatch.setattr(duckdb, "connect", noted)

    def are_tuned(self) -> bool:
        """Whether databases were opened, and each had the limit of MEMORY_MB."""
        return set(self._path.read_text(encoding="utf-8").splitlines()) == {f"{MEMORY_MB}.0 MiB"}


def tuned() -> DAG:
    """Give the operators that are made in the `with` of this DAG what DAG files give theirs from `tuning`."""
    return DAG("tuned", schedule=None, default_args={"memory_mb": MEMORY_MB})
