"""The world that a file's tests try faults in: the one of its DESTINATION."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.sites import Case, cases

if TYPE_CHECKING:
    from tests.faults.harness import World


@pytest.fixture(scope="module")
def world(
    request: pytest.FixtureRequest, servers: Any, config: Any, seeded: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    from tests.faults.harness import a_world  # not while tests are collected: it imports Airflow

    with a_world(servers, config, tmp_path_factory.mktemp("faults"), request.module.DESTINATION) as made:
        yield made


@pytest.fixture
def survived(world: World) -> Callable[[str], list[str]]:
    """Tries the case of a name; what is wrong afterwards."""

    def run(name: str) -> list[str]:
        (case,) = (case for case in cases(world.sites) if str(case) == name)
        return world.survived(case)

    return run


@pytest.fixture
def survive(world: World, figure: Callable[[str], None]) -> Callable[[list[Case], str], None]:
    """Tries cases, and prints how many were survived, and of what they are a part; fails unless all were."""

    def run(chosen: list[Case], part: str) -> None:
        from tests.faults.fault_report import FaultReport
        from tests.faults.harness import tried

        report = FaultReport(world.destination, world.sites)
        for outcome in tried([(world, case) for case in chosen]):
            report.add(outcome.case, outcome.wrong, stopped=outcome.stopped)
        figure(f"{world.destination}: {report}; {part}")
        assert not report.failed, "\n".join(f"{case}: {'; '.join(wrong)}" for case, wrong in report.failed.items())

    return run
