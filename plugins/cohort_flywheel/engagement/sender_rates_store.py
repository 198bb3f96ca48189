"""The counts of the last days, read before a launch."""

from __future__ import annotations

from cohort_flywheel.engagement.event_counts import EventCounts
from cohort_flywheel.engagement.event_objects import COUNTS_FOLDER, counts_as_of
from cohort_flywheel.engagement.sender_rates import check_rates, counts, sentence
from cohort_flywheel.hooks.s3 import S3Hook, get_json, keys
from cohort_flywheel.runs.plan import Plan


def check_sender_rates(s3: S3Hook, plan: Plan) -> str | None:
    """Return the rates of the last 7 days in words, None without limits.

    Raises FlywheelError above a limit, unless the plan has an override, whose reason the report has.
    """
    if plan.sender_limits is None:
        return None
    there = ((key, counts_as_of(key)) for key in keys(s3, plan.state_bucket, COUNTS_FOLDER))
    wanted = [key for key, as_of in there if as_of and counts(as_of, plan.as_of)]
    found = [EventCounts.model_validate(each[0]) for key in wanted if (each := get_json(s3, plan.state_bucket, key))]
    if plan.override:
        return f"{sentence(found)[0]}; the limits are overridden"
    return check_rates(plan.sender_limits, found)
