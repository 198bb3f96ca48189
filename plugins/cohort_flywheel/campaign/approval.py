"""An approval is for exactly what was prepared: any change needs another approval."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from cohort_flywheel.campaign.launch import PreparedCampaign
from cohort_flywheel.config.decimals import number_text
from cohort_flywheel.config.registry_head import Approval
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.segment.outputs import CheckedSegment

if TYPE_CHECKING:
    from cohort_flywheel.runs.plan import Plan


def approval_digest(prepared: PreparedCampaign) -> str:
    """SHA-256, in hex, of the output of prepare_campaign: of its keys only, whichever version wrote them."""
    content = prepared.model_dump(mode="json", exclude_unset=True)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def approval_text(
    plan: Plan,
    checked: CheckedSegment,
    prepared: PreparedCampaign,
    report_url: str,
    until: datetime,
    unsubscribed: int = 0,
) -> str:
    """Return the approval page, as Markdown: counts and the mail for a made-up player, without personal data."""
    campaign = plan.require_campaign()
    segment, message = checked.segment, prepared.message
    rejects = ", ".join(f"{number:,} {reason}" for reason, number in segment.rejects.items()) or "none"
    change = next((result for result in checked.limits if result.limit == "max_change_percent"), None)
    of_launch = plan.withhold.launch_holdout_percent
    held_out = f"{plan.withhold.holdout_percent} %{f', and {of_launch} % of this launch' if of_launch else ''}"
    mail = [f"Subject: {message.subject}", "", *message.text.splitlines()]
    return (
        f"**{prepared.rows:,} players** of {plan.cohort} ({plan.property} {plan.direction}"
        f" {number_text(plan.threshold)}, as of {plan.as_of.isoformat()}) get one mail each"
        f"{f', except {unsubscribed:,} who have unsubscribed' if unsubscribed else ''}.\n\n"
        f"- from {_escape_markdown(prepared.sender)}\n"
        f"{f'- replies go to {_escape_markdown(prepared.reply_to)}\n' if prepared.reply_to else ''}"
        f"- members {segment.members:,}; no row: {rejects}\n"
        f"- change since last time: {change.sentence if change else 'not known'}\n"
        f"- each player gets this template at most once in {campaign.not_again_days} days;"
        f" held out: {held_out}\n"
        f"- segment {prepared.segment_id}, content {prepared.segment_sha256[:16]}; template {prepared.template},"
        f" content {prepared.template_digest[:16]}\n"
        f"- the report of the run so far: {report_url} ([S3 console]({_console(report_url)}))\n\n"
        f"The mail, as a made-up player gets it, in text ([its HTML]({_console(message.html_url)})):\n\n"
        f"{''.join(map(_quoted, mail))}\n"
        f"{' or '.join(campaign.approvers)} may approve it until {until:%Y-%m-%d %H:%M} UTC. A no, and no"
        " answer in time, end the run with nothing sent."
    )


def _quoted(line: str) -> str:
    """Return a line of a Markdown quotation: Airflow's page joins the lines of a code block."""
    plain = re.sub(r"^(\d*)([-#+=.)])", r"\1\\\2", _escape_markdown(line.strip()))  # not a list or heading
    return f"> {plain}  \n" if plain else "> \xa0  \n"


def _escape_markdown(text: str) -> str:
    """Escape the characters that Markdown interprets."""
    return re.sub(r"[\\`*_\[\]<>&~|]", r"\\\g<0>", text)


def _console(url: str) -> str:
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return f"https://console.aws.amazon.com/s3/object/{bucket}?prefix={key}"


def may_approve(approval: Approval, user: str | None) -> list[str]:
    """The approvers of a run that this user triggered: without the user, unless `own_runs` is true."""
    return [name for name in approval.approvers if approval.own_runs or name != user]


def check_approval(prepared: PreparedCampaign, approval: object, approvers: Sequence[str]) -> None:
    """Raise FlywheelError unless the recorded answer is an approval of this digest by an approver.

    The state of the task is not trusted: a user who may clear tasks can mark one successful.
    """
    answer = approval if isinstance(approval, Mapping) else {}
    is_of_this = answer.get("digest") == approval_digest(prepared)
    if answer.get("approved") is not True or answer.get("by") not in approvers or not is_of_this:
        raise FlywheelError(
            "no recorded approval of exactly this segment and mail by an approver: no player is mailed, whatever the"
            " state of the task approve_campaign; trigger a new run, which asks for approval",
            code=Code.NOT_APPROVED,
        )
