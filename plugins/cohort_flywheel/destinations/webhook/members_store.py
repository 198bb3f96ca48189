"""The record of which players may be members of a segment at the receiver."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.common.records import Json
from cohort_flywheel.destinations.webhook import layout
from cohort_flywheel.destinations.webhook.webhook_outputs import SentSegment
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, keys, lines, put_unless_equal
from cohort_flywheel.runs.lock_store import acquire, this_run
from cohort_flywheel.runs.names import claim_key, segment_name
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.segment_file import digest

if TYPE_CHECKING:
    from airflow.sdk import Context


class Record(NamedTuple):
    """The last import of a segment."""

    content: Mapping[str, str]  #: the run's name and the digest of its segment file
    upload: int  #: the number of the import, counted per segment
    as_of: str
    verified: Json | None = None  #: the output of `create_import_job`, once the segment is verified

    def sent(self) -> SentSegment | None:
        """Return what was sent, once the segment is verified."""
        return SentSegment.model_validate(self.verified) if self.verified else None


class Members:
    """The players that an import may have made members of a segment: a file in the state bucket.

    Its first line is the record as JSON, each other line a playerId. It is written before the first message is sent,
    and loses the leavers once the segment is verified; so leavers are known after a failed import too.

    :param s3: the hook of the state bucket.
    :param plan: the output of CohortPlanOperator.
    :param conn_id: the Airflow connection of the receiver.
    """

    def __init__(self, s3: S3Hook, plan: Plan, conn_id: str) -> None:
        self.segment = segment_name(plan.cohort, plan.threshold)
        self._s3 = s3
        self._bucket = plan.state_bucket
        self._key = layout.members_key(conn_id, self.segment)
        self._lock_key = claim_key(f"webhook_{conn_id}_{self.segment}")

    def acquire(self, state: State, context: Context) -> None:
        """Acquire the lock of the segment, which is held until it is verified."""
        try:
            acquire(state, self._lock_key, f"segment {self.segment}", context)
        except FlywheelError:
            raise RetryableError(
                f"another run is changing segment {self.segment} of the receiver: a later attempt follows it",
                code=Code.BUSY,
            ) from None

    def release(self, state: State, context: Context) -> None:
        """Release the lock of the segment."""
        state.release_lock(self._lock_key, this_run(context))

    def read(self) -> Record | None:
        """Return the record, or None before the first import."""
        first = next(self._lines(), None)
        return Record(**json.loads(first)) if first else None

    def players(self) -> Iterator[str]:
        """Return the playerIds."""
        found = self._lines()
        next(found, None)
        return (line.decode() for line in found)

    def write(self, folder: Path, record: Record, players: Iterable[str]) -> None:
        """Replace the record and the playerIds."""
        path = folder / "members.txt"
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write(f"{json.dumps(record._asdict(), sort_keys=True)}\n")
            file.writelines(f"{player}\n" for player in players)
        put_unless_equal(self._s3, path, self._bucket, self._key, digest(path))

    def _lines(self) -> Iterator[bytes]:
        if self._key in keys(self._s3, self._bucket, self._key):
            yield from lines(self._s3, self._bucket, self._key)
