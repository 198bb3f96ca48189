"""The history of `make up` is read by the package's own figures."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cohort_flywheel.config.registry import read_registry
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.ui.figures_store import FiguresStore
from local import history, seed
from local.config import ROOT, Config
from local.servers import Servers

NOW = datetime(2026, 11, 22, 7, tzinfo=UTC)


class Silent:
    """Counts nothing."""

    def add(self, number: int) -> None:
        """Do nothing."""


@pytest.fixture
def written(servers: Servers, fresh_config: Config, airflow_env: Any) -> str:
    """The state bucket with the history, written twice."""
    history.write(servers, fresh_config, NOW)
    s3 = seed.client("s3", servers, fresh_config)
    before = s3.list_objects_v2(Bucket=fresh_config.state_bucket)["Contents"]
    history.write(servers, fresh_config, NOW)
    assert s3.list_objects_v2(Bucket=fresh_config.state_bucket)["Contents"] == before
    return fresh_config.state_bucket


def test_it_has_thirty_days_of_three_cohorts_and_two_launches(written: str, tmp_path: Path) -> None:
    registry = read_registry(ROOT / "include" / "cohorts.yaml")
    store = FiguresStore(S3Hook(), written, registry, tmp_path, Silent())  # type: ignore[arg-type]  # it has what is called
    for name in history.COHORTS:
        figures = store.count(registry.cohort(name), {})
        assert len(figures.days) == history.DAYS
        assert figures.days[-1].as_of == datetime(2026, 11, 21, tzinfo=UTC)
        assert all(day.joined is not None for day in figures.days[1:])
        assert all(day.rows + sum(day.rejects.values()) == day.members for day in figures.days)
        assert figures.thresholds is not None
        in_force = figures.thresholds.members[figures.thresholds.thresholds.index(figures.threshold)]
        assert in_force == figures.days[-1].members > 0
    launches = store.launches().launches
    assert [launch.as_of.date().isoformat() for launch in launches] == ["2026-11-10", "2026-10-27"]
    assert all(launch.answer and launch.answer.approved for launch in launches)
