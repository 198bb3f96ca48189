"""The segment membership record: the players that an upload may have set `in`, kept in the state bucket."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.destinations.customer_profiles import layout
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, keys, lines, put_unless_equal
from cohort_flywheel.runs.lock_store import acquire, this_run
from cohort_flywheel.runs.names import claim_key, segment_name
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.segment_file import digest

if TYPE_CHECKING:
    from airflow.sdk import Context


class SegmentMembershipRecord(NamedTuple):
    """The first line of a segment membership record."""

    content: Mapping[str, str]  #: of the last upload: the run's name and the digest of its segment file
    upload: int
    set_in: int
    set_out: int
    job_ids: list[str] | None = None  #: once the segment was verified
    as_of: str | None = None  #: of the last upload

    def same_verified(self, content: Mapping[str, str]) -> bool:
        """Whether the last upload has this content, and its segment was verified."""
        return self.job_ids is not None and self.content == content

    def verified_by(self, job_ids: list[str]) -> SegmentMembershipRecord:
        return self._replace(job_ids=job_ids)


class SegmentMembershipStore:
    """The segment membership record of one cohort and threshold, and its lock.

    A file in the state bucket: a line of JSON (SegmentMembershipRecord), then one playerId per line. It is written
    before a job is created. Players without a row are removed from it only after the jobs have succeeded.

    :param s3: the hook of the state bucket.
    :param plan: the output of CohortPlanOperator.
    :param domain: the domain of Customer Profiles.
    """

    def __init__(self, s3: S3Hook, plan: Plan, domain: str) -> None:
        self.name = segment_name(plan.cohort, plan.threshold)
        self._s3 = s3
        self._bucket = plan.state_bucket
        self._key = layout.segment_membership_key(domain, self.name)
        self._lock_key = claim_key(f"customer_profiles_{domain}_{self.name}")

    def acquire_lock(self, state: State, context: Context) -> None:
        """Keep other runs from changing the segment, from a run's first read until the segment is verified."""
        try:
            acquire(state, self._lock_key, f"segment membership record {self.name}", context)
        except FlywheelError:
            raise RetryableError(
                f"another run is changing the members of segment {self.name}: a later attempt follows it",
                code=Code.BUSY,
            ) from None

    def release_lock(self, state: State, context: Context) -> None:
        state.release_lock(self._lock_key, this_run(context))

    def read(self) -> SegmentMembershipRecord | None:
        """The record without its players, or None before the first upload."""
        first = next(self._lines(), None)
        return SegmentMembershipRecord(**json.loads(first)) if first else None

    def players(self) -> Iterator[str]:
        """The recorded playerIds, streamed."""
        found = self._lines()
        next(found, None)
        return (line.decode() for line in found)

    def write(self, folder: Path, record: SegmentMembershipRecord, player_ids: Iterable[str]) -> None:
        """Replace the record; `folder` is for temporary files."""
        path = folder / "membership.txt"
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write(f"{json.dumps(record._asdict(), sort_keys=True)}\n")
            file.writelines(f"{player_id}\n" for player_id in player_ids)
        put_unless_equal(self._s3, path, self._bucket, self._key, digest(path))

    def _lines(self) -> Iterator[bytes]:
        if self._key in keys(self._s3, self._bucket, self._key):
            yield from lines(self._s3, self._bucket, self._key)
