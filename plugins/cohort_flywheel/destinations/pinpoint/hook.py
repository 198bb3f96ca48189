"""Amazon Pinpoint: import jobs and segments.

Pinpoint's segments and campaigns reached their end of support on 2026-10-30 [AWS]: this is for accounts and emulations
that still answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError

from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.hooks.shared_session import SharedSessionHook


class PinpointHook(SharedSessionHook):
    """Thin wrapper around boto3's `pinpoint` client, with this package's waiters.

    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["client_type"] = "pinpoint"
        super().__init__(*args, **kwargs)

    @cached_property
    def waiter_path(self) -> Path:  # the provider looks only beside its own hooks
        return Path(__file__).with_name("waiters.json")

    def import_jobs(self, application_id: str) -> Iterator[AwsStructure]:
        """Every import job of the app, page by page (ImportJobResponse)."""
        token: dict[str, str] = {}
        while True:
            page = self.conn.get_import_jobs(ApplicationId=application_id, PageSize="100", **token)
            yield from page["ImportJobsResponse"]["Item"]
            if not page["ImportJobsResponse"].get("NextToken"):
                return
            token = {"Token": page["ImportJobsResponse"]["NextToken"]}

    def create_import_job(self, application_id: str, request: AwsStructure) -> AwsStructure:
        """Send CreateImportJob exactly once: it has no idempotency token, so the SDK must not retry it."""
        once = self.get_client_type(config=Config(retries={"total_max_attempts": 1}))
        answer = once.create_import_job(ApplicationId=application_id, ImportJobRequest=request)
        return dict(answer["ImportJobResponse"])

    def get_import_job(self, application_id: str, job_id: str) -> AwsStructure:
        answer = self.conn.get_import_job(ApplicationId=application_id, JobId=job_id)
        return dict(answer["ImportJobResponse"])

    def has_segment(self, application_id: str, segment_id: str) -> bool:
        try:
            self.get_segment(application_id, segment_id)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NotFoundException":
                raise
            return False
        return True

    def get_segment(self, application_id: str, segment_id: str) -> AwsStructure:
        answer = self.conn.get_segment(ApplicationId=application_id, SegmentId=segment_id)
        return dict(answer["SegmentResponse"])

    def delete_segment(self, application_id: str, segment_id: str) -> None:
        """Delete a segment if it exists, without its endpoints."""
        try:
            self.conn.delete_segment(ApplicationId=application_id, SegmentId=segment_id)
        except ClientError as error:
            _pass_over_not_found(error)

    def get_endpoint(self, application_id: str, endpoint_id: str) -> AwsStructure | None:
        try:
            answer = self.conn.get_endpoint(ApplicationId=application_id, EndpointId=endpoint_id)
        except ClientError as error:
            _pass_over_not_found(error)
            return None
        return dict(answer["EndpointResponse"])

    def delete_endpoint(self, application_id: str, endpoint_id: str) -> None:
        """Delete an endpoint if it exists, with its opt-outs."""
        try:
            self.conn.delete_endpoint(ApplicationId=application_id, EndpointId=endpoint_id)
        except ClientError as error:
            _pass_over_not_found(error)


def _pass_over_not_found(error: ClientError) -> None:
    if error.response["Error"]["Code"] != "NotFoundException":
        raise error
