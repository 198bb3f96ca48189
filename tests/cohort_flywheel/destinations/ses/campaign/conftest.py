"""An account, and a launch in batches of ten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cohort_flywheel.destinations.ses.campaign import sends_store as ses_sends
from cohort_flywheel.destinations.ses.campaign import ses_launch_operator
from tests.cohort_flywheel.destinations.ses.campaign.launches import Campaign, Launch


@pytest.fixture
def account(
    airflow_env: Any, servers: Any, fresh_config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Campaign]:
    monkeypatch.setattr(ses_sends, "_WAITS", (0.01, 0.02))
    made = Campaign(servers, fresh_config, tmp_path)
    yield made
    made.control(reset=True)


@pytest.fixture
def launch(account: Campaign, context: Any, monkeypatch: pytest.MonkeyPatch) -> Launch:
    monkeypatch.setattr(ses_launch_operator, "BATCH", 10)
    monkeypatch.setattr(ses_sends, "BATCH", 10)
    return Launch(account, context)
