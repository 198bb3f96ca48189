"""Clicks by link and by time, without a link that has something of a player."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cohort_flywheel.campaign.email_template import EmailTemplate, fixed_links
from cohort_flywheel.common.duckdb import connect
from cohort_flywheel.engagement.click_counts import Clicks, count_clicks
from cohort_flywheel.engagement.event_counts import COLUMNS

SENT = datetime(2026, 11, 21, 10, tzinfo=UTC)
PLAY, HELP = "https://studio.example/play", "https://studio.example/help"


@pytest.fixture
def counted(tmp_path: Path) -> dict[str, Clicks]:
    """The clicks of six messages of a launch; of each (message, seconds after its sending, link, flag, subtype)."""
    clicks: list[tuple[str, int, str, str | None, str | None]] = [
        ("m1", 600, PLAY, "Unlikely", None), ("m1", 700, PLAY, "Unlikely", None), ("m1", 900, HELP, None, None),
        ("m2", 601, PLAY, "Unlikely", None), ("m2", 5, PLAY, "Likely", None),
        ("m3", 3_600, "https://studio.example/player/ann", "Unlikely", None),
        ("m3", 3_700, "https://studio.example/ann", "Unlikely", None),
        ("m4", 30, PLAY, "Likely", None), ("m4", 40, "https://studio.example/stop", None, "unsubscribe"),
        ("m5", 8 * 24 * 3_600, PLAY, None, None),
        ("unsent", 60, PLAY, None, None),
    ]  # fmt: skip
    with connect(tmp_path) as sql:
        sql.execute(f"CREATE TABLE event ({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())})")
        for message, seconds, link, bot, subtype in clicks:
            time = (SENT + timedelta(seconds=seconds)).replace(tzinfo=None)
            click = (message, "launch", "0-1-0", "Click", subtype, time, bot, link)
            sql.execute("INSERT INTO event VALUES (uuid(), ?, ?, ?, ?, ?, ?, ?, ?)", click)
        for message in sorted({each[0] for each in clicks} - {"unsent"}):
            send = (message, "launch", "0-1-0", "Send", None, SENT.replace(tzinfo=None), None, None)
            sql.execute("INSERT INTO event VALUES (uuid(), ?, ?, ?, ?, ?, ?, ?, ?)", send)
        sql.table("event").write_parquet(str(tmp_path / "events.parquet"))
    return count_clicks(tmp_path, [tmp_path / "events.parquet"], {"launch": [PLAY, HELP, PLAY], "other": [PLAY]})


def test_each_message_counts_once_per_link(counted: dict[str, Clicks]) -> None:
    assert list(counted) == ["launch"]
    assert list(counted["launch"].links.items()) == [(PLAY, 4), (HELP, 1)]


def test_links_that_are_not_of_the_template_are_not_named(counted: dict[str, Clicks]) -> None:
    """A template may have a placeholder in a link: its clicks name the player."""
    assert counted["launch"].other_links == 1
    assert "ann" not in counted["launch"].model_dump_json()


def test_the_time_is_that_to_the_first_click_of_a_reader(counted: dict[str, Clicks]) -> None:
    """A message of which no event says when it was sent is in none."""
    assert counted["launch"].times == {"10 minutes": 1, "1 hour": 2, "later": 1}


def test_without_events_there_are_no_clicks(tmp_path: Path) -> None:
    assert count_clicks(tmp_path, [], {}) == {}


def test_the_links_of_a_template_are_those_without_a_placeholder_before_the_query() -> None:
    html = (
        f'<a href="{PLAY}?player={{{{Level}}}}">a</a> <a ses:no-track href="{{{{amazonSESUnsubscribeUrl}}}}">b</a>'
        f" <a class='x' href='{HELP}#top'>c</a> <a href=\"https://studio.example/{{{{FirstName|you}}}}\">d</a>"
        f' <a href="{PLAY}">e</a> <a href="https://studio.example/a&amp;b">f</a> <a href="mailto:a@b.example">g</a>'
    )
    assert fixed_links(EmailTemplate("t", "s", html, "text")) == [PLAY, HELP, "https://studio.example/a&b"]
