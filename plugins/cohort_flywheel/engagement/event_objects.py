"""The objects of events: which an as-of reads, and the names of what it leaves."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from cohort_flywheel.common.records import Record
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.runs.names import from_instant, instant, is_instant

#: The folder of the events in their bucket; Data Firehose adds year, month, day and hour (UTC).
EVENTS_FOLDER = "events/"
#: Data Firehose writes an object into the hour of its oldest record, and tries S3 for up to 24 hours.
WINDOW = timedelta(hours=48)
_HOUR_LENGTH = timedelta(hours=1)
#: How long events are counted once: SES tracks opens and clicks for 60 days.
MEMORY = timedelta(days=62)

#: The folders in the state bucket.
MANIFESTS_FOLDER = "engagement/manifests/"
PARQUET_FOLDER = "engagement/events/"
COUNTS_FOLDER = "engagement/counts/"
REPORTS_FOLDER = "engagement/reports/"
FEEDBACK_FOLDER = "engagement/feedback/"
#: What the suppression list has, and the addresses and players to remove from it.
LIST_STATE_KEY = "engagement/suppressions.json"
REMOVAL_KEY = "engagement/remove.txt"
REMOVALS_FOLDER = "engagement/removals/"
#: The names of the properties that this package has written to the graph.
GRAPH_NAMES_KEY = "engagement/graph/names.json"
EFFECTS_FOLDER = "engagement/effects/"
LAUNCH_EFFECTS_FOLDER = "engagement/launch_effects/"
EFFECT_REPORTS_FOLDER = "engagement/effect_reports/"
LAUNCHES_FOLDER = "engagement/launches/"

_HOUR = re.compile(rf"{EVENTS_FOLDER}(\d{{4}})/(\d\d)/(\d\d)/(\d\d)/.+")
_PARQUET = re.compile(rf"{PARQUET_FOLDER}as_of=([^/]+)/events\.parquet")


class Manifest(Record):
    """The keys that an as-of reads, fixed before it reads them."""

    keys: list[str]
    before: int = 0  #: the number of older objects, from before the first as-of, which are not read


def manifest_key(as_of: datetime) -> str:
    return f"{MANIFESTS_FOLDER}{instant(as_of)}.json"


def parquet_key(as_of: datetime) -> str:
    return f"{PARQUET_FOLDER}as_of={instant(as_of)}/events.parquet"


def counts_key(as_of: datetime) -> str:
    return f"{COUNTS_FOLDER}{instant(as_of)}.json"


def counts_as_of(key: str) -> datetime | None:
    """Return the as-of of counts; None for another object."""
    name = key.removeprefix(COUNTS_FOLDER).removesuffix(".json")
    return from_instant(name) if is_instant(name) else None


def report_key(as_of: datetime) -> str:
    return f"{REPORTS_FOLDER}{instant(as_of)}.json"


def feedback_key(as_of: datetime) -> str:
    """The key of the bounces, complaints, unsubscribes and opt-ins of an as-of."""
    return f"{FEEDBACK_FOLDER}{instant(as_of)}.csv"


def removal_key(run_id: str) -> str:
    """The key of what a run of `suppression_removal` has removed, by a digest: a user may have named the run."""
    return f"{REMOVALS_FOLDER}{hashlib.sha256(run_id.encode()).hexdigest()[:32]}.json"


def report_as_of(key: str) -> datetime | None:
    """Return the as-of of a report; None for another object."""
    name = key.removeprefix(REPORTS_FOLDER).removesuffix(".json")
    return from_instant(name) if is_instant(name) else None


def effects_key(as_of: datetime) -> str:
    """The key of the effects of an as-of, as Parquet."""
    return f"{EFFECTS_FOLDER}as_of={instant(as_of)}/effects.parquet"


def effect_report_key(as_of: datetime) -> str:
    """The key of the same as JSON, which the report of the as-of takes over."""
    return f"{EFFECT_REPORTS_FOLDER}{instant(as_of)}.json"


def launches_key(as_of: datetime) -> str:
    """The key of what became of the messages of each launch, as Parquet."""
    return f"{LAUNCHES_FOLDER}as_of={instant(as_of)}/launches.parquet"


def launch_effect_key(name: str) -> str:
    """The key of the outcomes of a launch, which is measured once."""
    return f"{LAUNCH_EFFECTS_FOLDER}{name}.json"


def manifest_as_of(key: str) -> datetime | None:
    """Return the as-of of a manifest; None for another object."""
    name = key.removeprefix(MANIFESTS_FOLDER).removesuffix(".json")
    return from_instant(name) if is_instant(name) else None


def in_memory(keys: Iterable[str], as_of: datetime) -> list[str]:
    """Return the Parquet files of the other as-ofs whose events may be repeated, or come again, at an as-of."""
    found = []
    for key in keys:
        match = _PARQUET.fullmatch(key)
        if match and is_instant(match[1]) and 0 < abs(from_instant(match[1]) - as_of).total_seconds() <= _SECONDS:
            found.append(key)
    return sorted(found)


_SECONDS = MEMORY.total_seconds()


def choose(keys: Iterable[str], as_of: datetime, read: Iterable[str], first: datetime | None, place: str) -> Manifest:
    """Return the manifest of the 48 hours before an as-of that no other as-of has read.

    :param read: the keys of all manifests.
    :param first: the earliest as-of with a manifest; older objects than its own are not read.
    :param place: the bucket, for the error text.

    Raises FlywheelError for an object that is older, is in no manifest, and came after the first as-of: it would be
    lost.
    """
    # an object is named by the hour in which its oldest record arrived: it may be of the end of that hour
    known, begin = frozenset(read), min(first or as_of, as_of) - WINDOW - _HOUR_LENGTH
    chosen, before = list[str](), 0
    for key in keys:
        hour = _hour(key)
        if hour is None or hour >= as_of or key in known:
            continue
        if hour > as_of - WINDOW - _HOUR_LENGTH:
            chosen.append(key)
        elif hour <= begin:
            before += 1
        else:
            raise FlywheelError(
                f"s3://{place}/{key} is older than 48 hours at this as-of, and no as-of has read it: run the as-of of"
                " its day first (a backfill of this DAG), or move the object out of the folder",
                code=Code.EVENT_OBJECT,
            )
    return Manifest(keys=sorted(chosen), before=before)


def _hour(key: str) -> datetime | None:
    match = _HOUR.fullmatch(key)
    if not match:
        return None
    year, month, day, hour = map(int, match.groups())
    try:
        return datetime(year, month, day, hour, tzinfo=UTC)
    except ValueError:
        return None
