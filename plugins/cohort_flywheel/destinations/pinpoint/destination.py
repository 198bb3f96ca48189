"""Amazon Pinpoint: an import job creates the segment."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import timedelta

from airflow.sdk import BaseOperator
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as EndpointUnreachable
from pydantic import BaseModel

from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.common.records import Output
from cohort_flywheel.config.setting_types import PinpointApplicationId, RoleArn
from cohort_flywheel.destinations.base import Destination, DestinationCleanup, PreExecute, Settings
from cohort_flywheel.destinations.import_result import ImportedSegment
from cohort_flywheel.destinations.pinpoint.hook import PinpointHook
from cohort_flywheel.destinations.pinpoint.layout import CHANNEL, LAYOUT
from cohort_flywheel.destinations.pinpoint.operators import (
    PinpointCreateImportJobOperator,
    PinpointVerifySegmentOperator,
)
from cohort_flywheel.destinations.pinpoint.sensors import PinpointImportJobSensor
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.governance.cleanup import InventoryRow
from cohort_flywheel.governance.erasure import Addresses
from cohort_flywheel.hooks.shared_session import SharedSessionHook
from cohort_flywheel.runs.names import endpoint_id
from cohort_flywheel.runs.plan import Plan

log = logging.getLogger(__name__)


class PinpointApplicationSettings(BaseModel):
    """What clean-up and erasure need: the project."""

    pinpoint_application_id: PinpointApplicationId


class PinpointSettings(PinpointApplicationSettings):
    """What an import needs: the project and the import role."""

    pinpoint_import_role_arn: RoleArn


_NOT_THERE_OR_REFUSED = ("NotFoundException", "NoSuchEntity", "ForbiddenException", "AccessDenied", "GoneException")


class PinpointCleanup(DestinationCleanup):
    """The segment of each run, and the endpoint of each player, which all segments share."""

    column = "Id"

    def __init__(self, settings: Settings, aws_conn_id: str | None) -> None:
        self._hook = PinpointHook(aws_conn_id=aws_conn_id)
        self._app = PinpointApplicationSettings.model_validate(settings).pinpoint_application_id

    def has_segment(self, imported: ImportedSegment) -> bool:
        # other destinations record no version
        is_ours = "segment_version" in (imported.model_extra or {})
        return is_ours and self._hook.has_segment(self._app, str(imported.segment_id))

    def remove_segment(self, imported: ImportedSegment) -> None:
        self._hook.delete_segment(self._app, str(imported.segment_id))

    def recipient(self, player_id: str) -> str:
        return endpoint_id(CHANNEL, player_id)

    def is_deletable(self, recipient: str) -> bool | None:
        endpoint = self._hook.get_endpoint(self._app, recipient)
        return None if endpoint is None else endpoint.get("OptOut") != "ALL"

    def remove_recipient(self, recipient: str) -> None:
        self._hook.delete_endpoint(self._app, recipient)


class PinpointDestination(Destination):
    """Amazon Pinpoint: an import job makes the segment; there are no campaigns."""

    name = "pinpoint"
    layout = LAYOUT
    settings = PinpointSettings
    cleanup_settings = PinpointApplicationSettings
    #: Pinpoint keeps the opt-out of an endpoint itself: an import does not change it.
    REQUIRES_OPT_OUT_LIST = False

    def create_import_job(self, plan: Output, segment: Output, pre_execute: PreExecute) -> BaseOperator:
        return PinpointCreateImportJobOperator(
            task_id="create_import_job",
            application_id=plan["pinpoint_application_id"],
            role_arn=plan["pinpoint_import_role_arn"],
            s3_url=segment["s3_url"],
            segment_name=plan["name"],
            pre_execute=pre_execute,
            # an account has two active import jobs at a time, and other cohorts' runs begin at the same time
            retries=10,
            max_retry_delay=timedelta(minutes=10),
        )

    def wait_for_import_job(self, plan: Output, created: Output) -> BaseOperator:
        return PinpointImportJobSensor(
            task_id="wait_for_import_job",
            application_id=plan["pinpoint_application_id"],
            job_id=created["job_id"],
            deferrable=True,
        )

    def verify_segment(self, plan: Output, segment: Output, created: Output) -> BaseOperator:
        return PinpointVerifySegmentOperator(
            task_id="verify_segment",
            application_id=plan["pinpoint_application_id"],
            job_id=created["job_id"],
            expected_size=segment["rows"],
        )

    def check(self, settings: Settings, aws_conn_id: str | None) -> None:
        """Raise FlywheelError unless the app and the import role exist."""
        ours = PinpointSettings.model_validate(settings)
        app, role_arn = ours.pinpoint_application_id, ours.pinpoint_import_role_arn
        log.info("Pinpoint's segments and campaigns ended on 2026-10-30; this is for accounts that still answer")
        try:
            PinpointHook(aws_conn_id=aws_conn_id).conn.get_app(ApplicationId=app)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code not in _NOT_THERE_OR_REFUSED:
                raise
            raise FlywheelError(
                f"Pinpoint app {app} cannot be used ({code}): correct cohort_flywheel_pinpoint_application_id, or grant"
                " the execution role mobiletargeting:GetApp on it; Pinpoint's segments ended on 2026-10-30, so an app"
                " of a live account may be gone for good",
                code=Code.REFUSED,
            ) from None
        # IAM has no endpoint in most VPCs: one short attempt; if it fails, Pinpoint's create call checks the role
        iam = SharedSessionHook(
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
                " grant the execution role iam:GetRole and iam:PassRole on it",
                code=Code.REFUSED,
            ) from None
        except (EndpointUnreachable, HTTPClientError):
            log.warning("IAM cannot be reached from here, so the import role is not checked before the import")

    def handle_empty_segment(self, plan: Plan, settings: Settings, aws_conn_id: str | None = "aws_default") -> bool:
        """Return False; raise FlywheelError if the segment of an earlier run of the same name still has members."""
        hook, name = PinpointHook(aws_conn_id=aws_conn_id), plan.name
        app = PinpointApplicationSettings.model_validate(settings).pinpoint_application_id
        for job in hook.import_jobs(app):
            if job["Definition"].get("SegmentName") != name:
                continue
            if job["JobStatus"] not in ("COMPLETED", "FAILING", "FAILED"):
                raise RetryableError(
                    f"the segment file has no rows, but import job {job['Id']} of an earlier run of {name} has not"
                    " ended: a later attempt reads the segment that it creates",
                    code=Code.BUSY,
                )
            segment_id = job["Definition"].get("SegmentId")
            if segment_id and hook.has_segment(app, segment_id):
                raise FlywheelError(
                    f"the segment file has no rows, but segment {segment_id} of an earlier run of {name} still has"
                    " members: delete it (aws pinpoint delete-segment), then clear this task",
                    code=Code.EARLIER_SEGMENT,
                )
        return False

    def cleanup(self, settings: Settings, aws_conn_id: str | None) -> PinpointCleanup:
        return PinpointCleanup(settings, aws_conn_id)

    def running_import_jobs(self, settings: Settings, aws_conn_id: str | None) -> list[InventoryRow]:
        """Return the import jobs that have not ended, also those of runs that failed."""
        hook = PinpointHook(aws_conn_id=aws_conn_id)
        app = PinpointApplicationSettings.model_validate(settings).pinpoint_application_id
        jobs = [job["Id"] for job in hook.import_jobs(app) if job["JobStatus"] not in ("COMPLETED", "FAILED")]
        return [InventoryRow("import job", f"{job} of Pinpoint project {app}", 1) for job in jobs]

    def erase(
        self,
        settings: Settings,
        players: Collection[str],
        addresses: Addresses,
        dry_run: bool,
        aws_conn_id: str | None,
    ) -> list[InventoryRow]:
        """Delete the endpoints with an Id of this package, also those that opted out: no later run imports them."""
        cleanup = self.cleanup(settings, aws_conn_id)
        ours = [cleanup.recipient(player) for player in players]
        there = [each for each in ours if cleanup.is_deletable(each) is not None]
        if not dry_run:
            for each in there:
                cleanup.remove_recipient(each)
        return (
            [InventoryRow("endpoint", f"Pinpoint project {settings['pinpoint_application_id']}", len(there))]
            if there
            else []
        )


DESTINATION = PinpointDestination()
