"""Amazon Pinpoint: CreateImportJob, its sensor, and the check of the segment."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.sdk import BaseOperator, chain
from airflow.sdk.exceptions import AirflowException
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as EndpointUnreachable
from pydantic import BaseModel

from cohort_flywheel.config.setting_types import PinpointApplicationId, RoleArn
from cohort_flywheel.destinations.pinpoint.hook import PinpointHook
from cohort_flywheel.destinations.pinpoint.layout import CHANNEL
from cohort_flywheel.destinations.pinpoint.operators import (
    PinpointCreateImportJobOperator,
    PinpointVerifySegmentOperator,
)
from cohort_flywheel.destinations.pinpoint.sensors import PinpointImportJobSensor
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.governance.cleanup import Left
from cohort_flywheel.governance.erasure import Addresses
from cohort_flywheel.runs.names import endpoint_id

if TYPE_CHECKING:
    from airflow.sdk import Context

LAYOUT = "pinpoint"
#: It has them itself: who opted out of an endpoint stays so.
NEVER_KNEW_OPT_OUTS = False


class PinpointApplicationSettings(BaseModel):
    """What it takes to find what is in the project."""

    pinpoint_application_id: PinpointApplicationId


class PinpointSettings(PinpointApplicationSettings):
    """What an import takes."""

    pinpoint_import_role_arn: RoleArn


SETTINGS = PinpointSettings

_NOT_THERE_OR_REFUSED = ("NotFoundException", "NoSuchEntity", "ForbiddenException", "AccessDenied", "GoneException")


def check(settings: Mapping[str, str], aws_conn_id: str | None, log: Any) -> None:
    """Raise FlywheelError unless the app and the import role are there."""
    app, role_arn = settings["pinpoint_application_id"], settings["pinpoint_import_role_arn"]
    log.info("Pinpoint's segments and campaigns ended on 2026-10-30; this serves what still answers")
    try:
        PinpointHook(aws_conn_id=aws_conn_id).conn.get_app(ApplicationId=app)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code not in _NOT_THERE_OR_REFUSED:
            raise
        raise FlywheelError(
            f"Pinpoint app {app} cannot be used ({code}): correct cohort_flywheel_pinpoint_application_id, or grant"
            " the execution role mobiletargeting:GetApp on it; Pinpoint's segments ended on 2026-10-30, so an app"
            " of a live account may be gone for good"
        ) from None
    # IAM has no endpoint in most VPCs: one short try, and where it cannot be reached Pinpoint's create call judges
    iam = AwsBaseHook(
        aws_conn_id=aws_conn_id,
        client_type="iam",
        config=Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 1}),
    ).conn
    try:
        iam.get_role(RoleName=role_arn.rpartition("/")[2])
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code not in _NOT_THERE_OR_REFUSED:
            raise
        raise FlywheelError(
            f"the import role {role_arn} cannot be used ({code}): create it, trusting pinpoint.amazonaws.com, or"
            " grant the execution role iam:GetRole and iam:PassRole on it"
        ) from None
    except (EndpointUnreachable, HTTPClientError):
        log.warning("IAM cannot be reached from here, so the import role is not checked before the import")


def check_nobody_stays(plan: Mapping[str, Any], aws_conn_id: str | None = "aws_default") -> None:
    """Fail with a sentence if an earlier run of the same name left players in a segment that shall have none now."""
    hook, app, name = PinpointHook(aws_conn_id=aws_conn_id), plan["pinpoint_application_id"], plan["name"]
    for job in hook.import_jobs(app):
        if job["Definition"].get("SegmentName") != name:
            continue
        if job["JobStatus"] not in ("COMPLETED", "FAILING", "FAILED"):
            raise AirflowException(
                f"nobody is to be written to now, but import job {job['Id']} of an earlier run of {name} is still under"
                " way: a later try sees the segment that it makes"
            )
        segment_id = job["Definition"].get("SegmentId")
        if segment_id and hook.has_segment(app, segment_id):
            raise FlywheelError(
                f"nobody is to be written to now, but segment {segment_id} of an earlier run of {name} still has"
                " players: delete it (aws pinpoint delete-segment), then clear this task"
            )


class Leavings:
    """What Pinpoint keeps of runs: a segment each, and an endpoint a player, which all segments share.

    An endpoint that has opted out never goes: the next import of the player would make it anew, opted in.
    """

    SETTINGS = PinpointApplicationSettings
    COLUMN = "Id"

    def __init__(self, settings: Mapping[str, str], aws_conn_id: str | None) -> None:
        self._hook, self._app = PinpointHook(aws_conn_id=aws_conn_id), settings["pinpoint_application_id"]

    def has_segment(self, imported: Mapping[str, Any]) -> bool:
        # other destinations note no version
        return "segment_version" in imported and self._hook.has_segment(self._app, imported["segment_id"])

    def remove_segment(self, imported: Mapping[str, Any]) -> None:
        self._hook.delete_segment(self._app, imported["segment_id"])

    def recipient(self, player_id: str) -> str:
        return endpoint_id(CHANNEL, player_id)

    def may_go(self, recipient: str) -> bool | None:
        endpoint = self._hook.get_endpoint(self._app, recipient)
        return None if endpoint is None else endpoint.get("OptOut") != "ALL"

    def remove_recipient(self, recipient: str) -> None:
        self._hook.delete_endpoint(self._app, recipient)


def under_way(settings: Mapping[str, str], aws_conn_id: str | None) -> list[Left]:
    """The import jobs that have not ended, whatever became of their runs: each may make an endpoint anew."""
    hook, app = PinpointHook(aws_conn_id=aws_conn_id), settings["pinpoint_application_id"]
    jobs = [job["Id"] for job in hook.import_jobs(app) if job["JobStatus"] not in ("COMPLETED", "FAILED")]
    return [Left("import job", f"{job} of Pinpoint project {app}", 1) for job in jobs]


def erase(
    settings: Mapping[str, str],
    players: Collection[str],
    addresses: Addresses,
    dry_run: bool,
    aws_conn_id: str | None,
) -> list[Left]:
    """Delete the players' endpoints, opted out or not: no later run imports them. Only those whose Id is ours."""
    leavings = Leavings(settings, aws_conn_id)
    ours = [leavings.recipient(player) for player in players]
    there = [each for each in ours if leavings.may_go(each) is not None]
    if not dry_run:
        for each in there:
            leavings.remove_recipient(each)
    return [Left("endpoint", f"Pinpoint project {settings['pinpoint_application_id']}", len(there))] if there else []


def import_segment(plan: Any, segment: Any, before: Callable[[Context], None]) -> tuple[BaseOperator, BaseOperator]:
    """The tasks from the segment file to the verified segment; returns the first and the last.

    `plan` and `segment` are the outputs (XComArg) of the tasks that made them; `before` is called before anything
    is created.
    """
    application_id = plan["pinpoint_application_id"]
    create = PinpointCreateImportJobOperator(
        task_id="create_import_job",
        application_id=application_id,
        role_arn=plan["pinpoint_import_role_arn"],
        s3_url=segment["s3_url"],
        segment_name=plan["name"],
        pre_execute=before,
        retries=10,  # an account has two active import jobs at a time, and other cohorts' runs begin at the same time
        max_retry_delay=timedelta(minutes=10),
    )
    job_id: Any = create.output["job_id"]  # type: ignore[index]  # XComArg's type does not say so
    wait = PinpointImportJobSensor(
        task_id="wait_for_import_job",
        application_id=application_id,
        job_id=job_id,
        deferrable=True,
    )
    verify = PinpointVerifySegmentOperator(
        task_id="verify_segment",
        application_id=application_id,
        job_id=job_id,
        expected_size=segment["rows"],
    )
    chain(create, wait, verify)
    return create, verify
