"""What runs leave for one another, against moto's S3 and its conditional puts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.s3 import put_json
from cohort_flywheel.runs import names
from cohort_flywheel.runs.result import RunIds
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.members import Vertex
from cohort_flywheel.segment.segment_file import digest
from tests.cohort_flywheel.segment.snapshots import vertices_of
from tests.cohort_flywheel.task_outputs import result_record

DAY = datetime(2026, 11, 22, tzinfo=UTC)
MINE = RunIds(dag_id="cohort_to_segment", run_id="scheduled__1")
OTHERS = RunIds(dag_id="cohort_to_segment", run_id="manual__2")
KEY = "claims/n.json"

# --- snapshots -------------------------------------------------------------------------------------------


def test_a_bucket_without_snapshots(state: State) -> None:
    assert state.snapshot_days("ea_atrisk") == []
    assert state.snapshots("ea_atrisk", DAY) == []
    assert state.final_snapshot("ea_atrisk", DAY) is None


def test_each_read_of_a_day_is_a_pending_snapshot_of_its_own(state: State, kept: Any) -> None:
    early, late = kept(DAY, {"a": 1}), kept(DAY, {"a": 1}, minutes=9)
    assert early != late, "the same players at another time are another read"
    assert kept(DAY, {"a": 1}) == early
    found = state.snapshots("ea_atrisk", DAY)
    assert {(s.key, s.final, s.header.read_at) for s in found} == {
        (early, False, DAY + timedelta(minutes=3)),
        (late, False, DAY + timedelta(minutes=9)),
    }
    assert state.final_snapshot("ea_atrisk", DAY) is None
    assert vertices_of(state, early) == [Vertex("a", 1, {"status": ["Active"]})]


def test_the_second_to_make_one_final_gets_the_firsts(state: State, kept: Any, tmp_path: Path) -> None:
    first, second = kept(DAY, {"a": 1}), kept(DAY, {"b": 1})
    final = state.make_final("ea_atrisk", DAY, first, tmp_path)
    assert (final.key, final.final) == (names.snapshot_key("ea_atrisk", DAY), True)
    assert [final.is_of(key) for key in (final.key, first, second)] == [True, True, False]
    for again in (second, first):
        assert state.make_final("ea_atrisk", DAY, again, tmp_path) == final
    assert state.snapshots("ea_atrisk", DAY) == [final] == [state.final_snapshot("ea_atrisk", DAY)]
    assert vertices_of(state, final.key) == vertices_of(state, first)


def test_a_final_snapshot_is_the_only_object_of_its_partition(state: State, kept: Any, aws: Any) -> None:
    final, pending = kept(DAY, {"a": 1}, final=True), kept(DAY, {"b": 1})
    partition = "cohort=ea_atrisk/as_of=2026-11-22_00-00-00/"
    (found,) = aws("s3").list_objects_v2(Bucket=state._bucket, Prefix="snapshots/")["Contents"]
    assert found["Key"] == final == f"snapshots/{partition}snapshot.parquet"
    assert pending.startswith(f"snapshots_pending/{partition}")


@pytest.mark.parametrize("body", [None, b"", b"PAR1"])
def test_a_snapshot_that_is_gone_or_has_other_bytes_is_an_error(
    state: State, kept: Any, aws: Any, tmp_path: Path, body: bytes | None
) -> None:
    key = kept(DAY, {"a": 1})
    where = {"Bucket": state._bucket, "Key": key}
    metadata = aws("s3").head_object(**where)["Metadata"]
    aws("s3").delete_object(**where)
    if body is not None:
        aws("s3").put_object(**where, Body=body, Metadata=metadata)
    for use in (
        lambda: state.fetch_snapshot(key, tmp_path / "snapshot.parquet"),
        lambda: state.make_final("ea_atrisk", DAY, key, tmp_path),
    ):
        with pytest.raises(FlywheelError, match=f"CF-STATE-01: the snapshot s3://.*/{key} is gone or damaged: restore"):
            use()
    assert state.final_snapshot("ea_atrisk", DAY) is None


def test_a_snapshot_of_an_earlier_version_does_not_become_final(state: State, aws: Any, tmp_path: Path) -> None:
    """Another version may be deployed between extract and check_limits: the final snapshot is never replaced."""
    (path := tmp_path / "a.jsonl").write_text('{"version":1}\n')
    key = "snapshots/ea_atrisk/2026-11-22_00-00-00/b206bf06bc78f6ee.jsonl"
    aws("s3").put_object(Bucket=state._bucket, Key=key, Body=path.read_bytes(), Metadata={"sha256": digest(path)})
    with pytest.raises(FlywheelError, match=f"{key} is not a snapshot that this version reads"):
        state.make_final("ea_atrisk", DAY, key, tmp_path)
    assert not state.has_final_snapshot("ea_atrisk", DAY)


def test_the_days_of_a_cohort_are_in_their_order_and_its_own(state: State, kept: Any) -> None:
    days = [DAY - timedelta(days=n) for n in (0, 9, 3)]
    for day in days:
        kept(day, {"a": 1})
    kept(DAY - timedelta(days=3), {"a": 1}, final=True)
    for folder in ("backup", "as_of=2026-11-22", "as_of=2026-11-22_00-00-00_old"):  # a user has folders beside them
        put_json(state._s3, state._bucket, f"snapshots/cohort=ea_atrisk/{folder}/x.json", {})
    assert state.snapshot_days("ea_atrisk") == sorted(days)
    assert state.snapshot_days("ea_at") == []
    assert state.snapshots("ea_atrisk", DAY - timedelta(days=1)) == []


# --- claims ----------------------------------------------------------------------------------------------


def test_a_lock_is_acquired_once(state: State) -> None:
    assert state.lock_holder(KEY) is None
    assert state.take(KEY, MINE, None)
    assert not state.take(KEY, OTHERS, None)
    found = state.lock_holder(KEY)
    assert found is not None
    assert found[0] == MINE


def test_a_lock_is_taken_over_only_with_its_current_etag(state: State) -> None:
    state.take(KEY, MINE, None)
    found = state.lock_holder(KEY)
    assert found is not None
    third = OTHERS.model_copy(update={"run_id": "manual__3"})
    assert state.take(KEY, OTHERS, found[1])
    assert not state.take(KEY, third, found[1])
    now = state.lock_holder(KEY)
    assert now is not None
    assert now[0] == OTHERS


def test_a_lock_released_meanwhile_is_not_taken_over(state: State) -> None:
    """The next try finds none, and takes it."""
    state.take(KEY, MINE, None)
    found = state.lock_holder(KEY)
    assert found is not None
    state.release_lock(KEY, MINE)
    assert not state.take(KEY, OTHERS, found[1])
    assert state.lock_holder(KEY) is None


@pytest.mark.parametrize("taken_over", [False, True])
def test_a_write_whose_answer_was_lost_counts_as_ours(state: State, taken_over: bool) -> None:
    """The SDK's own second try meets the object of the first."""
    etag = None
    if taken_over:
        state.take(KEY, OTHERS, None)
        found = state.lock_holder(KEY)
        assert found is not None
        etag = found[1]
    assert state.take(KEY, MINE, etag)
    assert state.take(KEY, MINE, etag), "the second try of the same call"


def test_a_run_releases_only_its_own_lock(state: State) -> None:
    state.release_lock(KEY, MINE)
    state.take(KEY, OTHERS, None)
    state.release_lock(KEY, MINE)
    state.release_lock(KEY, OTHERS.model_copy(update={"dag_id": "another_dag"}))
    assert state.lock_holder(KEY) is not None
    state.release_lock(KEY, OTHERS)
    assert state.lock_holder(KEY) is None


def test_other_refusals_than_a_failed_condition_are_raised(state: State, airflow_env: Any) -> None:
    from cohort_flywheel.hooks.s3 import S3Hook

    with pytest.raises(ClientError, match="NoSuchBucket"):
        put_json(S3Hook(), "no-such-bucket", "k", {}, IfNoneMatch="*")


# --- results ---------------------------------------------------------------------------------------------


@pytest.fixture
def results(state: State) -> Callable[..., None]:
    def put(*days: int, threshold: int = 2, cohort: str = "ea_atrisk") -> None:
        for day in days:
            as_of = datetime(2026, 11, day, tzinfo=UTC)
            state.put_result(cohort, threshold, as_of, result_record(as_of, MINE, s3_url=f"s3://{cohort}/{threshold}"))

    return put


def test_the_previous_result_is_the_greatest_earlier_one(state: State, results: Any) -> None:
    results(21, 3, 12, 22, 23)
    for before, day in ((DAY, 21), (DAY - timedelta(days=1), 12)):
        found = state.previous_result("ea_atrisk", 2, before)
        assert found is not None
        assert (found.as_of.day, found.s3_url) == (day, "s3://ea_atrisk/2")
    assert state.previous_result("ea_atrisk", 2, datetime(2026, 11, 3, tzinfo=UTC)) is None


def test_a_result_of_another_cohort_or_threshold_is_not_a_previous_result(state: State, results: Any) -> None:
    results(21, threshold=-2)
    results(21, threshold=20)
    results(21, cohort="ea_atrisk_more")
    assert state.previous_result("ea_atrisk", 2, DAY) is None


def test_a_result_of_the_same_as_of_is_overwritten(state: State) -> None:
    day = DAY - timedelta(days=1)
    first, second = (result_record(day, MINE, members=members) for members in (1, 2))
    state.put_result("ea_atrisk", 2, day, first)
    assert state.put_result("ea_atrisk", 2, day, second) == "results/ea_atrisk/2/2026-11-21_00-00-00.json"
    assert state.previous_result("ea_atrisk", 2, DAY) == second
