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


@pytest.fixture
def aws(servers: Any, config: Any) -> Any:
    """Makes a client of the emulated AWS: `aws("s3")`."""
    import boto3

    return lambda service: boto3.client(
        service, endpoint_url=servers.aws_url, region_name=config.region,
        aws_access_key_id=config.access_key_id, aws_secret_access_key=config.secret_access_key,
    )  # fmt: skip


@pytest.fixture
def pinpoint(servers: Any) -> Any:
    """Changes what the emulated Pinpoint does next, and gives its state: `pinpoint(fail_next_jobs=1)`."""
    import json
    import urllib.request

    def change(**settings: Any) -> Any:
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{servers.aws_url}/cohort-flywheel/pinpoint", data=json.dumps(settings).encode() if settings else None
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            return json.load(answer)

    change(reset=True)
    change(import_seconds=0.3)
    yield change
    change(reset=True)


@pytest.fixture
def segment_file(aws: Any, config: Any) -> Any:
    """Puts a segment file into the import bucket: `segment_file("name", rows)` gives its address."""
    header = "ChannelType,Address,User.UserId,User.UserAttributes.FirstName,User.UserAttributes.LastName,Id\n"

    def put(name: str, players: list[str]) -> str:
        rows = "".join(f"EMAIL,success+{p}@simulator.amazonses.com,{p},First,Last,id-{p}\n" for p in players)
        aws("s3").put_object(Bucket=config.import_bucket, Key=f"segments/{name}.csv", Body=(header + rows).encode())
        return f"s3://{config.import_bucket}/segments/{name}.csv"

    return put
