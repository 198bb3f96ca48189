"""The rates above which no launch begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cohort_flywheel.config.registry_head import Engagement
from cohort_flywheel.engagement.event_counts import EventCounts
from cohort_flywheel.engagement.sender_rates import SenderLimits, check_rates, counts, sender_limits
from cohort_flywheel.errors import Code, FlywheelError

NEWEST = datetime(2026, 11, 22, tzinfo=UTC)
LIMITS = SenderLimits(max_bounce_rate=0.05, max_complaint_rate=0.001, min_sends=1000)


def day(sent: int, bounced: int = 0, complained: int = 0) -> EventCounts:
    return EventCounts(objects=1, sent=sent, bounced=bounced, complained=complained)


@pytest.mark.parametrize("days", [[], [day(0)], [day(1000, 50, 1)], [day(600, 40), day(400, 10)], [day(999, 999, 999)]])
def test_rates_at_the_limits_or_of_few_mails_pass(days: list[EventCounts]) -> None:
    assert "of the last 7 days" in check_rates(LIMITS, days)


@pytest.mark.parametrize(
    ("days", "name"),
    [
        ([day(1000, 51)], "max_bounce_rate 0.05"),
        ([day(500), day(500, 51)], "max_bounce_rate 0.05"),
        ([day(1000, 0, 2)], "max_complaint_rate 0.001"),
    ],
)
def test_rates_above_a_limit_are_refused(days: list[EventCounts], name: str) -> None:
    with pytest.raises(FlywheelError, match=rf"of 1,000 e-mails of the last 7 days .*: above {name}") as error:
        check_rates(LIMITS, days)
    assert error.value.code == Code.SENDER_RATES


def test_one_limit_alone_decides_and_a_limit_of_0_refuses_any() -> None:
    check_rates(SenderLimits(max_complaint_rate=0.001), [day(10, 10)])
    with pytest.raises(FlywheelError, match="max_bounce_rate 0"):
        check_rates(SenderLimits(max_bounce_rate=0.0), [day(10, 1)])


def test_seven_days_count() -> None:
    days = [n for n in range(-1, 10) if counts(NEWEST - timedelta(days=n), NEWEST)]
    assert days == [0, 1, 2, 3, 4, 5, 6]


def test_the_limits_are_those_of_the_registry() -> None:
    assert sender_limits(Engagement(read_events=True)) is None
    limits = Engagement(read_events=True, max_bounce_rate=0.05)
    assert sender_limits(limits) == SenderLimits(max_bounce_rate=0.05, min_sends=1000)
