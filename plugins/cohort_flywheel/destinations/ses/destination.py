"""Amazon SES: the contact list has the unsubscribed players; the segment file has the players to mail."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from airflow.sdk import BaseOperator
from botocore.exceptions import ClientError
from pydantic import BaseModel

from cohort_flywheel.campaign.email_template import EmailTemplate
from cohort_flywheel.campaign.settings import RunCampaign
from cohort_flywheel.common.records import Output
from cohort_flywheel.config.registry_head import Approval
from cohort_flywheel.config.setting_types import BucketName, SesName
from cohort_flywheel.destinations.base import Destination, PreExecute, Settings
from cohort_flywheel.destinations.ses.campaign.event_publishing import (
    TRACKED_SETTING,
    UNTRACKED_SETTING,
    check_configuration_set,
    choose_sets,
    types_without,
)
from cohort_flywheel.destinations.ses.campaign.ses_launch_operator import SesLaunchCampaignOperator
from cohort_flywheel.destinations.ses.campaign.ses_prepare_operator import SesPrepareCampaignOperator, check_sender
from cohort_flywheel.destinations.ses.campaign.stored_template import check_unsubscribe
from cohort_flywheel.destinations.ses.hook import SesV2Hook
from cohort_flywheel.destinations.ses.import_bucket_store import check_bucket_policy
from cohort_flywheel.destinations.ses.layout import LAYOUT
from cohort_flywheel.destinations.ses.operators import (
    SesCreateImportJobsOperator,
    SesVerifyContactsOperator,
    is_unsubscribed,
)
from cohort_flywheel.destinations.ses.sensors import SesImportJobsSensor
from cohort_flywheel.engagement.suppressions import SuppressedAddress
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.governance.cleanup import InventoryRow
from cohort_flywheel.governance.erasure import Addresses
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.segment.contacts import plain_address

log = logging.getLogger(__name__)


class SesSettings(BaseModel):
    """The account's contact list, and the topic that new contacts are subscribed to."""

    ses_contact_list: SesName
    ses_topic: SesName


class SesCampaignSettings(BaseModel):
    """The configuration set that the e-mails name, and that of players who are not tracked.

    Empty: their events are not published.
    """

    ses_configuration_set: SesName = ""
    ses_untracked_configuration_set: SesName = ""


class SesImportSettings(SesSettings):
    """With the deployment's import bucket, which SES must be able to read."""

    import_bucket: BucketName


_REFUSED = ("AccessDenied", "AccessDeniedException")


def _check_list(hook: SesV2Hook, name: str, topic: str) -> None:
    ses = hook.conn
    with _granted("ses:GetContactList"):
        try:
            found = ses.get_contact_list(ContactListName=name)
        except ses.exceptions.NotFoundException:
            raise FlywheelError(
                f"contact list {name} does not exist in SES: create it (aws sesv2 create-contact-list; an account has"
                " one), or correct cohort_flywheel_ses_contact_list",
                code=Code.NOT_THERE,
            ) from None
    topics = [each["TopicName"] for each in found.get("Topics", ())]
    if topic not in topics:
        raise FlywheelError(
            f"contact list {name} has no topic {topic} (its topics: {', '.join(topics) or 'none'}): add it (aws sesv2"
            " update-contact-list), or correct cohort_flywheel_ses_topic",
            code=Code.NOT_THERE,
        )


@contextmanager
def _granted(action: str) -> Iterator[None]:
    """Turn a refusal of AWS into an error that names the permission."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code not in _REFUSED:
            raise
        raise FlywheelError(f"SES is refused ({code}): grant the execution role {action}", code=Code.REFUSED) from None


class SesDestination(Destination):
    """Amazon SES: a contact list, and a mail to each row of the segment file."""

    name = "ses"
    layout = LAYOUT
    settings = SesSettings
    campaign_settings = SesCampaignSettings
    #: A contact list does not have the opt-outs of other services.
    REQUIRES_OPT_OUT_LIST = True

    def create_import_job(self, plan: Output, segment: Output, pre_execute: PreExecute) -> BaseOperator:
        return SesCreateImportJobsOperator(
            task_id="create_import_job",
            plan=plan,
            segment=segment["segment"],
            contact_list=plan["ses_contact_list"],
            topic=plan["ses_topic"],
            pre_execute=pre_execute,
            # one run at a time imports into the list of the account, and runs of other cohorts begin at the same time
            retries=30,
            max_retry_delay=timedelta(minutes=10),
        )

    def wait_for_import_job(self, plan: Output, created: Output) -> BaseOperator:
        return SesImportJobsSensor(task_id="wait_for_import_job", job_ids=created["job_ids"], deferrable=True)

    def verify_segment(self, plan: Output, segment: Output, created: Output) -> BaseOperator:
        return SesVerifyContactsOperator(
            task_id="verify_segment",
            segment=segment["segment"],
            contact_list=plan["ses_contact_list"],
            topic=plan["ses_topic"],
            job_ids=created["job_ids"],
        )

    def prepare_campaign(self, plan: Output, segment: Output, verified: Output, templates: Path) -> BaseOperator:
        return SesPrepareCampaignOperator(
            task_id="prepare_campaign",
            plan=plan,
            segment=segment["segment"],
            segment_id=verified["segment_id"],
            templates=templates,
        )

    def launch_campaign(
        self, plan: Output, segment: Output, prepared: Output, approval: Approval, pre_execute: PreExecute
    ) -> BaseOperator:
        return SesLaunchCampaignOperator(
            task_id="launch_campaign",
            plan=plan,
            segment=segment["segment"],
            prepared=prepared,
            approval=approval,
            contact_list=plan["ses_contact_list"],
            topic=plan["ses_topic"],
            execution_timeout=timedelta(hours=24),  # the period of the quota that the rows were compared with
            pre_execute=pre_execute,
            retries=10,  # the quota may be reached, or another run may be launching the same template
            max_retry_delay=timedelta(minutes=30),
        )

    def check(self, settings: Settings, aws_conn_id: str | None) -> None:
        """Raise FlywheelError unless the account may send, the list has the topic, and SES may read the bucket."""
        hook = SesV2Hook(aws_conn_id=aws_conn_id)
        with _granted("ses:GetAccount"):
            account = hook.conn.get_account()
        if not account.get("ProductionAccessEnabled"):
            raise FlywheelError(
                "the SES account is in the sandbox, where it imports no contacts and mails only verified addresses: ask"
                " for production access (SES console, Account dashboard), in the region of the AWS connection",
                code=Code.SES_ACCOUNT,
            )
        if not account.get("SendingEnabled") or account.get("EnforcementStatus") == "SHUTDOWN":
            raise FlywheelError(
                "the sending of the SES account is paused: look at its status (aws sesv2 get-account), and resume it"
                " with `aws sesv2 put-account-sending-attributes --sending-enabled`, or ask AWS Support if AWS did it",
                code=Code.SES_ACCOUNT,
            )
        ours = SesImportSettings.model_validate(settings)
        _check_list(hook, ours.ses_contact_list, ours.ses_topic)
        check_bucket_policy(S3Hook(aws_conn_id=aws_conn_id), ours.import_bucket)

    def check_campaign(
        self,
        campaign: RunCampaign,
        template: EmailTemplate,
        columns: Sequence[str],
        settings: Settings,
        aws_conn_id: str | None,
    ) -> None:
        """Raise FlywheelError unless SES can send the mail, has verified the sender, and publishes the events.

        `check` checks whether the account may send at all.
        """
        with _granted("ses:GetEmailIdentity"):
            default = check_sender(campaign.sender, aws_conn_id).get("ConfigurationSetName")
        sets = choose_sets(campaign, settings, default)
        check_unsubscribe(template, sets.tracked or sets.untracked)
        hook = SesV2Hook(aws_conn_id=aws_conn_id)
        for name, setting in ((sets.tracked, TRACKED_SETTING), (sets.untracked, UNTRACKED_SETTING)):
            if name:
                without = types_without(campaign, tracked=setting == TRACKED_SETTING)
                with _granted("ses:GetConfigurationSet and ses:GetConfigurationSetEventDestinations"):
                    check_configuration_set(name, hook.configuration_set(name), setting, without)
        if any(sets):
            return
        log.warning(
            "cohort_flywheel_ses_configuration_set is not set: bounces, complaints, opens and clicks of this campaign"
            " are not recorded%s",
            f"; SES uses {default}, the default configuration set of the sender's identity" if default else "",
        )

    def handle_empty_segment(self, plan: Plan, settings: Settings, aws_conn_id: str | None = "aws_default") -> bool:
        """Return False: the contact list has no segments, and an empty segment file sends no e-mail."""
        return False

    def running_import_jobs(self, settings: Settings, aws_conn_id: str | None) -> list[InventoryRow]:
        """Return the import jobs that have not ended, also those of runs that failed."""
        hook, name = SesV2Hook(aws_conn_id=aws_conn_id), SesSettings.model_validate(settings).ses_contact_list
        jobs = [job["JobId"] for job in hook.import_jobs(name) if job["JobStatus"] in ("CREATED", "PROCESSING")]
        return [InventoryRow("import job", f"{job} into contact list {name}", 1) for job in jobs]

    def erase(
        self,
        settings: Settings,
        players: Collection[str],
        addresses: Addresses,
        dry_run: bool,
        aws_conn_id: str | None,
    ) -> list[InventoryRow]:
        """Delete the contacts of the players' addresses, except contacts that have unsubscribed.

        Only SES has the opt-out, and another player with the same address would be imported again and mailed. A contact
        has no playerId: without a known address it is not found.
        """
        ses, ours = SesV2Hook(aws_conn_id=aws_conn_id).conn, SesSettings.model_validate(settings)
        name, topic = ours.ses_contact_list, ours.ses_topic
        deleted = unsubscribed = 0
        for address in sorted({plain for _, each in addresses if (plain := plain_address(each))}):
            try:
                contact = ses.get_contact(ContactListName=name, EmailAddress=address)
            except ses.exceptions.NotFoundException:
                continue
            if is_unsubscribed(contact, topic):
                unsubscribed += 1
                continue
            deleted += 1
            if not dry_run:
                ses.delete_contact(ContactListName=name, EmailAddress=address)
        place = f"contact list {name}"
        unknown = len(set(players) - {player for player, _ in addresses})
        found = [
            InventoryRow("contact", place, deleted),
            InventoryRow("contact", place, unsubscribed, why="unsubscribed: delete it in SES if necessary"),
            InventoryRow("contact, if any", place, unknown, why="no record and no file has the address: look in SES"),
        ]
        return [each for each in found if each.number]

    def suppressed_addresses(self, since: datetime | None, aws_conn_id: str | None) -> Iterator[SuppressedAddress]:
        """Yield the account-level suppression list."""
        for each in SesV2Hook(aws_conn_id=aws_conn_id).suppressed_destinations(since):
            reason = "complained" if each["Reason"] == "COMPLAINT" else "bounced"
            yield SuppressedAddress(each["EmailAddress"], reason, each["LastUpdateTime"])

    def remove_suppressed_address(self, address: str, aws_conn_id: str | None) -> bool:
        """Remove an address from the account-level suppression list."""
        return SesV2Hook(aws_conn_id=aws_conn_id).delete_suppressed_destination(address)


DESTINATION = SesDestination()
