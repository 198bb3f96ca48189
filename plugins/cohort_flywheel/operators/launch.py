"""What holds for every launch of a campaign, whichever the destination."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowException

from cohort_flywheel.approval import check_approval
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.names import claim_key
from cohort_flywheel.operators.claim import hold, this_run, word
from cohort_flywheel.operators.state import State
from cohort_flywheel.source import is_the_days

if TYPE_CHECKING:
    from airflow.sdk import Context


def check_approved(
    plan: Mapping[str, Any], segment: Mapping[str, Any], prepared: Mapping[str, Any], approval: object
) -> None:
    """Raise FlywheelError unless this run's segment and campaign were prepared, and exactly that was approved.

    The recorded answer counts, and no task's state.
    """
    campaign = plan["campaign"]
    asked = {name: prepared[name] for name in ("mode", "template", "from", "rows", "segment_sha256")}
    ours = {name: campaign[name] for name in ("mode", "template", "from")}
    if asked != ours | {"rows": segment["rows"], "segment_sha256": segment["sha256"]}:
        raise FlywheelError(
            "what was prepared is not this run's segment and campaign: clear prepare_campaign and what follows it"
        )
    if prepared["mode"] != "launch":
        raise FlywheelError(f"the campaign of this run is {prepared['mode']}: only campaign=launch mails players")
    check_approval(prepared, approval, campaign["approvers"])


def check_its_day(plan: Mapping[str, Any], context: Context) -> None:
    """Raise FlywheelError for a backfill, and for what does not stand for its day: they never launch."""
    if word(context["dag_run"].run_type) == "backfill":
        raise FlywheelError("a backfill never launches a campaign: the newest as-of's own run does")
    if plan["dry_run"] or not is_the_days(plan):
        raise FlywheelError(f"{plan['name']} does not stand for its day (dry run, live, extract_uri): it mails nobody")


@contextmanager
def alone(state: State, template: str, context: Context) -> Iterator[None]:
    """While no other run launches a campaign of the same template, whichever its destination."""
    try:
        hold(state, _claim_key(template), f"template {template}", context)
    except FlywheelError:
        raise AirflowException(
            f"another run is launching a campaign of template {template}: a later try sees whom it mails"
        ) from None
    try:
        yield
    finally:
        end_alone(state, template, context)


def end_alone(state: State, template: str, context: Context) -> None:
    """Also for the try that follows one which was killed, and finds nothing left to do alone."""
    state.end_claim(_claim_key(template), this_run(context))


def _claim_key(template: str) -> str:
    return claim_key(f"campaign_{template}")
