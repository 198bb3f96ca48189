"""The as-of of a run: the end of its data interval (UTC)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, NamedTuple

from pydantic import AwareDatetime, PlainSerializer

from cohort_flywheel.errors import Code, FlywheelError

#: A time of a model, with its zone. Its JSON is `isoformat`'s, as in names and files; pydantic's own ends in Z.
Instant = Annotated[AwareDatetime, PlainSerializer(datetime.isoformat, return_type=str, when_used="json")]

#: The time between an instant and a date in the interval that follows it.
_MOMENT = timedelta(minutes=1)


class RunDates(NamedTuple):
    """Airflow's dates of a run. `automatic` is true for scheduled runs and for runs of a backfill."""

    logical_date: datetime | None
    data_interval_end: datetime | None
    run_after: datetime
    automatic: bool


def as_of(run: RunDates, *, last_instant: Callable[[datetime], datetime], now: datetime) -> datetime:
    """Return the as-of in UTC: the end of the data interval, or of the last complete one before `run_after`.

    `last_instant` returns the last instant of the schedule at or before a moment. Raises FlywheelError for a date that
    would give the run another as-of than its user expects.
    """
    moment = (run.data_interval_end or last_instant(run.run_after)).astimezone(UTC)
    if moment > now:
        raise FlywheelError(
            f"the as-of {moment:%Y-%m-%d %H:%M:%S} UTC is in the future: leave the logical date and the data"
            " interval empty for the newest complete day, or give a past one",
            code=Code.AS_OF,
        )
    if run.automatic:
        if run.logical_date and run.logical_date == run.data_interval_end:
            raise FlywheelError(
                f"this run was started by hand at {moment:%Y-%m-%d %H:%M:%S} UTC, an instant of the schedule, and taken"
                " over by a backfill, which gives it the day before: delete this run, and start the backfill again",
                code=Code.RUN_DATES,
            )
        return moment
    on_schedule = last_instant(moment)
    if on_schedule != moment:
        raise FlywheelError(
            f"the as-of {moment:%Y-%m-%d %H:%M:%S} UTC is not an instant of the schedule: give a data interval"
            f" that ends at one (the last before it is {on_schedule:%Y-%m-%d %H:%M:%S} UTC), or none",
            code=Code.AS_OF,
        )
    if run.logical_date is None:
        return moment
    logical_date = run.logical_date.astimezone(UTC)
    meant = last_instant(logical_date).astimezone(UTC)
    if meant == logical_date:
        raise FlywheelError(
            f"the logical date {logical_date:%Y-%m-%d %H:%M:%S} UTC is an instant of the schedule, so this"
            " manual run takes the place of that day's scheduled run: delete this run, and start one without a"
            " logical date (REST: null), or a backfill for a past day",
            code=Code.RUN_DATES,
        )
    if meant != moment:
        raise FlywheelError(
            f"the logical date {logical_date:%Y-%m-%d %H:%M:%S} UTC means the as-of"
            f" {meant:%Y-%m-%d %H:%M:%S} UTC, but Airflow gave this run {moment:%Y-%m-%d %H:%M:%S} UTC (the"
            " command line's -l does so, and an interval given beside the form's own date): for the newest day give no"
            " date at all; for a past one a date in the interval that follows it and no data interval (UI, REST), as"
            f" {moment + _MOMENT:%Y-%m-%d %H:%M:%S} UTC is for {moment:%Y-%m-%d %H:%M:%S} UTC, or use a backfill",
            code=Code.RUN_DATES,
        )
    return moment
