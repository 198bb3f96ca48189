"""Which objects of events an as-of reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cohort_flywheel.engagement import event_objects as objects
from cohort_flywheel.engagement.event_objects import Manifest, choose, in_memory, manifest_as_of, parquet_key
from cohort_flywheel.errors import Code, FlywheelError

NEWEST = datetime(2026, 11, 22, tzinfo=UTC)


def at(hours: float) -> str:
    """The key of an object whose oldest record arrived so many hours before the newest as-of."""
    return f"{NEWEST - timedelta(hours=hours):events/%Y/%m/%d/%H}/stream-1-2026-11-22-00-00-00-{hours}.gz"


def test_an_as_of_reads_the_48_hours_before_it() -> None:
    keys = [at(hours) for hours in (-1, 0, 1, 24, 48)]
    assert choose(keys, NEWEST, [], None, "bucket") == Manifest(keys=sorted([at(1), at(24), at(48)]))


def test_an_hour_that_the_48_hours_begin_in_is_read() -> None:
    """Of an as-of at half past: the name of an object has the hour in which its oldest record arrived, and no more."""
    half_past = NEWEST + timedelta(minutes=30)
    assert choose([at(0), at(48)], half_past, [], NEWEST - timedelta(days=3), "bucket").keys == sorted([at(0), at(48)])
    with pytest.raises(FlywheelError):
        choose([at(49)], half_past, [], NEWEST - timedelta(days=3), "bucket")


def test_what_another_as_of_has_read_is_left_out() -> None:
    assert choose([at(1), at(30)], NEWEST, [at(30)], NEWEST - timedelta(days=1), "bucket").keys == [at(1)]


def test_an_object_from_before_the_first_as_of_is_counted() -> None:
    assert choose([at(49), at(100)], NEWEST, [], None, "bucket") == Manifest(keys=[], before=2)
    first = NEWEST - timedelta(days=1)  # which has read 48 hours before itself
    assert choose([at(73)], NEWEST, [], first, "bucket").before == 1


def test_an_older_object_fails_with_its_key() -> None:
    first = NEWEST - timedelta(days=3)
    with pytest.raises(FlywheelError, match=rf"s3://bucket/{at(50)} is older than 48 hours at this as-of") as error:
        choose([at(1), at(50)], NEWEST, [], first, "bucket")
    assert error.value.code == Code.EVENT_OBJECT
    assert choose([at(50)], NEWEST - timedelta(days=1), [], first, "bucket").keys == [at(50)], "by the as-of of its day"


@pytest.mark.parametrize(
    "key", ["events/readme.txt", "events/2026/11/21/23", "events/2026/13/45/99/a.gz", "errors/2026/11/21/23/a.gz"]
)
def test_another_object_is_not_read(key: str) -> None:
    assert choose([key], NEWEST, [], None, "bucket") == Manifest(keys=[])


def test_events_are_remembered_for_62_days_before_and_after() -> None:
    days = [-63, -62, -1, 0, 1, 62, 63]
    keys = [parquet_key(NEWEST + timedelta(days=day)) for day in days]
    others = [*keys, "engagement/events/as_of=now/events.parquet", f"{objects.PARQUET_FOLDER}other"]
    assert in_memory(others, NEWEST) == [keys[1], keys[2], keys[4], keys[5]]


def test_the_names_are_derived_from_the_as_of() -> None:
    assert objects.parquet_key(NEWEST) == "engagement/events/as_of=2026-11-22_00-00-00/events.parquet"
    assert manifest_as_of(objects.manifest_key(NEWEST)) == NEWEST
    assert manifest_as_of("engagement/manifests/readme.txt") is None
