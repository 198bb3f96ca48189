"""The schedule: what is taken, what never fires, and that Airflow's timetable reads what is taken as croniter does."""

from __future__ import annotations

from datetime import datetime

import pendulum
import pytest
from airflow.timetables.interval import CronDataIntervalTimetable
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.config.cron import read_schedule, read_timezone
from cohort_flywheel.runs.schedule import Schedule

#: What is written, and how it is kept.
TAKEN = {
    "0 0 * * *": "0 0 * * *",
    " 0  0 * * *\n": "0 0 * * *",
    "0\t0 * * *": "0 0 * * *",
    "*/15 6-8 * * *": "*/15 6-8 * * *",
    "30 6 * * MON-FRI": "30 6 * * MON-FRI",
    "0 0 1,15 jan,Jul *": "0 0 1,15 jan,Jul *",
    "0 0 29 2 *": "0 0 29 2 *",
    "0 0 31 * *": "0 0 31 * *",
    "0 0 L * *": "0 0 L * *",
    "0 0 l 2 *": "0 0 l 2 *",
    "0 0 * * L5": "0 0 * * L5",
    "0 0 * * 5#2": "0 0 * * 5#2",
    "0 0 * * fri#2": "0 0 * * fri#2",
    "0 0 15W * *": "0 0 15W * *",
    "0 0 ? * ?": "0 0 ? * ?",
    "0 0 * * 7": "0 0 * * 7",
    "0 0 * * 6-1": "0 0 * * 6-1",
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@Daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
NEVER = [
    "0 0 31 2 *", "0 0 30 2 *", "0 0 30,31 2 *", "0 0 31 4,6,9,11 *", "0 0 30 feb *", "0 0 31 2 ?", "0 0 31 2 1#5",
    "0 0 31 2 L1", "0 0 29 2 1#1",
    "0 0 31 2 1",  # cron means a Monday as well; croniter, which Airflow uses, finds none
]  # fmt: skip
REFUSED = [
    "R R * * *", "r r * * *", "R(0-5) 0 * * *", "R/5 * * * *", "0 0 * * R", "0 0 * * thu,R", "H H * * *",
    "H(0-5) 0 * * *", "h 0 * * *", "60 * * * *", "* 24 * * *", "0 0 32 * *", "0 0 0 * *", "0 0 * 0 *", "0 0 * 13 *",
    "0 0 * * 8", "5/0 * * * *", "-1 0 * * *", "1.5 0 * * *", "0 0 * * 1#6", "0 0 * * 5L", "0 0 * * L", "0 0 LW * *",
    "0 0 L-2 * *", "? 0 * * *", "0 0 * * * *", "0 0 * * * * 2030", "0 0 * *", "*", "", " ", "@once", "@continuous",
    "@reboot", "@every 1h", "none", "midnight", "\u0660 \u0660 * * *", "0 0 * * *; ls", "0 0 * * mo",
    "TZ=UTC 0 0 * * *",
]  # fmt: skip


@pytest.mark.parametrize(("written", "kept"), TAKEN.items())
def test_a_schedule_is_kept_as_five_fields(written: str, kept: str) -> None:
    assert read_schedule(written) == kept


@pytest.mark.parametrize("written", NEVER)
def test_a_schedule_that_never_fires_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="never fires, as no month"):
        read_schedule(written)


@pytest.mark.parametrize("written", REFUSED)
def test_other_than_five_deterministic_fields_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="is not a schedule: write the five fields of a cron"):
        read_schedule(written)


@pytest.mark.parametrize("schedule", sorted(set(TAKEN.values())))
def test_airflow_reads_accepted_schedules_as_croniter_does(schedule: str) -> None:
    timetable = CronDataIntervalTimetable(schedule, "UTC")
    timetable.validate()
    for moment in (
        pendulum.datetime(2026, 11, 28, 12, 30),
        pendulum.datetime(2028, 2, 29),
        pendulum.datetime(2024, 1, 1),
    ):
        interval = timetable.infer_manual_data_interval(run_after=moment)
        assert interval.end == Schedule(schedule).last(moment) <= moment
        assert Schedule(schedule).next(interval.start) == interval.end
        assert Schedule(schedule).next(interval.end) > moment


fields = st.lists(
    st.sampled_from("0 1 5 29 30 31 59 * */2 2 L 5#2 L5 mon feb ? R 15W 1-5 7".split()), min_size=4, max_size=6
)


@given(fields.map(" ".join))
def test_any_schedule_is_refused_or_has_an_instant_before_and_after(written: str) -> None:
    try:
        schedule = read_schedule(written)
    except ValueError:
        return
    moment = datetime.fromisoformat("2026-11-28T12:30:00+00:00")
    assert Schedule(schedule).last(moment) <= moment < Schedule(schedule).next(moment)


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+5", "CET"])
def test_a_timezone_is_a_name_of_the_iana(name: str) -> None:
    assert read_timezone(name) == name


@pytest.mark.parametrize(
    "written",
    ["", " ", "Berlin", "europe/berlin", "Europe", "Europe/", "/etc/localtime", "../UTC", "localtime", "posix/UTC",
     "right/UTC", "UTC+1", "+01:00", "Europe/Berlin\n", "a\0b"],
)  # fmt: skip
def test_another_timezone_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="is not a time zone: write UTC, or the name of a place .* such as Europe/Ber"):
        read_timezone(written)
