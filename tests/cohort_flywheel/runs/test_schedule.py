"""The instants of a schedule: in any zone, on both days of change, and within the hour that is repeated or skipped."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohort_flywheel.runs.schedule import Schedule

#: An instant of each change of a zone's clock in 2026; Lord Howe's is of 30 minutes, Beirut's and Havana's at midnight.
CHANGES = {
    "UTC": ["2026-03-29T01:00"],
    "Asia/Kolkata": ["2026-03-29T01:00"],
    "Europe/Berlin": ["2026-03-29T01:00", "2026-10-25T01:00"],
    "America/New_York": ["2026-03-08T07:00", "2026-11-01T06:00"],
    "Australia/Lord_Howe": ["2026-04-04T15:00", "2026-10-03T15:30"],
    "Asia/Beirut": ["2026-03-28T22:00", "2026-10-24T21:00"],
    "America/Havana": ["2026-03-08T05:00", "2026-11-01T05:00"],
}
ALL = [(zone, datetime.fromisoformat(f"{each}+00:00")) for zone, found in CHANGES.items() for each in found]
#: Without Lord Howe's, on whose days Airflow's own timetable of an hourly cron goes back.
changes = st.sampled_from([each for each in ALL if "Lord_Howe" not in each[0]])
#: How far a moment is from a change; the minutes of many are those of an instant.
offsets = st.builds(
    lambda quarters, seconds: timedelta(minutes=15 * quarters, seconds=seconds),
    st.integers(-30 * 4, 30 * 4),
    st.sampled_from([-1, 0, 0, 1]),
)
minutes = st.sampled_from(["0", "30", "59", "*/15", "10,50"])
hours = st.sampled_from(["*", "*/2", "0", "1", "2", "3", "1-3", "0,2", "12", "23"])
crons = st.tuples(minutes, hours, st.sampled_from(["* * *", "* * *", "* * 0", "1 * *"])).map(" ".join)


def of_day(moment: datetime, at: time, zone: str, days: int) -> datetime:
    """The instant of a daily schedule, some days later: a time that the clock shows twice is the second, and one that
    it skips is as long after midnight as on other days."""
    local = datetime.combine(moment.astimezone(ZoneInfo(zone)).date() + timedelta(days=days), at, ZoneInfo(zone))
    return max(local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))


@settings(max_examples=40)
@given(st.sampled_from(ALL), offsets, st.integers(0, 23), st.integers(0, 59))
def test_a_daily_schedule_has_one_instant_on_each_day_of_its_zone(
    change: tuple[str, datetime], offset: timedelta, hour: int, minute: int
) -> None:
    zone, now = change[0], change[1] + offset
    found = sorted(of_day(now, time(hour, minute), zone, days) for days in range(-2, 4))
    schedule = Schedule(f"{minute} {hour} * * *", zone)
    assert schedule.last(now) == max(instant for instant in found if instant <= now)
    assert schedule.next(now) == min(instant for instant in found if instant > now)


@settings(max_examples=40)
@given(changes, offsets, crons)
def test_last_and_next_are_neighbours_of_one_sequence(
    change: tuple[str, datetime], offset: timedelta, cron: str
) -> None:
    zone, now = change[0], change[1] + offset
    schedule = Schedule(cron, zone)
    last, following = schedule.last(now), schedule.next(now)
    assert last <= now < following
    assert schedule.last(last) == last
    assert schedule.next(last) == following
    assert schedule.last(following) == following
    assert schedule.last(following - timedelta(seconds=1)) == last
    assert (last.utcoffset(), following.utcoffset()) == (timedelta(0), timedelta(0))


@settings(max_examples=15)
@given(changes, crons)
def test_every_moment_around_a_change_agrees_with_the_runs_since_before_it(
    change: tuple[str, datetime], cron: str
) -> None:
    """What Airflow's timetable alone infers is in the future, or the end of no run, at some of these moments."""
    zone, now = change
    schedule = Schedule(cron, zone)
    runs = list(islice(schedule.after(now - timedelta(hours=6)), 60))
    for quarter in range(-4, 8):
        moment = now + timedelta(minutes=15 * quarter)
        assert schedule.next(moment) == min(run for run in runs if run > moment)
        assert schedule.last(moment) == max((run for run in runs if run <= moment), default=schedule.last(moment))


@pytest.mark.parametrize(
    ("cron", "since", "instants"),
    [
        ("0 0 * * *", "10-24T12:00", ["10-24 22:00", "10-25 23:00", "10-26 23:00"]),  # a day of 25 hours
        ("0 0 * * *", "03-28T12:00", ["03-28 23:00", "03-29 22:00", "03-30 22:00"]),  # a day of 23 hours
        ("30 2 * * *", "10-24T12:00", ["10-25 01:30", "10-26 01:30"]),  # the second of two
        ("30 2 * * *", "03-28T12:00", ["03-29 01:30", "03-30 00:30"]),  # as if the clock had not changed
        ("*/15 2 * * *", "03-28T12:00", ["03-29 01:00", "03-30 00:00", "03-30 00:15"]),
        ("30 * * * *", "10-24T23:45", ["10-25 00:30", "10-25 01:30", "10-25 02:30"]),
        ("30 * * * *", "03-28T23:45", ["03-29 00:30", "03-29 01:30"]),
    ],
)
def test_berlin_on_the_days_of_change(cron: str, since: str, instants: list[str]) -> None:
    found = Schedule(cron, "Europe/Berlin").after(datetime.fromisoformat(f"2026-{since}+00:00"))
    assert [f"{each:%m-%d %H:%M}" for each in islice(found, len(instants))] == instants


def test_a_timetable_that_goes_back_is_followed_to_its_end() -> None:
    before = datetime(2026, 4, 4, 12, tzinfo=UTC)
    found = list(islice(Schedule("0 * * * *", "Australia/Lord_Howe").after(before), 9))
    assert found == sorted(set(found))
