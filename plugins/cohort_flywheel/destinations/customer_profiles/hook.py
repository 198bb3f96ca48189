"""Amazon Connect Customer Profiles: upload jobs, segment definitions and their estimates."""

from __future__ import annotations

import base64
import hashlib
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any

from botocore.config import Config

from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.shared_session import SharedSessionHook

#: The largest page that the model allows.
JOBS_PER_PAGE = 500

#: The timeout of S3 during an upload, and the longest wait for an estimate.
UPLOAD_SECONDS, ESTIMATE_SECONDS = 120, 600

_SSE_C = "x-amz-server-side-encryption-customer-"


class CustomerProfilesHook(SharedSessionHook):
    """Thin wrapper around boto3's `customer-profiles` client, with this package's waiters.

    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["client_type"] = "customer-profiles"
        super().__init__(*args, **kwargs)

    @cached_property
    def waiter_path(self) -> Path:  # the provider looks only beside its own hooks
        return Path(__file__).with_name("waiters.json")

    @cached_property
    def _patient(self) -> Any:
        return self.get_client_type(config=Config(retries={"mode": "standard", "total_max_attempts": 10}))

    @cached_property
    def _once(self) -> Any:
        # requests that create or start have no client token, so the SDK must not retry them
        return self.get_client_type(config=Config(retries={"total_max_attempts": 1}))

    # --- upload jobs

    def upload_jobs(self, domain: str) -> Iterator[AwsStructure]:
        """Every upload job of a domain, page by page (UploadJobItem)."""
        pages = self._patient.get_paginator("list_upload_jobs")
        for page in pages.paginate(DomainName=domain, PaginationConfig={"PageSize": JOBS_PER_PAGE}):
            yield from page["Items"]

    def create_upload_job(self, domain: str, request: AwsStructure) -> str:
        """Send CreateUploadJob exactly once; returns the JobId."""
        return str(self._once.create_upload_job(DomainName=domain, **request)["JobId"])

    def put_upload(self, domain: str, job_id: str, path: Path) -> None:
        """Stream a file to the presigned URL of a job; raises RetryableError, and FlywheelError if refused.

        The URL and its key are secrets: they, and errors that may quote them, do not leave this method.
        """
        where = self._patient.get_upload_job_path(DomainName=domain, JobId=job_id)
        if not where["Url"].startswith(("https://", "http://")):
            raise RetryableError(
                f"the address of upload job {job_id} is not a web address: a later attempt gets another",
                code=Code.JOB_PENDING,
            )
        with path.open("rb") as file:
            headers = {"Content-Type": "text/csv", "Content-Length": str(path.stat().st_size)}
            request = urllib.request.Request(  # noqa: S310 - the service's own address, of the web only
                where["Url"], data=file, method="PUT", headers=headers | _sse_c_headers(where.get("ClientToken", ""))
            )
            try:
                urllib.request.urlopen(request, timeout=UPLOAD_SECONDS).close()  # noqa: S310 - as above
            except urllib.error.HTTPError as error:
                code = re.search(rb"<Code>(\w+)</Code>", error.read(10_000))
                status = f"{error.code}{f' {code[1].decode()}' if code else ''}"
                refused = error.code == HTTPStatus.FORBIDDEN and not _has_expired(where)
            except (OSError, HTTPException) as error:
                status, refused = type(error).__name__, False
            else:
                return
        if refused:
            raise FlywheelError(
                f"Amazon S3 refuses the file of upload job {job_id} ({status}) at the presigned URL of the service:"
                " allow the workers to write to buckets of other accounts (the policies of the VPC's S3 endpoint and of"
                " the organization), then clear this task",
                code=Code.UPLOAD_REFUSED,
            )
        raise RetryableError(
            f"the file of upload job {job_id} was not accepted ({status}): a later attempt uploads it again",
            code=Code.JOB_PENDING,
        )

    def start_upload_job(self, domain: str, job_id: str) -> None:
        """Send StartUploadJob exactly once: a second request for a started job is refused."""
        self._once.start_upload_job(DomainName=domain, JobId=job_id)

    def stop_upload_job(self, domain: str, job_id: str) -> None:
        self._patient.stop_upload_job(DomainName=domain, JobId=job_id)

    def get_upload_job(self, domain: str, job_id: str) -> AwsStructure:
        return dict(self._patient.get_upload_job(DomainName=domain, JobId=job_id))

    # --- segments

    def segment_definition(self, domain: str, name: str) -> AwsStructure | None:
        """A definition (GetSegmentDefinitionResponse), or None if it does not exist."""
        try:
            return dict(self._patient.get_segment_definition(DomainName=domain, SegmentDefinitionName=name))
        except self._patient.exceptions.ResourceNotFoundException:
            return None

    def create_segment_definition(self, domain: str, name: str, groups: AwsStructure) -> str:
        """Send CreateSegmentDefinition exactly once; returns the ARN."""
        made = self._once.create_segment_definition(
            DomainName=domain, SegmentDefinitionName=name, DisplayName=name, SegmentGroups=groups
        )
        return str(made["SegmentDefinitionArn"])

    def estimate(self, domain: str, groups: AwsStructure) -> int:
        """Return the number of profiles in a segment now; raise RetryableError if the estimate fails."""
        made = self._patient.create_segment_estimate(DomainName=domain, SegmentQuery=groups)
        until = time.monotonic() + ESTIMATE_SECONDS
        while True:
            found = self._patient.get_segment_estimate(DomainName=domain, EstimateId=made["EstimateId"])
            if found["Status"] == "SUCCEEDED":
                return int(found["Estimate"])
            if found["Status"] == "FAILED" or time.monotonic() > until:
                raise RetryableError(
                    f"the estimate of the segment is {found['Status']}: a later attempt requests another",
                    code=Code.JOB_PENDING,
                )
            time.sleep(1)


def _has_expired(where: AwsStructure) -> bool:
    """Whether a presigned URL has expired, which S3 refuses with the same code; a later attempt gets another."""
    return "ValidUntil" in where and bool(where["ValidUntil"] <= datetime.now(UTC))


def _sse_c_headers(key: str) -> dict[str, str]:
    """Return the headers of a PUT with a base64 data key [Customer Profiles: GetUploadJobPath, ClientToken]."""
    digest = hashlib.md5(base64.b64decode(key), usedforsecurity=False).digest()
    return {
        f"{_SSE_C}algorithm": "AES256",
        f"{_SSE_C}key": key,
        f"{_SSE_C}key-MD5": base64.b64encode(digest).decode(),
    }
