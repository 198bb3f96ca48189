"""Airflow's own backfill of the daily DAG, by its real scheduler: the past comes from the past."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cohort_flywheel.runs.plan_operator import CohortPlanOperator
from cohort_flywheel.segment.enrich_operator import DynamoDBEnrichOperator, enrich_arguments
from cohort_flywheel.segment.extract_operator import CohortExtractOperator
from cohort_flywheel.segment.limits_operator import CohortLimitsOperator
from local import sample, seed
from local.servers import airflow_environment
from tests.airflow_up import DAG_ID, Up, wait_until

pytestmark = pytest.mark.airflow

MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAYS = [MIDNIGHT - timedelta(days=number) for number in (10, 9, 8, 7, 6)]
NO_SNAPSHOT = MIDNIGHT - timedelta(days=5)
PENDING = DAYS[2]
#: The threshold of each day, and who has which score from that day on, beside the sample's own.
THRESHOLDS = [2, 1, 1, 0, 2]
CHANGES: list[dict[str, int]] = [{}, {"wayne96": 0}, {"xortiz": 1}, {"wayne96": 2}, {"wayne96": 7, "msmith": 0}]


def set_scores(up: Up, changes: dict[str, int] | None) -> None:
    """Change players of the graph; None sets all players at risk, which none was on the days before."""
    from gremlin_python.driver.client import Client

    client = Client(up.servers.gremlin_url, "g")
    step = "property(single, 'ea_atrisk', score)"
    try:
        if changes is None:
            client.submit(f"g.V().hasLabel('player').{step}.iterate()", {"score": 99}).all().result()
        for player, score in (changes or {}).items():
            text = f"g.V().has('player', 'playerId', player).{step}.iterate()"
            client.submit(text, {"player": player, "score": score}).all().result()
    finally:
        client.close()


@pytest.fixture(scope="module")
def expected() -> dict[datetime, list[str]]:
    """The members of each day, reckoned from the sample and the changes alone."""
    vertices = [(str(player["playerId"]), int(player["ea_atrisk"])) for player in sample.players()]
    found = {}
    for day, threshold, changes in zip(DAYS, THRESHOLDS, CHANGES, strict=True):
        vertices = [(player, changes.get(player, score)) for player, score in vertices]
        found[day] = sorted({player for player, score in vertices if score > threshold})
    return found


def make_snapshot(up: Up, context: Any, day: datetime) -> None:
    """What that day's run left: its operators, with the clock of that night handed in."""
    night = day + timedelta(minutes=10)
    run = context(run_id=f"scheduled__{day:%Y-%m-%d}", task_id="extract", run_after=night)
    plan: Any = CohortPlanOperator(
        task_id="plan", registry=up.registry, schedule="0 0 * * *", destination="pinpoint", clock=lambda: night
    ).execute(run)
    shards = CohortExtractOperator(task_id="extract", plan=plan, clock=lambda: night).execute(run)
    if day == PENDING:
        return
    facts = run["ti"].xcom_pull("extract", "facts")
    parts = [
        DynamoDBEnrichOperator(task_id="enrich", shard=shard, **enrich_arguments(plan, facts)).execute(run)
        for shard in shards
    ]
    CohortLimitsOperator(
        task_id="check_limits",
        plan=plan,
        extract=facts,
        shards=shards,
        parts=parts,
        handle_empty_segment=lambda plan, settings: False,
    ).execute(run)


@pytest.fixture
def past(up: Up, context: Any, monkeypatch: pytest.MonkeyPatch) -> Up:
    """Five days of a changing graph under changing thresholds, and a graph that now is of none of them."""
    history = "".join(
        f"\n      - {{from: {d:%Y-%m-%d}, threshold: {t}}}" for d, t in zip(DAYS, THRESHOLDS, strict=True)
    )
    text = up.registry.read_text(encoding="utf-8")
    assert text.count("\n    threshold: 2\n    floor: 0\n") == 1
    text = text.replace("\n    threshold: 2\n    floor: 0\n", f"\n    threshold:{history}\n    floor: 0\n")
    up.registry.write_text(text.replace("max_change_percent: 300", "max_change_percent: 100000"), encoding="utf-8")
    role = seed.make_import_role(up.servers, up.config, up.application_id)
    for name, value in airflow_environment(up.servers, up.config, up.application_id, role).items():
        monkeypatch.setenv(name, value)
    for day, changes in zip(DAYS, CHANGES, strict=True):
        set_scores(up, changes)
        make_snapshot(up, context, day)
    set_scores(up, None)
    # the service's two active jobs at a time would cost minutes here, and are another test's
    up.pinpoint(max_active_jobs=10)
    up.unpause(DAG_ID)
    return up


def backfill(up: Up, first: datetime, last: datetime, *more: str) -> dict[datetime, str]:
    """Make the runs of the as-ofs from first to last, and wait for their end; the run of each as-of."""
    days = [f"{day - timedelta(days=1):%Y-%m-%d}" for day in (first, last)]  # a backfill's dates are logical dates
    command = ("backfill", "create", "--dag-id", DAG_ID, "--from-date", days[0], "--to-date", days[1], *more)
    output, _ = (process := up.cli(*command)).communicate(timeout=120)
    assert process.returncode == 0, output
    (newest, *_) = sorted(up.get("/backfills", dag_id=DAG_ID)["backfills"], key=lambda each: -int(each["id"]))
    ended = f"/backfills/{newest['id']}"
    wait_until(lambda: up.get(ended)["completed_at"] is not None, f"backfill {newest['id']} has ended", up, 600)
    runs = {datetime.fromisoformat(run["data_interval_end"]): run["dag_run_id"] for run in up.runs(run_type="backfill")}
    return {day: run for day, run in runs.items() if first <= day <= last}


def jobs(up: Up) -> list[Any]:
    """The import jobs of the five days; the schedule's own run has one beside them."""
    found = up.client("pinpoint").get_import_jobs(ApplicationId=up.application_id)["ImportJobsResponse"]["Item"]
    return [job for job in found if any(f"{day:_%Y-%m-%d_}" in job["Definition"]["SegmentName"] for day in DAYS)]


def test_each_day_gives_its_own_members_under_its_own_threshold(
    past: Up, expected: dict[datetime, list[str]], figure: Callable[[str], None]
) -> None:
    up = past
    figure(f"up on PostgreSQL took {up.seconds:.0f} s")

    def check(day: datetime, run_id: str) -> dict[str, Any]:
        up.end(run_id)
        report = up.report(run_id)
        threshold = THRESHOLDS[DAYS.index(day)]
        assert datetime.fromisoformat(report["plan"]["as_of"]) == day
        assert (report["plan"]["threshold"], report["plan"]["threshold_from"]) == (
            threshold,
            f"registry, from {day:%Y-%m-%d}",
        )
        assert (report["outcome"], report["extract"]["source"]) == ("imported", "snapshot")
        bucket, _, key = report["extract"]["url"].removeprefix("s3://").partition("/")
        assert [player for each in json.loads(up.read(bucket, key)) for player in each["playerId"]] == expected[day]
        segment = up.client("pinpoint").get_segment(
            ApplicationId=up.application_id, SegmentId=report["imported"]["segment_id"]
        )["SegmentResponse"]
        assert segment["ImportDefinition"]["Size"] == report["segment"]["rows"] > 0
        return report

    runs = backfill(up, DAYS[0], NO_SNAPSHOT, "--max-active-runs", "3")
    assert sorted(runs) == [*DAYS, NO_SNAPSHOT]
    up.end(runs[NO_SNAPSHOT], "failed")  # alone
    assert f"no snapshot of {NO_SNAPSHOT:%Y-%m-%d}" in up.last_line(runs[NO_SNAPSHOT], "plan")
    first = {day: check(day, runs[day]) for day in DAYS}
    # that run had not been approved; this one is the first
    assert [first[day]["extract"]["snapshot"] for day in DAYS] == ["final", "final", "pending", "final", "final"]
    assert len(jobs(up)) == len(DAYS)

    again = backfill(up, DAYS[2], DAYS[4], "--max-active-runs", "3", "--reprocess-behavior", "completed")
    assert again == {day: runs[day] for day in DAYS[2:]}
    second = {day: check(day, again[day]) for day in again}
    assert second[PENDING]["extract"]["snapshot"] == "final"

    assert up.rest("POST", f"/dags/{DAG_ID}/dagRuns/{runs[DAYS[0]]}/clear", {"dry_run": False}).status_code == 200
    second[DAYS[0]] = check(DAYS[0], runs[DAYS[0]])  # ten days old

    for day, report in second.items():
        for part in ("extract", "segment"):
            assert report[part]["sha256"] == first[day][part]["sha256"]
        assert report["imported"] == first[day]["imported"]
    assert len(jobs(up)) == len(DAYS)


def test_a_backfill_overrides_no_limit(up: Up) -> None:
    conf = json.dumps({"override_limits": True, "override_reason": "I am sure"})
    day = NO_SNAPSHOT + timedelta(days=1)
    ((_, run_id),) = backfill(up, day, day, "--dag-run-conf", conf).items()
    up.end(run_id, "failed")
    assert "a backfill cannot override the limits" in up.last_line(run_id, "plan")
