"""The figures of the pages: which result is a day's, and how many members a threshold gives."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from cohort_flywheel.config.cohorts import Cohort, ThresholdRange
from cohort_flywheel.config.registry import read_registry
from cohort_flywheel.runs.report import Report
from cohort_flywheel.runs.result import Result
from cohort_flywheel.ui.figures import (
    MAX_THRESHOLDS,
    count_thresholds,
    day_of,
    earlier_days,
    launch_of,
    threshold_counts,
)
from local.config import ROOT

DAY = datetime(2026, 11, 22, tzinfo=UTC)
REGISTRY = read_registry(ROOT / "include" / "cohorts.yaml")


def cohort(**changes: Any) -> Cohort:
    return REGISTRY.cohort("ea_atrisk").model_copy(update=changes)


def result(members: int, threshold_from: str = "") -> Result:
    return Result.model_validate({
        "as_of": DAY, "members": members, "rows": members, "s3_url": "s3://a/b/", "snapshot": None,
        "imported": {"segment_id": "s"}, "run": {"dag_id": "d", "run_id": "r"}, "threshold_from": threshold_from,
    })  # fmt: skip


@pytest.mark.parametrize(
    ("results", "in_force", "chosen"),
    [
        ({2: result(3), 1: result(50)}, 2, 2),
        ({2: result(3), 1: result(50)}, 1, 1),
        ({3: result(3)}, 2, 3),  # the registry had another threshold then
        ({3: result(3, "registry"), 2: result(9, "param")}, 2, 3),
        ({3: result(3, "registry, from 2026-11-01"), 2: result(9, "registry")}, 2, 2),
        ({3: result(3, "param"), 2: result(9, "param")}, None, 3),
    ],
)
def test_the_day_is_the_result_for_the_registrys_threshold(
    results: dict[float, Result], in_force: int | None, chosen: int
) -> None:
    day = day_of(results, in_force)
    assert (day.threshold, day.members) == (chosen, results[chosen].members)


@pytest.mark.parametrize("newest", [datetime(2026, 3, 30, 1, 30), datetime(2026, 10, 26, 1, 30)])
def test_the_day_before_is_by_the_dates_of_the_zone(newest: datetime) -> None:
    """In UTC these are 00:30 of a date in winter, and 23:30 of the date before in summer."""
    zone = ZoneInfo("Europe/Berlin")
    as_ofs = [(newest - timedelta(days=number)).replace(tzinfo=zone).astimezone(UTC) for number in range(8, -1, -1)]
    days = [day_of({2: result(0).model_copy(update={"as_of": as_of})}, 2) for as_of in as_ofs]
    found = earlier_days(days, zone)
    assert {number: day.as_of for number, day in found.items()} == {1: as_ofs[-2], 7: as_ofs[-8]}


def members_by_threshold(scores: list[float], one: Cohort, floor: float) -> dict[float, int]:
    counted = count_thresholds(Counter(scores).items(), one, floor)
    found = threshold_counts(counted, one, floor, DAY)
    return dict(zip(found.thresholds, found.members, strict=True))


def test_each_threshold_above_the_floor_has_its_members() -> None:
    scores = [1.0, 1, 2, 2.5, 3, 7]
    found = members_by_threshold(scores, cohort(), 0)
    assert found == {number: sum(score > number for score in scores) for number in range(8)}


def test_so_has_each_below() -> None:
    reputation = REGISTRY.cohort("ea_reputation")
    scores = [-51, -60.5, -60, -99, -51]
    found = members_by_threshold(scores, reputation, -50)
    assert found == {number: sum(score < number for score in scores) for number in range(-50, -100, -1)}


def test_thresholds_with_decimals_are_counted_exactly() -> None:
    churn = cohort(threshold=0.75, threshold_range=ThresholdRange(min=0.1, max=1))
    scores = [0.3, 0.29, 0.7500001, 0.75, 1.0]
    found = members_by_threshold(scores, churn, 0.25)
    assert list(found)[:2] == [0.25, 0.26]
    assert len(found) == 76
    assert {number: sum(score > number for score in scores) for number in found} == found
    assert found[1] == 0


def test_a_wide_range_is_counted_in_steps_and_a_score_beyond_it_at_its_end() -> None:
    wide = cohort(threshold_range=REGISTRY.cohort("ea_altruism").threshold_range)  # 10 to 1000
    scores = [11.0, 500, 900, 2**62]
    found = members_by_threshold(scores, wide, 10)
    assert len(found) <= MAX_THRESHOLDS
    assert {number: sum(score > number for score in scores) for number in found} == found
    assert list(found)[1] == 15


def test_an_empty_cohort_has_one_threshold_and_no_member() -> None:
    assert members_by_threshold([], cohort(), 0) == {0: 0, 1: 0}


def test_a_report_without_a_launch_is_none() -> None:
    run = {"dag_id": "d", "run_id": "r", "run_type": "manual", "started": None, "reported": DAY.isoformat(),
           "triggered_by": None}  # fmt: skip
    report = Report.model_validate({
        "run": run, "outcome": "failed", "tasks": {}, "plan": None, "extract": None, "segment": None, "limits": None,
        "imported": None, "campaign": None, "faults": [],
    })  # fmt: skip
    assert launch_of(report, "ea_atrisk_2") is None
