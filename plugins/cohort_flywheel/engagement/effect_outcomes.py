"""The outcomes of the players of a launch: their scores then and now, counted by group on disk."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

from pydantic import Field

from cohort_flywheel.common.duckdb import connect, count_rows, read_parquet
from cohort_flywheel.common.records import Record
from cohort_flywheel.config.cohorts import Direction

#: The groups of a launch; a player of several is counted in the first of them.
Group = Literal["mailed", "launch_holdout", "global_holdout"]
GROUPS: tuple[Group, ...] = ("mailed", "launch_holdout", "global_holdout")

#: The number of intervals into which the changes of a group are put: it keeps about two values of each.
MAX_CHANGES = 128


class Scores(NamedTuple):
    """How the scores of a cohort are compared: `floor` is the loosest threshold that both snapshots have."""

    direction: Direction
    threshold: float
    floor: float


class Outcomes(Record):
    """The outcomes of a group.

    `players` are those of its list that the launch's snapshot has; `without_score` those that it has not, which an
    erasure may cause. `further` have a score further beyond the threshold, `left` none beyond it, `back` one that moved
    towards it or is in no snapshot. `changes` are the changes of the clipped scores, each with its number of players.
    """

    players: int = 0
    without_score: int = 0
    further: int = 0
    left: int = 0
    back: int = 0
    changes: list[tuple[float, int]] = Field(default_factory=list)


class GroupOutcomes(Record):
    """The outcomes of all players, and of those that no earlier launch of the month had (`first`)."""

    all: Outcomes = Outcomes()
    first: Outcomes = Outcomes()
    repeated: int = 0


class OutcomeTables:
    """Count the outcomes of groups in bounded memory. Files and tables have a digest in place of a playerId.

    :param folder: a folder for temporary files.
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    """

    def __init__(self, folder: Path, memory_mb: int | None = None) -> None:
        self._folder = folder
        self._sql = connect(folder, memory_mb)
        # DuckDB takes a CSV file for a few rows, and would put a large one into memory
        self._sql.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
        self._sql.execute("CREATE TABLE listed (id UUID, place INTEGER)")
        self._sql.execute("CREATE TABLE earlier (id UUID)")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sql.close()

    def add_group(self, group: Group, player_ids: Iterable[str]) -> None:
        """Add the players of a group."""
        place = GROUPS.index(group)
        self._insert("listed", {"id": "UUID", "place": "INTEGER"}, ((_id(player), place) for player in player_ids))

    def add_earlier(self, player_ids: Iterable[str]) -> None:
        """Add players of an earlier launch of the month."""
        self._insert("earlier", {"id": "UUID"}, ((_id(player),) for player in player_ids))

    def add_scores(self, when: Literal["then", "now"], snapshot: Path, direction: Direction) -> int:
        """Set the scores of a snapshot, a file of the folder; return its number of vertices.

        A player of several vertices has the score furthest beyond the threshold.
        """
        vertices = read_parquet(self._sql, snapshot)
        with_id = vertices.filter("player_id IS NOT NULL").project("md5(player_id)::UUID AS id, score")
        of_listed = with_id.filter("id IN (SELECT id FROM listed)")
        extreme = "max" if direction == "above" else "min"
        of_listed.aggregate(f"id, {extreme}(score) AS score").create(f"score_{when}")
        return count_rows(vertices)

    def outcomes(self, scores: Scores) -> dict[Group, GroupOutcomes]:
        """Return the outcomes of each group that has players."""
        sign = 1 if scores.direction == "above" else -1
        self._sql.execute(
            # scores of a cohort below its threshold are mirrored, so that further is greater in both directions
            "CREATE TABLE outcome AS WITH player AS (SELECT id, min(place) AS place FROM listed GROUP BY id)"
            " SELECT place, player.id IN (SELECT id FROM earlier) AS again, ? * t.score AS before,"
            " ? * n.score AS after, greatest(coalesce(? * n.score, ?), ?) - ? * t.score AS change"
            " FROM player LEFT JOIN score_then t USING (id) LEFT JOIN score_now n USING (id)",
            [sign, sign, sign, sign * scores.floor, sign * scores.floor, sign],
        )
        found: dict[Group, GroupOutcomes] = {}
        for place, group in enumerate(GROUPS):
            whole = self._group(place, sign, scores.threshold, "TRUE")
            if whole.players or whole.without_score:
                first = self._group(place, sign, scores.threshold, "NOT again")
                repeated = whole.players - first.players
                found[group] = GroupOutcomes(all=whole, first=first, repeated=repeated)
        return found

    def _group(self, place: int, sign: int, threshold: float, which: str) -> Outcomes:
        numbers = self._sql.execute(
            "SELECT count(before), count(*) - count(before), count(*) FILTER (after > before),"  # noqa: S608 - ours
            " count(*) FILTER (before IS NOT NULL AND (after IS NULL OR after <= ?)),"
            " count(*) FILTER (before IS NOT NULL AND (after IS NULL OR after < before))"
            f" FROM outcome WHERE place = ? AND {which}",
            [sign * threshold, place],
        ).fetchall()[0]
        names = ("players", "without_score", "further", "left", "back")
        which = f"FROM outcome WHERE place = ? AND {which} AND before IS NOT NULL"
        ((different,),) = self._sql.execute(f"SELECT count(DISTINCT change) {which}", [place]).fetchall()
        rows = self._sql.cursor().execute(
            f"SELECT ? * change + 0.0, count(*) {which} GROUP BY ALL ORDER BY 1",  # + 0.0, so that there is no -0.0
            [sign, place],
        )
        size = math.ceil(numbers[0] / MAX_CHANGES) if different > 2 * MAX_CHANGES else 1
        changes = list(put_together(iter(rows.fetchone, None), size))
        return Outcomes(**dict(zip(names, numbers, strict=True)), changes=changes)

    def _insert(self, table: str, columns: Mapping[str, str], rows: Iterable[tuple[object, ...]]) -> None:
        path = self._folder / f"{table}.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        self._sql.read_csv(
            str(path), auto_detect=False, header=False, sep=",", columns=dict(columns), parallel=False
        ).insert_into(table)
        path.unlink()


def put_together(rows: Iterable[tuple[float, int]], size: int) -> Iterator[tuple[float, int]]:
    """Yield sorted changes with their numbers of players, put together until some have `size` players.

    They become two changes, the mean minus and plus the standard deviation, so that the mean and the variance of all
    stay about the same. 0 stays apart. With size 1 all changes stay as they are.
    """
    some, number = list[tuple[float, int]](), 0
    for value, players in rows:
        if some and (number >= size or not value or not some[-1][0]):
            yield from _two(some, number)
            some, number = [], 0
        some.append((value, players))
        number += players
    if some:
        yield from _two(some, number)


def _two(some: list[tuple[float, int]], number: int) -> Iterator[tuple[float, int]]:
    mean = sum(value * count for value, count in some) / number
    spread = math.sqrt(sum(count * (value - mean) ** 2 for value, count in some) / number)
    if len(some) == 1 or not spread:
        yield some[0][0], number
    else:
        yield mean - spread, number // 2
        yield mean + spread, number - number // 2


def _id(player_id: str) -> str:
    return hashlib.md5(player_id.encode(), usedforsecurity=False).hexdigest()  # as DuckDB's md5()
