"""What runs keep for one another in the state bucket: snapshots, locks, results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, delete_if, folders, get_json, keys, lines, put_json, put_unless_equal
from cohort_flywheel.runs import names
from cohort_flywheel.segment.members import Vertex
from cohort_flywheel.segment.snapshot import MAX_HEADER_BYTES, Snapshot, read_header, read_vertices


class State:
    """The state bucket. Every write is repeatable, and what must happen once is a conditional put.

    :param s3: the hook to reach it with.
    :param bucket: its name.
    """

    def __init__(self, s3: S3Hook, bucket: str) -> None:
        self._s3, self._bucket = s3, bucket

    # --- snapshots

    def snapshot_days(self, cohort: str) -> list[datetime]:
        """The as-ofs that have any, in their order."""
        return [names.from_instant(day) for day in folders(self._s3, self._bucket, names.snapshots_folder(cohort))]

    def snapshots(self, cohort: str, as_of: datetime) -> list[Snapshot]:
        """Every read of an as-of, the final one marked."""
        folder = names.snapshot_folder(cohort, as_of)
        final = self.final_snapshot(cohort, as_of)
        return [
            final if final and final.key == key else self._snapshot(key, is_final=False)
            for key in keys(self._s3, self._bucket, folder)
            if key.endswith(".jsonl")
        ]

    def final_snapshot(self, cohort: str, as_of: datetime) -> Snapshot | None:
        """The read of an as-of that stays, or None."""
        folder = names.snapshot_folder(cohort, as_of)
        final = get_json(self._s3, self._bucket, folder + names.FINAL_FILE_NAME)
        return self._snapshot(final[0]["key"], is_final=True) if final else None

    def _snapshot(self, key: str, *, is_final: bool) -> Snapshot:
        client = self._s3.get_conn()
        try:
            answer = client.get_object(Bucket=self._bucket, Key=key, Range=f"bytes=0-{MAX_HEADER_BYTES - 1}")
        except client.exceptions.NoSuchKey:
            raise FlywheelError(
                f"the snapshot {self._place(key)} is gone, and its day's {names.FINAL_FILE_NAME} names it: restore the"
                " object (its earlier version, where the bucket is versioned)"
            ) from None
        first = answer["Body"].read().partition(b"\n")[0]
        return Snapshot(key, read_header(first, self._place(key)), is_final)

    def put_snapshot(self, path: Path, cohort: str, as_of: datetime, sha256: str) -> str:
        """Keep a read beside the earlier ones, pending; returns its key."""
        key = names.snapshot_folder(cohort, as_of) + names.snapshot_file_name(sha256)
        put_unless_equal(self._s3, path, self._bucket, key, sha256)
        return key

    def vertices(self, snapshot_key: str) -> Iterator[Vertex]:
        """The vertices of a snapshot, streamed."""
        return read_vertices(lines(self._s3, self._bucket, snapshot_key), self._place(snapshot_key))

    def make_final(self, cohort: str, as_of: datetime, snapshot_key: str, by: Mapping[str, Any]) -> str:
        """Make a snapshot its day's for good, unless one is; returns the key of the one that is."""
        key = names.snapshot_folder(cohort, as_of) + names.FINAL_FILE_NAME
        put_json(self._s3, self._bucket, key, {"key": snapshot_key, **by}, IfNoneMatch="*")
        final = get_json(self._s3, self._bucket, key)
        if final is None:
            raise RuntimeError  # it was there, or was put, a moment ago
        return str(final[0]["key"])

    # --- locks

    def claim(self, key: str) -> tuple[dict[str, str], str] | None:
        """The run that holds a lock, and the ETag to take it over with; or None."""
        found = get_json(self._s3, self._bucket, key)
        return (_run_of(found[0]), found[1]) if found else None

    def take(self, key: str, run: Mapping[str, str], etag: str | None, attempt: str = "") -> bool:
        """Put a lock in the place of the one with this ETag, or of none; False where another run was faster.

        `attempt` tells one attempt of a task from another: it gives the lock a new ETag, so that a run that has read
        the earlier one cannot take the lock over.
        """
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        if put_json(self._s3, self._bucket, key, {**run, "attempt": attempt}, **condition):
            return True
        # this run's after all: the answer to the first try was lost, or another of its tasks put the lock meanwhile
        now = self.claim(key)
        return bool(now and now[0] == run)

    def end_claim(self, key: str, run: Mapping[str, str]) -> None:
        """Release a lock, if this run holds it."""
        while (found := self.claim(key)) and found[0] == run:
            delete_if(self._s3, self._bucket, key, found[1])  # again where another attempt has put it since

    def last_run(self, claim_key: str) -> dict[str, str] | None:
        """The run that was the last to work on the name of a lock and does not hold it any more, or None."""
        found = get_json(self._s3, self._bucket, names.last_run_key(claim_key))
        return _run_of(found[0]) if found else None

    def generation(self, claim_key: str, run: Mapping[str, str]) -> int:
        """A number that grows each time that another run begins to work on the name of a lock; `run` is to hold it."""
        found = get_json(self._s3, self._bucket, names.last_run_key(claim_key))
        return _generation(found[0] if found else None, run)

    def put_last_run(self, claim_key: str, run: Mapping[str, str]) -> None:
        """Record a run that holds a lock as the last to work on its name; before the lock is released or taken over.

        Does nothing where it is recorded already, and where the run does not hold the lock.
        """
        key = names.last_run_key(claim_key)
        found, holder = get_json(self._s3, self._bucket, key), self.claim(claim_key)
        if not holder or holder[0] != run or (found and _run_of(found[0]) == run):
            return
        condition = {"IfMatch": found[1]} if found else {"IfNoneMatch": "*"}
        last = {**run, "generation": _generation(found[0] if found else None, run)}
        put_json(self._s3, self._bucket, key, last, **condition)  # unless another run has recorded one since

    # --- results

    def put_result(self, cohort: str, threshold: int, as_of: datetime, result: Mapping[str, Any]) -> str:
        """Keep what a verified segment came to; returns its key."""
        key = names.result_key(cohort, threshold, as_of)
        put_json(self._s3, self._bucket, key, result)
        return key

    def result(self, cohort: str, threshold: int, as_of: datetime) -> dict[str, Any] | None:
        """What the verified segment of an as-of came to, or None."""
        found = get_json(self._s3, self._bucket, names.result_key(cohort, threshold, as_of))
        return found[0] if found else None

    def previous_result(self, cohort: str, threshold: int, as_of: datetime) -> dict[str, Any] | None:
        """The result of the greatest earlier as-of, or None."""
        now = names.result_key(cohort, threshold, as_of)
        earlier = [k for k in keys(self._s3, self._bucket, names.results_folder(cohort, threshold)) if k < now]
        found = get_json(self._s3, self._bucket, earlier[-1]) if earlier else None
        return found[0] if found else None

    def _place(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"


def _run_of(found: Mapping[str, Any]) -> dict[str, str]:
    return {"dag_id": found["dag_id"], "run_id": found["run_id"]}


def _generation(last: Mapping[str, Any] | None, run: Mapping[str, str]) -> int:
    if last is None:
        return 1
    return int(last["generation"]) + (_run_of(last) != run)
