"""Prepare a campaign: create a version of a message template from its mail, and render it for the approval.

`ConnectCampaignSettings` of the destination has the settings. An opt-out on the unsubscribe page must reach the
contacts table or the do-not-contact list. The sender is `from` of the registry.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
from airflow.sdk.exceptions import AirflowSkipException
from botocore.exceptions import ClientError

from cohort_flywheel.campaign.email_template import (
    EmailTemplate,
    check_template,
    placeholders,
    read_template,
    samples,
    template_digest,
)
from cohort_flywheel.campaign.launch import SampleMail
from cohort_flywheel.campaign.launch_store import Row, check_not_launched, launch_folder, put_sample, same_address
from cohort_flywheel.campaign.sender import sender_header, sender_of
from cohort_flywheel.campaign.settings import RunCampaign, check_same_mail
from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.records import AwsStructure, Json
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.destinations.customer_profiles.campaign.hook import ConnectCampaignsHook
from cohort_flywheel.destinations.customer_profiles.campaign.message_template import (
    message_template,
    message_template_attributes,
    message_template_name,
    same_mail,
)
from cohort_flywheel.destinations.customer_profiles.campaign.qconnect_hook import QConnectHook
from cohort_flywheel.destinations.customer_profiles.campaign.template_versions_store import TemplateVersions
from cohort_flywheel.destinations.customer_profiles.profiles_outputs import ConnectPreparedCampaign
from cohort_flywheel.destinations.ses.hook import SesV2Hook
from cohort_flywheel.engagement.suppressions_store import check_suppressions_age
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.schedule import Clock, schedule_in_force, utc_now
from cohort_flywheel.segment.outputs import Segment
from cohort_flywheel.segment.segment_file_store import segment_rows

if TYPE_CHECKING:
    from airflow.sdk import Context

_DESTINATION = "customer_profiles"

#: Addresses of Connect's own domains, from which only Connect sends [Connect guide: set up email].
_OF_CONNECT = ".email.connect.aws"


def check_sender(campaign: RunCampaign, aws_conn_id: str | None) -> None:
    """Raise FlywheelError unless SES has verified the sender of a plan's campaign; called by the plan.

    Connect accepts an address of a domain that SES has verified in the same account and region, or one of its own. It
    is not checked whether the address was added to the instance: CreateCampaign refuses it otherwise.
    """
    if campaign.reply_to:
        raise FlywheelError(
            "the campaign has a reply_to, and a campaign of Amazon Connect takes no reply-to address: remove it in the"
            " registry, so that replies go to `from`, or choose `destination: ses`",
            code=Code.CAMPAIGN_SETTINGS,
        )
    address = sender_of(campaign.sender)[1]
    if address.lower().endswith(_OF_CONNECT):
        if campaign.mode == "test":
            raise FlywheelError(
                f"the sender {address} is of Connect's own domain, from which only campaigns are sent, and a test is"
                " mailed by SES: use an address of a domain of yours that SES has verified, or campaign=draft",
                code=Code.SENDER,
            )
        return
    ses = SesV2Hook(aws_conn_id=aws_conn_id)
    if not ses.account().get("ProductionAccessEnabled"):
        raise FlywheelError(
            "the SES account is in the sandbox, where it mails only verified addresses: ask for production access (SES"
            " console, Account dashboard), in the region of the AWS connection",
            code=Code.SES_ACCOUNT,
        )
    if ses.verified_identity(address) is None:
        raise FlywheelError(
            f"the sender {address} is not verified: verify {address.rpartition('@')[2]} in Amazon SES, in the region of"
            " the AWS connection, and add the address to the Connect instance (Channels, Email addresses), or correct"
            " `from` in the registry",
            code=Code.SENDER,
        )


def check_places(instance: str, base: str, aws_conn_id: str | None) -> None:
    """Raise FlywheelError unless the Connect instance has outbound campaigns and its templates can be listed."""
    with _found(
        f"outbound campaigns of Connect instance {instance}",
        "connect_instance_id",
        "connect-campaigns:GetConnectInstanceConfig",
    ):
        ConnectCampaignsHook(aws_conn_id=aws_conn_id).check_instance(instance)
    with _found(
        f"message templates of knowledge base {base}", "qconnect_knowledge_base_id", "wisdom:ListMessageTemplates"
    ):
        next(QConnectHook(aws_conn_id=aws_conn_id).templates(base), None)


@contextmanager
def _found(what: str, setting: str, action: str) -> Iterator[None]:
    """Turn a refusal of the service into an error that names the setting or the permission."""
    try:
        yield
    except ClientError as error:
        answer = error.response["Error"]["Code"]
        if answer in ("ResourceNotFoundException", "ValidationException"):
            code = Code.NOT_THERE
            advice = f"do not exist ({answer}): enable or create them, or correct cohort_flywheel_{setting}"
        elif answer == "AccessDeniedException":
            code, advice = Code.REFUSED, f"are refused ({answer}): grant the execution role {action}"
        else:
            raise
        raise FlywheelError(f"the {what} {advice}", code=code) from None


class ConnectPrepareCampaignOperator(TemporaryFolderMixin, AwsBaseOperator[ConnectCampaignsHook]):
    """Create the message template of a campaign in Connect, and preview its mail; no player is mailed.

    The template is checked against the columns of the profiles and stored as a version of a message template in Amazon
    Q in Connect. No campaign is created: a user could start it in Connect's console, without an approval and without
    the send ledger. A launch whose rows share an address is refused. With `test`, SES mails three samples for made-up
    players to the test addresses, because only Connect's own service may send a mail by Connect [connect:
    SendOutboundEmail]. An empty segment is skipped. Returns (each also as a separate XCom) `mode`, `template`,
    `template_digest`, `template_arn` (of the version), `from`, `rows`, `segment_id`, `segment_sha256`, and `message`
    (subject, text and the address of the HTML for a made-up player).

    :param plan: the output of CohortPlanOperator. (templated)
    :param segment: the segment file, as CohortLimitsOperator released it. (templated)
    :param segment_id: the segment's ARN. (templated)
    :param knowledge_base_id: the knowledge base of message templates. (templated)
    :param unsubscribe_url: the page on which a player unsubscribes; it replaces SES's placeholder. (templated)
    :param templates: the folder of the templates, include/email, read when the task runs.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    :param clock: gives the time, with its zone.
    """

    aws_hook_class = ConnectCampaignsHook
    template_fields = aws_template_fields("plan", "segment", "segment_id", "knowledge_base_id", "unsubscribe_url")
    ui_color = "#d5c7f2"

    def __init__(
        self,
        *,
        plan: Json,
        segment: Json,
        segment_id: str,
        knowledge_base_id: str,
        unsubscribe_url: str,
        templates: Path,
        clock: Clock = utc_now,
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.segment = segment
        self.segment_id = segment_id
        self.knowledge_base_id = knowledge_base_id
        self.unsubscribe_url = unsubscribe_url
        self.templates = templates
        self.clock = clock

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
            check_sender(campaign, self.aws_conn_id)
            template = read_template(self.templates, campaign.template)
            check_same_mail(campaign, template)
            s3 = S3Hook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
            check_not_launched(s3, plan, segment, _DESTINATION)
            _, _player_id, *columns = next(segment_rows(s3, segment))
            check_template(template, columns)
            if campaign.mode == "launch":
                check_suppressions_age(s3, plan)
                self._check_addresses(plan, s3, segment)
            in_force = schedule_in_force(context, plan)  # decides which launches still wait
            current = plan.model_copy(update={"schedule": in_force.cron, "timezone": in_force.zone})
            arn = self._version(s3, current, template, columns, side_effects)
            mails = [self._rendered(arn, columns, sample) for sample in samples(placeholders(template))]
            html_url = put_sample(s3, plan, mails[0]["html"])
            prepared = ConnectPreparedCampaign(
                mode=campaign.mode, template=template.name, template_digest=template_digest(template),
                template_arn=arn, sender=campaign.sender, rows=segment.rows, segment_id=self.segment_id,
                segment_sha256=segment.sha256,
                message=SampleMail(subject=mails[0]["subject"], text=mails[0]["plainText"], html_url=html_url),
            )  # fmt: skip
            if campaign.mode == "test":
                self._mail_samples(campaign, mails, side_effects)
        self.log.info("%s is prepared: %s", plan.name, "; ".join(side_effects))
        return prepared.model_dump(mode="json")

    def _check_addresses(self, plan: Plan, s3: S3Hook, segment: Segment) -> None:
        """Raise FlywheelError if rows share an address: Connect mails each profile, so the person twice."""
        rows = (Row(address, player_id, {}) for address, player_id, *_ in islice(segment_rows(s3, segment), 1, None))
        with self.temporary_folder() as folder, closing(sqlite3.connect(folder / "addresses.sqlite")) as listed:
            path, number = folder / "same_address.txt", 0
            with path.open("w", encoding="utf-8", newline="") as file:
                for player_id in same_address(rows, listed):
                    file.write(f"{player_id}\n")
                    number += 1
            if not number:
                return
            bucket, key = plan.state_bucket, f"{launch_folder(plan.name)}{path.name}"
            s3.load_file(path, key, bucket, replace=True)
        raise FlywheelError(
            f"{number:,} of {segment.rows:,} rows have the address of a row before them, and Connect would mail"
            f" that person again: put those players (s3://{bucket}/{key}, one playerId per line) on the do-not-contact"
            " list, or correct their records, and trigger a new run",
            code=Code.SAME_ADDRESS,
        )

    def _version(
        self, s3: S3Hook, plan: Plan, template: EmailTemplate, columns: Sequence[str],
        side_effects: list[str],
    ) -> str:  # fmt: skip
        """Return the ARN of the version of the message template with this content."""
        hook, base = self._qconnect, self.knowledge_base_id
        name, email = message_template_name(template.name), message_template(template, columns, self.unsubscribe_url)
        found = next((each for each in hook.templates(base) if each["name"] == name), None)
        if found is None:
            latest = self._create_template(name, email)
            side_effects.append(f"message template {name} was created")
        else:
            latest = hook.template(base, found["messageTemplateId"])
            if not same_mail(latest, email):
                latest = hook.update_template(base, found["messageTemplateId"], email)
                side_effects.append(f"message template {name} was changed")
        versions = TemplateVersions(hook, self.hook, s3, plan, base, self.clock)
        version = versions.create(latest, side_effects)
        side_effects.append(f"version {version['versionNumber']} of message template {name} has the content")
        if plan.campaign.mode == "launch":
            versions.record_prepared(version["messageTemplateArn"])
        return str(version["messageTemplateArn"])

    def _create_template(self, name: str, email: AwsStructure) -> AwsStructure:
        try:
            return self._qconnect.create_template(self.knowledge_base_id, name, email)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ServiceQuotaExceededException":
                raise
            raise FlywheelError(
                f"knowledge base {self.knowledge_base_id} has as many message templates as its quota allows, and"
                f" {name} is not one of them: delete templates that no campaign uses (Amazon Connect, Message"
                " templates), or ask AWS for a higher quota",
                code=Code.QUOTA,
            ) from None

    def _rendered(self, arn: str, columns: Sequence[str], values: Mapping[str, str]) -> dict[str, str]:
        """Render a version for a made-up player with the service."""
        version, attributes = arn.rpartition("/")[2], message_template_attributes(values, columns)
        parts, left = self._qconnect.render(self.knowledge_base_id, version, attributes)
        if left:
            raise FlywheelError(
                f"Amazon Q in Connect does not know {', '.join(sorted(left))} in version {version} of the message"
                " template: name attributes that are columns of the segment",
                code=Code.MAIL_TEMPLATE,
            )
        return parts

    def _mail_samples(self, campaign: RunCampaign, mails: Sequence[Mapping[str, str]], side_effects: list[str]) -> None:
        addresses = campaign.test_addresses
        ses = SesV2Hook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
        for number, mail in enumerate(mails, start=1):
            subject, html, text = ({"Data": mail[part]} for part in ("subject", "html", "plainText"))
            ses.send_email(
                FromEmailAddress=sender_header(campaign.sender),
                Destination={"ToAddresses": addresses},
                Content={"Simple": {"Subject": subject, "Body": {"Html": html, "Text": text}}},
            )
            side_effects.append(f"sample {number} of {len(mails)} was mailed to the {len(addresses)} test addresses")

    @cached_property
    def _qconnect(self) -> QConnectHook:
        return QConnectHook(aws_conn_id=self.aws_conn_id, region_name=self.region_name)
