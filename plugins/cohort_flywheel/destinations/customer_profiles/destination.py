"""Amazon Connect Customer Profiles: a segment of the profiles whose attribute for the cohort is `in`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from airflow.sdk import BaseOperator, chain
from botocore.exceptions import ClientError
from pydantic import BaseModel

from cohort_flywheel.campaign.email_template import EmailTemplate
from cohort_flywheel.config.registry import Approval
from cohort_flywheel.config.setting_types import DomainName, Uuid, WebAddress, whole_number
from cohort_flywheel.destinations.customer_profiles.campaign import connect_prepare_operator
from cohort_flywheel.destinations.customer_profiles.campaign.connect_prepare_operator import (
    ConnectPrepareCampaignOperator,
)
from cohort_flywheel.destinations.customer_profiles.campaign.message_template import message_template
from cohort_flywheel.destinations.customer_profiles.campaign.operators import ConnectLaunchCampaignOperator
from cohort_flywheel.destinations.customer_profiles.campaign.sensors import FOLLOWS_FOR, ConnectCampaignSensor
from cohort_flywheel.destinations.customer_profiles.hook import CustomerProfilesHook
from cohort_flywheel.destinations.customer_profiles.layout import player_key, upload_of
from cohort_flywheel.destinations.customer_profiles.operators import (
    CustomerProfilesCreateUploadJobsOperator,
    CustomerProfilesVerifySegmentOperator,
)
from cohort_flywheel.destinations.customer_profiles.sensors import CustomerProfilesUploadJobsSensor
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.governance.cleanup import Left
from cohort_flywheel.governance.erasure import Addresses

if TYPE_CHECKING:
    from airflow.sdk import Context

LAYOUT = "customer_profiles"
#: So a first run needs a do-not-contact list, or the word that there is nobody to put on it.
NEVER_KNEW_OPT_OUTS = True


class CustomerProfilesSettings(BaseModel):
    """The domain, and the days after which a profile expires that no upload renews [CreateUploadJob: DataExpiry].

    90 days are longer than a pipeline stops for a holiday, and no player's data is kept for ever.
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


SETTINGS, CAMPAIGN_SETTINGS = CustomerProfilesSettings, ConnectCampaignSettings


def check(settings: Mapping[str, str], aws_conn_id: str | None, log: Any) -> None:
    """Raise FlywheelError unless the domain is there, and its upload jobs can be listed."""
    domain, hook = settings["customer_profiles_domain"], CustomerProfilesHook(aws_conn_id=aws_conn_id)
    with _granted("profile:GetDomain", domain):
        hook.conn.get_domain(DomainName=domain)
    with _granted("profile:ListUploadJobs", domain):
        hook.conn.list_upload_jobs(DomainName=domain, MaxResults=1)


def check_nobody_stays(plan: Mapping[str, Any]) -> bool:
    """True: an empty segment file goes on to the upload, which sets everybody `out`."""
    return True


def under_way(settings: Mapping[str, str], aws_conn_id: str | None) -> list[Left]:
    """The upload jobs that have not ended, whatever became of their runs: each may make a profile anew."""
    hook, domain = CustomerProfilesHook(aws_conn_id=aws_conn_id), settings["customer_profiles_domain"]
    jobs = [job["JobId"] for job in hook.upload_jobs(domain) if job["Status"] == "IN_PROGRESS"]
    return [Left("upload job", f"{job} of domain {domain}", 1) for job in jobs]


def erase(
    settings: Mapping[str, str],
    players: Collection[str],
    addresses: Addresses,
    dry_run: bool,
    aws_conn_id: str | None,
) -> list[Left]:
    """Delete the players' profiles: those found by the key of our uploads. Of anybody else's keys nothing is known.

    First each job of ours that was never started is stopped: its file may have them, and somebody could start it.
    """
    hook, domain = CustomerProfilesHook(aws_conn_id=aws_conn_id), settings["customer_profiles_domain"]
    profiles, found = hook.conn, []
    for player in players:
        answer = profiles.search_profiles(DomainName=domain, KeyName="_account", Values=[player_key(player)])
        found += [item["ProfileId"] for item in answer["Items"]]
    if not dry_run:
        _stop_unstarted(hook, domain)
        for profile_id in found:
            profiles.delete_profile(DomainName=domain, ProfileId=profile_id)
    return [Left("profile", f"domain {domain}", len(found))] if found else []


def _stop_unstarted(hook: CustomerProfilesHook, domain: str) -> None:
    for job in hook.upload_jobs(domain):
        name = job["DisplayName"]
        if job["Status"] == "CREATED" and upload_of(name, name.partition(".")[0]) is not None:
            try:
                hook.stop_upload_job(domain, job["JobId"])
            except ClientError as error:  # whether such a job can be stopped is not documented; it may have begun, too
                if error.response["Error"]["Code"] != "BadRequestException":
                    raise


def import_segment(plan: Any, segment: Any, before: Callable[[Context], None]) -> tuple[BaseOperator, BaseOperator]:
    """The tasks from the segment file to the segment that has its rows; returns the first and the last.

    `plan` and `segment` are the outputs (XComArg) of the tasks that made them; `before` is called before anything
    is created.
    """
    domain = plan["customer_profiles_domain"]
    create = CustomerProfilesCreateUploadJobsOperator(
        task_id="create_import_job",
        plan=plan,
        segment=segment["segment"],
        domain=domain,
        data_expiry=plan["customer_profiles_data_expiry_days"],
        pre_execute=before,
        retries=30,  # one run at a time changes a membership, until its segment is verified
        max_retry_delay=timedelta(minutes=10),
    )
    job_ids: Any = create.output["job_ids"]  # type: ignore[index]  # XComArg's type does not say so
    wait = CustomerProfilesUploadJobsSensor(
        task_id="wait_for_import_job", domain=domain, job_ids=job_ids, deferrable=True
    )
    verify = CustomerProfilesVerifySegmentOperator(
        task_id="verify_segment",
        plan=plan,
        segment=segment["segment"],
        domain=domain,
        job_ids=job_ids,
        retries=5,  # an estimate may be behind the jobs
        max_retry_delay=timedelta(minutes=10),
    )
    chain(create, wait, verify)
    return create, verify


def check_campaign(
    campaign: Mapping[str, Any],
    template: EmailTemplate,
    columns: Sequence[str],
    settings: Mapping[str, str],
    aws_conn_id: str | None,
) -> None:
    """Raise FlywheelError unless Connect can send the mail, and the sender, instance and templates are there."""
    message_template(template, columns, settings["unsubscribe_url"])
    connect_prepare_operator.check_sender(campaign, aws_conn_id)
    connect_prepare_operator.check_places(settings, aws_conn_id)


def mail_segment(
    plan: Any,
    checked: Any,
    verified: Any,
    templates: Path,
    approval: Approval,
    approve: Callable[..., BaseOperator],
    before: Callable[[Context], None],
) -> tuple[BaseOperator, BaseOperator]:
    """The tasks from the verified segment to a campaign that has ended; returns the first and the last.

    `approve` makes the task that asks a person, of what was `prepared`; the launch holds the answer against `approval`,
    the registry's. `before` is called before anything is launched.
    """
    prepare = ConnectPrepareCampaignOperator(
        task_id="prepare_campaign",
        plan=plan,
        segment=checked["segment"],
        segment_id=verified["segment_id"],
        knowledge_base_id=plan["qconnect_knowledge_base_id"],
        unsubscribe_url=plan["unsubscribe_url"],
        templates=templates,
    )
    asked = approve(prepared=prepare.output)
    launch = ConnectLaunchCampaignOperator(
        task_id="launch_campaign",
        plan=plan,
        segment=checked["segment"],
        prepared=prepare.output,
        approval=approval,
        domain=plan["customer_profiles_domain"],
        instance_id=plan["connect_instance_id"],
        pre_execute=before,
        retries=10,  # another run may be launching the same template, or changing the membership
        max_retry_delay=timedelta(minutes=30),
    )
    campaign_id: Any = launch.output["campaign_id"]  # type: ignore[index]  # XComArg's type does not say so
    follow = ConnectCampaignSensor(
        task_id="follow_campaign",
        campaign_id=campaign_id,
        deferrable=True,
        execution_timeout=FOLLOWS_FOR,  # the DAG's own is 6 hours
    )
    chain(prepare, asked, launch, follow)
    return prepare, follow


@contextmanager
def _granted(action: str, domain: str) -> Iterator[None]:
    """Turn the service's refusal into a sentence that names the right, or the setting."""
    try:
        yield
    except ClientError as error:
        match error.response["Error"]["Code"]:
            case "ResourceNotFoundException":
                raise FlywheelError(
                    f"there is no domain {domain} in Customer Profiles: create it (aws customer-profiles"
                    " create-domain), or correct cohort_flywheel_customer_profiles_domain; a domain is of one region,"
                    " that of the AWS connection"
                ) from None
            case "AccessDeniedException" as code:
                raise FlywheelError(
                    f"domain {domain} of Customer Profiles is refused ({code}): grant the execution role {action} on it"
                ) from None
        raise
