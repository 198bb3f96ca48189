"""The state of SES v2, account by account and region by region, as an extension of moto's own backend."""

import json
import re
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from email.utils import parseaddr
from itertools import islice, takewhile
from threading import Timer
from typing import Any, cast

from moto.core.base_backend import BackendDict
from moto.s3.models import s3_backends
from moto.ses.models import ConfigurationSet, EmailIdentity
from moto.sesv2.models import SESV2Backend, sesv2_backends

from local.pinpoint.naming import derived_id

from . import events
from .contacts import FlywheelContact, FlywheelContactList, Item, check_list
from .control import control
from .errors import (
    AlreadyExistsError,
    BadRequestError,
    LimitExceededError,
    MessageRejectedError,
    NotFoundError,
    SesError,
    TooManyRequestsError,
)
from .firehose import EventStream
from .import_file import FileError, Row, rows
from .jobs import PROCESSED_AT, FileResult, Job
from .mail import Mail, data_of, envelope, put_unsubscribe_links, render, template_of
from .source import Source
from .suppressed import SuppressedDestinations

DAY = 24 * 60 * 60
MAX_TEMPLATE_BYTES = 500 * 1024  # [SES docs: quotas] a template's size
# [SES docs: sandbox] 200 mails a day and one a second; mail to the mailbox simulator is allowed.
SANDBOX_DAY, SANDBOX_RATE = 200, 1.0
SIMULATOR = "simulator.amazonses.com"
_S3_URL = re.compile(r"s3://([^/]+)/(.+)", re.DOTALL)


class FlywheelSesBackend(SESV2Backend):
    """moto's SES v2 with import jobs, templates and list management. Call its methods under control.lock."""

    def __init__(self, region_name: str, account_id: str):
        super().__init__(region_name, account_id)
        self.details: Item | None = None
        self.jobs: dict[str, Job] = {}
        self.mails: list[Mail] = []
        self.templates: dict[str, Item] = {}
        self.event_destinations: dict[str, dict[str, Item]] = {}  # by configuration set, and their names
        self.stream = EventStream()
        self.suppressed = SuppressedDestinations()
        self._sent: deque[tuple[float, int]] = deque()  # instant and recipients, of the last 24 hours
        self._today = 0
        self._numbered = 0

    def reset(self) -> None:
        """Called by moto's reset on every backend."""
        with control.lock:
            super().reset()
            control.reset()

    def forget_runs(self) -> None:
        """Remove contacts, jobs, mails, templates and the suppression list; keep lists, identities and the account."""
        for contact_list in self.lists:
            contact_list.contacts = {}
        self.jobs, self.mails, self.templates = {}, [], {}
        self.stream = EventStream()
        self.suppressed = SuppressedDestinations()
        self._sent.clear()
        self._today = 0

    def _new_id(self, kind: str) -> str:
        self._numbered += 1
        return derived_id(self.account_id, self.region_name, kind, self._numbered)

    # --- the account

    def put_account_details(self, request: Item) -> None:
        """[shape AccountDetails.ReviewDetails] Access is granted by a review: here by the control plane's
        production_access. [shape ConflictException] "already an ongoing account details update under review"."""
        if self.details is not None and self._review() == "PENDING":
            raise SesError("ConflictException", 409, "An account details update is already under review.")
        self.details = request

    def account(self) -> Item:
        """[shape GetAccountResponse]"""
        settings = control.settings
        answer: Item = {
            "DedicatedIpAutoWarmupEnabled": False,
            "EnforcementStatus": "HEALTHY",
            "ProductionAccessEnabled": settings.production_access,
            "SendQuota": {
                "Max24HourSend": float(self._max_day()),
                "MaxSendRate": float(self._max_rate()),
                "SentLast24Hours": float(self._sent_today(time.time())),
            },
            "SendingEnabled": settings.sending_enabled,
            "SuppressionAttributes": {"SuppressedReasons": ["BOUNCE", "COMPLAINT"]},
        }
        if self.details is not None:
            details = {name: value for name, value in self.details.items() if name != "ProductionAccessEnabled"}
            answer["Details"] = details | {"ReviewDetails": {"Status": self._review()}}
        return answer

    def _review(self) -> str:
        return "GRANTED" if control.settings.production_access else "PENDING"

    def _max_day(self) -> int:
        chosen = control.settings.max_24_hour_send
        return chosen if control.settings.production_access else min(chosen, SANDBOX_DAY)

    def _max_rate(self) -> float:
        chosen = control.settings.max_send_rate
        return chosen if control.settings.production_access else min(chosen, SANDBOX_RATE)

    def _check_production(self) -> None:
        """[SES docs: list management] "To bulk add or remove addresses, you must have production access." [strict] The
        error is not documented."""
        if not control.settings.production_access:
            raise BadRequestError("The account is in the sandbox: import jobs need production access.")

    # --- identities

    def create_email_identity(
        self,
        email_identity: str,
        tags: list[dict[str, str]] | None,
        dkim_signing_attributes: object | None,
        configuration_set_name: str | None,
    ) -> EmailIdentity:
        if email_identity in self.core_backend.email_identities:
            raise AlreadyExistsError("The identity exists.")
        made = super().create_email_identity(email_identity, tags, dkim_signing_attributes, configuration_set_name)
        made.verification_status = "PENDING"  # [shape VerificationStatus]; moto starts with SUCCESS
        made.sending_enabled = False
        return made

    def set_verified(self, identity: str, verified: bool) -> None:
        found = self.get_email_identity(identity)
        found.verified_for_sending_status = found.sending_enabled = verified
        found.verification_status = "SUCCESS" if verified else "PENDING"

    def is_verified(self, address: str) -> bool:
        """[SES docs: verified identities] An address, its domain, or a domain above it."""
        domain = address.rpartition("@")[2].lower()
        labels = domain.split(".")
        names = [address, *(".".join(labels[i:]) for i in range(len(labels) - 1))]
        known = self.core_backend.email_identities
        return any(name in known and known[name].verified_for_sending_status for name in names)

    # --- contact lists

    @property
    def lists(self) -> list[FlywheelContactList]:
        return cast(list[FlywheelContactList], list(self.core_backend.contacts_lists.values()))

    def create_contact_list(self, params: dict[str, Any]) -> None:
        """[SES docs: list management] "Only one contact list is allowed per AWS account." [asked] A region's, and
        whatever its name is, by a BadRequestException."""
        made = FlywheelContactList(params["ContactListName"], params.get("Description"), params.get("Topics", []))
        if self.lists:
            raise BadRequestError("A maximum of 1 Lists allowed per account.")
        super().create_contact_list(params)
        self.core_backend.contacts_lists[made.contact_list_name] = made

    def update_contact_list(self, contact_list_name: str, params: dict[str, Any]) -> None:
        check_list(contact_list_name, params.get("Topics", []))
        super().update_contact_list(contact_list_name, params)
        self.contact_list(contact_list_name).updated = time.time()

    def contact_list(self, name: str) -> FlywheelContactList:
        return cast(FlywheelContactList, self.get_contact_list(name))

    def subscribe(self, address: str, list_name: str | None, topic: str | None, *, opts_in: bool) -> None:
        """As if the player had followed a mail's link, to unsubscribe or to its page of preferences."""
        if not self.lists:
            raise NotFoundError("The contact list does not exist.")
        found = self.contact_list(list_name or self.lists[0].contact_list_name)
        before = events.preferences(found.get_contact(address))
        if opts_in:
            found.subscribe(address, topic)
        else:
            found.unsubscribe(address, topic)
        mails = [each for each in self.mails if address in each.delivered and each.contact_list]
        if mails:
            after = events.preferences(found.get_contact(address))
            self._publish(mails[-1], [events.subscription(mails[-1], _now(), before, after)])

    # --- import jobs

    def create_import_job(self, request: Item) -> Job:
        """A new job each time: [shape CreateImportJobRequest] has no idempotency token."""
        self._check_production()
        destination = request["ImportDestination"]
        if set(destination) != {"ContactListDestination"}:
            raise BadRequestError("ImportDestination must be a contact list; the suppression list is not emulated.")
        name = destination["ContactListDestination"]["ContactListName"]
        if name not in self.core_backend.contacts_lists:
            # [asked] NotFoundException, although [shape CreateImportJob errors] does not list it.
            raise NotFoundError(f"ContactList <{name}> doesn't exist")
        now = time.time()
        if sum(job.active(now) for job in self.jobs.values()) >= control.settings.max_active_jobs:
            raise LimitExceededError("The account has reached its limit of active import jobs.")
        url = _S3_URL.fullmatch(request["ImportDataSource"]["S3Url"])
        if url is None:
            raise BadRequestError("S3Url must look like s3://bucket_name/object.")
        source = Source(self.account_id, self.partition, url[1], url[2])
        job = Job(self._new_id("import job"), request, source, now, control.import_seconds, control.takes_a_failure())
        self.jobs[job.id] = job
        timer = Timer(job.seconds * PROCESSED_AT, self._run_job, (job,))
        timer.daemon = True
        timer.start()
        return job

    def get_import_job(self, job_id: str) -> Job:
        if job_id not in self.jobs:
            raise NotFoundError(f"Import job {job_id} does not exist.")
        return self.jobs[job_id]

    def list_import_jobs(self, destination_type: str | None) -> list[Job]:
        """Newest first [strict: the order is not documented]. [asked] Refused in the sandbox."""
        self._check_production()
        return [] if destination_type == "SUPPRESSION_LIST" else list(self.jobs.values())[::-1]

    def failed_records(self, job: Job) -> str:
        """One line of JSON per record [strict: the format is not documented]; it contains the records' data."""
        failed = job.result.failed_records if job.result else []
        return "".join(json.dumps(record) + "\n" for record in failed)

    def _run_job(self, job: Job) -> None:
        """Run a job, on its own thread."""
        result = FileResult()
        try:
            content, data_format = job.source.read(), job.request["ImportDataSource"]["DataFormat"]
            taken = sum(1 for _ in rows(content, data_format))
            if taken > control.settings.max_contacts:
                # [strict] Not the first million: none of them.
                raise FileError(f"The file has more than {control.settings.max_contacts} contacts.")
            if job.doomed:
                result.error = "The job failed."
                # [strict] What a job that FAILED leaves on the list is not documented: half of it by default, or none.
                taken = taken // 2 if control.settings.failed_job_contacts == "partial" else 0
            for row in islice(rows(content, data_format), taken):
                with control.lock:
                    self._apply(job, row, result)
        except FileError as refused:
            result.error = str(refused)
        with control.lock:
            result.processed_at = time.time()
            job.result = result

    def _apply(self, job: Job, row: Row, result: FileResult) -> None:
        if job.id not in self.jobs:
            raise FileError("A reset forgot the job.")
        if job.list_name not in self.core_backend.contacts_lists:
            raise FileError("The contact list no longer exists.")
        result.processed += 1
        if fault := row.fault or _put(self.contact_list(job.list_name), row, job.deletes):
            result.failed_records.append({"line": row.line, "error": fault, "record": row.content})

    # --- templates

    def create_email_template(self, request: Item) -> None:
        name = request["TemplateName"]
        if name in self.templates:
            raise AlreadyExistsError(f"Template {name} already exists.")
        self.templates[name] = {"created": time.time(), "Tags": request.get("Tags", [])} | _checked(request)

    def update_email_template(self, name: str, request: Item) -> None:
        self.templates[name] = self.email_template(name) | _checked(request)

    def email_template(self, name: str) -> Item:
        if name not in self.templates:
            raise NotFoundError(f"Template {name} does not exist.")
        return self.templates[name]

    def delete_email_template(self, name: str) -> None:
        self.email_template(name)
        del self.templates[name]

    # --- configuration sets: moto's, with event destinations

    def configuration_set(self, name: str) -> ConfigurationSet:
        if name not in self.core_backend.config_sets:
            raise NotFoundError(f"Configuration set <{name}> does not exist.")
        return self.core_backend.config_sets[name]

    def put_event_destination(self, name: str, destination: str, request: Item, *, is_new: bool) -> None:
        """[shape CreateConfigurationSetEventDestination errors] AlreadyExistsException, NotFoundException."""
        self.configuration_set(name)
        there = self.event_destinations.setdefault(name, {})
        if is_new and destination in there:
            raise AlreadyExistsError(f"Event destination {destination} already exists.")
        if not is_new and destination not in there:
            raise NotFoundError(f"Event destination {destination} does not exist.")
        if len({"KinesisFirehoseDestination", "SnsDestination", "EventBridgeDestination"} & set(request)) != 1:
            raise BadRequestError("An event destination has one place.")  # [strict] CloudWatch and Pinpoint left out
        there[destination] = {"Enabled": False, "MatchingEventTypes": []} | request

    # --- sends

    def send(self, request: Item) -> Mail:
        """Accept a mail: a new one each time, as [shape SendEmailRequest] has no idempotency token."""
        now = time.time()
        mail = envelope(request, self._new_id("mail"), _now())
        if not control.settings.sending_enabled:
            raise SesError("SendingPausedException", 400, "The account's ability to send email is paused.")
        self._check_verified(mail)
        if mail.configuration_set and not is_sending(self.configuration_set(mail.configuration_set)):
            # [shape SendingPausedException] of a configuration set too [shape PutConfigurationSetSendingOptions]
            raise SesError("SendingPausedException", 400, "The sending of the configuration set is paused.")
        mailed = self._check_list(mail)
        self._fill(mail, request["Content"])
        self._check_unsubscribed(mailed)
        self._check_quota(mail, now)
        self._deliver(mail, mailed)
        return mail

    def _check_verified(self, mail: Mail) -> None:
        """[shape SendEmailRequest.FromEmailAddress] "has to be verified"; in the sandbox "you can only send email to
        verified identities". The service's text names the addresses, so a client must not repeat it."""
        asked = [mail.sender] if control.settings.production_access else [mail.sender, *map(_address, mail.recipients)]
        failed = [each for each in asked if not self.is_verified(each) and not each.lower().endswith(f"@{SIMULATOR}")]
        if failed:
            region, named = self.region_name.upper(), ", ".join(failed)
            raise MessageRejectedError(
                f"Email address is not verified. The following identities failed the check in region {region}: {named}"
            )

    def _check_list(self, mail: Mail) -> dict[str, bool]:
        """The recipients, and whether each may be mailed."""
        if mail.contact_list is None:
            return dict.fromkeys(mail.recipients, True)
        contact_list = self.contact_list(mail.contact_list)
        if mail.topic is not None and contact_list.default_of(mail.topic) is None:
            raise BadRequestError(
                "The contact list does not have this topic."
            )  # [strict] The answer is not documented.
        return {a: self._may_be_mailed(contact_list, _address(a), mail.topic) for a in mail.recipients}

    def _may_be_mailed(self, contact_list: FlywheelContactList, address: str, topic: str | None) -> bool:
        known = contact_list.has(address)
        contact = contact_list.get_contact(address) if known else FlywheelContact("", address, 0, 0)
        return contact_list.may_be_mailed(contact, topic)

    def _check_unsubscribed(self, mailed: dict[str, bool]) -> None:
        """[SES docs: list management] "SES will issue a bounce event for a message that is sent to an unsubscribed
        contact": the call succeeds, and the recipient is not mailed. `reject` tests a client
        with the other response."""
        if not all(mailed.values()) and control.settings.unsubscribed_answer == "reject":
            raise MessageRejectedError("The recipient is unsubscribed.")

    def _fill(self, mail: Mail, content: Item) -> None:
        if simple := content.get("Simple"):
            body = simple["Body"]
            mail.subject = simple["Subject"]["Data"]
            mail.html, mail.text = (body.get(part, {}).get("Data", "") for part in ("Html", "Text"))
            if "\n" in mail.subject or "\r" in mail.subject or not mail.html + mail.text:
                raise BadRequestError("A mail needs a subject of one line, and a body.")  # [strict]
        elif template := content.get("Template"):
            name = template.get("TemplateName")
            parts = template_of(template, None if name is None else self.email_template(name))
            render(mail, parts, data_of(template))
        else:
            mail.raw = content["Raw"]["Data"]
        put_unsubscribe_links(mail, f"https://{mail.message_id}.unsubscribe.{self.region_name}.example")

    def _check_quota(self, mail: Mail, now: float) -> None:
        """[SES docs: quotas] "based on the number of recipients", rolling. [SES docs: errors of quotas] Either is a
        throttling, and [shape SendEmail errors] TooManyRequestsException is the modelled one. [strict] No burst."""
        asked = len(mail.recipients)
        if self._sent_today(now) + asked > self._max_day():
            raise TooManyRequestsError("Daily message quota exceeded.")
        if self._sent_this_second(now) + asked > self._max_rate():
            raise TooManyRequestsError("Maximum sending rate exceeded.")
        self._sent.append((now, asked))
        self._today += asked

    def _sent_today(self, now: float) -> int:
        while self._sent and self._sent[0][0] <= now - DAY:
            self._today -= self._sent.popleft()[1]
        return self._today

    def _sent_this_second(self, now: float) -> int:
        return sum(number for _, number in takewhile(lambda sent: sent[0] > now - 1, reversed(self._sent)))

    def _deliver(self, mail: Mail, mailed: dict[str, bool]) -> None:
        if mail.contact_list is not None:
            contact_list = self.contact_list(mail.contact_list)
            for address in map(_address, mail.recipients):
                if not contact_list.has(address):
                    # [SES docs: list management] "a contact will be created on your list automatically".
                    contact_list.put(address, {})
        if mail.failure is None:
            may_be = [address for address, may in mailed.items() if may]
            mail.bounced = [address for address, may in mailed.items() if not may]
            # [SES docs: account-level suppression list] accepted, and not attempted
            mail.suppressed = {each: reason for each in may_be if (reason := self.suppressed.reason(_address(each)))}
            mail.delivered = [address for address in may_be if address not in mail.suppressed]
        self.mails.append(mail)
        self.core_backend.sent_message_count += len(mail.recipients)  # moto's SES v1 reports it as its quota
        self._publish(mail, events.of_mail(mail, control.settings.reader_seed))

    # --- events

    def _publish(self, mail: Mail, records: Iterable[Item]) -> None:
        """Publish events of a mail that names a configuration set, for its destinations of Data Firehose."""
        destinations = self.event_destinations.get(mail.configuration_set or "", {}).values()
        types = {
            kind
            for each in destinations
            if each["Enabled"] and "KinesisFirehoseDestination" in each
            for kind in each["MatchingEventTypes"]
        }
        self.stream.publish(records, types)

    def write_events(self, bucket: str, arrived: datetime, *, faults: bool, late: bool) -> None:
        """Have Data Firehose write the events since the last time to a bucket of this account."""
        for key, body in self.stream.write(arrived, faults=faults, late=late):
            s3_backends[self.account_id][self.partition].put_object(bucket, key, body)


def is_sending(configuration_set: ConfigurationSet) -> bool:
    """[shape SendingOptions.SendingEnabled] moto keeps the request's object; a set without it sends."""
    return bool(configuration_set.enabled.get("SendingEnabled", True))


def _now() -> float:
    """The time of a mail and of what becomes of it: the control plane's, or now."""
    mailed_at = control.settings.mailed_at
    return time.time() if mailed_at is None else mailed_at


def _address(written: str) -> str:
    return parseaddr(written)[1]


def _put(contact_list: FlywheelContactList, row: Row, deletes: bool) -> str | None:
    """Write or remove one contact; return an error text if that fails."""
    if deletes:
        if not contact_list.has(row.address):
            return "The contact is not on the list."
        contact_list.delete_contact(row.address)
        return None
    if any(contact_list.default_of(p["TopicName"]) is None for p in row.record["TopicPreferences"]):
        return "The list does not have this topic."
    contact_list.put(row.address, row.record)
    return None


def _checked(request: Item) -> Item:
    """[strict] A template needs a subject and a body; which parts are optional together is not documented."""
    content = request["TemplateContent"]
    if not content.get("Subject") or not (content.get("Html") or content.get("Text")):
        raise BadRequestError("A template needs a subject, and an HTML or a text part.")
    if sum(len(part.encode()) for part in content.values()) > MAX_TEMPLATE_BYTES:
        raise BadRequestError("A template must not be larger than 500 KB.")
    return dict(content)


# moto's backends, one per account and region, created on demand; install() makes them instances of this class.
backends = cast(BackendDict[FlywheelSesBackend], sesv2_backends)


def install() -> None:
    """Replace moto's backend by this one."""
    backends.backend = FlywheelSesBackend


def every_backend() -> list[FlywheelSesBackend]:
    return [backend for regions in backends.values() for backend in regions.values()]


def snapshot() -> str:
    """The whole state of this server, for assertions of tests."""
    found = {
        "settings": vars(control.settings),
        "calls": control.calls,
        "accounts": [_state(backend) for backend in every_backend()],
    }
    return json.dumps(found)


def _state(backend: FlywheelSesBackend) -> Item:
    now = time.time()
    identities = backend.core_backend.email_identities
    return {
        "account": backend.account_id,
        "region": backend.region_name,
        "lists": [_list_state(contact_list) for contact_list in backend.lists],
        "jobs": [job.details(now, control.settings.processed_counts, "") for job in backend.jobs.values()],
        "identities": {name: found.verified_for_sending_status for name, found in identities.items()},
        "templates": backend.templates,
        "mails": [asdict(mail) for mail in backend.mails],
        "events": backend.stream.events,
        "late_events": backend.stream.late,
        "suppressed": {each["EmailAddress"]: each["Reason"] for each in backend.suppressed.listed([], None, None)},
    }


def _list_state(contact_list: FlywheelContactList) -> Item:
    contacts = [contact_list.contact_details(contact) for contact in contact_list.after(0)]
    return contact_list.details() | {"Contacts": contacts}
