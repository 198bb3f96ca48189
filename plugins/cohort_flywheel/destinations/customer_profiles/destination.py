"""Amazon Connect Customer Profiles: a segment of the profiles with `in` in the attribute of the cohort."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

from airflow.sdk import BaseOperator
from botocore.exceptions import ClientError
from pydantic import BaseModel

from cohort_flywheel.campaign.email_template import EmailTemplate
from cohort_flywheel.campaign.settings import RunCampaign
from cohort_flywheel.common.records import Output
from cohort_flywheel.config.registry_head import Approval
from cohort_flywheel.config.setting_types import DomainName, Uuid, WebAddress, whole_number
from cohort_flywheel.destinations.base import Destination, PreExecute, Settings
from cohort_flywheel.destinations.customer_profiles.campaign import connect_prepare_operator
from cohort_flywheel.destinations.customer_profiles.campaign.connect_prepare_operator import (
    ConnectPrepareCampaignOperator,
)
from cohort_flywheel.destinations.customer_profiles.campaign.hook import ConnectCampaignsHook
from cohort_flywheel.destinations.customer_profiles.campaign.message_template import message_template
from cohort_flywheel.destinations.customer_profiles.campaign.metrics_hook import ConnectMetricsHook
from cohort_flywheel.destinations.customer_profiles.campaign.operators import ConnectLaunchCampaignOperator
from cohort_flywheel.destinations.customer_profiles.campaign.sensors import FOLLOWS_FOR, ConnectCampaignSensor
from cohort_flywheel.destinations.customer_profiles.hook import CustomerProfilesHook
from cohort_flywheel.destinations.customer_profiles.layout import LAYOUT, player_key, upload_of
from cohort_flywheel.destinations.customer_profiles.operators import (
    CustomerProfilesCreateUploadJobsOperator,
    CustomerProfilesVerifySegmentOperator,
)
from cohort_flywheel.destinations.customer_profiles.sensors import CustomerProfilesUploadJobsSensor
from cohort_flywheel.engagement.campaign_counts import CampaignCounts
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.governance.cleanup import InventoryRow
from cohort_flywheel.governance.erasure import Addresses
from cohort_flywheel.runs.plan import Plan


class CustomerProfilesSettings(BaseModel):
    """The domain, and the days until a profile expires that no upload renews [CreateUploadJob: DataExpiry].

    90 days are longer than any expected pause of the pipeline, and limit how long a player's data is kept.
    """

    customer_profiles_domain: DomainName
    customer_profiles_data_expiry_days: Annotated[
        int, whole_number(1, 1098, "the days after which a profile expires that no upload renews,")
    ] = 90


class ConnectCampaignSettings(BaseModel):
    """The Connect instance, its knowledge base of message templates, and the page on which a player unsubscribes."""

    connect_instance_id: Uuid
    qconnect_knowledge_base_id: Uuid
    unsubscribe_url: WebAddress


def _domain(settings: Settings) -> str:
    return CustomerProfilesSettings.model_validate(settings).customer_profiles_domain


def _stop_unstarted(hook: CustomerProfilesHook, domain: str) -> None:
    for job in hook.upload_jobs(domain):
        name = job["DisplayName"]
        if job["Status"] == "CREATED" and upload_of(name, name.partition(".")[0]) is not None:
            try:
                hook.stop_upload_job(domain, job["JobId"])
            except (
                ClientError
            ) as error:  # it is not documented whether such a job can be stopped; it may also have begun
                if error.response["Error"]["Code"] != "BadRequestException":
                    raise


@contextmanager
def _granted(action: str, domain: str) -> Iterator[None]:
    """Turn a refusal of the service into an error that names the permission or the setting."""
    try:
        yield
    except ClientError as error:
        match error.response["Error"]["Code"]:
            case "ResourceNotFoundException":
                raise FlywheelError(
                    f"domain {domain} does not exist in Customer Profiles: create it (aws customer-profiles"
                    " create-domain), or correct cohort_flywheel_customer_profiles_domain; a domain is of one region,"
                    " that of the AWS connection",
                    code=Code.NOT_THERE,
                ) from None
            case "AccessDeniedException" as code:
                raise FlywheelError(
                    f"domain {domain} of Customer Profiles is refused ({code}): grant the execution role {action} on"
                    " it",
                    code=Code.REFUSED,
                ) from None
        raise


class CustomerProfilesDestination(Destination):
    """Amazon Connect Customer Profiles, and Amazon Connect outbound campaigns."""

    name = "customer_profiles"
    layout = LAYOUT
    settings = CustomerProfilesSettings
    campaign_settings = ConnectCampaignSettings
    #: Customer Profiles does not have the opt-outs of other services.
    REQUIRES_OPT_OUT_LIST = True

    def create_import_job(self, plan: Output, segment: Output, pre_execute: PreExecute) -> BaseOperator:
        return CustomerProfilesCreateUploadJobsOperator(
            task_id="create_import_job",
            plan=plan,
            segment=segment["segment"],
            domain=plan["customer_profiles_domain"],
            data_expiry=plan["customer_profiles_data_expiry_days"],
            pre_execute=pre_execute,
            retries=30,  # one run at a time changes a membership, until its segment is verified
            max_retry_delay=timedelta(minutes=10),
        )

    def wait_for_import_job(self, plan: Output, created: Output) -> BaseOperator:
        return CustomerProfilesUploadJobsSensor(
            task_id="wait_for_import_job",
            domain=plan["customer_profiles_domain"],
            job_ids=created["job_ids"],
            deferrable=True,
        )

    def verify_segment(self, plan: Output, segment: Output, created: Output) -> BaseOperator:
        return CustomerProfilesVerifySegmentOperator(
            task_id="verify_segment",
            plan=plan,
            segment=segment["segment"],
            domain=plan["customer_profiles_domain"],
            job_ids=created["job_ids"],
            retries=5,  # an estimate may be behind the jobs
            max_retry_delay=timedelta(minutes=10),
        )

    def prepare_campaign(self, plan: Output, segment: Output, verified: Output, templates: Path) -> BaseOperator:
        return ConnectPrepareCampaignOperator(
            task_id="prepare_campaign",
            plan=plan,
            segment=segment["segment"],
            segment_id=verified["segment_id"],
            knowledge_base_id=plan["qconnect_knowledge_base_id"],
            unsubscribe_url=plan["unsubscribe_url"],
            templates=templates,
        )

    def launch_campaign(
        self, plan: Output, segment: Output, prepared: Output, approval: Approval, pre_execute: PreExecute
    ) -> BaseOperator:
        return ConnectLaunchCampaignOperator(
            task_id="launch_campaign",
            plan=plan,
            segment=segment["segment"],
            prepared=prepared,
            approval=approval,
            domain=plan["customer_profiles_domain"],
            instance_id=plan["connect_instance_id"],
            pre_execute=pre_execute,
            retries=10,  # another run may be launching the same template, or changing the membership
            max_retry_delay=timedelta(minutes=30),
        )

    def follow_campaign(self, launched: Output) -> BaseOperator:
        return ConnectCampaignSensor(
            task_id="follow_campaign",
            campaign_id=launched["campaign_id"],
            deferrable=True,
            execution_timeout=FOLLOWS_FOR,  # the DAG's own is 6 hours
        )

    def check(self, settings: Settings, aws_conn_id: str | None) -> None:
        """Raise FlywheelError unless the domain exists and its upload jobs can be listed."""
        domain, hook = _domain(settings), CustomerProfilesHook(aws_conn_id=aws_conn_id)
        with _granted("profile:GetDomain", domain):
            hook.conn.get_domain(DomainName=domain)
        with _granted("profile:ListUploadJobs", domain):
            hook.conn.list_upload_jobs(DomainName=domain, MaxResults=1)

    def check_campaign(
        self,
        campaign: RunCampaign,
        template: EmailTemplate,
        columns: Sequence[str],
        settings: Settings,
        aws_conn_id: str | None,
    ) -> None:
        """Raise FlywheelError unless Connect can send the mail, and the sender, instance and templates exist."""
        if campaign.tracks_some:
            raise FlywheelError(
                "engagement.tracking of the registry is for e-mails sent by SES, and what Amazon Connect tracks of an"
                " e-mail is not decided here: remove tracking and tracking_consent, if your players have agreed to it",
                code=Code.CAMPAIGN_SETTINGS,
            )
        ours = ConnectCampaignSettings.model_validate(settings)
        message_template(template, columns, ours.unsubscribe_url)
        connect_prepare_operator.check_sender(campaign, aws_conn_id)
        connect_prepare_operator.check_places(ours.connect_instance_id, ours.qconnect_knowledge_base_id, aws_conn_id)

    def campaign_counts(
        self, settings: Settings, campaign_ids: Collection[str], until: datetime, aws_conn_id: str | None
    ) -> Mapping[str, CampaignCounts]:
        """Return Connect's counts of the campaigns that it still has."""
        instance_id = ConnectCampaignSettings.model_validate(settings).connect_instance_id
        summaries = list(ConnectCampaignsHook(aws_conn_id=aws_conn_id).campaigns(instance_id))
        there = [each["arn"] for each in summaries if each["id"] in campaign_ids]
        if not there:
            return {}
        try:
            return ConnectMetricsHook(aws_conn_id=aws_conn_id).counts(instance_id, there, until)
        except ClientError as error:
            if error.response["Error"]["Code"] == "AccessDeniedException":
                raise FlywheelError(
                    f"the counts of campaigns of Connect instance {instance_id} are refused (AccessDeniedException):"
                    " grant the execution role connect:GetMetricDataV2 on it, or remove engagement.campaign_counts",
                    code=Code.REFUSED,
                ) from None
            raise

    def handle_empty_segment(self, plan: Plan, settings: Settings, aws_conn_id: str | None = "aws_default") -> bool:
        """Return True: an upload sets all former members `out`."""
        return True

    def running_import_jobs(self, settings: Settings, aws_conn_id: str | None) -> list[InventoryRow]:
        """Return the upload jobs that have not ended, also those of runs that failed."""
        hook, domain = CustomerProfilesHook(aws_conn_id=aws_conn_id), _domain(settings)
        jobs = [job["JobId"] for job in hook.upload_jobs(domain) if job["Status"] == "IN_PROGRESS"]
        return [InventoryRow("upload job", f"{job} of domain {domain}", 1) for job in jobs]

    def erase(
        self,
        settings: Settings,
        players: Collection[str],
        addresses: Addresses,
        dry_run: bool,
        aws_conn_id: str | None,
    ) -> list[InventoryRow]:
        """Delete the profiles that have the key of this package's uploads.

        First stops each upload job of this package that was never started: its file may name the players, and a user
        could start it.
        """
        hook, domain = CustomerProfilesHook(aws_conn_id=aws_conn_id), _domain(settings)
        profiles, found = hook.conn, []
        for player in players:
            answer = profiles.search_profiles(DomainName=domain, KeyName="_account", Values=[player_key(player)])
            found += [item["ProfileId"] for item in answer["Items"]]
        if not dry_run:
            _stop_unstarted(hook, domain)
            for profile_id in found:
                profiles.delete_profile(DomainName=domain, ProfileId=profile_id)
        return [InventoryRow("profile", f"domain {domain}", len(found))] if found else []


DESTINATION = CustomerProfilesDestination()
