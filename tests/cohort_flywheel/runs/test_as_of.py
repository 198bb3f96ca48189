"""A run's one date: what is taken for it, and what is refused before it means something else."""

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.runs.as_of import RunDates, as_of

NOW = datetime(2026, 11, 22, 15, 0, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)
DAY = timedelta(days=1)


def last_midnight(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def ask(
    logical_date: datetime | None = None,
    data_interval_end: datetime | None = None,
    run_after: datetime = NOW,
    automatic: bool = False,
    now: datetime = NOW,
) -> datetime:
    return as_of(RunDates(logical_date, data_interval_end, run_after, automatic), last_instant=last_midnight, now=now)


def refusal(
    logical_date: datetime | None = None, data_interval_end: datetime | None = None, run_after: datetime = NOW
) -> str:
    with pytest.raises(FlywheelError) as error:
        ask(logical_date, data_interval_end, run_after)
    return str(error.value)


def test_the_end_of_the_data_interval_is_the_as_of() -> None:
    assert ask(MIDNIGHT - DAY, MIDNIGHT, MIDNIGHT, automatic=True) == MIDNIGHT


def test_a_run_without_an_interval_takes_the_last_complete_one() -> None:
    assert ask() == MIDNIGHT
    assert ask(run_after=MIDNIGHT) == MIDNIGHT
    assert ask(run_after=MIDNIGHT - timedelta(seconds=1)) == MIDNIGHT - DAY


def test_an_interval_chosen_by_hand_is_taken() -> None:
    assert ask(data_interval_end=MIDNIGHT - 40 * DAY) == MIDNIGHT - 40 * DAY


def test_a_manual_run_whose_logical_date_means_its_own_as_of_is_taken() -> None:
    assert ask(MIDNIGHT - 3 * DAY + timedelta(hours=9), MIDNIGHT - 3 * DAY) == MIDNIGHT - 3 * DAY


def test_a_backfill_has_a_logical_date_on_the_schedule_and_an_end_after_it() -> None:
    assert ask(MIDNIGHT - 9 * DAY, MIDNIGHT - 8 * DAY, automatic=True) == MIDNIGHT - 8 * DAY


def test_a_manual_run_that_a_backfill_took_over_is_refused() -> None:
    """Its logical date is its interval's end, so Airflow lists it under the day after its own."""
    with pytest.raises(FlywheelError, match=r"started by hand at 2026-11-20 00:00:00 UTC.* taken over by a backfill"):
        ask(MIDNIGHT - 2 * DAY, MIDNIGHT - 2 * DAY, automatic=True)


def test_the_current_instant_is_not_in_the_future() -> None:
    assert ask(data_interval_end=MIDNIGHT, now=MIDNIGHT) == MIDNIGHT


@pytest.mark.parametrize("automatic", [True, False])
def test_the_future_is_refused(automatic: bool) -> None:
    with pytest.raises(FlywheelError, match=r"2026-11-23 00:00:00 UTC is in the future: leave the logical date"):
        ask(data_interval_end=MIDNIGHT + DAY, automatic=automatic)


def test_an_instant_off_the_schedule_is_refused_with_the_one_before_it() -> None:
    sentence = refusal(data_interval_end=MIDNIGHT - timedelta(hours=1))
    assert "2026-11-21 23:00:00 UTC is not an instant of the schedule" in sentence
    assert "2026-11-21 00:00:00 UTC" in sentence


def test_a_manual_run_in_the_place_of_a_scheduled_one_is_refused() -> None:
    assert "delete this run" in refusal(MIDNIGHT - 5 * DAY, MIDNIGHT - 5 * DAY)


def test_the_command_lines_logical_date_is_refused() -> None:
    """`airflow dags trigger -l 2026-10-01T12:00` gets the interval of today."""
    sentence = refusal(datetime(2026, 10, 1, 12, tzinfo=UTC), MIDNIGHT)
    assert "means the as-of 2026-10-01 00:00:00 UTC" in sentence
    assert "gave this run 2026-11-22 00:00:00 UTC" in sentence
    assert "for the newest day give no date at all" in sentence
    assert "as 2026-11-22 00:01:00 UTC is for 2026-11-22 00:00:00 UTC" in sentence


def test_a_logical_date_in_another_zone_is_named_in_utc() -> None:
    at_eleven_in_utc = datetime(2026, 10, 1, 13, tzinfo=timezone(timedelta(hours=2)))
    assert "2026-10-01 11:00:00 UTC" in refusal(at_eleven_in_utc, MIDNIGHT)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kathmandu"])
def test_the_as_of_is_in_utc_for_any_time_zone_of_airflow(zone: str) -> None:
    end = (MIDNIGHT - DAY).astimezone(ZoneInfo(zone))
    given_back = ask(data_interval_end=end)
    assert given_back == end
    assert given_back.tzinfo is UTC


@pytest.mark.parametrize("day", [datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)])
def test_daylight_saving_time_changes_nothing(day: datetime) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert ask(run_after=(day + timedelta(hours=23)).astimezone(berlin)) == day
    assert ask(run_after=(day + timedelta(minutes=30)).astimezone(berlin)) == day


moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))


@given(st.none() | moments, st.none() | moments, moments, st.booleans())
def test_any_as_of_is_past_and_on_the_schedule_for_manual_runs(
    logical_date: datetime | None, end: datetime | None, run_after: datetime, automatic: bool
) -> None:
    try:
        taken = ask(logical_date, end, run_after, automatic)
    except FlywheelError:
        return
    assert taken <= NOW
    assert taken == (end or last_midnight(run_after))
    if not automatic:
        assert taken == last_midnight(taken)
        assert logical_date is None or last_midnight(logical_date) == taken < logical_date
