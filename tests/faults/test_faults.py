"""A part of `make faults`: the dangerous cases, each kind of fault at least once; and that the harness can fail."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.leftovers import can_read_reports, without_clock
from tests.faults.sites import cases, part

if TYPE_CHECKING:
    from tests.faults.harness import World

DESTINATION = "pinpoint"


def test_a_run_survives_a_part_of_the_faults(world: World, survive: Any) -> None:
    every = cases(world.sites)
    chosen = part(every, world.at.DANGEROUS)
    kinds = len({case.fault.kind for case in chosen})
    survive(chosen, f"all {kinds} kinds of faults, but only a part: make faults tries all {len(every) + 1}")


def test_a_create_without_a_lookup_is_detected(survived: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from cohort_flywheel.destinations.pinpoint.operators import PinpointCreateImportJobOperator

    monkeypatch.setattr(PinpointCreateImportJobOperator, "_look", lambda self: (None, None))
    wrong = survived("create_import_job: pinpoint CreateImportJob #1 × answer lost, time-out")
    assert any("2 import jobs of s3://" in sentence for sentence in wrong), wrong
    assert any("2 segments" in sentence for sentence in wrong), wrong


def test_a_put_of_final_that_trusts_a_refusal_is_detected(survived: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's second try is refused, as its first took effect: who does not read what is there fails for ever."""
    from cohort_flywheel.hooks.s3 import put_if
    from cohort_flywheel.runs import names
    from cohort_flywheel.runs.state_store import State
    from cohort_flywheel.segment.snapshot import Snapshot

    def believes(self: State, cohort: str, as_of: datetime, snapshot_key: str, folder: Path) -> Snapshot | None:
        path, key = folder / "pending.parquet", names.snapshot_key(cohort, as_of)
        metadata = self.fetch_snapshot(snapshot_key, path)
        if not put_if(self._s3, self._bucket, key, path, metadata, IfNoneMatch="*"):
            raise RuntimeError
        return self.final_snapshot(cohort, as_of)

    monkeypatch.setattr(State, "make_final", believes)
    wrong = survived("check_limits: s3 PutObject #2 × answer lost, time-out")
    assert any("the run failed, and again after it was cleared" in sentence for sentence in wrong), wrong


def test_a_lock_that_is_never_released_is_detected(survived: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from cohort_flywheel.runs.state_store import State

    monkeypatch.setattr(State, "release_lock", lambda self, key, run: None)
    wrong = survived("verify_segment: pinpoint GetSegment #1 × killed before")
    assert any("/claims/" in sentence and "should not be there" in sentence for sentence in wrong), wrong


@pytest.mark.parametrize(
    "task",
    ["enrich_1", *(pytest.param(each, marks=pytest.mark.nightly) for each in ("plan", "wait_for_import_job"))],
)
def test_a_run_from_a_kept_state_leaves_what_the_whole_one_left(world: World, task: str) -> None:
    assert world.checkpoints.keys() - {"enrich_1"} == set(world.dag.task_ids)
    for _ in range(2):  # what the first of them does is not kept
        run, left = world.run(None, task_id=task)
        assert not run.failed
        assert not world.differences(world.undisturbed, left)


@pytest.mark.parametrize(("fault", "rejoined"), [("killed after", True), ("503 until cleared", False)])
def test_a_run_that_was_cleared_does_not_count_as_rejoined(world: World, fault: str, rejoined: bool) -> None:
    """Only what was as undisturbed once its task had ended stands for an equal case of another destination."""
    (case,) = (each for each in cases(world.sites) if str(each) == f"record_result: s3 DeleteObject #1 × {fault}")
    outcome = world.try_case(case)
    assert (outcome.wrong, outcome.rejoined) == ([], rejoined)
    assert any(name.endswith(":CohortResultOperator.execute") for name in outcome.ran)


@pytest.mark.parametrize("part", ["", "known", "objects", "there"])
def test_a_run_stops_only_where_all_is_as_undisturbed(world: World, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (case,) = (each for each in cases(world.sites) if str(each) == "verify_segment: pinpoint GetSegment #1 × 500")
    other: dict[str, Any] = {part: {}} if part else {}
    after = {
        task: kept if task == "verify_segment" else kept._replace(**other) for task, kept in world.checkpoints.items()
    }
    monkeypatch.setattr(world, "checkpoints", after)
    run, left = world.run(case, may_stop=True)
    assert run.stopped == (not part)
    assert not world.differences(world.undisturbed, left, case)


def test_what_is_there_is_compared_without_its_clock() -> None:
    there = {"calls": {"GetJob": 3}, "jobs": [{"at": "2026-11-22T15:31:00.123Z", "created": 1795361460.5, "size": 3}]}
    assert without_clock(there) == {"jobs": [{"at": "an instant", "created": "an instant", "size": 3}]}


def test_a_run_that_was_cleared_stops_where_only_its_report_differs(world: World) -> None:
    (case,) = (each for each in cases(world.sites) if str(each) == "extract: s3 GetObject #1 × 503 until cleared")
    run, _ = world.run(case, may_stop=True)
    assert (run.cleared, run.stopped, run.rejoined) == (True, True, False)


@pytest.mark.parametrize(
    ("operation", "key", "reads"),
    [
        ("PutObject", "reports/a/run.json", False),
        ("GetObject", "reports/a/run.json", True),
        ("DeleteObject", "reports/a/run.json", True),
        ("GetObject", "reports/a/mail_1.html", False),
        ("GetObject", "results/a.json", False),
        ("ListObjectsV2", "results/", False),
        ("ListObjectsV2", "reports/a/", True),
        ("ListObjectsV2", "", True),
        ("HeadBucket", "", False),
    ],
)
def test_a_call_that_reads_a_report_is_noticed(operation: str, key: str, reads: bool) -> None:
    assert can_read_reports(operation, ("bucket", key)) is reads
