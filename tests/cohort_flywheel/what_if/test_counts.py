"""What a threshold would have given: the period, the differences, and what a person reads of them."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.runs.schedule import Schedule
from cohort_flywheel.what_if.counts import (
    Day,
    csv_text,
    extremes,
    instants,
    joined_and_left,
    name,
    period,
    picture,
    summary,
    table,
)

DAILY = Schedule("0 0 * * *")
NEWEST = datetime(2026, 11, 22, tzinfo=UTC)
PLAYERS = st.sets(st.text(min_size=1, max_size=3))
NUMBERS = st.integers(min_value=0, max_value=10**9)


def day(number: int, threshold: float | None, *figures: Any) -> Day:
    return Day(datetime(2026, 11, number, tzinfo=UTC), threshold, *figures)


def not_counted(number: int, threshold: int | None, note: str) -> Day:
    return day(number, threshold)._replace(note=note)


DAYS = [
    day(18, 3, "final", 1234),
    day(19, 3, "final", 1230, 1, 5),
    not_counted(20, 2, "no snapshot"),
    day(21, 2, "pending", 2000, 771, 1),
]

# --- the period


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (None, None, ("2026-10-23", "2026-11-22")),
        ("", "", ("2026-10-23", "2026-11-22")),
        (None, "2026-11-10", ("2026-10-11", "2026-11-10")),
        ("2026-11-20", None, ("2026-11-20", "2026-11-22")),
        ("2026-11-22", "2026-11-22", ("2026-11-22", "2026-11-22")),
    ],
)
def test_the_period_has_both_its_ends(first: str | None, last: str | None, expected: tuple[str, str]) -> None:
    assert tuple(map(str, period(first, last, NEWEST))) == expected


@pytest.mark.parametrize(
    ("first", "last", "sentence"),
    [
        ("2026-11-20", "2026-11-19", "from 2026-11-20 is after to 2026-11-19: swap them"),
        ("2026-11-23", None, "from 2026-11-23 is after to 2026-11-22"),
        (None, "2026-11-23", "to 2026-11-23 is after the newest as-of, which is of 2026-11-22: write that"),
        ("20.11.2026", None, "from '20.11.2026' is not a date of this century: write it as 2026-11-02"),
        (None, "0206-11-22", "to '0206-11-22' is not a date of this century"),
        (None, "0001-01-01", "to '0001-01-01' is not a date"),
    ],
)
def test_an_invalid_period(first: str | None, last: str | None, sentence: str) -> None:
    with pytest.raises(FlywheelError, match=sentence):
        period(first, last, NEWEST)


def test_the_instants_are_those_of_the_schedule_up_to_now() -> None:
    daily = instants(DAILY.after, UTC, date(2026, 11, 20), date(2026, 11, 22), NEWEST)
    assert daily == [datetime(2026, 11, number, tzinfo=UTC) for number in (20, 21, 22)]
    weekly = instants(Schedule("30 6 * * 1").after, UTC, date(2026, 11, 1), date(2026, 11, 22), NEWEST)
    assert [f"{at:%d %H:%M}" for at in weekly] == ["02 06:30", "09 06:30", "16 06:30"]
    noon = NEWEST + timedelta(hours=12)
    assert len(instants(Schedule("0 * * * *").after, UTC, date(2026, 11, 22), date(2026, 11, 22), noon)) == 13


def test_the_instants_are_of_the_dates_of_the_zone_on_the_days_of_change_too() -> None:
    schedule, zone = Schedule("0 0 * * *", "Europe/Berlin"), ZoneInfo("Europe/Berlin")
    autumn = instants(schedule.after, zone, date(2026, 10, 24), date(2026, 10, 26), NEWEST)
    assert [f"{at:%d %H:%M}" for at in autumn] == ["23 22:00", "24 22:00", "25 23:00"]
    spring = instants(schedule.after, zone, date(2026, 3, 29), date(2026, 3, 30), NEWEST)
    assert [f"{at:%d %H:%M}" for at in spring] == ["28 23:00", "29 22:00"]
    hourly = instants(
        Schedule("0 * * * *", "Europe/Berlin").after, zone, date(2026, 10, 25), date(2026, 10, 25), NEWEST
    )
    assert len(hourly) == 25


def test_too_many_days_are_refused() -> None:
    with pytest.raises(FlywheelError, match="more than 1,000 as-ofs from 2010-01-01 to 2026-11-22: give dates"):
        instants(DAILY.after, UTC, date(2010, 1, 1), date(2026, 11, 22), NEWEST)


def test_the_name_has_cohort_threshold_and_dates() -> None:
    assert name("ea_reputation", -75, date(2026, 11, 1), date(2026, 11, 2)) == "ea_reputation_-75_2026-11-01_2026-11-02"
    assert name("ea_atrisk", 0, date(2026, 11, 1), date(2026, 11, 2)) == "ea_atrisk_0_2026-11-01_2026-11-02"
    assert name("churn", 0.00001, date(2026, 11, 1), date(2026, 11, 2)) == "churn_0.00001_2026-11-01_2026-11-02"
    assert name("ea_atrisk", None, date(2026, 11, 1), date(2026, 11, 2)) == "ea_atrisk_history_2026-11-01_2026-11-02"


# --- the differences


@settings(max_examples=settings().max_examples // 4)  # a database takes some 20 ms to open
@given(before=PLAYERS, now=PLAYERS)
def test_joined_and_left_are_the_differences_of_two_sets(before: set[str], now: set[str]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        paths = folder / "before.parquet", folder / "now.parquet"
        for players, path in zip((before, now), paths, strict=True):
            copy = "COPY (SELECT unnest(?::VARCHAR[]) AS player_id) TO ? (FORMAT parquet)"
            duckdb.execute(copy, [list(players), str(path)])
        assert joined_and_left(folder, *paths) == (len(now - before), len(before - now))


# --- what a person reads


def test_the_table_is_aligned() -> None:
    assert table(DAYS).splitlines() == [
        "as-of             threshold  members  joined  left  snapshot  note",
        "2026-11-18 00:00          3    1,234                final",
        "2026-11-19 00:00          3    1,230       1     5  final",
        "2026-11-20 00:00          2                                   no snapshot",
        "2026-11-21 00:00          2    2,000     771     1  pending",
    ]


def test_a_threshold_has_no_exponent() -> None:
    days = [day(18, 0.00001, "final", 3), day(19, 1_000, "final", 3, 0, 0)]
    assert [line.split()[2] for line in table(days).splitlines()[1:]] == ["0.00001", "1,000"]
    assert [line.split(",")[1] for line in csv_text(days).splitlines()[1:]] == ["0.00001", "1000"]
    assert {"threshold 0.00001", "threshold 1000"} <= {element.text for element in drawn(days).iter()}


def test_the_summary_has_the_lowest_and_the_highest() -> None:
    assert summary(DAYS) == "3 of 4 days counted: lowest 1,230 on 2026-11-19, highest 2,000 on 2026-11-21"
    assert summary(DAYS[2:3]) == "0 of 1 days counted"
    assert extremes(DAYS[2:3]) is None


def test_the_csv_has_plain_numbers_and_nothing_where_nothing_is_known() -> None:
    text = csv_text([*DAYS, not_counted(22, None, 'a note, with "both"')])
    assert text.splitlines()[:4] == [
        "as_of,threshold,snapshot,members,joined,left,note",
        "2026-11-18T00:00:00+00:00,3,final,1234,,,",
        "2026-11-19T00:00:00+00:00,3,final,1230,1,5,",
        "2026-11-20T00:00:00+00:00,2,,,,,no snapshot",
    ]
    assert list(csv.DictReader(text.splitlines()))[-1]["note"] == 'a note, with "both"'


def drawn(days: list[Day], title: str = "ea_atrisk: players above 2") -> Any:
    return ElementTree.fromstring(picture(title, days))  # noqa: S314 - our own, and its being XML is the point


def of_class(svg: Any, name: str) -> list[Any]:
    return [element for element in svg.iter() if element.get("class") == name]


def test_the_picture_has_a_title_and_legend() -> None:
    svg = drawn(DAYS, title="a & b <c>")
    texts = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a & b <c>", "members", "joined and left", "2026-11-18", "2026-11-21", "2,000", summary(DAYS)} <= set(texts)
    hints = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}title")]
    assert hints == [
        "2026-11-18 00:00: 1,234 members (final snapshot)",
        "2026-11-19 00:00: 1,230 members, 1 joined, 5 left (final snapshot)",
        "2026-11-20 00:00: not counted, no snapshot",
        "2026-11-21 00:00: 2,000 members, 771 joined, 1 left (pending snapshot)",
    ]


def test_the_line_breaks_where_a_day_was_not_counted() -> None:
    svg = drawn(DAYS)
    assert [len(line.get("points").split()) for line in of_class(svg, "line")] == [2, 1]
    # one of each is the legend's
    assert (len(of_class(svg, "final")), len(of_class(svg, "pending")), len(of_class(svg, "not-counted"))) == (3, 2, 2)


def test_a_change_of_the_threshold_is_marked() -> None:
    texts = [element.text for element in drawn(DAYS).iter()]
    assert {"threshold 3", "threshold 2"} <= set(texts)
    assert len(of_class(drawn(DAYS), "change")) == 1
    assert not of_class(drawn(DAYS[:2]), "change")
    assert "no threshold" in [element.text for element in drawn([not_counted(17, None, "none yet"), *DAYS]).iter()]


@given(
    st.lists(
        st.builds(
            lambda counted, *figures: Day(NEWEST, 2, "final", *figures) if counted else Day(NEWEST, 2, note="no & <"),
            st.booleans(),
            NUMBERS,
            NUMBERS,
            NUMBERS,
        ),
        min_size=1,
        max_size=40,
    )
)
def test_all_shapes_are_within_the_picture(days: list[Day]) -> None:
    svg = drawn(days)
    for element in svg.iter():
        x, y, width, height = (float(element.get(key, 0)) for key in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert x + width <= 900.1
        assert y + height <= 480.1
        assert height >= 0
        for point in element.get("points", "").split():
            across, down = map(float, point.split(","))
            assert 75 <= across <= 865
            assert 124.9 <= down <= 300.1
