"""A server of local.aws for a test module, and SES clients that hold each answer against botocore's model.

boto3 drops what it does not know and invents nothing for what is missing, so the raw JSON is what is checked.
"""

import json
import time
import urllib.request
from typing import Any

import boto3
from botocore.config import Config

from local.sesv2 import shapes
from tests.local.pinpoint_service import ACCOUNT, REGION

BUCKET = "segments"
LIST = "players"
SENDER = "studio@example.com"
HEADER = "emailAddress,unsubscribeAll,attributesData,topicPreferences.News\n"
TOPICS = [{"TopicName": "News", "DisplayName": "News", "DefaultSubscriptionStatus": "OPT_IN"}]


def people(*names: str, unsubscribed: str = "false", news: str = "OPT_IN") -> str:
    """A file of one well-formed row for each name."""
    attributes = '"{""FirstName"": ""First"", ""LastName"": ""Last""}"'
    return HEADER + "".join(f"{name}@example.com,{unsubscribed},{attributes},{news}\n" for name in names)


def policy(action: str = "s3:GetObject", service: str = "ses.amazonaws.com", **more: Any) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": action,
        "Resource": f"arn:aws:s3:::{BUCKET}/*",
        # The guide's own condition.
        "Condition": {"StringEquals": {"aws:Referer": ACCOUNT}},
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement | more]})


class Service:
    """One running server with a contact list, a verified sender and a bucket that admits SES."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: set[str] = set()
        self.ses = self.client("sesv2")
        self.s3 = self.client("s3")
        self.seed()

    def seed(self) -> None:
        self.s3.create_bucket(Bucket=BUCKET)
        self.ses.create_contact_list(ContactListName=LIST, Topics=TOPICS)
        self.ses.create_email_identity(EmailIdentity=SENDER)
        self.fresh()

    def fresh(self) -> None:
        """As after the seed, without its waits."""
        self.s3.put_bucket_policy(Bucket=BUCKET, Policy=policy())
        self.control(
            reset=True, import_seconds=0, template_seconds=0, max_send_rate=1000, verify=[SENDER], unsubscribe=[]
        )

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
        if name == "sesv2":
            made.meta.events.register("before-parse.sesv2", self._hold_against_the_model)
        return made

    def _hold_against_the_model(self, operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
        status = response_dict["status_code"]
        if status >= 400:
            code = response_dict["headers"]["x-amzn-errortype"]
            known = {name: shapes.service().shape_for(name) for name in shapes.service().shape_names}
            assert known[code].metadata["error"]["httpStatusCode"] == status
            return
        assert status == operation_model.http.get("responseCode", 200)
        assert shapes.problems_of(operation_model.name, "output", json.loads(response_dict["body"])) == []
        self.answers.add(operation_model.name)

    def control(self, **changes: Any) -> Any:
        """What the control plane answers to a change, or to a look at its state."""
        body = json.dumps(changes).encode() if changes else None
        with urllib.request.urlopen(f"{self.url}/cohort-flywheel/sesv2", body, timeout=10) as answer:  # noqa: S310 - ours
            return json.load(answer)

    def state(self) -> dict[str, Any]:
        """The account of the seed in its region, as the control plane shows it."""
        return next(a for a in self.control()["accounts"] if (a["account"], a["region"]) == (ACCOUNT, REGION))

    @property
    def mails(self) -> list[dict[str, Any]]:
        return list(self.state()["mails"])

    # --- imports

    def put(self, content: str | bytes, key: str = "in/file.csv") -> str:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
        return f"s3://{BUCKET}/{key}"

    def create(self, url: str, action: str = "PUT", data_format: str = "CSV", name: str = LIST) -> str:
        destination = {"ContactListName": name, "ContactListImportAction": action}
        answer = self.ses.create_import_job(
            ImportDestination={"ContactListDestination": destination},
            ImportDataSource={"S3Url": url, "DataFormat": data_format},
        )
        return str(answer["JobId"])

    def finish(self, job_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        while (found := self.ses.get_import_job(JobId=job_id))["JobStatus"] not in ("COMPLETED", "FAILED"):
            assert time.monotonic() < deadline, "The job did not end within 20 seconds."
            time.sleep(0.02)
        return dict(found)

    def run(self, content: str | bytes, action: str = "PUT", data_format: str = "CSV") -> dict[str, Any]:
        """Put a file, import it, and wait for the job's end."""
        return self.finish(self.create(self.put(content), action, data_format))

    def contact(self, name: str) -> dict[str, Any]:
        return dict(self.ses.get_contact(ContactListName=LIST, EmailAddress=f"{name}@example.com"))

    def add(self, name: str, **contact: Any) -> None:
        self.ses.create_contact(ContactListName=LIST, EmailAddress=f"{name}@example.com", **contact)

    def addresses(self, **request: Any) -> list[str]:
        """Every address of the list, page by page."""
        found: list[str] = []
        while True:
            page = self.ses.list_contacts(ContactListName=LIST, **request)
            found += [contact["EmailAddress"] for contact in page["Contacts"]]
            if "NextToken" not in page:
                return found
            request["NextToken"] = page["NextToken"]

    # --- sends

    def template(self, name: str = "hello", subject: str = "Hi {{FirstName}}", **parts: str) -> None:
        content = {"Subject": subject} | (parts or {"Html": "<p>{{FirstName}}</p>", "Text": "{{FirstName}}"})
        self.ses.create_email_template(TemplateName=name, TemplateContent=content)

    def send(self, name: str, **changes: Any) -> str:
        """A mail by the template `hello` over the list; a change of None leaves a member out."""
        request = {
            "FromEmailAddress": SENDER,
            "Destination": {"ToAddresses": [f"{name}@example.com"]},
            "Content": {"Template": {"TemplateName": "hello", "TemplateData": json.dumps({"FirstName": "First"})}},
            "ListManagementOptions": {"ContactListName": LIST},
        }
        answer = self.ses.send_email(**{n: v for n, v in (request | changes).items() if v is not None})
        return str(answer["MessageId"])
