"""Store the mail of a campaign in SES, and check the account, the sender and the template."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
from airflow.sdk.exceptions import AirflowSkipException

from cohort_flywheel.campaign.email_template import (
    UNSUBSCRIBE,
    EmailTemplate,
    check_template,
    fixed_links,
    placeholders,
    read_template,
    render,
    samples,
    template_digest,
)
from cohort_flywheel.campaign.launch import SampleMail
from cohort_flywheel.campaign.launch_store import check_not_launched, put_sample
from cohort_flywheel.campaign.sender import sender_header, sender_of
from cohort_flywheel.campaign.settings import RunCampaign, check_same_mail
from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.records import AwsStructure, Json
from cohort_flywheel.destinations.ses.campaign.event_publishing import choose_sets
from cohort_flywheel.destinations.ses.campaign.stored_template import (
    check_unsubscribe,
    ses_template,
    ses_template_name,
    template_data,
)
from cohort_flywheel.destinations.ses.hook import SesV2Hook
from cohort_flywheel.destinations.ses.ses_outputs import SesPreparedCampaign
from cohort_flywheel.engagement.suppressions_store import check_suppressions_age
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.segment.outputs import Segment
from cohort_flywheel.segment.segment_file_store import segment_rows

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The unsubscribe link of a sample, which is mailed without a contact list.
_NO_LINK = "https://unsubscribe.example"

DESTINATION_NAME = "ses"


def check_sender(sender: str, aws_conn_id: str | None) -> AwsStructure:
    """Return the identity that SES sends with; raise FlywheelError unless it is verified. Called by the plan."""
    return check_verified(SesV2Hook(aws_conn_id=aws_conn_id), sender)


class SesPrepareCampaignOperator(AwsBaseOperator[SesV2Hook]):
    """Store a campaign's mail in SES, and preview it; no player of the segment is mailed.

    The template is checked against the columns of the segment file and stored under a name with its digest, unless it
    exists. Fails for an account in the sandbox, paused, or with less daily quota left than rows, and for a sender that
    is not verified. With `test`, three samples for made-up players are mailed to the test addresses, without the
    contact list. An empty segment is skipped. Returns (each also as a separate XCom) `mode`,
    `template`, `template_digest`, `ses_template` (its name in SES), `placeholders` (with their defaults), `links` (the
    same for all players), `from`, `rows`, `segment_id`, `segment_sha256`, and `message` (subject and text
    for a made-up player).

    :param plan: the output of CohortPlanOperator. (templated)
    :param segment: the segment file, as CohortLimitsOperator released it. (templated)
    :param segment_id: the id of the verified segment. (templated)
    :param templates: the folder of the templates, include/email, read when the task runs.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    aws_hook_class = SesV2Hook
    template_fields = aws_template_fields("plan", "segment", "segment_id")
    ui_color = "#d5c7f2"

    def __init__(self, *, plan: Json, segment: Json, segment_id: str, templates: Path, **kwargs: Any) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.segment = segment
        self.segment_id = segment_id
        self.templates = templates

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it continues with what exists"
        retry_note += ", and mails the samples again." if self.plan["campaign"]["mode"] == "test" else "."
        with describe_failure(retry_note) as side_effects:
            plan = Plan.model_validate(self.plan)
            campaign = plan.campaign
            if campaign.mode == "none":
                raise AirflowSkipException(f"{plan.name} has no campaign")
            segment = Segment.model_validate(self.segment)
            if not segment.rows:
                raise AirflowSkipException(f"the segment of {plan.name} is empty: no player to mail")
            template = read_template(self.templates, campaign.template)
            check_same_mail(campaign, template)
            s3 = S3Hook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
            check_not_launched(s3, plan, segment, DESTINATION_NAME)
            if campaign.mode == "launch":
                check_suppressions_age(s3, plan)
            check_template(template, next(segment_rows(s3, segment))[2:])
            sets = choose_sets(campaign, self.plan)
            check_unsubscribe(template, sets.tracked or sets.untracked)
            check_account(self.hook.account(), segment.rows)
            check_verified(self.hook, campaign.sender)
            stored, defaults = self._stored(template, side_effects), placeholders(template)
            if campaign.mode == "test":
                self._mail_samples(campaign, stored, defaults, side_effects)
            sample = render(template, samples(defaults)[0])
            html_url = put_sample(s3, plan, sample.html)
        self.log.info("%s is prepared: %s", plan.name, "; ".join(side_effects))
        return SesPreparedCampaign(
            mode=campaign.mode, template=template.name, template_digest=template_digest(template),
            ses_template=stored, placeholders=defaults, sender=campaign.sender,
            reply_to=campaign.reply_to, rows=segment.rows, segment_id=self.segment_id, segment_sha256=segment.sha256,
            message=SampleMail(subject=sample.subject, text=sample.text, html_url=html_url),
            configuration_set=sets.tracked or None, untracked_configuration_set=sets.untracked or None,
            links=fixed_links(template),
        ).model_dump(mode="json")  # fmt: skip

    def _stored(self, template: EmailTemplate, side_effects: list[str]) -> str:
        """Return the name of the template in SES with this content, created unless it exists."""
        content = ses_template(template)
        name = ses_template_name(template.name, content)
        if self.hook.email_template(name) is None and self.hook.create_email_template(name, content):
            side_effects.append(f"SES template {name} was created")
        else:
            side_effects.append(f"SES template {name} exists")
        check_stored(self.hook, template.name, name)
        return name

    def _mail_samples(
        self, campaign: RunCampaign, stored: str, defaults: Mapping[str, str | None], side_effects: list[str]
    ) -> None:
        made_up = samples(defaults)
        for number, values in enumerate(made_up, start=1):
            data = template_data(defaults, values) | {UNSUBSCRIBE: _NO_LINK}
            self.hook.send_email(
                **sender_arguments(campaign),
                Destination={"ToAddresses": campaign.test_addresses},
                Content={"Template": {"TemplateName": stored, "TemplateData": json.dumps(data)}},
            )
            side_effects.append(
                f"sample {number} of {len(made_up)} was mailed to the {len(campaign.test_addresses)} test addresses"
            )


def check_account(account: AwsStructure, rows: int) -> None:
    """Raise FlywheelError unless the account may send this number of mails today."""
    if not account.get("ProductionAccessEnabled"):
        raise FlywheelError(
            "the SES account is in the sandbox, where it mails only verified addresses: ask for production access (SES"
            " console, Account dashboard), in the region of the AWS connection",
            code=Code.SES_ACCOUNT,
        )
    if not account.get("SendingEnabled") or account.get("EnforcementStatus") == "SHUTDOWN":
        raise FlywheelError(
            "the sending of the SES account is paused: look at its status (aws sesv2 get-account), and resume it",
            code=Code.SES_ACCOUNT,
        )
    quota = account["SendQuota"]
    left = math.floor(quota["Max24HourSend"] - quota["SentLast24Hours"])
    if rows and quota["Max24HourSend"] >= 0 and left < rows:  # below 0 it is unlimited [SES: SendQuota]
        raise FlywheelError(
            f"the SES account may send {left:,} more mails within 24 hours, and the segment has {rows:,} rows: ask for"
            " a higher quota (Service Quotas), or choose a stricter threshold",
            code=Code.QUOTA,
        )


def sender_arguments(campaign: RunCampaign) -> AwsStructure:
    """Return the sender and the reply-to address of a request of SendEmail."""
    reply_to = {"ReplyToAddresses": [sender_header(campaign.reply_to)]} if campaign.reply_to else {}
    return {"FromEmailAddress": sender_header(campaign.sender), **reply_to}


def check_verified(hook: SesV2Hook, sender: str) -> AwsStructure:
    address = sender_of(sender)[1]
    if (found := hook.verified_identity(address)) is None:
        raise FlywheelError(
            f"the sender {address} is not verified: verify {address.rpartition('@')[2]} in Amazon SES, in the region of"
            " the AWS connection, or correct `from` in the registry",
            code=Code.SENDER,
        )
    return found


def check_stored(hook: SesV2Hook, template: str, name: str) -> None:
    """Raise FlywheelError unless the template in SES has the content of its name's digest."""
    found = hook.email_template(name)
    if found is None or ses_template_name(template, found) != name:
        what = (
            "is gone"
            if found is None
            else "was changed outside this package: delete it (aws sesv2 delete-email-template)"
        )
        raise FlywheelError(
            f"SES template {name} {what}; then clear prepare_campaign with downstream", code=Code.MAIL_CHANGED
        )
