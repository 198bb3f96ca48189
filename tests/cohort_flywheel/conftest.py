"""Runs of the shipped cohort in buckets that no other test knows, with the sample's graph and contacts."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from cohort_flywheel.config.params import RunParams
from cohort_flywheel.config.registry import read_registry
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.plan import make_plan
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.enrich_operator import DynamoDBEnrichOperator, enrich_arguments
from cohort_flywheel.segment.extract_operator import CohortExtractOperator
from cohort_flywheel.segment.members import Vertex
from cohort_flywheel.segment.snapshot import Header
from local.config import ROOT, Config
from tests.cohort_flywheel.segment.snapshots import keep_snapshot

# `make test` tries the same 100 cases of a property each time; HYPOTHESIS_PROFILE=nightly tries 10,000 random ones.
settings.register_profile("default", max_examples=100, deadline=None, database=None, derandomize=True)
settings.register_profile(
    "nightly",
    max_examples=10_000,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

NEWEST = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def state(airflow_env: Any, fresh_config: Config) -> State:
    """An empty state bucket."""
    return State(S3Hook(), fresh_config.state_bucket)


@pytest.fixture
def planned(airflow_env: Any, config: Config, fresh_config: Config) -> Callable[..., dict[str, Any]]:
    """Makes a plan of ea_atrisk on fresh buckets: `planned(threshold=1, dry_run=True, cohort={"floor": 1})`."""
    shipped = read_registry(ROOT / "include" / "cohorts.yaml").cohort("ea_atrisk")

    def make(
        as_of: datetime = NEWEST, cohort: dict[str, Any] | None = None, extract_sha256: str | None = None, **params: Any
    ) -> dict[str, Any]:
        settings = {f"{role}_bucket": getattr(fresh_config, f"{role}_bucket") for role in ("export", "import", "state")}
        settings |= {"contacts_table": config.contacts_table}
        plan = make_plan(
            shipped.model_copy(update=cohort or {}), params=RunParams(cohort="ea_atrisk", **params), as_of=as_of,
            run_type="manual", user="ana", layout="pinpoint", schedule="0 0 * * *", settings=settings,
            extract_sha256=extract_sha256,
        )  # fmt: skip
        return plan.model_dump(mode="json") | settings

    return make


@pytest.fixture
def kept(state: State) -> Callable[..., str]:
    """Keeps a snapshot of these players, pending by default; returns its key."""

    def keep(
        as_of: datetime, scores: dict[str, int], *, final: bool = False, minutes: int = 3, status: str = "Active",
        **header: Any,
    ) -> str:  # fmt: skip
        defaults: dict[str, Any] = {
            "cohort": "ea_atrisk", "as_of": as_of, "property": "ea_atrisk", "direction": "above", "floor": 0,
            "required": [], "read_at": as_of + timedelta(minutes=minutes),
        }  # fmt: skip
        vertices = [Vertex(player, score, {"status": [status]}) for player, score in scores.items()]
        return keep_snapshot(state, Header(**(defaults | header)), vertices, final=final)

    return keep


@pytest.fixture
def no_graph(airflow_env: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loopback port without a listener: a query of the graph fails."""
    monkeypatch.setenv(
        "AIRFLOW_CONN_NEPTUNE_DEFAULT", '{"conn_type": "gremlin", "host": "127.0.0.1", "port": 9, "schema": "ws"}'
    )
    monkeypatch.setattr("cohort_flywheel.hooks.neptune.wait_random_exponential", lambda **_: lambda _state: 0)


def at(as_of: datetime, hours: float = 1) -> Callable[[], datetime]:
    return lambda: as_of + timedelta(hours=hours)


@pytest.fixture
def extracted(context: Any) -> Callable[..., dict[str, Any]]:
    """Runs the extract of a plan, by default an hour after its as-of; returns its facts and its shards."""

    def run(plan: dict[str, Any], hours: float = 1) -> dict[str, Any]:
        clock, its = at(datetime.fromisoformat(plan["as_of"]), hours), context(task_id="extract")
        shards = CohortExtractOperator(task_id="extract", plan=plan, clock=clock).execute(its)
        facts = its["ti"].xcoms["extract", "facts"]
        for key in ("s3_bucket", "s3_key"):
            assert its["ti"].xcoms["extract", key] == facts[key]
        return facts | {"shards": shards}

    return run


@pytest.fixture
def enriched() -> Callable[..., list[dict[str, Any]]]:
    """Looks the members of an extract up, shard by shard."""

    def run(plan: dict[str, Any], extract: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            DynamoDBEnrichOperator(task_id="enrich", shard=shard, **enrich_arguments(plan, extract)).execute({})
            for shard in extract["shards"]
        ]

    return run
