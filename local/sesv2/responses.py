"""SES v2's operations as HTTP, as an extension of moto's own responses."""

import base64
import json
import socket
import time
from collections.abc import Iterable
from itertools import islice
from typing import Any, cast

from moto.core.common_types import TYPE_RESPONSE
from moto.sesv2.responses import SESV2Response

from . import shapes
from .contacts import Item
from .control import control
from .control_plane import failed_records_path
from .errors import AlreadyExistsError, BadRequestError, SesError, TooManyRequestsError
from .models import FlywheelSesBackend, is_sending
from .suppressed_responses import SuppressedResponses

# The default page sizes of these are not documented. [strict] Small, so that a caller who does not follow NextToken
# fails. [asked] 10 templates and 25 identities.
DEFAULT_PAGE, IDENTITIES_PAGE = 10, 25
MAX_PAGE = 1000  # [shape ListEmailIdentitiesRequest.PageSize]
MAX_TEMPLATES_PAGE = 100  # [shape ListEmailTemplatesRequest.PageSize]; of import jobs too [strict]

_ONCE_A_SECOND = ("CreateEmailTemplate", "UpdateEmailTemplate", "ListEmailTemplates", "DeleteEmailTemplate")


class FlywheelSesResponse(SuppressedResponses, SESV2Response):
    """moto calls the method that is named like the operation."""

    @property
    def backend(self) -> FlywheelSesBackend:
        return cast(FlywheelSesBackend, self.sesv2_backend)  # set by models.install()

    def call_action(self) -> TYPE_RESPONSE:
        operation = self._get_action()
        with control.lock:
            try:
                control.on_call(operation)
                _throttle(operation)
            except SesError as refusal:
                return refusal.code, dict(refusal.get_headers()), refusal.description
            status, headers, body = super().call_action()
            lost = status == 200 and control.loses(operation)
        if lost:
            return self._lose()
            # moto writes null for unset members, which no shape allows.
        if status == 200 and "null" in str(body):
            body = json.dumps(_without_nulls(json.loads(body)))
        return status, headers, body

    def _lose(self) -> TYPE_RESPONSE:
        """Lose the response of a call that took effect."""
        error = SesError("InternalServiceErrorException", 500, "Simulated loss of the response.")
        if control.settings.lose_by == "drop":
            connection: socket.socket = self.normalized_request.environ["werkzeug.socket"]
            connection.shutdown(socket.SHUT_RDWR)
        return error.code, dict(error.get_headers()), error.description

    # --- the account

    def get_account(self) -> str:
        return json.dumps(self.backend.account())

    def put_account_details(self) -> str:
        self.backend.put_account_details(self._request("PutAccountDetails"))
        return json.dumps({})

    def put_account_sending_attributes(self) -> str:
        control.settings.sending_enabled = self._request("PutAccountSendingAttributes").get("SendingEnabled", False)
        return json.dumps({})

    # --- identities: moto's, with what the model requires of the answers

    def create_email_identity(self) -> str:
        self._request("CreateEmailIdentity")
        return super().create_email_identity()

    def delete_email_identity(self) -> str:
        self.backend.get_email_identity(self._uri("EmailIdentity"))
        return super().delete_email_identity()

    def list_email_identities(self) -> str:
        found = [identity.list_response_object for identity in self.backend.core_backend.email_identities.values()]
        return self._page("EmailIdentities", found, IDENTITIES_PAGE, MAX_PAGE)

    # --- contact lists and contacts

    def create_contact_list(self) -> str:
        self._request("CreateContactList")
        return super().create_contact_list()

    def update_contact_list(self) -> str:
        self._request("UpdateContactList")
        return super().update_contact_list()

    def get_contact_list(self) -> str:
        return json.dumps(self.backend.contact_list(self._uri("ContactListName")).details())

    def list_contact_lists(self) -> str:
        found = [contact_list.summary() for contact_list in self.backend.lists]
        return self._page("ContactLists", found, DEFAULT_PAGE, MAX_PAGE)

    def create_contact(self) -> str:
        self._request("CreateContact")
        return super().create_contact()

    def update_contact(self) -> str:
        self._request("UpdateContact")
        return super().update_contact()

    def get_contact(self) -> str:
        contact_list = self.backend.contact_list(self._uri("ContactListName"))
        return json.dumps(contact_list.contact_details(contact_list.get_contact(self._uri("EmailAddress"))))

    def list_contacts(self) -> str:
        """[shape ListContactLists] of lists of contacts: "there may be additional contacts on the filtered list -
        regardless of the number of contacts returned". So the filter comes after the page was cut, as it seems to
        where it was seen (aws/aws-cli issue 8742): a page may be short, or empty, and be followed by others."""
        contact_list = self.backend.contact_list(self._uri("ContactListName"))
        request = self._request("ListContacts")
        size, token = _checked_page(request.get("PageSize"), DEFAULT_PAGE, MAX_PAGE), request.get("NextToken")
        found = list(islice(contact_list.after(_decoded(token, "Contacts")), size + 1))
        page, more = found[:size], {}
        if len(found) > size:
            more = {"NextToken": _encoded("Contacts", page[-1].number)}
        chosen = request.get("Filter", {})
        passed = [contact_list.contact_summary(c) for c in page if contact_list.passes(c, chosen)]
        return json.dumps({"Contacts": passed} | more)

    # --- import jobs

    def create_import_job(self) -> str:
        return json.dumps({"JobId": self.backend.create_import_job(self._request("CreateImportJob")).id})

    def get_import_job(self) -> str:
        job = self.backend.get_import_job(self._uri("JobId"))
        # [shape FailureInfo.FailedRecordsS3Url] "An Amazon S3 pre-signed URL". Here it is an address of this server.
        url = self.normalized_request.host_url.rstrip("/") + failed_records_path(job.id)
        return json.dumps(job.details(time.time(), control.settings.processed_counts, url))

    def list_import_jobs(self) -> str:
        request = self._request("ListImportJobs")
        found = self.backend.list_import_jobs(request.get("ImportDestinationType"))
        counts = control.settings.processed_counts
        size = _checked_page(request.get("PageSize"), DEFAULT_PAGE, MAX_TEMPLATES_PAGE)
        # A new job pushes the others on, so a page begins where the one before ended, counted from the oldest.
        left = len(found) if request.get("NextToken") is None else _decoded(request["NextToken"], "ImportJobs")
        remaining = found[len(found) - left :]
        page = [job.summary(time.time(), counts) for job in remaining[:size]]
        more = {"NextToken": _encoded("ImportJobs", left - size)} if left > size else {}
        return json.dumps({"ImportJobs": page} | more)

    # --- templates

    def create_email_template(self) -> str:
        self.backend.create_email_template(self._request("CreateEmailTemplate"))
        return json.dumps({})

    def update_email_template(self) -> str:
        self.backend.update_email_template(self._uri("TemplateName"), self._request("UpdateEmailTemplate"))
        return json.dumps({})

    def get_email_template(self) -> str:
        name = self._uri("TemplateName")
        found = self.backend.email_template(name)
        content = {part: found[part] for part in ("Subject", "Text", "Html") if part in found}
        return json.dumps({"TemplateName": name, "TemplateContent": content, "Tags": found["Tags"]})

    def list_email_templates(self) -> str:
        found = [
            {"TemplateName": name, "CreatedTimestamp": template["created"]}
            for name, template in self.backend.templates.items()
        ]
        return self._page("TemplatesMetadata", found, DEFAULT_PAGE, MAX_TEMPLATES_PAGE)

    def delete_email_template(self) -> str:
        self.backend.delete_email_template(self._uri("TemplateName"))
        return json.dumps({})

    # --- configuration sets: moto's, with event destinations

    def create_configuration_set(self) -> str:
        name = self._request("CreateConfigurationSet")["ConfigurationSetName"]
        if name in self.backend.core_backend.config_sets:
            raise AlreadyExistsError(f"Configuration set <{name}> already exists.")
        return super().create_configuration_set()

    def get_configuration_set(self) -> str:
        found = self.backend.configuration_set(self._uri("ConfigurationSetName"))
        given = {
            name: value for name, value in found.to_dict_v2().items() if value
        }  # moto has {} for what was not given
        return json.dumps(given | {"SendingOptions": {"SendingEnabled": is_sending(found)}})

    def put_configuration_set_sending_options(self) -> str:
        request = self._request("PutConfigurationSetSendingOptions")
        self.backend.configuration_set(self._uri("ConfigurationSetName")).enabled = {
            "SendingEnabled": request.get("SendingEnabled", False)
        }
        return json.dumps({})

    def create_configuration_set_event_destination(self) -> str:
        request = self._request("CreateConfigurationSetEventDestination")
        place, name = self._uri("ConfigurationSetName"), request["EventDestinationName"]
        self.backend.put_event_destination(place, name, request["EventDestination"], is_new=True)
        return json.dumps({})

    def update_configuration_set_event_destination(self) -> str:
        request = self._request("UpdateConfigurationSetEventDestination")
        place, name = self._uri("ConfigurationSetName"), self._uri("EventDestinationName")
        self.backend.put_event_destination(place, name, request["EventDestination"], is_new=False)
        return json.dumps({})

    def get_configuration_set_event_destinations(self) -> str:
        name = self._uri("ConfigurationSetName")
        self.backend.configuration_set(name)
        found = self.backend.event_destinations.get(name, {})
        return json.dumps({"EventDestinations": [{"Name": each} | found[each] for each in found]})

    # --- sends

    def send_email(self) -> str:
        return json.dumps({"MessageId": self.backend.send(self._request("SendEmail")).message_id})

    # --- reading a request

    def _uri(self, name: str) -> str:
        return str(self.uri_match[name])

    def _request(self, operation: str) -> Item:
        """The body, validated against the operation's shape."""
        try:
            body = json.loads(self.body or "{}")
        except ValueError:
            raise BadRequestError("The body is not JSON.") from None
        if wrong := shapes.problems_of(operation, "input", body):
            raise BadRequestError(" ".join(wrong))
        return dict(body)

    def _asked(self, default: int, most: int) -> int:
        """The PageSize of the query."""
        text = self.normalized_request.args.get("PageSize")
        if text is not None and not text.isdecimal():
            raise BadRequestError("PageSize must be a whole number.")
        return _checked_page(None if text is None else int(text), default, most)

    def _page(self, key: str, found: list[Item], default: int, most: int) -> str:
        """The page that the query's PageSize and NextToken ask for; a token counts what came before it."""
        size = self._asked(default, most)
        token = self.normalized_request.args.get("NextToken")
        start = _decoded(token, key)
        more = {"NextToken": _encoded(key, start + size)} if start + size < len(found) else {}
        return json.dumps({key: found[start : start + size]} | more)


def _throttle(operation: str) -> None:
    """Throttle a call too soon after the previous one of its operation, or of any operation but the sends."""
    now, settings = time.monotonic(), control.settings
    waits: Iterable[tuple[str, float]] = [("", settings.seconds_between_calls)] if operation != "SendEmail" else []
    if operation in _ONCE_A_SECOND:
        waits = [*waits, (operation, settings.template_seconds)]
    if any(now - control.last_calls.get(kind, now - seconds) < seconds for kind, seconds in waits):
        raise TooManyRequestsError("Rate exceeded")
    control.last_calls.update({kind: now for kind, _ in waits})


def _checked_page(asked: int | None, default: int, most: int) -> int:
    if asked is not None and not 1 <= asked <= most:
        raise BadRequestError(f"The page size must be between 1 and {most}")  # [asked] refused, not cut down
    return asked or default


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _encoded(kind: str, number: int) -> str:
    return base64.urlsafe_b64encode(f"{kind}:{number}".encode()).decode()


def _decoded(token: str | None, kind: str) -> int:
    if token is None:
        return 0
    try:
        name, _, number = base64.urlsafe_b64decode(token.encode()).decode().partition(":")
    except ValueError:
        name, number = "", ""
    if name != kind or not number.isdecimal():
        raise BadRequestError("NextToken was not issued by this operation.")
    return int(number)
