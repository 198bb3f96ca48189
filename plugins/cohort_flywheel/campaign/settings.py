"""Resolve a run's campaign settings."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from cohort_flywheel.campaign.approval import may_approve
from cohort_flywheel.campaign.email_template import EmailTemplate, check_template, placeholders, template_digest
from cohort_flywheel.common.records import Record
from cohort_flywheel.config.cohorts import Cohort, Consent
from cohort_flywheel.config.params import RunParams
from cohort_flywheel.config.registry_head import Approval, Engagement, Tracking
from cohort_flywheel.errors import Code, FlywheelError


class NoCampaign(Record):
    """What the plan has of a campaign if the run sends none."""

    mode: Literal["none"] = "none"


class RunCampaign(Record):
    """The campaign of a run, as its plan fixes it.

    `approvers` may approve this run; a launch checks the answer against the registry. `placeholders` and
    `template_digest` are those of the template when the run was planned. `tracking` and `tracking_consent` are the
    registry's.
    """

    mode: Literal["draft", "test", "launch"]
    template: str
    sender: Annotated[str, Field(alias="from")]
    reply_to: str | None = None
    not_again_days: int | None
    test_addresses: list[str]
    approvers: list[str]
    placeholders: dict[str, str | None] = Field(default_factory=dict)
    template_digest: str = ""
    tracking: Tracking = "all"
    tracking_consent: Consent | None = None
    holdout_percent: int = 0
    effect_days: int | None = None

    @property
    def tracks_some(self) -> bool:
        """Whether some e-mails are tracked less than others, or all of them less than SES can."""
        return self.tracking != "all" or self.tracking_consent is not None

    def not_again_since(self, as_of: datetime) -> datetime | None:
        """Return the time since when a player must not have been mailed this template; None without such a rule."""
        return None if self.not_again_days is None else as_of - timedelta(days=self.not_again_days)

    def launch_not_again_since(self, as_of: datetime) -> datetime:
        """Return the same for a launch, which has `not_again_days` (choose_campaign)."""
        since = self.not_again_since(as_of)
        if since is None:
            raise ValueError("a launch has not_again_days")
        return since


NONE = NoCampaign()


def campaign_skip_reason(params: RunParams, run_type: str, as_of: datetime, newest: datetime) -> str | None:
    """Return why a run cannot have a campaign; None for the canonical run of the newest as-of."""
    if run_type == "backfill":
        return "a backfill"
    if params.dry_run:
        return "a dry run"
    if params.extract_only:
        return "a run that ends at its extract"
    if params.extract_uri:
        return "a run of an uploaded extract"
    if params.source == "live":
        return "a run with source=live"
    return f"a run of an older day than {newest.isoformat()}" if as_of < newest else None


def choose_campaign(
    cohort: Cohort, params: RunParams, *, approval: Approval, user: str | None, skip_reason: str | None
) -> RunCampaign | NoCampaign:
    """Return the campaign of a run without its mail, or NONE.

    An empty param means the registry's mode, or `none` for a run that cannot have a campaign. Raises FlywheelError if
    the param requests a campaign that the run cannot have, and for missing settings of a mode.
    """
    requested, ours = params.campaign, cohort.campaign
    if requested not in (None, "none") and skip_reason:
        raise FlywheelError(
            f"campaign={requested} is for the canonical run of the newest as-of, and this is {skip_reason}: leave"
            " campaign empty",
            code=Code.PARAMS_CONTRADICT,
        )
    mode = requested or (ours.mode if ours and not skip_reason else "none")
    if mode == "none":
        return NONE
    if ours is None:
        raise FlywheelError(
            f"campaign={mode}, but cohort {cohort.name} has no `campaign` in the registry: add it, with template and"
            " from, as the file's head shows",
            code=Code.CAMPAIGN_SETTINGS,
        )
    if mode == "test" and not ours.test_addresses:
        raise FlywheelError(
            f"campaign=test mails samples, and the campaign of cohort {cohort.name} has no test_addresses in the"
            " registry: add them",
            code=Code.CAMPAIGN_SETTINGS,
        )
    if mode == "launch" and ours.not_again_days is None:
        raise FlywheelError(
            f"campaign=launch needs not_again_days in the campaign of cohort {cohort.name}: write in the registry for"
            " how many days a player does not get this mail again",
            code=Code.CAMPAIGN_SETTINGS,
        )
    approvers = may_approve(approval, user)
    if mode == "launch" and not approvers:
        mine = f", except {user}, who triggered it and may not approve it" if approval.approvers else ""
        raise FlywheelError(
            f"campaign=launch waits for an approver, and no user may approve this run{mine}: write names into"
            " approval.approvers of the registry",
            code=Code.CAMPAIGN_SETTINGS,
        )
    return RunCampaign(
        mode=mode,
        template=ours.template,
        sender=ours.sender,
        reply_to=ours.reply_to,
        not_again_days=ours.not_again_days,
        test_addresses=ours.test_addresses,
        approvers=approvers,
        holdout_percent=ours.holdout_percent,
        effect_days=ours.effect_days,
    )


def with_mail(
    campaign: RunCampaign, template: EmailTemplate, columns: Iterable[str], engagement: Engagement
) -> RunCampaign:
    """Add the placeholders and the digest of a template, and what is tracked.

    Raises FlywheelError for a placeholder without a column.
    """
    check_template(template, columns)
    mail = {"placeholders": placeholders(template), "template_digest": template_digest(template)}
    tracked = {"tracking": engagement.tracking, "tracking_consent": engagement.tracking_consent}
    return campaign.model_copy(update=mail | tracked)


def check_same_mail(campaign: RunCampaign, template: EmailTemplate) -> None:
    """Raise FlywheelError if a template has changed since the run was planned."""
    if template_digest(template) != campaign.template_digest:
        raise FlywheelError(
            f"template {template.name} has changed since the run was planned, and the rows were chosen by the earlier"
            " one: trigger a new run, or clear plan with downstream if no approver was asked yet",
            code=Code.MAIL_CHANGED,
        )
