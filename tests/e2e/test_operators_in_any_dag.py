"""Each operator in a DAG of ten lines, without our registry: literals, `{{ ds }}`, the sensor on a worker."""

from __future__ import annotations

import csv
import io
import json

import pytest

from tests.airflow_up import Up

from .conftest import Started

pytestmark = pytest.mark.airflow


def test_the_operators_serve_a_dag_that_is_not_ours(up: Up, started: Started) -> None:
    run = up.end(started.ten_lines, dag_id="ten_lines")
    day = run["logical_date"][:10]
    assert set(up.tasks(started.ten_lines, "ten_lines").values()) == {"success"}
    assert "deferred" not in up.events(started.ten_lines, "wait", "ten_lines")

    extract = json.loads(up.read(up.config.export_bucket, f"any/{day}/kind.json"))
    scores = {record["playerId"][0]: record["ea_mischief"][0] for record in extract}
    assert scores
    assert all(score < -3 for score in scores.values())
    (key,) = [key for key in up.keys(up.config.import_bucket) if f"kind_{day}_" in key]
    rows = list(csv.DictReader(io.StringIO(up.read(up.config.import_bucket, key))))
    assert {row["User.UserId"]: int(row["User.UserAttributes.Mischief"]) for row in rows}.items() <= scores.items()
    rejects = up.read(up.config.state_bucket, f"any/{day}.csv").splitlines()[1:]
    assert len(rows) + len(rejects) == len(scores)

    segments = up.client("pinpoint").get_segments(ApplicationId=up.application_id)["SegmentsResponse"]["Item"]
    (segment,) = [each for each in segments if each["Name"] == f"kind {day}"]
    assert segment["ImportDefinition"]["Size"] == len(rows)
