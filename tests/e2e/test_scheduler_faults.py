"""Three of the fault harness's cases through the real scheduler, the lock between two runs, and an override."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.airflow_up import DAG_ID, Up, wait_until

pytestmark = pytest.mark.airflow
#: The fault harness and the tests of the lock, the limits and the plan show the same without a scheduler.
nightly = pytest.mark.nightly


@pytest.fixture(autouse=True)
def no_other_runs(up: Up) -> None:
    """The emulation's next fault is for the run of the test."""
    up.unpause(DAG_ID)  # as `started` does
    wait_until(lambda: bool(up.runs(run_type="scheduled")), "the DAG, once switched on, has a scheduled run", up)
    wait_until(lambda: not up.runs(state="running") and not up.runs(state="queued"), "no other run is there", up)


def clear(up: Up, run_id: str, *task_ids: str, downstream: bool = True) -> None:
    """Clear the task with downstream, as in the UI."""
    body = {"dag_run_id": run_id, "task_ids": task_ids, "include_downstream": downstream, "dry_run": False,
            "only_failed": False, "reset_dag_runs": True}  # fmt: skip
    answer = up.rest("POST", f"/dags/{DAG_ID}/clearTaskInstances", body)
    assert answer.status_code == 200, answer.text


def jobs(up: Up, report: dict[str, Any]) -> list[dict[str, Any]]:
    """The import jobs of the report's segment file, the oldest first."""
    found = up.client("pinpoint").get_import_jobs(ApplicationId=up.application_id, PageSize="100")
    items: list[dict[str, Any]] = found["ImportJobsResponse"]["Item"]
    return [job for job in reversed(items) if job["Definition"]["S3Url"] == report["segment"]["url"]]


def adds_up(up: Up, report: dict[str, Any]) -> None:
    extract, segment = report["extract"], report["segment"]
    assert extract["vertices"] == extract["members"] + extract["merged"] + extract["vertices_without_playerId"]
    assert segment["members"] == segment["rows"] + sum(segment["rejects"].values()) == extract["members"] > 0
    named = [each for each in segments(up) if each["Id"] == report["imported"]["segment_id"]]
    assert [each["ImportDefinition"]["Size"] for each in named] == [segment["rows"]]
    assert len([each for each in segments(up) if each["Name"] == named[0]["Name"]]) == 1


def segments(up: Up) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = up.client("pinpoint").get_segments(
        ApplicationId=up.application_id, PageSize="100"
    )["SegmentsResponse"]["Item"]  # fmt: skip
    return found


def attempts(up: Up, run_id: str, task_id: str) -> int:
    return int(up.get(f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{task_id}")["try_number"])


@nightly
def test_after_a_failed_job_the_cleared_task_creates_another_for_the_same_segment(up: Up) -> None:
    up.pinpoint(fail_next_jobs=1)
    run_id = up.trigger({"cohort": "ea_reputation", "threshold": -70})
    up.end(run_id, "failed")
    assert "clear enrich with downstream" in up.last_line(run_id, "wait_for_import_job")
    clear(up, run_id, "create_import_job")
    wait_until(lambda: up.run(run_id)["state"] not in ("success", "failed"), "the cleared run runs again", up, 60)
    up.end(run_id)
    report = up.report(run_id)
    first, second = jobs(up, report)
    assert (first["JobStatus"], second["JobStatus"]) == ("FAILED", "COMPLETED")
    assert first["Definition"]["SegmentId"] == second["Definition"]["SegmentId"] == report["imported"]["segment_id"]
    assert second["Id"] == report["imported"]["job_id"]
    adds_up(up, report)


@nightly
def test_a_create_whose_answer_was_lost_is_retried_and_found(up: Up) -> None:
    up.pinpoint(lose_next_answers=1)
    run_id = up.trigger({"cohort": "ea_reputation", "threshold": -60})
    up.end(run_id)
    assert attempts(up, run_id, "create_import_job") == 2
    report = up.report(run_id)
    (job,) = jobs(up, report)
    assert (job["Id"], job["JobStatus"]) == (report["imported"]["job_id"], "COMPLETED")
    adds_up(up, report)


@nightly
def test_a_worker_that_is_killed_is_replaced_and_the_figures_are_the_same(up: Up) -> None:
    conf = {"cohort": "ea_duty", "threshold": 5}
    run_id = up.trigger(conf)
    killed = kill_while_it_runs(up, run_id, "extract")
    up.end(run_id)
    assert killed
    assert attempts(up, run_id, "extract") == 2
    report = up.report(run_id)
    adds_up(up, report)
    (job,) = jobs(up, report)

    undisturbed = up.trigger(conf)
    up.end(undisturbed)
    again = up.report(undisturbed)
    # the second run reads the final snapshot, which has no vertices whose score is not a number
    differs = {"read_at": "", "source": "", "snapshot": "", "snapshot_key": "", "vertices_without_number": ""}
    assert [again[stage] | differs for stage in ("extract", "segment")] == [
        report[stage] | differs for stage in ("extract", "segment")
    ]
    assert jobs(up, again) == [job]


def kill_while_it_runs(up: Up, run_id: str, task_id: str, seconds: float = 120) -> bool:
    """SIGKILL the process of a task as soon as it is there: the child of the worker that Airflow names after it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = up.get(f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{task_id}")
        for command in Path("/proc").glob("[0-9]*/cmdline") if found["state"] == "running" else ():
            try:
                children = (command.parent / "task" / command.parent.name / "children").read_text().split()
                if found["id"].encode() in command.read_bytes() and children:
                    os.kill(int(children[0]), signal.SIGKILL)
                    return True
            except OSError:  # one of them has just ended
                continue
        time.sleep(0.05)
    pytest.fail(f"{task_id} was not met while it ran: it is {found['state']}")


@nightly
def test_two_concurrent_runs_of_one_result_are_separated_by_the_lock(up: Up) -> None:
    up.pinpoint(import_seconds=25)
    conf = {"cohort": "ea_mischief", "threshold": 3}
    first = up.trigger(conf)
    try:
        wait_until(lambda: up.tasks(first).get("create_import_job") == "success", "the first has its job", up)
        second = up.trigger(conf)
        up.end(second, "failed")
    finally:
        up.pinpoint(import_seconds=6)
    assert re.search(
        rf"run {re.escape(first)} of DAG {DAG_ID} is running and makes the same result", up.last_line(second, "extract")
    )
    up.end(first)
    report = up.report(first)
    assert len(jobs(up, report)) == 1
    adds_up(up, report)

    clear(up, second, "extract")  # the first has ended: the second is the same result
    wait_until(lambda: up.run(second)["state"] not in ("success", "failed"), "the cleared run runs again", up, 60)
    up.end(second)
    assert up.report(second)["imported"]["job_id"] == report["imported"]["job_id"]
    assert len(jobs(up, report)) == 1


@nightly
def test_a_run_stopped_by_a_limit_passes_with_an_override(up: Up) -> None:
    right = up.registry.read_text(encoding="utf-8")
    before, _, rest = right.partition("\n  ea_mischief:")
    up.registry.write_text(
        before + "\n  ea_mischief:" + rest.replace("max_members: 100000", "max_members: 4", 1), encoding="utf-8"
    )
    try:
        conf: dict[str, Any] = {"cohort": "ea_mischief", "threshold": 2}
        stopped = up.trigger(conf)
        up.end(stopped, "failed")
        assert up.tasks(stopped)["create_import_job"] == "upstream_failed"
        assert re.search(r"max_members .*4", up.last_line(stopped, "check_limits"))
        assert attempts(up, stopped, "check_limits") == 1
        reason = "a tournament brought them, says the producer"
        passed = up.trigger(conf | {"override_limits": True, "override_reason": reason})
        up.end(passed)
    finally:
        up.registry.write_text(right, encoding="utf-8")
    report = up.report(passed)
    assert report["outcome"] == "imported"
    assert reason in str(report["limits"])
    adds_up(up, report)
    assert up.report(stopped)["imported"] is None


@pytest.mark.parametrize(
    ("params", "cleared"),
    [
        pytest.param({"cohort": "ea_malice", "dry_run": True}, ["create_import_job", "record_result"], id="dry run"),
        pytest.param({"cohort": "ea_atrisk", "threshold": 90}, ["create_import_job"], id="empty cohort", marks=nightly),
        pytest.param(
            {"cohort": "ea_reputation", "threshold": -76, "extract_only": True},
            ["enrich", "check_limits"],
            id="extract only",
            marks=nightly,
        ),
    ],
)
def test_a_skipped_task_that_is_cleared_is_skipped_again(up: Up, params: dict[str, Any], cleared: list[str]) -> None:
    run_id = up.trigger(params)
    up.end(run_id)
    before = up.tasks(run_id)
    assert {before[task_id] for task_id in cleared} == {"skipped"}
    for downstream in (False, True):
        clear(up, run_id, *cleared, downstream=downstream)
        wait_until(lambda: up.run(run_id)["state"] in ("success", "failed"), "the cleared run ends", up, 120)
        assert up.tasks(run_id) == before
    assert attempts(up, run_id, "create_import_job") == 0, "and it has never been started"
