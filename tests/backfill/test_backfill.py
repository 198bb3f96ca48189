"""Airflow's own backfill of the daily DAG, by its real scheduler."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.airflow_up import DAG_ID, Up

pytestmark = pytest.mark.airflow


def test_a_backfill_makes_a_run_a_day_and_each_ends_well(up: Up, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f" [up on PostgreSQL took {up.seconds:.0f} s]", end="")
    up.unpause(DAG_ID)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [midnight - timedelta(days=9), midnight - timedelta(days=8)]
    process = up.cli(
        *("backfill", "create", "--dag-id", DAG_ID, "--dag-run-conf", json.dumps({"dry_run": True, "source": "live"})),
        *("--from-date", f"{days[0]:%Y-%m-%d}", "--to-date", f"{days[1]:%Y-%m-%d}"),
    )
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    made = sorted(up.runs(run_type="backfill"), key=lambda run: run["logical_date"])
    assert [datetime.fromisoformat(run["logical_date"]) for run in made] == days
    for run, day in zip(made, days, strict=True):
        ended = up.end(run["dag_run_id"])
        assert datetime.fromisoformat(ended["data_interval_end"]) == day + timedelta(days=1)
        report = up.report(run["dag_run_id"])
        assert report["outcome"] == "dry run"
        assert datetime.fromisoformat(report["plan"]["as_of"]) == day + timedelta(days=1)
