"""The players who leave a segment: those of the last import without a row in this one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from cohort_flywheel.common.duckdb import connect, fetch, hide_values, read_rows, write_rows


class SegmentPlayers:
    """The recorded players and the players of the rows, in tables of DuckDB: both may exceed a worker's memory.

    :param folder: a folder on local disk.
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    """

    def __init__(self, folder: Path, memory_mb: int | None = None) -> None:
        self._folder = folder
        self._sql = connect(folder, memory_mb)

    def close(self) -> None:
        self._sql.close()

    def add_recorded(self, player_ids: Iterable[str]) -> None:
        self._create("recorded", player_ids)

    def add_rows(self, player_ids: Iterable[str]) -> None:
        self._create("of_rows", player_ids)

    def leavers(self) -> Iterator[str]:
        """The recorded players without a row, sorted."""
        return self._players("FROM recorded ANTI JOIN of_rows USING (player_id) SELECT DISTINCT player_id")

    def all(self) -> Iterator[str]:
        """Each player once, sorted."""
        return self._players("FROM recorded UNION FROM of_rows")

    def _create(self, table: str, player_ids: Iterable[str]) -> None:
        path = self._folder / f"{table}.csv"
        write_rows(path, ((each,) for each in player_ids))
        with hide_values("read the players of the segment"):
            read_rows(self._sql, path, {"player_id": "VARCHAR"}).create(table)
        path.unlink()

    def _players(self, query: str) -> Iterator[str]:
        with hide_values("compare the players of the segment"):
            for (player_id,) in fetch(self._sql, f"{query} ORDER BY player_id"):
                yield player_id
