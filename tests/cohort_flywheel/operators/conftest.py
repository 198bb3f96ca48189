"""What the operators need of Airflow, without its database: connections, variables and a run's context."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from local.servers import airflow_environment


@pytest.fixture
def airflow_env(servers: Any, config: Any, seeded: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The connections and variables of the seeded local servers, in the environment."""
    variables = airflow_environment(servers, config, seeded.application_id, seeded.role_arn)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return dict(variables)


@pytest.fixture
def context() -> Any:
    """Makes the context of a run: `context(params, run_type=…, logical_date=…)`."""

    def make(params: dict[str, Any] | None = None, **run: Any) -> Any:
        defaults = {"cohort": "ea_atrisk", "threshold": None, "dry_run": False}
        dag_run = {
            "dag_id": "cohort_to_segment",
            "run_id": "manual__2026-11-22",
            "run_type": "manual",
            "conf": params or {},
            "logical_date": None,
            "data_interval_end": None,
            "run_after": datetime(2026, 11, 22, 15, 30, tzinfo=UTC),
            "start_date": datetime(2026, 11, 22, 15, 30, tzinfo=UTC),
            "triggering_user_name": "ana",
        }
        return {
            "params": defaults | (params or {}),
            "dag": SimpleNamespace(params=defaults),
            "dag_run": SimpleNamespace(**(dag_run | run)),
        }

    return make
