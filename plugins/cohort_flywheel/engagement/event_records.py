"""Read the events that SES publishes.

The format: https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-firehose-contents.html. An event keeps
no address, IP address, user agent or header, and a link without its query.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import orjson

from cohort_flywheel.common.records import Json

#: The types of events, and the object of a record that describes one.
TYPES = {
    "Send": "send", "Reject": "reject", "Rendering Failure": "failure", "Delivery": "delivery",
    "DeliveryDelay": "deliveryDelay", "Bounce": "bounce", "Complaint": "complaint", "Open": "open", "Click": "click",
    "Subscription": "subscription",
}  # fmt: skip
#: The bounces and the feedback types of complaints that SES documents; others are counted by name too.
BOUNCES = {
    "Undetermined": {"Undetermined"},
    "Permanent": {"General", "NoEmail", "Suppressed", "OnAccountSuppressionList", "UnsubscribedRecipient"},
    "Transient": {
        "General", "MailboxFull", "MessageTooLarge", "ContentRejected", "AttachmentRejected", "CustomTimeoutExceeded",
    },
}  # fmt: skip
#: The bounces that mean that the address cannot be reached. The other permanent ones mean that nothing was attempted,
#: because of a list: SES's own, the account's, which is read itself, or that of unsubscribed contacts.
UNREACHABLE = ("Permanent:General", "Permanent:NoEmail")
COMPLAINTS = {"", "abuse", "auth-failure", "fraud", "not-spam", "other", "virus", "OnAccountSuppressionList"}
DELAYS = {
    "", "BYOIPHostNameLookupUnavailable", "General", "InternalFailure", "IPFailure", "MailboxFull",
    "RecipientServerError", "SamplingEvent", "SendingDeferral", "SpamDetected", "TransientCommunicationFailure",
    "Undetermined",
}  # fmt: skip
#: The flags of an open or a click, of which only copies of SES's announcement were at hand: others are counted by name.
BOT_FLAGS = {"", "Likely", "Unlikely"}

#: The subtype of a click on the link to unsubscribe.
UNSUBSCRIBE_CLICK = "unsubscribe"

#: How a record begins, where it follows one that cannot be read.
_BEGIN = '{"eventType"'
_NAME = re.compile(r"[A-Za-z0-9 _:-]{1,60}")
_LINK = re.compile(r"(https?://)(?:[^/?#@]*@)?([^/?#@]*)([^?#]*)")
_ADDRESS = re.compile(r"[^/]*(?:@|%40)[^/]*")
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")
_DECODER = json.JSONDecoder()
_quoted = json.encoder.encode_basestring_ascii


class Event(NamedTuple):
    """One event of one mail; `key` is the same for each copy of it.

    `launch` and `row` are the tags of the mail, empty for a mail without them; `bot` is SES's flag of an open or a
    click, empty without one; `unknown` names a subtype that SES does not document.
    """

    key: str
    message_id: str
    launch: str
    row: str
    type: str
    subtype: str
    at: datetime
    mailed_at: datetime
    bot: str = ""
    link: str = ""
    unknown: str = ""


class UnknownType(NamedTuple):
    """A record of an event type that SES did not document when this was written."""

    name: str


def records(lines: Iterable[bytes]) -> Iterator[Json | None]:
    """Yield the records of an object, also several of one line; None for each piece that cannot be read."""
    for line in lines:
        if not line.strip():
            continue
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:
            yield from _run_together(line.decode("utf-8", errors="replace"))
        else:
            yield found if isinstance(found, dict) else None


def _run_together(text: str) -> Iterator[Json | None]:
    place = 0
    while (begin := text.find("{", place)) >= 0:
        if text[place:begin].strip():
            yield None
        try:
            found, place = _DECODER.raw_decode(text, begin)
        except (ValueError, RecursionError):
            yield None
            place = text.find(_BEGIN, begin + 1)
            if place < 0:
                return
        else:
            yield found
    if text[place:].strip():
        yield None


def read_event(record: Json) -> Event | UnknownType | None:
    """Return the event of a record; None for a record that is not one of SES.

    The time is the event's own, or that of the mail: a Send, a Reject and a Rendering Failure have none.
    """
    name = record.get("eventType")
    if not isinstance(name, str):
        return None
    if name not in TYPES:
        return UnknownType(name if _NAME.fullmatch(name) else "(other)")
    try:
        mail, about = record["mail"], record.get(TYPES[name]) or {}
        message_id, mailed_at = str(mail["messageId"]), _instant(mail["timestamp"])
        at = _instant(about["timestamp"]) if "timestamp" in about else mailed_at
        tags, subtype, link = mail.get("tags") or {}, _subtype(name, about), str(about.get("link") or "")
        launch, row = _tag(tags, "launch"), _tag(tags, "row")
        flag, feedback = str(about.get("isBotEvent") or ""), str(about.get("feedbackId") or "")
        unsubscribes = name == "Click" and _unsubscribes(mail, link)
        recipients = _places(mail.get("destination") or [], _recipients(name, about))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
        return None
    if not message_id:
        return None
    if unsubscribes:
        subtype = UNSUBSCRIBE_CLICK
    key = f'[{_quoted(message_id)}, "{name}", "{at.isoformat()}", {recipients}, {_quoted(link)}, {_quoted(feedback)}]'
    return Event(
        hashlib.blake2b(key.encode(), digest_size=16).hexdigest(),
        plain(message_id, 200),
        launch,
        row,
        name,
        subtype if not subtype or _NAME.fullmatch(subtype) else "",
        at,
        mailed_at,
        flag if flag in BOT_FLAGS else "",
        kept_link(link, whole=not unsubscribes),
        _unknown(name, subtype, flag),
    )


def _instant(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is UTC:
        return found
    if found.tzinfo is None:
        raise ValueError
    return found.astimezone(UTC)


def _subtype(name: str, about: Json) -> str:
    match name:
        case "Bounce":
            return f"{about['bounceType']}:{about['bounceSubType']}"
        case "Complaint":
            return str(about.get("complaintFeedbackType") or about.get("complaintSubType") or "")
        case "DeliveryDelay":
            return str(about.get("delayType") or "")
        case "Subscription":
            new, old = about["newTopicPreferences"] or {}, about.get("oldTopicPreferences") or {}
            statuses, _ = [*_topics(new).values()], _topics(old)  # both are read for the suppression list
            return "unsubscribed" if new.get("unsubscribeAll") or "OptOut" in statuses else "subscribed"
    return ""


def _topics(preferences: Json) -> dict[str, str]:
    # any change of preferences is an event, also an opt-in
    return {each["topicName"]: each["subscriptionStatus"] for each in preferences.get("topicSubscriptionStatus") or []}


def _unsubscribes(mail: Json, link: str) -> bool:
    """Return whether a link leads to where the mail's List-Unsubscribe leads: SES tracks it where it is not marked."""
    host = _host(link)
    headers = mail.get("headers") or []
    places = [each["value"] for each in headers if each["name"].lower() == "list-unsubscribe"]
    return bool(host) and any(host == _host(place) for value in places for place in re.findall(r"<([^>]*)>", value))


def _host(link: str) -> str:
    match = _LINK.match(link)
    return match[2].lower() if match else ""


def _unknown(name: str, subtype: str, flag: str) -> str:
    match name:
        case "Bounce":
            kind, _, detail = subtype.partition(":")
            known = detail in BOUNCES.get(kind, ())
        case "Complaint":
            known = subtype in COMPLAINTS
        case "DeliveryDelay":
            known = subtype in DELAYS
        case _:
            subtype, known = f"isBotEvent {flag}", flag in BOT_FLAGS
    return "" if known else f"{name} {subtype}" if _NAME.fullmatch(subtype) else f"{name} (other)"


def _recipients(name: str, about: Json) -> list[str]:
    match name:
        case "Bounce":
            return [each["emailAddress"] for each in about["bouncedRecipients"]]
        case "Complaint":
            return [each["emailAddress"] for each in about["complainedRecipients"]]
        case "DeliveryDelay":
            return [each["emailAddress"] for each in about.get("delayedRecipients") or []]
        case "Delivery":
            return list(about.get("recipients") or [])
    return []


def _places(destination: list[str], recipients: list[str]) -> list[int]:
    """The places of the recipients in the mail: an address, or its hash, would be personal data."""
    if not recipients:
        return []
    folded = [each.casefold() for each in destination]
    return sorted(folded.index(each.casefold()) if each.casefold() in folded else -1 for each in recipients)


def _tag(tags: Json, name: str) -> str:
    found = tags.get(name)
    text = found[0] if isinstance(found, list) and found else ""
    return text if isinstance(text, str) and _TAG.fullmatch(text) else ""


def kept_link(link: str, *, whole: bool = True) -> str:
    """Return a link without its query, login and addresses; without `whole` also without its path.

    The path of a link to unsubscribe names the recipient.
    """
    if not link:
        return ""
    match = _LINK.match(link)
    if not match:
        return "(other)"
    path = _ADDRESS.sub("(address)", match[3]) if whole else ""
    return plain(match[1] + match[2] + path, 2000)


def plain(text: str, length: int) -> str:
    if not (text.isascii() and text.isprintable()):
        text = re.sub(r"[^ -~]", "?", text)
    return text[:length]
