"""Only the newest day's own run changes what a destination holds now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from logging import getLogger
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from cohort_flywheel.runs.lock_store import hold
from cohort_flywheel.runs.newest_store import skip_unless_newest
from cohort_flywheel.runs.state_store import State

NEWEST = datetime(2026, 11, 22, tzinfo=UTC)
URI = {"extract_uri": "s3://exports/dropped/theirs.json", "extract_sha256": "ab" * 32}


@pytest.mark.parametrize("params", [{}, {"source": "snapshot"}])
def test_the_newest_days_own_run_goes_on(planned: Any, context: Any, state: State, params: dict[str, Any]) -> None:
    plan = planned(**params)
    skip_unless_newest(plan, state, context(), lambda: NEWEST + timedelta(hours=23), getLogger())
    with pytest.raises(AirflowSkipException, match="the newest as-of is 2026-11-23"):
        skip_unless_newest(plan, state, context(), lambda: NEWEST + timedelta(hours=24), getLogger())


@pytest.mark.parametrize("params", [{"source": "live"}, URI])
def test_what_stands_for_no_day_ends_at_its_segment_file(
    planned: Any, context: Any, state: State, params: dict[str, Any]
) -> None:
    plan, run = planned(**params), context()
    hold(state, plan["claim_key"], plan["name"], run)
    with pytest.raises(AirflowSkipException, match="its players are not those of its day"):
        skip_unless_newest(plan, state, run, lambda: NEWEST + timedelta(hours=1), getLogger())
    assert state.claim(plan["claim_key"]) is None
