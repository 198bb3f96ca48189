"""The suppression list in the state bucket: changed by one writer at a time, and looked up on disk."""

from __future__ import annotations

import filecmp
import re
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path

from botocore.exceptions import ClientError

from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.common.sqlite import execute_in
from cohort_flywheel.engagement.event_objects import (
    COUNTS_FOLDER,
    LIST_STATE_KEY,
    MANIFESTS_FOLDER,
    counts_as_of,
    feedback_key,
    manifest_as_of,
)
from cohort_flywheel.engagement.events_store import launches_by_tag, player_ids
from cohort_flywheel.engagement.suppressions import (
    Entry,
    Feedback,
    Kind,
    ListState,
    merge,
    read_entries,
    read_feedback,
    suppression_key,
    write_entries,
)
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.governance.tombstones_store import read_salt
from cohort_flywheel.hooks.s3 import S3Hook, get_json, keys, put_if, put_json
from cohort_flywheel.runs.names import SUPPRESSIONS_KEY
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.schedule import planned_schedule

#: Attempts to change the list; another writer is one run, or a person's removal.
_ATTEMPTS = 5

#: The tag of a row, as mail_tags.row_tag.
_ROW = re.compile(r"(\d+)-(\d+)-(\d+)")


def read_state(s3: S3Hook, bucket: str) -> ListState:
    """Return what the list has; without a list, nothing."""
    found = get_json(s3, bucket, LIST_STATE_KEY)
    return ListState.model_validate(found[0]) if found else ListState()


def as_ofs_to_add(s3: S3Hook, bucket: str, state: ListState, as_of: datetime) -> tuple[list[datetime], datetime | None]:
    """Return `ListState.missing` of the manifests and counts in the bucket."""
    begun = filter(None, map(manifest_as_of, keys(s3, bucket, MANIFESTS_FOLDER)))
    read = frozenset(filter(None, map(counts_as_of, keys(s3, bucket, COUNTS_FOLDER))))
    return state.missing(begun, read, as_of)


def check_suppressions_age(s3: S3Hook, plan: Plan) -> None:
    """Raise FlywheelError if the suppression list is older than the as-of before that of a launch."""
    if not plan.reads_engagement:
        return
    found = read_state(s3, plan.state_bucket).as_of
    if found and found >= planned_schedule(plan).last(plan.as_of - timedelta(seconds=1)):
        return
    raise FlywheelError(
        f"the suppression list has the events up to {found.isoformat() if found else 'no as-of'}, and this launch is of"
        f" {plan.as_of.isoformat()}: it could mail players who have complained or unsubscribed since; run the DAG"
        " engagement of the newest as-of (clear a failed run, or trigger one), then clear this task",
        code=Code.SUPPRESSIONS_OLD,
    )


def put_state(s3: S3Hook, bucket: str, state: ListState) -> None:
    put_json(s3, bucket, LIST_STATE_KEY, state.model_dump(mode="json"))


def add_entries(
    s3: S3Hook, bucket: str, folder: Path, entries: Iterable[Entry], memory_mb: int | None = None
) -> tuple[dict[str, int], dict[str, int]]:
    """Add entries to the list; return the suppressed addresses and players of the whole list, by reason.

    Raises RetryableError if other writers change the list again and again, and FlywheelError if the list is gone.
    """
    added, current, merged = (folder / name for name in ("added.csv", "current.csv", "merged.csv"))
    write_entries(added, entries)
    for _ in range(_ATTEMPTS):
        etag = _fetch(s3, bucket, current)
        if etag is None:
            _check_not_gone(s3, bucket)
        counts = merge(folder, [current, added] if etag else [added], merged, memory_mb)
        if etag and filecmp.cmp(current, merged, shallow=False):
            return counts
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        if put_if(s3, bucket, SUPPRESSIONS_KEY, merged, None, ContentType="text/csv; charset=utf-8", **condition):
            return counts
        # another writer, or this attempt, whose answer was lost: adding the entries again changes nothing
    raise RetryableError(
        f"another run changes s3://{bucket}/{SUPPRESSIONS_KEY}: a later attempt adds to it", code=Code.BUSY
    )


def _fetch(s3: S3Hook, bucket: str, path: Path) -> str | None:
    """Download the list; return its ETag, or None without a list."""
    answer = _get(s3, bucket, SUPPRESSIONS_KEY)
    if answer is None:
        return None
    with path.open("wb") as file:
        for chunk in answer["Body"].iter_chunks(1024 * 1024):
            file.write(chunk)
    return str(answer["ETag"])


def _get(s3: S3Hook, bucket: str, key: str) -> AwsStructure | None:
    try:
        return dict(s3.get_conn().get_object(Bucket=bucket, Key=key))
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchKey", "404"):
            raise
        return None


def _check_not_gone(s3: S3Hook, bucket: str) -> None:
    """Raise FlywheelError if the state of a missing list exists: it is written after the list."""
    state = read_state(s3, bucket)
    if last := state.as_of or state.account_until:
        raise FlywheelError(
            f"s3://{bucket}/{SUPPRESSIONS_KEY} is gone, and without it players who complained or unsubscribed would be"
            f" mailed: restore its earlier version (it had entries up to {last.isoformat()}), then clear this task",
            code=Code.STATE_DAMAGED,
        )


# --- feedback


def fetch_feedback(s3: S3Hook, bucket: str, as_of: datetime) -> Iterator[Feedback]:
    """Yield the feedback of an as-of; nothing for one that an earlier version of this package has read."""
    if answer := _get(s3, bucket, feedback_key(as_of)):
        yield from read_feedback(answer["Body"].iter_lines(chunk_size=64 * 1024))


class Players:
    """Find the players of mails by their tags and the records of their launches."""

    def __init__(self, s3: S3Hook, bucket: str) -> None:
        self._s3, self._bucket = s3, bucket
        self._names: dict[str, str] | None = None
        self._ids = lru_cache(maxsize=256)(partial(player_ids, s3, bucket))

    def of(self, launch: str, row: str) -> str | None:
        """Return the playerId of a mail; None if it has no tags, or the player was erased."""
        found = _ROW.fullmatch(row)
        if not launch or not found:
            return None
        if self._names is None:
            self._names = launches_by_tag(self._s3, self._bucket)
        number, attempt, index = map(int, found.groups())
        ids = self._ids(self._names[launch], number, attempt) if launch in self._names else []
        return ids[index] or None if index < len(ids) else None


# --- looking up


class SuppressionTable:
    """The suppressed addresses and players of the list, in a table on disk.

    :param key: the key of the list; None: no address and no player is suppressed.
    :param listed: the database of the table.
    """

    def __init__(self, s3: S3Hook, bucket: str, key: str | None, listed: sqlite3.Connection) -> None:
        self._s3, self._bucket, self._key, self._listed = s3, bucket, key, listed
        self._etag: str | None = None
        self._salt = b""

    def refresh(self) -> None:
        """Read the list if it has changed; raise FlywheelError if it is gone."""
        if not self._key:
            return
        etag = self._head()
        if etag is None:
            _check_not_gone(self._s3, self._bucket)
        if etag is None or etag == self._etag:
            return
        self._salt = read_salt(self._s3, self._bucket)
        answer = self._s3.get_conn().get_object(Bucket=self._bucket, Key=self._key)
        self._listed.execute("DROP TABLE IF EXISTS suppressed")
        self._listed.execute("CREATE TABLE suppressed (key TEXT PRIMARY KEY, reason TEXT) WITHOUT ROWID")
        entries = read_entries(answer["Body"].iter_lines(chunk_size=64 * 1024))
        pairs = ((entry.key, entry.reason) for entry in entries if entry.state == "suppressed")
        self._listed.executemany("INSERT OR IGNORE INTO suppressed VALUES (?, ?)", pairs)
        self._etag = str(answer["ETag"])

    def reason(self, kind: Kind, text: str) -> str | None:
        """Return why an address or a playerId is suppressed, or None."""
        if self._etag is None:
            return None
        key = suppression_key(self._salt, kind, text)
        found = self._listed.execute("SELECT reason FROM suppressed WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None

    def reasons(self, asked: Iterable[tuple[Kind, str]]) -> dict[tuple[Kind, str], str]:
        """Return why some addresses and playerIds are suppressed; those that are not are absent."""
        if self._etag is None:
            return {}
        # addresses that differ in case have one key
        keys_of = {each: suppression_key(self._salt, *each) for each in asked}
        statement = "SELECT key, reason FROM suppressed WHERE key IN"
        found = dict(execute_in(self._listed, statement, set(keys_of.values())))
        return {each: found[key] for each, key in keys_of.items() if key in found}

    def _head(self) -> str | None:
        try:
            return str(self._s3.get_conn().head_object(Bucket=self._bucket, Key=self._key)["ETag"])
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchKey"):
                raise
            return None
