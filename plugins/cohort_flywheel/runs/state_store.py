"""The state bucket: snapshots, run locks and results, which later runs read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from cohort_flywheel.common.records import Json
from cohort_flywheel.config.decimals import Number
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, delete_if, folders, get_json, keys, lines, put_json, put_unless_equal
from cohort_flywheel.runs import names
from cohort_flywheel.runs.result import LastRun, Result, RunIds
from cohort_flywheel.segment.members import Vertex
from cohort_flywheel.segment.snapshot import MAX_HEADER_BYTES, Snapshot, read_header, read_vertices


class State:
    """Read and write the state bucket. Writes are idempotent; a write that must happen once is a conditional put.

    :param s3: the S3 hook.
    :param bucket: the name of the bucket.
    """

    def __init__(self, s3: S3Hook, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    # --- snapshots

    def snapshot_days(self, cohort: str) -> list[datetime]:
        """The as-ofs that have a snapshot, sorted."""
        found = folders(self._s3, self._bucket, names.snapshots_folder(cohort))
        return [names.from_instant(day) for day in found if names.is_instant(day)]

    def snapshots(self, cohort: str, as_of: datetime) -> list[Snapshot]:
        """Every snapshot of an as-of, with the final one marked."""
        folder = names.snapshot_folder(cohort, as_of)
        final = self.final_snapshot(cohort, as_of)
        return [
            final if final and final.key == key else self._snapshot(key, is_final=False)
            for key in keys(self._s3, self._bucket, folder)
            if key.endswith(".jsonl")
        ]

    def final_snapshot(self, cohort: str, as_of: datetime) -> Snapshot | None:
        """The final snapshot of an as-of, or None."""
        folder = names.snapshot_folder(cohort, as_of)
        final = get_json(self._s3, self._bucket, folder + names.FINAL_FILE_NAME)
        return self._snapshot(final[0]["key"], is_final=True) if final else None

    def has_final_snapshot(self, cohort: str, as_of: datetime) -> bool:
        """Return whether the snapshot of an as-of is final."""
        key = names.snapshot_folder(cohort, as_of) + names.FINAL_FILE_NAME
        return get_json(self._s3, self._bucket, key) is not None

    def _snapshot(self, key: str, *, is_final: bool) -> Snapshot:
        client = self._s3.get_conn()
        try:
            answer = client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes=0-{MAX_HEADER_BYTES - 1}")
        except client.exceptions.NoSuchKey:
            raise FlywheelError(
                f"the snapshot {self._place(key)} is gone, but {names.FINAL_FILE_NAME} of its as-of names it: restore"
                " the object (its earlier version, where the bucket is versioned)",
                code=Code.STATE_DAMAGED,
            ) from None
        first = answer["Body"].read().partition(b"\n")[0]
        return Snapshot(key, read_header(first, self._place(key)), is_final)

    def put_snapshot(self, path: Path, cohort: str, as_of: datetime, sha256: str) -> str:
        """Put a pending snapshot beside the earlier ones; return its key."""
        key = names.snapshot_folder(cohort, as_of) + names.snapshot_file_name(sha256)
        put_unless_equal(self._s3, path, self._bucket, key, sha256)
        return key

    def vertices(self, snapshot_key: str) -> Iterator[Vertex]:
        """Stream the vertices of a snapshot."""
        return read_vertices(lines(self._s3, self._bucket, snapshot_key), self._place(snapshot_key))

    def make_final(self, cohort: str, as_of: datetime, snapshot_key: str, by: Mapping[str, object]) -> str:
        """Make a snapshot the final one of its as-of, unless there is one; return the key of the final one."""
        key = names.snapshot_folder(cohort, as_of) + names.FINAL_FILE_NAME
        put_json(self._s3, self._bucket, key, {"key": snapshot_key, **by}, IfNoneMatch="*")
        final = get_json(self._s3, self._bucket, key)
        if final is None:
            raise RuntimeError  # the object was there, or was put, a moment ago
        return str(final[0]["key"])

    # --- locks

    def lock_holder(self, key: str) -> tuple[RunIds, str] | None:
        """The run that holds a lock, and the ETag of the lock; None if no run holds it."""
        found = get_json(self._s3, self._bucket, key)
        return (RunIds.model_validate(found[0]), found[1]) if found else None

    def take(self, key: str, run: RunIds, etag: str | None, attempt: str = "") -> bool:
        """Put a lock if the current one has this ETag (None: if there is no lock); False if another run was faster.

        `attempt` identifies the task's attempt. It gives the lock a new ETag, so that a run that has read the earlier
        one cannot take the lock over.
        """
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        if put_json(self._s3, self._bucket, key, run.model_dump() | {"attempt": attempt}, **condition):
            return True
        # still true if the answer to the first try was lost, or another task of this run put the lock meanwhile
        now = self.lock_holder(key)
        return bool(now and now[0] == run)

    def release_lock(self, key: str, run: RunIds) -> None:
        """Release a lock if this run holds it."""
        while (found := self.lock_holder(key)) and found[0] == run:
            delete_if(self._s3, self._bucket, key, found[1])  # retried if another attempt of this run has put it since

    def last_run(self, claim_key: str) -> RunIds | None:
        """The last run that worked on the name of a lock and has released it, or None."""
        found = get_json(self._s3, self._bucket, names.last_run_key(claim_key))
        return RunIds.model_validate(found[0]) if found else None

    def generation(self, claim_key: str, run: RunIds) -> int:
        """The number of runs that have worked on the name of a lock, including `run`, which holds it or will."""
        found = get_json(self._s3, self._bucket, names.last_run_key(claim_key))
        return _generation(found[0] if found else None, run)

    def put_last_run(self, claim_key: str, run: RunIds) -> None:
        """Record the holder of a lock as the last run that worked on its name, before the lock changes hands.

        Does nothing if the run is recorded already, or does not hold the lock.
        """
        key = names.last_run_key(claim_key)
        found, holder = get_json(self._s3, self._bucket, key), self.lock_holder(claim_key)
        if not holder or holder[0] != run or (found and RunIds.model_validate(found[0]) == run):
            return
        condition = {"IfMatch": found[1]} if found else {"IfNoneMatch": "*"}
        last = LastRun(**run.model_dump(), generation=_generation(found[0] if found else None, run))
        # a run that another run has recorded since stays
        put_json(self._s3, self._bucket, key, last.model_dump(), **condition)

    # --- results

    def put_result(self, cohort: str, threshold: Number, as_of: datetime, result: Result) -> str:
        """Put the result of a verified segment; return its key."""
        key = names.result_key(cohort, threshold, as_of)
        put_json(self._s3, self._bucket, key, result.model_dump(mode="json", exclude_unset=True))
        return key

    def result(self, cohort: str, threshold: Number, as_of: datetime) -> Result | None:
        """The result of an as-of, or None."""
        found = get_json(self._s3, self._bucket, names.result_key(cohort, threshold, as_of))
        return Result.model_validate(found[0]) if found else None

    def previous_result(self, cohort: str, threshold: Number, as_of: datetime) -> Result | None:
        """The result of the greatest earlier as-of, or None."""
        now = names.result_key(cohort, threshold, as_of)
        earlier = [k for k in keys(self._s3, self._bucket, names.results_folder(cohort, threshold)) if k < now]
        found = get_json(self._s3, self._bucket, earlier[-1]) if earlier else None
        return Result.model_validate(found[0]) if found else None

    def _place(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"


def _generation(last: Json | None, run: RunIds) -> int:
    if last is None:
        return 1
    return LastRun.model_validate(last).generation + (RunIds.model_validate(last) != run)
