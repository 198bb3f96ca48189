"""A server of local.aws for a test module of Customer Profiles, Connect's campaigns and message templates.

Its clients hold each answer against botocore's model: boto3 drops what it does not know and invents nothing for what is
missing, so the raw JSON is what is checked.
"""

import base64
import hashlib
import json
import time
import urllib.error
import urllib.request
from typing import Any

import boto3
from botocore.config import Config

from local.rest_json import shapes

REGION = "us-east-1"
ACCOUNT = "123456789012"
DOMAIN = "players"
FIELDS = {
    "PlayerId": {"Source": "_source.PlayerId", "Target": "_profile.AccountNumber", "ContentType": "STRING"},
    "Email": {"Source": "_source.Email", "Target": "_profile.EmailAddress", "ContentType": "EMAIL_ADDRESS"},
    "FirstName": {"Source": "_source.FirstName", "Target": "_profile.FirstName", "ContentType": "NAME"},
    "Cohort": {"Source": "_source.Cohort", "Target": "_profile.Attributes.ea_atrisk", "ContentType": "STRING"},
}
HEADER = "PlayerId,Email,FirstName,Cohort\n"
MODELS = ("customer-profiles", "connectcampaignsv2", "qconnect")


def people(*names: str, cohort: str = "in") -> str:
    """A file of one well-formed row for each name."""
    return HEADER + "".join(f"{name},{name}@example.com,{name.title()},{cohort}\n" for name in names)


def segment_of(value: str, attribute: str = "ea_atrisk", kind: str = "INCLUSIVE") -> dict[str, Any]:
    """All profiles whose custom attribute has the value."""
    condition = {"DimensionType": kind, "Values": [value]}
    return {"Groups": [{"Dimensions": [{"ProfileAttributes": {"Attributes": {attribute: condition}}}]}]}


class Service:
    """One running server with a domain."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: set[str] = set()
        self.profiles = self.client("customer-profiles")
        self.campaigns = self.client("connectcampaignsv2")
        self.templates = self.client("qconnect")
        self.profiles.create_domain(DomainName=DOMAIN, DefaultExpirationDays=366)

    def client(self, name: str, attempts: int = 1, parameter_validation: bool = False) -> Any:
        retries = {"total_max_attempts": attempts, "mode": "standard"}
        made = boto3.client(
            name,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="local",
            aws_secret_access_key="local-only",
            config=Config(retries=retries, parameter_validation=parameter_validation),
        )
        if name in MODELS:
            made.meta.events.register(f"before-parse.{name}", self._hold_against_the_model)
        return made

    def _hold_against_the_model(self, operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
        status = response_dict["status_code"]
        if status >= 400:
            code = response_dict["headers"]["x-amzn-errortype"]
            modelled = {e.name: e.metadata["error"]["httpStatusCode"] for e in operation_model.error_shapes}
            assert modelled.get(code, status) == status
            return
        assert status == operation_model.http.get("responseCode", 200)
        expected = operation_model.output_shape
        if expected is None:
            assert response_dict["body"] in (b"", b"{}")
        else:
            assert shapes.problems(json.loads(response_dict["body"] or "{}"), expected) == []
        self.answers.add(operation_model.name)

    def control(self, service: str = "customer-profiles", **changes: Any) -> Any:
        """What a control plane answers to a change, or to a look at its state."""
        body = json.dumps(changes).encode() if changes else None
        with urllib.request.urlopen(f"{self.url}/cohort-flywheel/{service}", body, timeout=10) as answer:  # noqa: S310
            return json.load(answer)

    def reset(self) -> None:
        self.control(reset=True, job_seconds=0, estimate_seconds=0)

    def domain(self) -> dict[str, Any]:
        """The domain of the seed, as the control plane shows it."""
        return next(d for d in self.control()["domains"] if d["name"] == DOMAIN)

    def profile(self, player_id: str) -> dict[str, Any] | None:
        found = [p for p in self.domain()["profiles"] if p.get("AccountNumber") == player_id]
        assert len(found) <= 1
        return found[0] if found else None

    # --- upload jobs

    def create(self, **changes: Any) -> str:
        request = {
            "DomainName": DOMAIN,
            "DisplayName": "ea_atrisk",
            "Fields": FIELDS,
            "UniqueKey": "PlayerId",
            "DataExpiry": 30,
        }
        request = {name: value for name, value in (request | changes).items() if value is not None}
        return str(self.profiles.create_upload_job(**request)["JobId"])

    def path(self, job_id: str) -> dict[str, Any]:
        return dict(self.profiles.get_upload_job_path(DomainName=DOMAIN, JobId=job_id))

    def put(self, job_id: str, content: str | bytes) -> None:
        path = self.path(job_id)
        assert self.put_to(path["Url"], content, **headers_of(path["ClientToken"])) == (200, "")

    def put_to(self, url: str, content: str | bytes, method: str = "PUT", **headers: str) -> tuple[int, str]:
        """The status and the text that a PUT is answered with."""
        body = content.encode() if isinstance(content, str) else content
        names = {f"x-amz-server-side-encryption-customer-{name.replace('_', '-')}": v for name, v in headers.items()}
        request = urllib.request.Request(url, data=body, method=method, headers=names)  # noqa: S310 - our own server
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def start(self, job_id: str) -> None:
        self.profiles.start_upload_job(DomainName=DOMAIN, JobId=job_id)

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.profiles.get_upload_job(DomainName=DOMAIN, JobId=job_id))

    def finish(self, job_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while (found := self.job(job_id))["Status"] in ("CREATED", "IN_PROGRESS"):
            assert time.monotonic() < deadline, "The job did not end within 20 seconds."
            time.sleep(0.02)
        return found

    def run(self, content: str | bytes, **changes: Any) -> dict[str, Any]:
        """Create a job, upload its file, start it and wait for its end."""
        job_id = self.create(**changes)
        self.put(job_id, content)
        self.start(job_id)
        return self.finish(job_id)

    def sentences(self, job: dict[str, Any]) -> list[str]:
        jobs = self.domain()["upload_jobs"]
        return list(next(found for found in jobs if found["JobId"] == job["JobId"])["Sentences"])

    # --- segments

    def define(self, name: str, groups: Any = None, **changes: Any) -> str:
        request = {"DomainName": DOMAIN, "SegmentDefinitionName": name, "DisplayName": name}
        made = self.profiles.create_segment_definition(
            **request, **({"SegmentGroups": groups or segment_of("in")} | changes)
        )
        return str(made["SegmentDefinitionArn"])

    def members(self, name: str) -> list[str]:
        """The player ids of a segment, by the control plane."""
        domain = self.domain()
        segment = next(s for s in domain["segments"] if s["SegmentDefinitionName"] == name)
        return sorted(p["AccountNumber"] for p in domain["profiles"] if p["ProfileId"] in segment["Members"])

    def estimate(self, groups: dict[str, Any]) -> dict[str, Any]:
        made = self.profiles.create_segment_estimate(DomainName=DOMAIN, SegmentQuery=groups)
        asked = {"DomainName": DOMAIN, "EstimateId": made["EstimateId"]}
        deadline = time.monotonic() + 20
        while (found := self.profiles.get_segment_estimate(**asked))["Status"] == "RUNNING":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return dict(found)


def headers_of(token: str) -> dict[str, str]:
    """The SSE-C headers of a PUT under a data key."""
    md5 = hashlib.md5(base64.b64decode(token), usedforsecurity=False).digest()
    return {"algorithm": "AES256", "key": token, "key_MD5": base64.b64encode(md5).decode()}


def code_and_members(error: Any) -> tuple[str, int, dict[str, Any]]:
    """An error's modelled name, its status and its other members."""
    response = error.value.response
    members = {
        name: value
        for name, value in response.items()
        if name not in ("Error", "ResponseMetadata", "message", "xAmzErrorType")
    }
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], members
