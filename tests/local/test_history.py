"""The history of `make up` is made by the operators, and read by the package's own figures."""

from __future__ import annotations

import dataclasses
import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cohort_flywheel.common.progress import Progress
from cohort_flywheel.config.registry import read_registry
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.ui.figures_store import FiguresStore
from local import history, history_runs, seed
from local.config import ROOT, Config
from local.seed import Seeded
from local.servers import Servers, airflow_environment

NOW = datetime(2026, 11, 22, 7, tzinfo=UTC)


class History:
    """A history in buckets of its own, with the sample's graph and contacts."""

    def __init__(self, servers: Servers, config: Config, seeded: Seeded, cache: Path) -> None:
        self.servers, self.config, self.cache = servers, config, cache
        self.environment = airflow_environment(servers, config, *seeded)
        self.s3 = seed.client("s3", servers, config)

    def write(self, days: int, launched: tuple[int, ...]) -> None:
        """Write it as `make up` does."""
        history.write(
            self.servers, self.config, self.environment, now=NOW, days=days, launched=launched, cache=self.cache
        )

    def objects(self) -> dict[str, str]:
        """The digests of the objects of the state bucket."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.config.state_bucket)
        return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", ())}


@pytest.fixture
def past(
    servers: Servers, config: Config, fresh_config: Config, seeded: Seeded, tmp_path: Path, airflow_env: Any
) -> History:
    """Empty buckets, with the sample's table."""
    own = dataclasses.replace(fresh_config, contacts_table=config.contacts_table)
    return History(servers, own, seeded, tmp_path / "cache")


@pytest.mark.nightly
def test_a_second_history_of_the_day_comes_from_the_cache(past: History, tmp_path: Path) -> None:
    past.write(days=3, launched=(2,))
    made = past.objects()
    past.write(days=3, launched=(2,))  # what is there stays as it is
    assert past.objects() == made
    for key in set(made) - {seed.DO_NOT_CONTACT}:
        past.s3.delete_object(Bucket=past.config.state_bucket, Key=key)
    past.environment = {}  # from the cache, without an operator
    past.write(days=3, launched=(2,))
    assert past.objects() == made
    check(past, tmp_path, days=3, launched=["2026-11-20"])


@pytest.mark.nightly
def test_it_has_thirty_days_of_three_cohorts_and_two_launches(past: History, tmp_path: Path) -> None:
    past.write(history.DAYS, history.LAUNCHED)
    check(past, tmp_path, days=30, launched=["2026-11-17", "2026-10-27"])


def check(past: History, folder: Path, days: int, launched: list[str]) -> None:
    registry = read_registry(ROOT / "include" / "cohorts.yaml")
    state = past.config.state_bucket
    progress = Progress(logging.getLogger(__name__), "vertices read")
    store = FiguresStore(S3Hook(), state, registry, folder, progress)
    for name in history_runs.COHORTS:
        figures = store.count(registry.cohort(name), {})
        assert len(figures.days) == days
        assert figures.days[-1].as_of == datetime(2026, 11, 21, tzinfo=UTC)
        assert all(day.joined is not None for day in figures.days[1:])
        assert all(day.rows + sum(day.rejects.values()) == day.members for day in figures.days)
        assert figures.thresholds is not None
        in_force = figures.thresholds.members[figures.thresholds.thresholds.index(figures.threshold)]
        assert in_force == figures.days[-1].members > 0
    launches = store.launches().launches
    assert [launch.as_of.date().isoformat() for launch in launches] == launched
    assert all(launch.answer and launch.answer.approved for launch in launches)
    # the events of a launch are of its day too
    assert all(launch.engagement and launch.engagement.as_of > launch.as_of for launch in launches)
    assert [each.engagement and each.engagement.counts.messages for each in launches] == [
        each.launched["sent"] for each in launches
    ]
    assert [each.effect and each.effect.status for each in launches] == ["waiting", "measured"][: len(launches)]
    for each in launches[1:]:
        assert each.effect and each.effect.launch_holdout and each.effect.global_holdout
        assert each.effect.launch_holdout.mailed == each.launched["sent"]
        assert each.effect.launch_holdout.held_out > 0
