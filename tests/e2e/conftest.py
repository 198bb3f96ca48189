"""One Airflow for all tests of this folder, and the runs that they look at."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local import config
from tests.airflow_up import DAG_ID, Up, running
from tests.postgresql import postgresql


@pytest.fixture(scope="package")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """On PostgreSQL where it is installed: on a busy machine a request can wait 30 seconds for SQLite's one lock."""
    with ExitStack() as stack:
        url = stack.enter_context(postgresql()) if config.postgresql() else None
        folder, dag = tmp_path_factory.mktemp("up"), Path(__file__).parent / "dags" / "ten_lines.py"
        yield stack.enter_context(running(folder, dag, database_url=url))


@dataclasses.dataclass(frozen=True)
class Started:
    """The ids of runs that do not stand in each other's way, and what was answered at their start."""

    rest: str
    past: str
    past_without_snapshot: str
    on_schedule: str
    misspelt: str
    empty: str
    ten_lines: str
    cli: str
    cli_with_date: str

    #: yesterday at five in the morning, which is not on the schedule
    past_date: datetime


@pytest.fixture(scope="package")
def started(up: Up) -> Started:
    """Runs that are started together, so that two can run at a time while a test looks at a third.

    The DAG is switched on, which starts the scheduled run.
    """
    up.unpause(DAG_ID)
    up.unpause("ten_lines")
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    past = midnight - timedelta(hours=19)
    instant = (midnight - timedelta(days=3)).isoformat()
    rest = up.trigger({"cohort": "ea_atrisk", "threshold": 1})
    ten_lines = up.trigger({}, dag_id="ten_lines", logical_date=midnight.isoformat())
    dry_run = {"cohort": "ea_malice", "dry_run": True}
    by_date = ["-l", "2026-10-01T05:00:00+00:00"]
    cli = ["dags", "trigger", DAG_ID, "--conf", json.dumps(dry_run), "--run-id"]
    processes = [up.cli(*cli, "from_the_cli"), up.cli(*cli, "from_the_cli_with_a_date", *by_date)]
    made = Started(
        rest=rest,
        past=up.trigger(dry_run | {"cohort": "ea_altruism", "source": "live"}, logical_date=past.isoformat()),
        past_without_snapshot=up.trigger(
            {"cohort": "ea_altruism"}, logical_date=(past + timedelta(hours=1)).isoformat()
        ),
        on_schedule=up.trigger({"cohort": "ea_duty"}, logical_date=instant),
        misspelt=up.trigger({"cohort": "ea_duty", "dry_rum": True}),
        empty=up.trigger({"cohort": "ea_atrisk", "threshold": 90}),
        ten_lines=ten_lines,
        cli="from_the_cli",
        cli_with_date="from_the_cli_with_a_date",
        past_date=past,
    )
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
    return made
