"""The effects of an as-of as Parquet: one row for each launch or month, holdout and outcome."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cohort_flywheel.common.duckdb import connect
from cohort_flywheel.engagement.effect import Comparison, Effects, LaunchEffect, PooledEffect
from cohort_flywheel.engagement.effect_comparison import HOLDOUTS

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
_NUMBERS = ("mailed", "held_out", "difference", "low", "high", "detectable", "verdict")


def write_effects(path: Path, effects: Effects) -> None:
    """Write the measured effects to a Parquet file."""
    with connect(path.parent) as sql:
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        sql.execute(f"CREATE TABLE effect ({columns})")
        rows = [row for each in (*effects.launches, *effects.pooled) for row in _rows(each)]
        if rows:
            sql.executemany(f"INSERT INTO effect VALUES ({', '.join('?' * len(COLUMNS))})", rows)  # noqa: S608 - ours
        sql.table("effect").write_parquet(str(path), compression="zstd")


def _rows(of: LaunchEffect | PooledEffect) -> Iterator[list[object]]:
    about: dict[str, object] = of.model_dump(exclude=set(HOLDOUTS))
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
