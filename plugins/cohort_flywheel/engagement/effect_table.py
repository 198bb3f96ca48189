"""The effects of an as-of as Parquet: one row for each launch or month, holdout and outcome.

And what became of the messages: one row for each launch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from cohort_flywheel.common.duckdb import connect
from cohort_flywheel.engagement.effect import Comparison, Effects, EngagementShares, LaunchEffect, PooledEffect
from cohort_flywheel.engagement.effect_comparison import HOLDOUTS
from cohort_flywheel.engagement.event_counts import STATES

#: The columns, by their DuckDB types. A row of a month has its `launches`, of a launch the one; `mailed` and `held_out`
#: are numbers of players with the outcome, or of `change` the mean changes.
COLUMNS = {
    "template": "VARCHAR", "month": "VARCHAR", "launches": "VARCHAR[]", "cohort": "VARCHAR", "property": "VARCHAR",
    "direction": "VARCHAR", "threshold": "DOUBLE", "effect_days": "INTEGER", "measured_at": "TIMESTAMP",
    "holdout_percent": "INTEGER", "global_holdout_percent": "INTEGER", "holdout": "VARCHAR", "outcome": "VARCHAR",
    "mailed_players": "BIGINT", "held_out_players": "BIGINT", "erased": "BIGINT", "mailed": "DOUBLE",
    "held_out": "DOUBLE", "difference": "DOUBLE", "low": "DOUBLE", "high": "DOUBLE", "detectable": "DOUBLE",
    "verdict": "VARCHAR",
}  # fmt: skip
#: `messages` is the sum of the columns `<state>_messages`; the shares are those of `delivered`.
ENGAGEMENT_COLUMNS = (
    {"launch": "VARCHAR", "messages": "BIGINT"}
    | {f"{state}_messages": "BIGINT" for state in STATES}
    | {"delivered": "BIGINT"}
    | {name: "DOUBLE" for name in EngagementShares.model_fields if name not in ("messages", "states", "delivered")}
)
_NUMBERS = ("mailed", "held_out", "difference", "low", "high", "detectable", "verdict")


def write_effects(path: Path, effects: Effects, memory_mb: int | None = None) -> None:
    """Write the measured effects to a Parquet file."""
    rows = [row for each in (*map(_rows, effects.launches), *map(_rows, effects.pooled)) for row in each]
    _write(path, COLUMNS, rows, memory_mb)


def write_engagement(path: Path, launches: Mapping[str, EngagementShares], memory_mb: int | None = None) -> None:
    """Write what became of the messages of launches, by their run names, to a Parquet file."""
    rows = []
    for name, shares in sorted(launches.items()):
        found = shares.model_dump() | {"launch": name} | {f"{state}_messages": n for state, n in shares.states.items()}
        rows.append([found.get(column, 0 if column.endswith("_messages") else None) for column in ENGAGEMENT_COLUMNS])
    _write(path, ENGAGEMENT_COLUMNS, rows, memory_mb)


def _write(path: Path, columns: Mapping[str, str], rows: Iterable[Sequence[object]], memory_mb: int | None) -> None:
    with connect(path.parent, memory_mb) as sql:
        sql.execute(f"CREATE TABLE written ({', '.join(f'{name} {kind}' for name, kind in columns.items())})")
        if some := list(rows):
            sql.executemany(f"INSERT INTO written VALUES ({', '.join('?' * len(columns))})", some)  # noqa: S608 - ours
        sql.table("written").write_parquet(str(path), compression="zstd")


def _rows(of: LaunchEffect | PooledEffect) -> Iterator[list[object]]:
    about: dict[str, object] = of.model_dump(exclude={"launch_holdout", "global_holdout"})
    if isinstance(of, LaunchEffect):
        measured_at = of.measured_at.replace(tzinfo=None) if of.measured_at else None
        about |= {"launches": [of.launch], "measured_at": measured_at}
    for holdout in HOLDOUTS:
        found: Comparison | None = getattr(of, holdout)
        if found is None:
            continue
        players = {"mailed_players": found.mailed, "held_out_players": found.held_out, "erased": found.erased}
        for outcome in ("further", "left", "change"):
            numbers = getattr(found, outcome).model_dump(include=set(_NUMBERS))
            row = about | players | numbers | {"holdout": holdout, "outcome": outcome}
            yield [row.get(name) for name in COLUMNS]
