"""The bounce and complaint rates of the last 7 days, above which no launch begins."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from cohort_flywheel.common.records import Record
from cohort_flywheel.config.registry_head import Engagement
from cohort_flywheel.engagement.event_counts import EventCounts
from cohort_flywheel.errors import Code, FlywheelError

#: The days whose events count.
DAYS = timedelta(days=7)


class SenderLimits(Record):
    """The limits of a launch, as its plan fixes them: shares of the e-mails of the last 7 days."""

    max_bounce_rate: float | None = None
    max_complaint_rate: float | None = None
    min_sends: int = 0


def sender_limits(engagement: Engagement) -> SenderLimits | None:
    """Return the limits of the registry; None if it has none."""
    if engagement.max_bounce_rate is None and engagement.max_complaint_rate is None:
        return None
    return SenderLimits.model_validate(engagement.model_dump(include=set(SenderLimits.model_fields)))


def counts(as_of: datetime, last: datetime) -> bool:
    """Return whether the events of an as-of count for a launch of the as-of `last`."""
    return last - DAYS < as_of <= last


def sentence(days: Iterable[EventCounts]) -> tuple[str, EventCounts]:
    """Return the rates of some as-ofs in words, and their sums."""
    found = list(days)
    total = EventCounts(
        objects=sum(each.objects for each in found),
        sent=sum(each.sent for each in found),
        bounced=sum(each.bounced for each in found),
        complained=sum(each.complained for each in found),
    )
    return (
        f"of {total.sent:,} e-mails of the last 7 days {total.bounced:,} bounced for good and {total.complained:,} were"
        f" complained about ({len(found)} as-ofs)"
    ), total


def check_rates(limits: SenderLimits, days: Iterable[EventCounts]) -> str:
    """Return the rates in words; raise FlywheelError above a limit, unless fewer e-mails than `min_sends` were sent."""
    said, total = sentence(days)
    if total.sent < max(limits.min_sends, 1):
        return said
    for name, number, limit in (
        ("max_bounce_rate", total.bounced, limits.max_bounce_rate),
        ("max_complaint_rate", total.complained, limits.max_complaint_rate),
    ):
        if limit is not None and number / total.sent > limit:
            raise FlywheelError(
                f"{said}: above {name} {limit:g}, at which SES may review or pause the sender; find the cause in"
                " engagement/reports, take the addresses out, and launch later, or trigger a new run with"
                " override_limits and a reason",
                code=Code.SENDER_RATES,
            )
    return said
