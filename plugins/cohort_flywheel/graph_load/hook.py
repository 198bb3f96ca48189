"""Neptune's bulk loader: boto3's `neptunedata` at the address of the graph's Airflow connection."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.hooks import HierarchicalEmitter
from botocore.session import Session

from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.graph_load.job import JobStatus
from cohort_flywheel.hooks.neptune_connection import DEFAULT_CONN_NAME, read_neptune_connection
from cohort_flywheel.hooks.shared_session import SharedSessionHook

#: [botocore: ListLoaderJobs] the most IDs of one answer, which has no next page.
_MAX_LISTED = 100
_ERRORS_PER_PAGE = 1000


class NeptuneLoaderHook(SharedSessionHook):
    """Thin wrapper around boto3's `neptunedata` client, with this package's waiters.

    The endpoint is that of the Neptune connection: its `loader_endpoint`, or host and port. Requests are signed if the
    connection has `iam`.

    :param neptune_conn_id: the Airflow connection of the graph; `neptune_connection` has its fields and its extra.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    def __init__(self, *args: Any, neptune_conn_id: str = DEFAULT_CONN_NAME, **kwargs: Any) -> None:
        kwargs["client_type"] = "neptunedata"
        super().__init__(*args, **kwargs)
        self.neptune_conn_id = neptune_conn_id

    @cached_property
    def waiter_path(self) -> Path:  # the provider looks beside its own hooks alone
        return Path(__file__).with_name("waiters.json")

    def get_client_type(
        self, region_name: str | None = None, config: Config | None = None, deferrable: bool = False
    ) -> Any:
        """A client of the cluster's own endpoint, which an AWS connection's `endpoint_url` does not change."""
        endpoint, extra = read_neptune_connection(self.neptune_conn_id)
        scheme = "https" if endpoint.scheme == "wss" else "http"
        address = f"{scheme}://{extra.loader_endpoint or f'{endpoint.host}:{endpoint.port}'}"
        merged = self._get_config(config)
        if not extra.iam:
            merged = merged.merge(Config(signature_version=UNSIGNED))
        region = region_name or extra.region_name or self.region_name
        session = self.get_session(region_name=region, deferrable=deferrable)
        is_boto3 = isinstance(session, boto3.session.Session)
        create = session.client if is_boto3 else session.create_client
        of_cluster = extra.signed_host if extra.iam and not extra.loader_endpoint else None
        if of_cluster and not is_boto3:  # the session is of this client alone, which is made later
            _sign_for(session, of_cluster)
        client = create("neptunedata", endpoint_url=address, config=merged, verify=self.verify, region_name=region)
        if of_cluster and is_boto3:  # other hooks have the session too
            _sign_for(client.meta.events, of_cluster)
        return client

    def start(self, request: AwsStructure) -> str:
        """Send StartLoaderJob exactly once, as it has no idempotency token; return the ID of the job.

        Raises FlywheelError where the loader refuses the request for good, RetryableError where its queue is full.
        """
        once = self.get_client_type(config=Config(retries={"total_max_attempts": 1}))
        try:
            return str(once.start_loader_job(**request)["payload"]["loadId"])
        except ClientError as error:
            raise _explained(error, request) from None

    def job(self, load_id: str) -> JobStatus | None:
        """The status of a job; None for one that the loader does not know (any more)."""
        try:
            answer = self.conn.get_loader_job_status(loadId=load_id, details=True)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.NOT_FOUND:
                return None
            raise
        return JobStatus.of(load_id, answer["payload"])

    def job_ids(self) -> list[str]:
        """The newest jobs, active, queued and ended, 100 at most."""
        return list(self.conn.list_loader_jobs(limit=_MAX_LISTED)["payload"]["loadIds"])

    def errors(self, load_id: str) -> Iterator[AwsStructure]:
        """The error log of a job, page by page. Its messages hold IDs of vertices: they must not reach a log."""
        page = 1
        while True:
            answer = self.conn.get_loader_job_status(
                loadId=load_id, errors=True, page=page, errorsPerPage=_ERRORS_PER_PAGE
            )
            found = answer["payload"].get("errors", {}).get("errorLogs", [])
            yield from found
            if len(found) < _ERRORS_PER_PAGE:
                return
            page += 1

    def cancel(self, load_id: str) -> bool:
        """Cancel a job; False if it is not active."""
        try:
            self.conn.cancel_loader_job(loadId=load_id)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status not in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND):
                raise
            return False
        return True


def _sign_for(events: HierarchicalEmitter | Session, host: str) -> None:
    """Sign and send this Host header: a tunnel passes the request on to the cluster."""

    def set_host(request: AWSRequest, **_: object) -> None:
        del request.headers["Host"]  # to set a header adds to it
        request.headers["Host"] = host

    events.register("before-sign.neptunedata", set_host)


#: Words of the loader's own sentences, and what they mean [Neptune user guide: load-api-reference-load-errors].
_REFUSALS = (
    (
        "queue size limit",
        Code.GRAPH_LOAD_QUEUE,
        "the queue of the loader is full (64 jobs): a later try starts the job",
    ),
    (
        "concurrent load limit",
        Code.GRAPH_LOAD_QUEUE,
        "another load job runs, and this one may not be queued: a later try starts it",
    ),
    (
        "credential",
        Code.GRAPH_LOAD_ROLE,
        "Neptune cannot use the role {iamRoleArn}: add it to the cluster (aws neptune add-role-to-db-cluster), and let"
        " it trust rds.amazonaws.com",
    ),
    (
        "region",
        Code.GRAPH_LOAD_ROLE,
        "the bucket of {source} is not in {s3BucketRegion}, or cannot be reached from the cluster: bucket and cluster"
        " must be in one region, and the cluster's VPC needs an S3 gateway endpoint",
    ),
    ("bucket not found", Code.GRAPH_LOAD_ROLE, "Neptune finds no bucket of {source}: correct the bucket's name"),
    (
        "does not exist/not reachable",
        Code.GRAPH_LOAD_FILES,
        "Neptune finds no file at {source}: put it there, or let the role {iamRoleArn} read it",
    ),
    (
        "s3 list",
        Code.GRAPH_LOAD_ROLE,
        "the role {iamRoleArn} may not list the bucket of {source}: grant it s3:ListBucket and s3:GetObject",
    ),
    ("no previous load", Code.GRAPH_LOAD_NOTHING, "no earlier load of {source} can be resumed: use mode new"),
)


def _explained(error: ClientError, request: AwsStructure) -> Exception:
    """Turn a refusal into a sentence; never quote the loader's own text."""
    text = error.response["Error"].get("Message", "").lower()
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return FlywheelError(
            "the loader's endpoint is a read replica, which cannot load: write the cluster's writer endpoint as"
            " loader_endpoint into the extra of the Neptune connection",
            Code.GRAPH_LOAD_ENDPOINT,
        )
    for words, code, sentence in _REFUSALS:
        if words in text:
            message = sentence.format(**{"iamRoleArn": "", "s3BucketRegion": "", "source": ""} | request)
            return RetryableError(message, code) if code is Code.GRAPH_LOAD_QUEUE else FlywheelError(message, code)
    return error
