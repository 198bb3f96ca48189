"""The state bucket: snapshots, run locks and results, which later runs read."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cohort_flywheel.common.records import Json
from cohort_flywheel.config.decimals import Number
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import (
    S3Hook,
    delete_if,
    download,
    folders,
    get_json,
    keys,
    metadata_of,
    put_if,
    put_json,
)
from cohort_flywheel.runs import names
from cohort_flywheel.runs.result import LastRun, Result, RunIds
from cohort_flywheel.segment.segment_file import digest
from cohort_flywheel.segment.snapshot import HEADER, READ, Header, Snapshot, read_header


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
        prefixes = [names.snapshots_folder(cohort, pending=pending) for pending in (True, False)]
        found = [names.as_of_of_folder(name) for each in prefixes for name in folders(self._s3, self._bucket, each)]
        return sorted({day for day in found if day})

    def snapshots(self, cohort: str, as_of: datetime) -> list[Snapshot]:
        """The final snapshot of an as-of, or without one every pending one."""
        if final := self.final_snapshot(cohort, as_of):
            return [final]
        pending = keys(self._s3, self._bucket, names.pending_snapshots_folder(cohort, as_of))
        snapshots = (self._snapshot(key, is_final=False) for key in pending if key.endswith(".parquet"))
        return [each for each in snapshots if each]

    def final_snapshot(self, cohort: str, as_of: datetime) -> Snapshot | None:
        """The final snapshot of an as-of, or None."""
        return self._snapshot(names.snapshot_key(cohort, as_of), is_final=True)

    def has_final_snapshot(self, cohort: str, as_of: datetime) -> bool:
        """Return whether the snapshot of an as-of is final."""
        return metadata_of(self._s3, self._bucket, names.snapshot_key(cohort, as_of)) is not None

    def _snapshot(self, key: str, *, is_final: bool) -> Snapshot | None:
        metadata = metadata_of(self._s3, self._bucket, key)
        if metadata is None:
            return None
        return Snapshot(key, read_header(metadata.get(HEADER), self._place(key)), is_final, metadata.get(READ, ""))

    def put_snapshot(self, path: Path, header: Header) -> str:
        """Put a pending snapshot beside the earlier ones; return its key."""
        sha256 = digest(path)
        read = sha256[:16]
        key = names.pending_snapshot_key(header.cohort, header.as_of, read)
        metadata = {HEADER: header.text(), READ: read, "sha256": sha256}
        put_if(self._s3, self._bucket, key, path, metadata, IfNoneMatch="*")  # the object of that name has these bytes
        return key

    def fetch_snapshot(self, snapshot_key: str, path: Path) -> dict[str, str]:
        """Download a snapshot to a file; return its metadata.

        Raises FlywheelError for an object that is gone, whose bytes are not those that were put, or of another version.
        """
        metadata = download(self._s3, self._bucket, snapshot_key, path)
        if metadata is None or metadata.get("sha256") != digest(path):
            raise FlywheelError(
                f"the snapshot {self._place(snapshot_key)} is gone or damaged: restore the object (its earlier version,"
                " where the bucket is versioned), and clear this task",
                code=Code.STATE_DAMAGED,
            )
        read_header(metadata.get(HEADER), self._place(snapshot_key))
        return metadata

    def make_final(self, cohort: str, as_of: datetime, snapshot_key: str, folder: Path) -> Snapshot:
        """Put a copy of a pending snapshot as the final one of its as-of, unless there is one; return the final one.

        The pending one stays: another run may have listed it and read it next, and cleanup finds the players of a run
        in the snapshot that its report names, which is the pending one.
        """
        if final := self.final_snapshot(cohort, as_of):
            return final
        path, key = folder / "pending.parquet", names.snapshot_key(cohort, as_of)
        put_if(self._s3, self._bucket, key, path, self.fetch_snapshot(snapshot_key, path), IfNoneMatch="*")
        final = self.final_snapshot(cohort, as_of)
        if final is None:
            raise RuntimeError  # the object was there, or was put, a moment ago
        return final

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
