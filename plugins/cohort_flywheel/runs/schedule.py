"""The instants of a schedule, and the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import dropwhile, takewhile
from typing import TYPE_CHECKING, NamedTuple

import pendulum
from airflow.timetables.base import DataInterval, TimeRestriction
from airflow.timetables.interval import CronDataIntervalTimetable

from cohort_flywheel.runs.plan import Plan

if TYPE_CHECKING:
    from airflow.sdk import Context

Clock = Callable[[], datetime]

#: More than the clock of a zone is put forward or back.
_CHANGE = timedelta(hours=4)
_NO_RESTRICTION = TimeRestriction(earliest=None, latest=None, catchup=True)


def utc_now() -> datetime:
    return datetime.now(UTC)


class Schedule(NamedTuple):
    """A cron in a time zone. Its instants, in UTC, are the ends of the data intervals of Airflow's own timetable.

    In an hour that the zone skips or repeats, that timetable may infer an instant in the future, or one at which no
    scheduled run ends. So the scheduled runs are followed from before that hour.
    """

    cron: str
    zone: str = "UTC"

    def last(self, moment: datetime) -> datetime:
        """Return the last instant at or before a moment."""
        *_, last = takewhile(lambda instant: instant <= moment, self._instants(moment))
        return last

    def next(self, moment: datetime) -> datetime:
        """Return the first instant after a moment."""
        return next(self.after(moment))

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the instants after a moment, without end."""
        return dropwhile(lambda instant: instant <= moment, self._instants(moment))

    def _instants(self, moment: datetime) -> Iterator[datetime]:
        """Yield the instants, from one that is not after the moment."""
        timetable = _timetable(self.cron, self.zone)
        inferred = timetable.infer_manual_data_interval(run_after=pendulum.from_timestamp(moment.timestamp())).end
        end = timetable.infer_manual_data_interval(run_after=inferred - _CHANGE).end
        while True:
            yield datetime.fromtimestamp(end.timestamp(), UTC)
            before = end
            # where a clock is changed by half an hour, the timetable of an hourly cron goes back
            while (following := _next_end(timetable, before)) <= end:
                before += timedelta(minutes=30)
            end = following


def _next_end(timetable: CronDataIntervalTimetable, end: pendulum.DateTime) -> pendulum.DateTime:
    """Return the end of the scheduled run that follows one."""
    last = DataInterval(end - timedelta(minutes=1), end)
    run = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=_NO_RESTRICTION)
    if run is None or run.data_interval is None:
        raise RuntimeError  # only a restriction ends a timetable
    return run.data_interval.end


@cache  # to describe a cron takes longer than all else
def _timetable(cron: str, zone: str) -> CronDataIntervalTimetable:
    return CronDataIntervalTimetable(cron, zone)


def planned_schedule(plan: Plan) -> Schedule:
    return Schedule(plan.schedule, plan.timezone)


def schedule_in_force(context: Context, plan: Plan) -> Schedule:
    """Return the current schedule of the task's DAG; for a DAG without a cron, the plan's, which may be an earlier."""
    timetable = getattr(context["dag"], "timetable", None)
    if not (cron := getattr(timetable, "expression", None)):
        return planned_schedule(plan)
    zone = getattr(timetable, "timezone", "UTC")
    return Schedule(str(cron), str(getattr(zone, "name", zone)))
