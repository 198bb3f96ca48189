"""A studio with other names, decimal scores and another clock: whole runs of the real DAGs, by cohorts.yaml only."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from gremlin_python.driver.client import Client

from local import seed
from tests.cohort_flywheel.dag_simulator import DagSimulator
from tests.cohort_flywheel.segment.snapshots import players_of
from tests.faults.simulate import Run

REGISTRY = """\
default_cohort: churn
schedule: "0 1 * * *"
timezone: Europe/Berlin
destination: pinpoint
schema:
  vertex_label: customer
  player_id: customer id
  contacts_key: player_id
  address: [profile, email]
  first_name: [profile, name, first]
  last_name: [profile, name, last]
  favorite_role: role
cohorts:
  churn:
    description: Customers who are likely to leave.
    property: churn
    direction: above
    threshold: [{from: 2026-10-01, threshold: 0.85}, {from: 2026-11-22, threshold: 0.75}]
    floor: 0.5
    threshold_range: {min: 0.5, max: 1}
    limits: {min_members: 1, max_members: 10, max_change_percent: 50, max_reject_percent: 60}
    daily: true
    attributes: {Level: [stats, level], Profile: [profile, nick], Guild: guild}
    score_as: Risk
    consent: {attribute: [profile, consent], opted_in: [true], opted_out: [false], silence: opted_out}
"""
DAY = datetime(2026, 11, 22, tzinfo=UTC)
#: The vertices: a label, an id and a score; only the label of `schema` counts.
VERTICES = [
    ("customer", "ann", 0.9), ("customer", "ann", 0.8), ("customer", "bob", 0.8), ("customer", "cem", 0.750001),
    ("customer", "dan", 0.75), ("customer", "eve", 0.5), ("guest", "fay", 0.9),
]  # fmt: skip


def record(player: str, **profile: dict[str, Any]) -> dict[str, Any]:
    name = {"M": {"first": {"S": player.title()}, "last": {"S": "O"}}}
    return {
        "player_id": {"S": player}, "role": {"S": "Tank"}, "stats": {"M": {"level": {"N": "12"}}},
        "profile": {"M": {"name": name, "consent": {"BOOL": True}} | profile},
    }  # fmt: skip


class Studio(DagSimulator):
    """Its registry, its graph beside the sample's, and its table."""

    def __init__(self, *where: Any) -> None:
        super().__init__("pinpoint", *where)
        (self.folder / "include" / "cohorts.yaml").write_text(REGISTRY, encoding="utf-8")

    def other(self, dag_id: str, **conf: Any) -> dict[str, Any]:
        """Run another of the DAGs; return the outputs of its one task."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dag = DagBag(self.folder / "dags").dags[dag_id]
        run = Run(dag, conf, DAY + timedelta(hours=1), self.folder / "other.log")
        run.go()
        assert run.errors == {}
        (outputs,) = run.outputs.values()
        return outputs


def ask(url: str, *queries: str) -> None:
    """Send queries; the client is closed before a run forks."""
    graph = Client(url, "g")
    try:
        for query in queries:
            graph.submit(query).all().result()
    finally:
        graph.close()


@pytest.fixture
def studio(
    airflow_env: Any, servers: Any, fresh_config: Any, seeded: Any, fresh_seeded: Any, pinpoint: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Studio]:  # fmt: skip
    config = dataclasses.replace(fresh_config, contacts_table=f"{fresh_config.contacts_table}-other")
    dynamodb = seed.client("dynamodb", servers, config)
    dynamodb.create_table(
        TableName=config.contacts_table, BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "player_id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "player_id", "AttributeType": "S"}],
    )  # fmt: skip
    address = {"email": {"S": "ann@example.com"}, "nick": {"S": "Annie"}}
    for item in (record("ann", **address), record("bob", **address, consent={"BOOL": False}), record("cem")):
        dynamodb.put_item(TableName=config.contacts_table, Item=item)
    try:
        ask(servers.gremlin_url, *(
            f"g.addV('{label}').property('customer id', '{player}').property('churn', {score}d)"
            for label, player, score in VERTICES
        ))  # fmt: skip
        ours = seeded._replace(application_id=fresh_seeded.application_id, role_arn=fresh_seeded.role_arn)
        yield Studio(servers, config, ours, tmp_path, monkeypatch)
    finally:
        ask(servers.gremlin_url, "g.V().hasLabel('customer', 'guest').drop()")
        dynamodb.delete_table(TableName=config.contacts_table)


def test_a_run_a_what_if_and_an_erasure_under_other_names(studio: Studio) -> None:
    report = studio.simulate(DAY, cohort="churn")
    assert (report["outcome"], report["faults"], report["errors"]) == ("imported", [], {})
    assert (report["plan"]["threshold"], report["extract"]["url"].rpartition("/")[2]) == (
        0.75, f"churn_0.75_{DAY:%Y-%m-%d}_00-00-00.json",
    )  # fmt: skip
    extract = report["extract"]
    assert (extract["vertices_read"], extract["vertices"], extract["merged"], extract["members"]) == (5, 4, 1, 3)
    assert studio.rejected(report) == {"opted_out": {"bob"}, "no_address": {"cem"}}
    (row,) = studio.rows(report)
    values = {key.removeprefix("User.UserAttributes."): value for key, value in row.items()}
    assert (row["playerId"], row["address"]) == ("ann", "ann@example.com")
    names = ("FirstName", "LastName", "FavoriteRole", "Level", "Profile", "Guild", "Risk")
    assert [values[name] for name in names] == ["Ann", "O", "Tank", "12", "Annie", "", "0.9"]
    without = report["segment"]["records_without"]
    assert (without["profile.email"], without["profile.name.first"], without["guild"]) == (1, 0, 3)

    counted = studio.other("cohort_what_if", cohort="churn")
    assert (counted["counted"], counted["highest"]) == (1, 3)

    s3, bucket = studio.s3, studio.config.state_bucket
    s3.put_object(Bucket=bucket, Key="erasure/players.txt", Body=b"ann\n")
    erased = studio.other("cohort_erasure", dry_run=False)
    assert (erased["players"], erased["at_destination"]) == (1, 1)
    (snapshot,) = [
        item["Key"] for item in s3.list_objects_v2(Bucket=bucket, Prefix="snapshots/cohort=churn/")["Contents"]
    ]  # fmt: skip
    found = s3.get_object(Bucket=bucket, Key=snapshot)
    assert '"customer id"' in found["Metadata"]["header"]
    kept = set(players_of(found["Body"].read()))
    assert [name in kept for name in ("ann", "bob", "dan")] == [False, True, True]
