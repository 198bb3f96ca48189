"""A launch by Connect that is continued weeks later: its players count as mailed then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from sqlite3 import connect as open_database
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException

from cohort_flywheel.campaign.send_ledger_store import load_recently_mailed
from cohort_flywheel.destinations.customer_profiles.campaign import operators as module
from cohort_flywheel.hooks.s3 import S3Hook
from tests.cohort_flywheel.destinations.customer_profiles.connect_account import NOW, Connect

PLAYERS = ["ann", "bob", "cat"]
LATER = NOW + timedelta(days=25)


@pytest.fixture
def account(airflow_env: Any, servers: Any, fresh_config: Any, tmp_path: Path) -> Iterator[Connect]:
    made = Connect(servers, fresh_config, tmp_path)
    yield made
    for reset in (made.control, made.campaign_control, made.template_control):
        reset(reset=True)


def mailed(bucket: str, since: datetime) -> int:
    with closing(open_database(":memory:")) as listed:
        return load_recently_mailed(S3Hook(), bucket, "at_risk", since, "another", listed)


def test_a_campaign_that_starts_25_days_later_counts_until_its_schedule_ends(
    account: Connect, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try has put the send ledger, and no campaign was started."""
    before = NOW - timedelta(days=2)
    yearly = f"0 0 {before.day} {before.month} *"
    plan, run = account.launch_plan(schedule=yearly), context(run_id="today")
    segment = account.imported(plan, run, *PLAYERS)
    ready = (plan, segment, account.prepare(plan, segment, run), run)

    def lost(*_: Any, **__: Any) -> None:
        raise AirflowException("S3 is not there")

    with monkeypatch.context() as broken:
        broken.setattr(module, "put_json", lost)
        with pytest.raises(AirflowException, match="S3 is not there"):
            account.launch(*ready)
    bucket = account.config.state_bucket
    assert mailed(bucket, NOW + timedelta(days=1)) == 3
    assert mailed(bucket, NOW + timedelta(days=1, seconds=1)) == 0
    for campaign in account.made:
        account.campaigns.delete_campaign(id=campaign["id"])
    account.launch(*ready, clock=lambda: LATER)
    header = json.loads(
        account.s3.get_object(Bucket=bucket, Key=f"sends/at_risk/{plan['name']}.jsonl")["Body"].readline()
    )
    assert datetime.fromisoformat(header["mails_until"]) == LATER + timedelta(days=1)
    assert mailed(bucket, LATER + timedelta(days=1)) == 3
    assert mailed(bucket, LATER + timedelta(days=1, seconds=1)) == 0
