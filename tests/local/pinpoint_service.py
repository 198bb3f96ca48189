"""A server of local.aws for a test module, and clients that hold each answer against botocore's model.

boto3 drops what it does not know and invents nothing for what is missing, so the raw JSON is what is checked.
"""

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from local.pinpoint import shapes

ACCOUNT = "123456789012"
REGION = "us-east-1"
BUCKET = "segments"
ROOT = Path(__file__).parents[2]
HEADER = "ChannelType,Address,User.UserId,User.UserAttributes.FirstName,User.UserAttributes.LastName,Id\n"


def people(*names: str) -> str:
    """A file of one well-formed row for each name."""
    return HEADER + "".join(f"EMAIL,{name}@example.com,{name},First,Last,{name}-email\n" for name in names)


def trust(**conditions: Any) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": {"Service": "pinpoint.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    return {"Version": "2012-10-17", "Statement": [statement | ({"Condition": conditions} if conditions else {})]}


def allow(*actions: str, resource: str = f"arn:aws:s3:::{BUCKET}*", effect: str = "Allow") -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": effect, "Action": list(actions), "Resource": resource}],
    }


class Service:
    """One running server with an application, a bucket and an import role."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: set[str] = set()
        self.pinpoint = self.client("pinpoint")
        self.s3 = self.client("s3")
        self.iam = self.client("iam")
        self.seed()

    def seed(self) -> None:
        self.app = self.pinpoint.create_app(CreateApplicationRequest={"Name": "Modeler"})["ApplicationResponse"]["Id"]
        self.s3.create_bucket(Bucket=BUCKET)
        self.role = self.make_role("Import", trust(), allow("s3:GetObject", "s3:ListBucket"))
        self.control(import_seconds=0)

    def client(self, name: str, attempts: int = 1) -> Any:
        config = Config(retries={"total_max_attempts": attempts, "mode": "standard"}, parameter_validation=False)
        made = boto3.client(
            name,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="local",
            aws_secret_access_key="local-only",
            config=config,
        )
        if name == "pinpoint":
            made.meta.events.register("before-parse.pinpoint", self._hold_against_the_model)
        return made

    def _hold_against_the_model(self, operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
        status = response_dict["status_code"]
        if status >= 400:
            code = response_dict["headers"]["x-amzn-errortype"]
            modelled = {e.name: e.metadata["error"]["httpStatusCode"] for e in operation_model.error_shapes}
            assert modelled.get(code, status) == status
            return
        assert status == operation_model.http["responseCode"]
        expected = shapes.payload(operation_model.name, "output")
        assert shapes.problems(json.loads(response_dict["body"]), expected) == []
        self.answers.add(operation_model.name)

    def make_role(self, name: str, trust_policy: dict[str, Any], policy: dict[str, Any] | None = None) -> str:
        role = self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust_policy))["Role"]
        if policy is not None:
            self.iam.put_role_policy(RoleName=name, PolicyName="read", PolicyDocument=json.dumps(policy))
        return str(role["Arn"])

    def control(self, **changes: Any) -> Any:
        """What the control plane answers to a change, or to a look at its state."""
        body = json.dumps(changes).encode() if changes else None
        with urllib.request.urlopen(f"{self.url}/cohort-flywheel/pinpoint", body, timeout=10) as answer:  # noqa: S310 - ours
            return json.load(answer)

    def state(self) -> dict[str, Any]:
        """The application of the seed, as the control plane shows it."""
        return next(a for a in self.control()["applications"] if a["id"] == self.app)

    def put(self, content: str | bytes, key: str = "in/file.csv") -> str:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
        return f"s3://{BUCKET}/{key}"

    def create(self, url: str, **changes: Any) -> dict[str, Any]:
        request = {
            "Format": "CSV",
            "RoleArn": self.role,
            "S3Url": url,
            "DefineSegment": True,
            "RegisterEndpoints": True,
        }
        request = {name: value for name, value in (request | changes).items() if value is not None}
        answer = self.pinpoint.create_import_job(ApplicationId=self.app, ImportJobRequest=request)
        return dict(answer["ImportJobResponse"])

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.pinpoint.get_import_job(ApplicationId=self.app, JobId=job_id)["ImportJobResponse"])

    def finish(self, job: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while (found := self.job(job["Id"]))["JobStatus"] not in ("COMPLETED", "FAILED"):
            assert time.monotonic() < deadline, "The job did not end within 20 seconds."
            time.sleep(0.02)
        return found

    def run(self, content: str | bytes, key: str = "in/file.csv", **changes: Any) -> dict[str, Any]:
        """Put a file, import it, and wait for the job's end."""
        return self.finish(self.create(self.put(content, key), **changes))

    def segment(self, segment_id: str) -> dict[str, Any]:
        answer = self.pinpoint.get_segment(ApplicationId=self.app, SegmentId=segment_id)
        return dict(answer["SegmentResponse"])

    def endpoint(self, endpoint_id: str) -> dict[str, Any]:
        answer = self.pinpoint.get_endpoint(ApplicationId=self.app, EndpointId=endpoint_id)
        return dict(answer["EndpointResponse"])

    def update_endpoint(self, endpoint_id: str, **endpoint: Any) -> None:
        self.pinpoint.update_endpoint(ApplicationId=self.app, EndpointId=endpoint_id, EndpointRequest=endpoint)


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`python -m local.aws` on a free port, and its address; it is gone afterwards."""
    command = [sys.executable, "-m", "local.aws", "--port", "0", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            line = running.stdout.readline()  # the line comes, or the process ends and its output with it
            found = re.search(r"http://\S+", line)
            assert found, "The server did not start."
            yield running, found[0]
        finally:
            running.terminate()
            try:
                running.wait(10)
            except subprocess.TimeoutExpired:
                running.kill()


def code_of(error: Any) -> tuple[str, int]:
    """An error's modelled name and its status."""
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]
