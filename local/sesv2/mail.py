"""One e-mail: its request, its rendered content, and its delivery."""

import json
import re
from dataclasses import dataclass, field
from email.policy import default as email_policy
from email.utils import parseaddr
from typing import Any

from moto.ses.exceptions import MissingRenderingAttributeException
from moto.ses.template import parse_template

from .contacts import is_address
from .errors import BadRequestError

Item = dict[str, Any]

MAX_RECIPIENTS = 50  # [SES docs: quotas] "50 recipients per message", To, CC and BCC together
PARTS = ("Subject", "Html", "Text")
UNSUBSCRIBE = "amazonSESUnsubscribeUrl"
_PLACEHOLDER = "{{" + UNSUBSCRIBE + "}}"
_BLOCK = re.compile(r"\{\{\s*[#/&^>!]|\{\{\s*else\b|\{\{\{")
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")
# What moto's rendering raises where a template is not well-formed, or its data does not fit.
_UNRENDERED = (MissingRenderingAttributeException, AssertionError, AttributeError, IndexError, KeyError, TypeError)


@dataclass
class Mail:
    """An e-mail that SES accepted.

    `sender_name` is the display name; `reply_to` has names and addresses; `delivered` and `bounced` are addresses,
    `suppressed` those on the account's list with their reasons; `failure` is why it was not sent.
    """

    message_id: str
    at: float
    sender_name: str
    sender: str
    reply_to: list[str]
    to: list[str]
    cc: list[str]
    bcc: list[str]
    template: str | None
    contact_list: str | None
    topic: str | None
    configuration_set: str | None
    tags: list[Item]
    headers: list[Item]
    subject: str = ""
    html: str = ""
    text: str = ""
    raw: str | None = None
    delivered: list[str] = field(default_factory=list)
    bounced: list[str] = field(default_factory=list)
    suppressed: dict[str, str] = field(default_factory=dict)
    failure: str | None = None

    @property
    def recipients(self) -> list[str]:
        return [*self.to, *self.cc, *self.bcc]


def envelope(request: Item, message_id: str, now: float) -> Mail:
    """Return the request as an e-mail without its content; raises BadRequestError for an invalid request."""
    destination = request.get("Destination", {})
    content = request["Content"]
    options = request.get("ListManagementOptions", {})
    template = content.get("Template", {})
    # [strict] in the form of the sender; SES verifies senders only [SES docs: verified identities]
    replies = [_sender("ReplyToAddresses", each) for each in request.get("ReplyToAddresses", [])]
    mail = Mail(
        message_id,
        now,
        *_sender("FromEmailAddress", request.get("FromEmailAddress", "")),
        reply_to=[f"{name} <{address}>" if name else address for name, address in replies],
        to=destination.get("ToAddresses", []),
        cc=destination.get("CcAddresses", []),
        bcc=destination.get("BccAddresses", []),
        template=template.get("TemplateName"),
        contact_list=options.get("ContactListName"),
        topic=options.get("TopicName"),
        configuration_set=request.get("ConfigurationSetName"),
        tags=request.get("EmailTags", []),
        headers=list(template.get("Headers", content.get("Simple", {}).get("Headers", []))),
    )
    if len(content) != 1:
        raise BadRequestError("Content must have one of Simple, Raw and Template.")
    if not mail.sender:
        raise BadRequestError("FromEmailAddress is missing.")  # [strict] also where a raw message might name it
    if not 1 <= len(mail.recipients) <= MAX_RECIPIENTS:
        raise BadRequestError(f"A mail must have 1 to {MAX_RECIPIENTS} recipients.")
    addresses = (mail.sender, *(address for _, address in replies), *mail.recipients)
    if not all(is_address(parseaddr(address)[1]) for address in addresses):
        raise BadRequestError("An address is invalid or has characters other than 7-bit ASCII.")
    if not all(_TAG.fullmatch(tag[part]) for tag in mail.tags for part in ("Name", "Value")):
        # [shape MessageTagName, MessageTagValue]
        raise BadRequestError("A tag's name and value have 1 to 256 characters of A-Z, a-z, 0-9, _ and -.")
    return mail


def _sender(key: str, written: str) -> tuple[str, str]:
    """Return the display name and the address.

    [SES docs: SendEmail, FromEmailAddress] a name that is not ASCII is encoded by RFC 2047. [strict] Refused where it
    is not, and where RFC 5322 reads it as a group or as several addresses: a colon or a comma stands in quotes.
    """
    header: Any = email_policy.header_factory("From", written)
    if not written:
        return "", ""
    if header.defects or len(header.addresses) != 1 or header.groups[0].display_name or not written.isascii():
        raise BadRequestError(f"{key} is not one address, with a name that is quoted or encoded.")
    return header.addresses[0].display_name, header.addresses[0].addr_spec


def template_of(content: Item, stored: Item | None) -> Item:
    """Return a template's parts, from the request or the stored template.

    [shape Template.TemplateContent] "only simple substitutions" if the content is in the request. [strict] Refused.
    """
    given = content.get("TemplateContent")
    if (given is None) == (stored is None):
        raise BadRequestError("A template requires either TemplateName or TemplateContent.")
    if given is not None and any(_BLOCK.search(given.get(part, "")) for part in PARTS):
        raise BadRequestError("TemplateContent supports only simple substitutions.")
    parts: Item = given if given is not None else stored or {}
    return parts


def data_of(content: Item) -> Item:
    """[shape Template.TemplateData] "This object is a set of key-value pairs"."""
    try:
        data = json.loads(content.get("TemplateData", "{}"))
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise BadRequestError("TemplateData must be a JSON object.")
    return data


def render(mail: Mail, template: Item, data: Item) -> None:
    """The parts with their placeholders replaced, or the mail's failure.

    [shape SendEmailResponse.MessageId] "It's possible for Amazon SES to accept a message without sending it [...]
    when you send a templated email that contains invalid personalization content."
    [SES docs: personalized email] "SES doesn't escape HTML content when rendering": values go in as they are.
    [strict] A placeholder's name is one word: no dots, no triple braces.
    """
    known = _as_texts(data) | ({UNSUBSCRIBE: _PLACEHOLDER} if mail.contact_list else {})
    try:
        mail.subject, mail.html, mail.text = (parse_template(template.get(part, ""), known) for part in PARTS)
    except _UNRENDERED:
        mail.failure = "Rendering failed: the template is not well-formed, or the data lacks one of its placeholders."
    if "\n" in mail.subject or "\r" in mail.subject:  # [strict] a header is one line
        mail.failure = "Rendering failed: the subject has a line break."


def put_unsubscribe_links(mail: Mail, url: str) -> None:
    """[SES docs: subscription management] "added only if the email is being sent to a single recipient, and the
    placeholder must present"; "HTML and TEXT"; "only the first two occurrences are replaced" [strict: of the mail]."""
    if mail.contact_list is None or len(mail.recipients) != 1 or _PLACEHOLDER not in mail.html + mail.text:
        return
    left = 2 - min(mail.html.count(_PLACEHOLDER), 2)
    mail.html = mail.html.replace(_PLACEHOLDER, url, 2)
    mail.text = mail.text.replace(_PLACEHOLDER, url, left)
    own = ("list-unsubscribe", "list-unsubscribe-post")  # SES overrides the sender's
    mail.headers = [h for h in mail.headers if h["Name"].lower() not in own]
    mail.headers += [
        {"Name": "List-Unsubscribe", "Value": f"<{url}>"},
        {"Name": "List-Unsubscribe-Post", "Value": "List-Unsubscribe=One-Click"},
    ]


def _as_texts(value: Any) -> Any:
    """moto's rendering joins texts only, so numbers become texts."""
    if isinstance(value, dict):
        return {name: _as_texts(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_as_texts(inner) for inner in value]
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
