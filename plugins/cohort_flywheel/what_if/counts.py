"""Members for other thresholds on past days: the period, the figures, and their table, CSV and chart."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from html import escape
from itertools import count, groupby, islice, takewhile
from pathlib import Path
from typing import NamedTuple

from cohort_flywheel.common.duckdb import connect, count_rows, hide_values, read_parquet
from cohort_flywheel.common.records import Record
from cohort_flywheel.common.table import format_table
from cohort_flywheel.config.cohorts import Cohort
from cohort_flywheel.config.decimals import Number, number_text
from cohort_flywheel.errors import Code, FlywheelError

DEFAULT_DAYS = 30

#: The maximum number of days of a table and a chart.
MAX_ROWS = 1000


class Day(NamedTuple):
    """The figures of one as-of, in the zone of the schedule.

    If it was not counted, `members` is None and `note` has the reason.
    `joined` and `left` compare with the last counted day before, and are None for the first. `snapshot` is `final`,
    `pending`, or empty.
    """

    as_of: datetime
    threshold: Number | None = None
    snapshot: str = ""
    members: int | None = None
    joined: int | None = None
    left: int | None = None
    note: str = ""


class WhatIfOutput(Record):
    """The output of CohortWhatIfOperator; `lowest` and `highest` are members, None where no day was counted."""

    csv_url: str
    svg_url: str
    days: int
    counted: int
    lowest: int | None
    highest: int | None


def period(first_text: str | None, last_text: str | None, newest: datetime) -> tuple[date, date]:
    """Return the first and the last date of the params `from` and `to`, both included, in the zone of `newest`.

    Raises FlywheelError for invalid dates, dates in the wrong order, and dates after the newest as-of.
    """
    last = _date("to", last_text) or newest.date()
    first = _date("from", first_text) or last - timedelta(days=DEFAULT_DAYS)
    if last > newest.date():
        raise FlywheelError(
            f"to {last} is after the newest as-of, which is of {newest:%Y-%m-%d}: write that or an earlier date, or"
            " leave it empty",
            code=Code.WHAT_IF_DATES,
        )
    if first > last:
        raise FlywheelError(f"from {first} is after to {last}: swap them, or leave one empty", code=Code.WHAT_IF_DATES)
    return first, last


def _date(param: str, text: str | None) -> date | None:
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
        if day.year < 2000:  # a typing error, and croniter does not support early dates
            raise ValueError
    except ValueError:
        raise FlywheelError(
            f"{param} {text!r} is not a date of this century: write it as 2026-11-02, or leave it empty",
            code=Code.WHAT_IF_DATES,
        ) from None
    return day


def instants(
    after: Callable[[datetime], Iterable[datetime]], zone: tzinfo, first: date, last: date, newest: datetime
) -> list[datetime]:
    """The as-ofs between two dates of a zone, up to the newest, in UTC.

    `after` yields the instants of the schedule after a moment. Raises FlywheelError for more than MAX_ROWS.
    """
    # in UTC, as two times of one zone are compared by its clock, which shows an hour twice
    start = datetime.combine(first, time(), zone).astimezone(UTC) - timedelta(minutes=1)
    within = takewhile(lambda as_of: as_of <= newest and as_of.astimezone(zone).date() <= last, after(start))
    found = list(islice(within, MAX_ROWS + 1))
    if len(found) > MAX_ROWS:
        raise FlywheelError(
            f"there are more than {MAX_ROWS:,} as-ofs from {first} to {last}: give dates that are nearer to one"
            " another",
            code=Code.WHAT_IF_DATES,
        )
    return found


def name(cohort: str, threshold: Number | None, first: date, last: date) -> str:
    """`ea_atrisk_2_2026-10-23_2026-11-22`; without a threshold param, `history` in its place."""
    return f"{cohort}_{'history' if threshold is None else number_text(threshold)}_{first}_{last}"


def title(cohort: Cohort, threshold: Number | None, first: date, last: date) -> str:
    beyond = "the registry's threshold of each day" if threshold is None else number_text(threshold)
    return f"{cohort.name}: players {cohort.direction} {beyond}, {first} to {last}"


def joined_and_left(folder: Path, before: Path, now: Path, memory_mb: int | None = None) -> tuple[int, int]:
    """Count the players only in `now`, and only in `before`, two files of `write_player_ids` in a folder."""
    with connect(folder, memory_mb) as sql, hide_values("compare the members"):
        then, today = (read_parquet(sql, path) for path in (before, now))
        then.create_view("before")
        today.create_view("today")
        joined = count_rows(sql.sql("FROM today ANTI JOIN before USING (player_id)"))
        left = count_rows(sql.sql("FROM before ANTI JOIN today USING (player_id)"))
    return joined, left


def summary(days: Sequence[Day]) -> str:
    """Summarize the number of counted days, and the lowest and the highest."""
    counted = f"{len(_counted(days)):,} of {len(days):,} days counted"
    if not (ends := extremes(days)):
        return counted
    return f"{counted}: " + ", ".join(
        f"{word} {day.members:,} on {day.as_of:%Y-%m-%d}" for word, day in zip(("lowest", "highest"), ends, strict=True)
    )


def extremes(days: Sequence[Day]) -> tuple[Day, Day] | None:
    """The first days with the fewest and with the most members, or None where no day was counted."""
    counted = _counted(days)
    return (min(counted, key=_members), max(counted, key=_members)) if counted else None


def _counted(days: Sequence[Day]) -> list[Day]:
    return [day for day in days if day.members is not None]


def _members(day: Day) -> int:
    return day.members or 0


def table(days: Sequence[Day]) -> str:
    """Format one row per day for a log or a terminal."""
    head = ("as-of", "threshold", "members", "joined", "left", "snapshot", "note")
    rows = [
        (
            f"{day.as_of:%Y-%m-%d %H:%M}",
            *(
                "" if n is None else f"{n:,}" if isinstance(n, int) else number_text(n)
                for n in (day.threshold, day.members, day.joined, day.left)
            ),
            day.snapshot,
            day.note,
        )
        for day in days
    ]
    return format_table([head, *rows], "<>>>>")


def csv_text(days: Sequence[Day]) -> str:
    """Return the figures as CSV: the fields of Day, the as-of in ISO 8601, and empty cells for None."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(Day._fields)
    for day in days:
        threshold = None if day.threshold is None else number_text(day.threshold)
        writer.writerow((day.as_of.isoformat(), threshold, *day[2:]))
    return file.getvalue()


# --- the picture: members as a line above, who joined and who left as bars below

_SIZE = 'width="900" height="480"'
_LEFT, _RIGHT = 75, 865
_TOP, _BOTTOM = 125, 430
_STYLE = (
    "text{font:12px sans-serif;fill:#333}.title{font-size:16px;font-weight:bold}.number{text-anchor:end}"
    ".date{text-anchor:middle}.grid{stroke:#ddd}.zero{stroke:#888}.line{fill:none;stroke:#1f5fa8;stroke-width:2}"
    ".final{fill:#1f5fa8;stroke:#1f5fa8}.pending{fill:#fff;stroke:#1f5fa8;stroke-width:1.5}"
    ".joined{fill:#2a8a5f}.left{fill:#d9722e}.change{stroke:#777;stroke-dasharray:4 3}"
    ".not-counted{fill:#888;fill-opacity:.15}.counted{fill:transparent}"
)


class _Scale:
    """An axis with round whole numbers around two values, from top to bottom in pixels."""

    def __init__(self, low: int, high: int, top: float, bottom: float) -> None:
        step = next(s for e in count() for s in (10**e, 2 * 10**e, 5 * 10**e) if high - low <= 4 * s)
        first, last = math.floor(low / step) * step, max(math.ceil(high / step), math.floor(low / step) + 1) * step
        self.ticks = range(first, last + 1, step)
        self._first = first
        self._pixels = (bottom - top) / (last - first)
        self.bottom = bottom

    def y(self, value: int) -> float:
        return self.bottom - (value - self._first) * self._pixels


def picture(title: str, days: Sequence[Day]) -> str:
    """Draw the figures as an SVG with a tooltip per day. Needs at least one day; it need not be counted."""
    slot = (_RIGHT - _LEFT) / len(days)
    counted = [(_LEFT + slot * (i + 0.5), day) for i, day in enumerate(days) if day.members is not None]
    low, high = map(_members, extremes(days) or (days[0], days[0]))
    # the axis need not begin at 0 if all values are high; its numbers show that
    upper = _Scale(low if high > low > high / 2 else 0, high, _TOP, 300)
    lower = _Scale(-max(day.left or 0 for day in days), max(day.joined or 0 for day in days), 340, _BOTTOM)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 480" {_SIZE}>',
        f'<style>{_STYLE}</style><rect {_SIZE} fill="#fff"/>',
        _text(_LEFT, 28, title, "title"),
        _text(_LEFT, 50, summary(days)),
        *_legend(),
        *_grid(upper, "members"),
        *_grid(lower, "joined and left"),
        f'<line class="zero" x1="{_LEFT}" x2="{_RIGHT}" y1="{lower.y(0):.1f}" y2="{lower.y(0):.1f}"/>',
    ]
    for i in range(len(days) - 1, -1, -math.ceil(len(days) / 8)):  # the newest day always has a label
        parts.append(_text(_LEFT + slot * (i + 0.5), 455, f"{days[i].as_of:%Y-%m-%d}", "date"))
    changes = [i for i in range(1, len(days)) if days[i].threshold != days[i - 1].threshold]
    for i in (0, *changes) if changes else ():
        x, threshold = _LEFT + slot * i, days[i].threshold
        parts.append(
            _text(x + 4 * (i > 0), 98, "no threshold" if threshold is None else f"threshold {number_text(threshold)}")
        )
        if i:
            parts.append(f'<line class="change" x1="{x:.1f}" x2="{x:.1f}" y1="88" y2="{_BOTTOM}"/>')
    width = min(slot * 0.7, 30)
    for x, day in counted:
        for kind, top, bottom in (("joined", day.joined or 0, 0), ("left", 0, -(day.left or 0))):
            parts.append(_rect(kind, x - width / 2, lower.y(top), width, lower.y(bottom) - lower.y(top)))
    for is_counted, stretch in groupby(enumerate(days), key=lambda entry: entry[1].members is not None):
        if is_counted:  # the line breaks where a day was not counted
            points = " ".join(f"{_LEFT + slot * (i + 0.5):.1f},{upper.y(_members(day)):.1f}" for i, day in stretch)
            parts.append(f'<polyline class="line" points="{points}"/>')
    parts += [_dot(day.snapshot, x, upper.y(_members(day)), min(slot * 0.4, 4)) for x, day in counted]
    for i, day in enumerate(days):
        kind = "not-counted" if day.members is None else "counted"
        parts.append(_rect(kind, _LEFT + slot * i, _TOP, slot, _BOTTOM - _TOP, _tooltip(day)))
    return "\n".join([*parts, "</svg>", ""])


def _tooltip(day: Day) -> str:
    if day.members is None:
        return f"{day.as_of:%Y-%m-%d %H:%M}: not counted, {day.note}"
    change = "" if day.joined is None else f", {day.joined:,} joined, {day.left:,} left"
    return f"{day.as_of:%Y-%m-%d %H:%M}: {day.members:,} members{change} ({day.snapshot} snapshot)"


def _legend() -> list[str]:
    x, parts = float(_LEFT), []
    for kind, word in (
        ("final", "members"),
        ("pending", "of a pending snapshot"),
        ("joined", "joined"),
        ("left", "left"),
        ("not-counted", "not counted"),
    ):
        mark = _dot(kind, x + 5, 71, 4) if kind in ("final", "pending") else _rect(kind, x, 66, 10, 10)
        parts += [mark, _text(x + 16, 75, word)]
        x += 40 + 6.5 * len(word)
    return parts


def _grid(scale: _Scale, word: str) -> list[str]:
    parts = [_text(_LEFT, scale.y(scale.ticks[-1]) - 8, word)]
    for tick in scale.ticks:
        y = scale.y(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{abs(tick):,}", "number"))
    return parts


def _text(x: float, y: float, text: str, kind: str = "plain") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _dot(kind: str, x: float, y: float, radius: float) -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>'


def _rect(kind: str, x: float, y: float, width: float, height: float, tooltip: str = "") -> str:
    hint = f"<title>{escape(tooltip)}</title>" if tooltip else ""
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}">{hint}</rect>'
