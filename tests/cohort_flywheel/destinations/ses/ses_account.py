"""The emulated SES account of a test: its contact list, what it does next, and segment files to import."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

from cohort_flywheel.destinations.ses.operators import SesCreateImportJobsOperator, SesVerifyContactsOperator
from cohort_flywheel.destinations.ses.sensors import SesImportJobsSensor
from local import seed
from local.config import CONTACT_LIST, TOPIC, Config
from local.servers import Servers
from tests.cohort_flywheel.plans import plan_output
from tests.cohort_flywheel.task_outputs import segment_file

NEWEST = datetime(2026, 11, 22, tzinfo=UTC)


class Account:
    """An empty contact list, whose imports take no time."""

    def __init__(self, servers: Servers, config: Config) -> None:
        self.url, self.config = servers.aws_url, config
        self.client, self.s3 = seed.client("sesv2", servers, config), seed.client("s3", servers, config)
        seed.make_contact_list(servers, config)
        self.control(reset=True, import_seconds=0)

    # --- the service

    def control(self, **settings: Any) -> Any:
        """Change what the service does next; gives its state."""
        body = json.dumps(settings).encode() if settings else None
        request = urllib.request.Request(f"{self.url}/cohort-flywheel/sesv2", data=body)  # noqa: S310 - our own server
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            return json.load(answer)

    @property
    def state(self) -> Any:
        (account,) = [each for each in self.control()["accounts"] if each["lists"]]
        return account

    @property
    def contacts(self) -> dict[str, bool]:
        """The address of each contact, and whether it has unsubscribed from all."""
        return {contact["EmailAddress"]: contact["UnsubscribeAll"] for contact in self.state["lists"][0]["Contacts"]}

    @property
    def jobs(self) -> list[str]:
        """The S3 addresses of all import jobs, in their order."""
        return [job["ImportDataSource"]["S3Url"] for job in self.state["jobs"]]

    def add(self, *addresses: str, unsubscribed: bool = False, **contact: Any) -> None:
        for address in addresses:
            self.client.create_contact(
                ContactListName=CONTACT_LIST, EmailAddress=address, UnsubscribeAll=unsubscribed, **contact
            )

    def unsubscribe(self, address: str, **topic: str) -> None:
        self.control(unsubscribe=[{"EmailAddress": address, **topic}])

    # --- a run

    def plan(self, name: str = "cohort", as_of: datetime = NEWEST, source: str = "auto") -> dict[str, Any]:
        return plan_output(name, as_of, source=source, state_bucket=self.config.state_bucket)

    def segment(self, name: str, *parts: list[str]) -> dict[str, Any]:
        """A released segment file, of as many parts as there are lists of addresses."""
        bucket, folder, made = self.config.import_bucket, f"segments/{name}/", []
        for index, addresses in enumerate(parts):
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(["emailAddress", "playerId", "FirstName", "LastName", "FavoriteRole"])
            writer.writerows([address, f"player-{n}", "Jo, Jr.", 'O"Neil', ""] for n, address in enumerate(addresses))
            body, key = text.getvalue().encode(), f"{folder}{index:04d}.csv"
            self.s3.put_object(Bucket=bucket, Key=key, Body=body)
            made.append({"s3_key": key, "sha256": hashlib.sha256(body).hexdigest()})
        return segment_file(
            sum(map(len, parts)), s3_bucket=bucket, s3_key=folder, s3_url=f"s3://{bucket}/{folder}", parts=made,
        )  # fmt: skip

    def create(self, segment: dict[str, Any], context: Any, hours: float = 15, **plan: Any) -> dict[str, Any]:
        """The first task of a run, `hours` after the newest as-of; gives what it returns."""
        return SesCreateImportJobsOperator(
            task_id="create_import_job", plan=self.plan(**plan), segment=segment, contact_list=CONTACT_LIST,
            topic=TOPIC, clock=lambda: NEWEST + timedelta(hours=hours),
        ).execute(context)  # fmt: skip

    def wait(self, job_ids: list[str]) -> None:
        SesImportJobsSensor(
            task_id="wait", job_ids=job_ids, poke_interval=0.1, max_attempts=200, deferrable=False
        ).execute({})

    def verify(self, segment: dict[str, Any], job_ids: list[str]) -> dict[str, Any]:
        return SesVerifyContactsOperator(
            task_id="verify", segment=segment, contact_list=CONTACT_LIST, topic=TOPIC, job_ids=job_ids
        ).execute({})

    def run(self, segment: dict[str, Any], context: Any) -> dict[str, Any]:
        """All three tasks."""
        job_ids = self.create(segment, context)["job_ids"]
        self.wait(job_ids)
        return self.verify(segment, job_ids)

    def file(self, url: str) -> list[str]:
        """The lines of a file of an import."""
        bucket, _, key = url.removeprefix("s3://").partition("/")
        return str(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()).splitlines()
