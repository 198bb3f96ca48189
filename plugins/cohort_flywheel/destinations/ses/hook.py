"""Amazon SES (API v2): the contact list and its import jobs, the account, templates and sends."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from botocore.config import Config

from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.hooks.shared_session import SharedSessionHook

#: Page sizes; the model has no maximum for contacts, so that of its other listings.
CONTACTS_PER_PAGE, JOBS_PER_PAGE, SUPPRESSED_PER_PAGE = 1000, 100, 1000
#: The maximum number of concurrent calls of `send_email`.
SENDS_IN_FLIGHT = 8


class SesV2Hook(SharedSessionHook):
    """Thin wrapper around boto3's `sesv2` client, with this package's waiters.

    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["client_type"] = "sesv2"
        super().__init__(*args, **kwargs)

    @cached_property
    def waiter_path(self) -> Path:  # the provider looks only beside its own hooks
        return Path(__file__).with_name("waiters.json")

    @cached_property
    def _patient(self) -> Any:
        # SES throttles all calls but the sends at about one per second: a listing of many pages needs retries
        return self.get_client_type(config=Config(retries={"mode": "standard", "total_max_attempts": 10}))

    @cached_property
    def _once(self) -> Any:
        # creating and sending requests have no idempotency token, so the SDK must not retry them
        ours = Config(retries={"total_max_attempts": 1}, max_pool_connections=SENDS_IN_FLIGHT)
        return self.get_client_type(config=ours)

    def contacts(self, contact_list: str) -> Iterator[AwsStructure]:
        """Every contact of a list, page by page (Contact). A page may be empty and be followed by others."""
        token: dict[str, str] = {}
        while True:
            page = self._patient.list_contacts(ContactListName=contact_list, PageSize=CONTACTS_PER_PAGE, **token)
            yield from page["Contacts"]
            if not page.get("NextToken"):
                return
            token = {"NextToken": page["NextToken"]}

    def import_jobs(self, contact_list: str) -> Iterator[AwsStructure]:
        """Every import job of a contact list, page by page (ImportJobSummary, without the S3 address)."""
        token: dict[str, str] = {}
        while True:
            page = self._patient.list_import_jobs(ImportDestinationType="CONTACT_LIST", PageSize=JOBS_PER_PAGE, **token)
            for job in page["ImportJobs"]:
                if job["ImportDestination"]["ContactListDestination"]["ContactListName"] == contact_list:
                    yield job
            if not page.get("NextToken"):
                return
            token = {"NextToken": page["NextToken"]}

    def create_import_job(self, contact_list: str, s3_url: str) -> str:
        """Send CreateImportJob exactly once: it has no idempotency token, so the SDK must not retry it."""
        into = {"ContactListName": contact_list, "ContactListImportAction": "PUT"}
        answer = self._once.create_import_job(
            ImportDestination={"ContactListDestination": into},
            ImportDataSource={"S3Url": s3_url, "DataFormat": "CSV"},
        )
        return str(answer["JobId"])

    def get_import_job(self, job_id: str) -> AwsStructure:
        return dict(self._patient.get_import_job(JobId=job_id))

    def count_failed_records(self, url: str) -> int:
        """Count the lines of a job's file of failed records (FailureInfo.FailedRecordsS3Url); raises OSError.

        The lines quote the contacts, so only their number leaves this method.
        """
        if not url.startswith(("https://", "http://")):
            raise OSError
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - SES's own address, of the web only
            return sum(1 for line in answer if line.strip())

    def account(self) -> AwsStructure:
        """Return the state of the account, with its SendQuota (GetAccount)."""
        return dict(self._patient.get_account())

    def verified_identity(self, address: str) -> AwsStructure | None:
        """The verified identity that SES sends with from an address: the address, its domain, or a parent domain.

        None without one: SES does not send. [SES developer guide: verified identities]
        """
        labels = address.rpartition("@")[2].lower().split(".")
        for identity in [address, *(".".join(labels[first:]) for first in range(len(labels) - 1))]:
            try:
                found = self._patient.get_email_identity(EmailIdentity=identity)
            except self._patient.exceptions.NotFoundException:
                continue
            if found.get("VerifiedForSendingStatus"):
                return dict(found)
        return None

    def configuration_set(self, name: str) -> tuple[AwsStructure, list[AwsStructure]] | None:
        """A configuration set and its event destinations, or None if it does not exist."""
        ses = self._patient
        try:
            found = ses.get_configuration_set(ConfigurationSetName=name)
            events = ses.get_configuration_set_event_destinations(ConfigurationSetName=name)
        except ses.exceptions.NotFoundException:
            return None
        return dict(found), events.get("EventDestinations", [])

    def suppressed_destinations(self, since: datetime | None) -> Iterator[AwsStructure]:
        """Every entry of the account-level suppression list since a time, page by page (SuppressedDestinationSummary).

        A page may be empty and be followed by others.
        """
        given: AwsStructure = {"PageSize": SUPPRESSED_PER_PAGE} | ({"StartDate": since} if since else {})
        while True:
            page = self._patient.list_suppressed_destinations(**given)
            yield from page.get("SuppressedDestinationSummaries", ())
            if not page.get("NextToken"):
                return
            given["NextToken"] = page["NextToken"]

    def delete_suppressed_destination(self, address: str) -> bool:
        """Take an address out of the account-level suppression list; return False if it is not there."""
        try:
            self._patient.delete_suppressed_destination(EmailAddress=address)
        except self._patient.exceptions.NotFoundException:
            return False
        return True

    def email_template(self, name: str) -> dict[str, str] | None:
        """The content of a template (Subject, Html, Text), or None if it does not exist."""
        try:
            return dict(self._patient.get_email_template(TemplateName=name)["TemplateContent"])
        except self._patient.exceptions.NotFoundException:
            return None

    def create_email_template(self, name: str, content: Mapping[str, str]) -> bool:
        """Create a template; return False if the name exists, perhaps by an attempt with a lost answer."""
        try:
            self._patient.create_email_template(TemplateName=name, TemplateContent=content)
        except self._patient.exceptions.AlreadyExistsException:
            return False
        return True

    def send_email(self, **request: Any) -> str:
        """Send SendEmail exactly once, and return the message id: after a lost answer the mail may have been sent.

        Threads may call it after `prepare_sends`.
        """
        return str(self._once.send_email(**request).get("MessageId", ""))

    def prepare_sends(self) -> None:
        """Create the client of `send_email`, because threads may not read Airflow's connection."""
        self._once  # noqa: B018 - created here, and cached
