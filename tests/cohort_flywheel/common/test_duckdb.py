"""A database reads, writes and spills in its own folder, whatever a query needs."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from cohort_flywheel.common.duckdb import connect


def test_a_query_beyond_the_memory_limit_spills_to_the_folder(tmp_path: Path) -> None:
    """64 MB of hashes, with a limit of 32."""
    with connect(tmp_path, memory_mb=32) as sql:
        sql.execute("CREATE TABLE sorted AS SELECT hash(range) AS key FROM range(8_000_000) ORDER BY key")
        assert sum(file.stat().st_size for file in (tmp_path / "spill").iterdir()) > 32_000_000
        assert sql.execute("SELECT count(*) FROM sorted").fetchone() == (8_000_000,)
        first = [key for (key,) in sql.execute("SELECT key FROM sorted LIMIT 1000").fetchall()]
        assert first == sorted(first)
        assert sql.execute("SELECT min(key) FROM sorted").fetchone() == (first[0],)


@pytest.mark.parametrize("statement", ["COPY (SELECT 'wayne96') TO '{}'", "ATTACH '{}' AS other"])
def test_files_of_other_folders_are_not_written(tmp_path: Path, statement: str) -> None:
    folder, other = tmp_path / "folder", tmp_path / "other"
    folder.mkdir()
    with connect(folder) as sql, pytest.raises(duckdb.PermissionException):
        sql.execute(statement.format(other))
    assert not other.exists()
