"""The schedule of the registry, a cron expression of five fields, and its time zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, croniter

#: Airflow's presets [airflow.utils.dates.cron_presets], and cron's other names for two of them.
_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
#: ASCII digits, names of months and days, L (last) and W (nearest weekday). croniter also takes R, another number each
#: time that it is read, and H, which needs a seed.
_FIELD = re.compile(r"(?:[0-9*?,/#-]|\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\b"
                    r"|\b(?:sun|mon|tue|wed|thu|fri|sat)\b|l|w)+", re.IGNORECASE)  # fmt: skip
#: A name of the IANA's list; `posix/…` and `right/…` are a machine's own.
_ZONE = re.compile(r"(?!posix/|right/|localtime)[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*")
#: Any instant that is the same in each parse.
_AN_INSTANT = datetime(2026, 1, 1, tzinfo=UTC)


def read_schedule(written: str) -> str:
    """Return five fields; raise ValueError for a schedule that never fires or is not deterministic."""
    schedule = _ALIASES.get(written.strip().lower(), " ".join(written.split()))
    fields = schedule.split(" ")
    if len(fields) != 5 or not all(map(_FIELD.fullmatch, fields)) or not croniter.is_valid(schedule):
        raise ValueError(
            f"{written!r} is not a schedule: write the five fields of a cron, such as 0 0 * * * (every midnight),"
            f" or one of {', '.join(_ALIASES)}"
        )
    try:
        croniter(schedule, _AN_INSTANT).get_next()
        croniter(schedule, _AN_INSTANT).get_prev()
    except CroniterBadDateError:
        raise ValueError(
            f"{written!r} never fires, as no month that it names has such a day: correct the day or the month"
        ) from None
    return schedule


def read_timezone(written: str) -> str:
    """Return the name of a time zone; raise ValueError for a name that the IANA does not have."""
    try:
        if not _ZONE.fullmatch(written):
            raise ValueError
        return ZoneInfo(written).key
    except (LookupError, OSError, ValueError):  # a folder's name is an OSError
        raise ValueError(
            f"{written!r} is not a time zone: write UTC, or the name of a place as the IANA has it, such as"
            " Europe/Berlin"
        ) from None
