"""What a threshold would have given, counted over snapshots in the emulated S3."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest
from airflow.sdk.exceptions import AirflowFailException

from cohort_flywheel.common import duckdb
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.names import pending_snapshot_key
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.members import Vertex
from cohort_flywheel.segment.snapshot import Header
from cohort_flywheel.what_if.operators import CohortWhatIfOperator
from local.config import ROOT
from tests.cohort_flywheel.memory_limits import MEMORY_MB, MemoryLimits
from tests.cohort_flywheel.segment.snapshots import keep_snapshot

REGISTRY = ROOT / "include" / "cohorts.yaml"
SECRET = "wayne96"  # a player that no log, XCom or error may name

Keep = Callable[..., str]
Row = dict[str, str]


def as_of(number: int) -> datetime:
    return datetime(2026, 11, number, tzinfo=UTC)


@pytest.fixture
def state_bucket(airflow_env: Any, fresh_config: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A state bucket of this test's own; and all that is not asked for is not there."""
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_STATE_BUCKET", fresh_config.state_bucket)
    for name in ("EXPORT_BUCKET", "IMPORT_BUCKET", "CONTACTS_TABLE", "PINPOINT_APPLICATION_ID"):
        monkeypatch.delenv(f"AIRFLOW_VAR_COHORT_FLYWHEEL_{name}")
    monkeypatch.delenv("AIRFLOW_CONN_NEPTUNE_DEFAULT")
    return fresh_config.state_bucket


@pytest.fixture
def keep(state_bucket: str) -> Keep:
    """Keeps a snapshot of a day: `keep(20, {"ada": 3, "bob": 1}, final=False)` gives its key."""
    state = State(S3Hook(aws_conn_id="aws_default"), state_bucket)

    def put(day: int, scores: dict[str, int], *, final: bool = True, also: Iterable[Vertex] = (), **header: Any) -> str:
        facts: dict[str, Any] = {"cohort": "ea_atrisk", "property": "ea_atrisk", "direction": "above", "floor": 0}
        facts |= {"as_of": as_of(day), "read_at": as_of(day) + timedelta(minutes=5)} | header
        vertices = [*(Vertex(player, score) for player, score in scores.items()), *also]
        return keep_snapshot(state, Header.model_validate(facts), vertices, final=final)

    return put


@pytest.fixture
def count(state_bucket: str, aws: Any) -> Any:
    """Runs the task: `count(threshold=2)` gives its output and the rows of its CSV."""

    def run(
        registry: Path = REGISTRY, schedule: str = "0 0 * * *", timezone: str = "UTC", **params: Any
    ) -> tuple[dict[str, Any], list[Row]]:
        known = {"cohort": "ea_atrisk", "threshold": None, "from": None, "to": None}
        run_after = datetime(2026, 11, 22, 15, 30, tzinfo=UTC)
        context: Any = {
            "params": known | params,
            "dag": SimpleNamespace(params=known),
            "dag_run": SimpleNamespace(conf=params, run_after=run_after),
        }
        output = CohortWhatIfOperator(
            task_id="count_days", registry=registry, schedule=schedule, timezone=timezone
        ).execute(context)
        body = aws("s3").get_object(Bucket=state_bucket, Key=output["csv_url"].split("/", 3)[3])["Body"].read()
        return output, list(csv.DictReader(body.decode().splitlines()))

    return run


def figures(rows: list[Row]) -> list[tuple[str, ...]]:
    return [(r["as_of"][:10], r["snapshot"], r["members"], r["joined"], r["left"], r["note"]) for r in rows]


def objects(aws: Any, bucket: str) -> dict[str, str]:
    return {item["Key"]: item["ETag"] for item in aws("s3").list_objects_v2(Bucket=bucket).get("Contents", ())}


@pytest.fixture
def a_week(keep: Keep) -> None:
    keep(17, {SECRET: 3, "ada": 2, "bob": 4, "cyd": 9})
    keep(18, {SECRET: 3, "ada": 3, "cyd": 9}, also=[Vertex(None, 7), Vertex("cyd", 5), Vertex("ada", 1)])
    # the 19th has none
    keep(20, {SECRET: 3}, floor=3)
    keep(21, {SECRET: 4, "dan": 3}, final=False)
    keep(21, {SECRET: 4, "dan": 3, "eve": 9}, final=False, read_at=as_of(21) + timedelta(hours=1))
    keep(22, {SECRET: 4, "dan": 3, "eve": 9})
    keep(22, {SECRET: 4}, final=False, read_at=as_of(22) + timedelta(hours=1))  # late: another is final


EXPECTED = [
    ("2026-11-17", "final", "3", "", "", ""),
    ("2026-11-18", "final", "3", "1", "1", ""),
    ("2026-11-19", "", "", "", "", "no snapshot"),
    ("2026-11-20", "final", "", "", "", "the snapshot has the floor 3, and the threshold 2 is looser"),
    ("2026-11-21", "pending", "3", "2", "2", ""),
    ("2026-11-22", "final", "3", "0", "0", ""),
]


@pytest.mark.usefixtures("a_week")
def test_each_day_has_its_row(count: Any, aws: Any, state_bucket: str, capfd: pytest.CaptureFixture[str]) -> None:
    output, rows = count(threshold=2, **{"from": "2026-11-17"})
    assert figures(rows) == EXPECTED
    place = f"s3://{state_bucket}/what_if/ea_atrisk_2_2026-11-17_2026-11-22"
    assert output == {
        "csv_url": f"{place}.csv",
        "svg_url": f"{place}.svg",
        "days": 6,
        "counted": 4,
        "lowest": 3,
        "highest": 3,
    }
    answer = aws("s3").get_object(Bucket=state_bucket, Key=output["svg_url"].split("/", 3)[3])
    assert answer["ContentType"] == "image/svg+xml"
    svg = answer["Body"].read().decode()
    assert ElementTree.fromstring(svg).tag.endswith("svg")  # noqa: S314 - our own
    assert "ea_atrisk: players above 2, 2026-11-17 to 2026-11-22" in svg
    log = capfd.readouterr().out
    assert "2026-11-18 00:00          2        3       1     1  final\n" in log
    assert "4 of 6 days counted: lowest 3 on 2026-11-17" in log
    assert SECRET not in log + svg + str(rows) + str(output)


@pytest.mark.usefixtures("a_week")
def test_nothing_else_in_the_state_bucket_changes_and_a_second_run_writes_the_same(
    count: Any, aws: Any, state_bucket: str
) -> None:
    before = objects(aws, state_bucket)
    count(threshold=2)
    after = objects(aws, state_bucket)
    place = "what_if/ea_atrisk_2_2026-10-23_2026-11-22"
    assert sorted(after.keys() - before.keys()) == [f"{place}.csv", f"{place}.svg"]
    assert before == {key: etag for key, etag in after.items() if key in before}
    assert count(threshold=2)[0]["days"] == 31
    assert objects(aws, state_bucket) == after


@pytest.mark.usefixtures("a_week")
def test_one_threshold_or_the_history(count: Any, tmp_path: Path) -> None:
    registry = tmp_path / "cohorts.yaml"
    history = "[{from: 2026-11-18, threshold: 3}, {from: 2026-11-21, threshold: 2}]"
    text = REGISTRY.read_text(encoding="utf-8")
    registry.write_text(text.replace("    threshold: 2\n", f"    threshold: {history}\n", 1), encoding="utf-8")
    output, rows = count(registry, **{"from": "2026-11-17"})
    assert output["csv_url"].endswith("/what_if/ea_atrisk_history_2026-11-17_2026-11-22.csv")
    assert [(r["threshold"], r["members"], r["joined"], r["left"]) for r in rows] == [
        ("", "", "", ""),
        ("3", "1", "", ""),
        ("3", "", "", ""),
        ("3", "0", "0", "1"),
        ("2", "3", "3", "0"),
        ("2", "3", "0", "0"),
    ]
    assert "no threshold in force at 2026-11-17 00:00 UTC" in rows[0]["note"]
    assert (output["lowest"], output["highest"]) == (0, 3)


def test_below_and_required_properties_count_as_a_run_counts(keep: Keep, count: Any, tmp_path: Path) -> None:
    registry = tmp_path / "cohorts.yaml"
    text = REGISTRY.read_text(encoding="utf-8")
    registry.write_text(
        text.replace("    floor: -50\n", "    floor: -50\n    where: {status: {equals: Active}, level: {above: 1}}\n"),
        encoding="utf-8",
    )
    facts = {"cohort": "ea_reputation", "property": "ea_reputation", "direction": "below", "floor": -50}
    keep(21, {"ada": -80}, **facts)
    active: dict[str, Sequence[object]] = {"status": ["Active"], "level": [2]}
    gone: dict[str, Sequence[object]] = {"status": ["Gone"], "level": [2]}
    low: dict[str, Sequence[object]] = {"status": ["Active"], "level": [1]}
    vertices = [
        Vertex("ada", -80, active),
        Vertex("bob", -75, active),
        Vertex("cyd", -90, gone),
        Vertex("dan", -90, low),
    ]
    keep(22, {}, also=vertices, required=["status", "level"], **facts)
    _, rows = count(registry, cohort="ea_reputation", threshold=-75, **{"from": "2026-11-21"})
    assert [(row["members"], row["note"]) for row in rows] == [
        ("", "the snapshot was written before `where` named level, status"),
        ("1", ""),
    ]


def test_a_damaged_snapshot_does_not_affect_other_days(keep: Keep, count: Any, aws: Any, state_bucket: str) -> None:
    keep(20, {SECRET: 3, "ada": 3})
    broken = keep(21, {SECRET: 4, "bob": 3})
    found = aws("s3").get_object(Bucket=state_bucket, Key=broken)
    body, metadata = found["Body"].read(), found["Metadata"]
    aws("s3").put_object(Bucket=state_bucket, Key=broken, Body=body[:-1] + b"2", Metadata=metadata)
    keep(22, {SECRET: 4, "bob": 3})
    another = pending_snapshot_key("ea_atrisk", as_of(19), "x")
    aws("s3").put_object(Bucket=state_bucket, Key=another, Body=b"none\n")
    _, rows = count(threshold=2, **{"from": "2026-11-19"})
    assert [(row["members"], row["joined"], row["left"]) for row in rows] == [
        ("", "", ""), ("2", "", ""), ("", "", ""), ("2", "1", "1"),
    ]  # fmt: skip
    assert f"{another} is not a snapshot that this version reads: move it, with all of its" in rows[0]["note"]
    assert f"{broken} is gone or damaged: restore the object" in rows[2]["note"]


def test_a_day_of_an_earlier_schedule_is_counted_too(keep: Keep, count: Any) -> None:
    keep(20, {"ada": 3})
    _, rows = count(schedule="0 0 * * 0", threshold=2, **{"from": "2026-11-16"})
    assert [row["as_of"][:10] for row in rows] == ["2026-11-20", "2026-11-22"]
    with pytest.raises(AirflowFailException, match="the schedule has no as-of from 2026-11-17 to 2026-11-18: give"):
        count(schedule="0 0 * * 0", **{"from": "2026-11-17", "to": "2026-11-18"})


def test_the_dates_are_of_the_zone(keep: Keep, count: Any) -> None:
    keep(20, {"ada": 3})
    _, rows = count(timezone="Europe/Berlin", threshold=2, **{"from": "2026-11-20", "to": "2026-11-20"})
    assert [(row["as_of"], row["members"]) for row in rows] == [
        ("2026-11-20T00:00:00+01:00", ""), ("2026-11-20T01:00:00+01:00", "1"),
    ]  # fmt: skip


def test_a_cohort_without_snapshots_is_counted_nowhere(count: Any) -> None:
    output, rows = count(cohort="ea_duty")
    assert (output["counted"], output["lowest"], output["highest"]) == (0, None, None)
    assert {row["note"] for row in rows} == {"no snapshot"}


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"threshold": 101}, "threshold 101 is outside the range of cohort ea_atrisk"),
        ({"threshold": 2.0000001}, "threshold 2.0000001 is not a whole number"),
        ({"from": "2026-11-20", "to": "2026-11-19"}, "from 2026-11-20 is after to 2026-11-19: swap them"),
        ({"to": "2026-11-23"}, "to 2026-11-23 is after the newest as-of"),
        ({"from": "2001-01-01"}, "more than 1,000 as-ofs from 2001-01-01"),
        ({"cohort": "ea_atrsk"}, r"no cohort 'ea_atrsk' \(did you mean ea_atrisk\?\)"),
        ({"treshold": 2}, "this DAG has no param treshold: the params are cohort, threshold, from, to"),
    ],
)
def test_invalid_params_are_refused_before_anything_is_read(
    params: dict[str, Any], sentence: str, count: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_VAR_COHORT_FLYWHEEL_STATE_BUCKET")  # the first thing that is needed for reading
    with pytest.raises(AirflowFailException) as raised:
        count(**params)
    assert re.search(sentence, str(raised.value))
    assert "Changes made: none. Clearing this task is safe" in str(raised.value)


@pytest.mark.usefixtures("a_week")
def test_the_members_are_in_the_memory_of_the_tuning(
    count: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = REGISTRY.read_text(encoding="utf-8")
    registry = tmp_path / "cohorts.yaml"
    registry.write_text(f"tuning: {{memory_mb: {MEMORY_MB}}}\n{text}", encoding="utf-8")
    limits = MemoryLimits(tmp_path / "limits", monkeypatch)
    assert figures(count(registry, threshold=2, **{"from": "2026-11-17"})[1]) == EXPECTED
    assert limits.are_tuned()


def test_too_little_memory_is_not_taken_for_an_unusable_day(
    keep: Keep, count: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(20, {f"player{number}": 3 for number in range(1_000)})
    monkeypatch.setattr(duckdb, "MEMORY_MB", 1)
    with pytest.raises(AirflowFailException, match="CF-TASK-04: DuckDB could not .* memory_mb under tuning"):
        count(threshold=2)
