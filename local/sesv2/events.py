"""The events that SES publishes of a mail.

[SES docs: event publishing, Firehose contents] is the form of each record. What a reader does with a mail is decided by
a digest of the seed and the address, so that a test knows the truth.
"""

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from moto.ses.models import Contact

from .mail import Mail

Item = dict[str, Any]

# [SES docs: mailbox simulator] what happens to a mail to each local part; a label after + changes nothing, and no
# address of it is put on a suppression list. `suppressionlist` is "a hard bounce as if the recipient's address is on
# the global suppression list"; [?] another emulator says that it is a General one.
SIMULATOR = "simulator.amazonses.com"
_SIMULATED = {
    "bounce": "bounce", "suppressionlist": "suppressed", "complaint": "complaint", "ooto": "automatic response",
}  # fmt: skip
_ANCHOR = re.compile(r"<a\s[^>]*>", re.IGNORECASE)
_HREF = re.compile(r"""href\s*=\s*["'](https?://[^"']+)["']""", re.IGNORECASE)


def of_mail(mail: Mail, seed: int) -> Iterator[Item]:
    """Yield the records of a mail that SES accepted, in the order in which they happen."""
    yield _record(mail, "Send", "send", {})
    if mail.failure is not None:
        # [SES docs] the message may quote the data; a rendering failure has no timestamp
        about: Item = {"errorMessage": mail.failure, "templateName": mail.template}
        yield _record(mail, "Rendering Failure", "failure", about)
        return
    for address in mail.bounced:
        # [facts, ?] the subtype of a mail to an unsubscribed contact is not documented
        yield _bounce(mail, address, "Permanent", "General")
    for address, reason in mail.suppressed.items():
        if reason == "BOUNCE":
            yield _bounce(mail, address, "Permanent", "OnAccountSuppressionList")
        else:  # [shape Complaint.ComplaintSubType]
            yield _complaint(mail, address, {"complaintSubType": "OnAccountSuppressionList"})
    for address in mail.delivered:
        kind = _simulated(address)
        if kind in ("bounce", "suppressed"):
            # [SES docs: suppression list] Permanent though nothing was attempted
            yield _bounce(mail, address, "Permanent", "Suppressed" if kind == "suppressed" else "General")
            continue
        times = {"timestamp": _text(mail.at + 2), "processingTimeMillis": 2000}
        about = times | {"recipients": [address], "smtpResponse": "250 2.6.0 Message received", "reportingMTA": "a8-1"}
        yield _record(mail, "Delivery", "delivery", about)
        if kind == "complaint":
            yield _complaint(mail, address, {"complaintFeedbackType": "abuse"})
        elif kind:
            # [SES docs: bounce types] an out-of-office message is a Transient General bounce, after the delivery
            yield _bounce(mail, address, "Transient", "General", seconds=5)
        else:
            yield from _reader(mail, address, seed)


def _reader(mail: Mail, address: str, seed: int) -> Iterator[Item]:
    """What a reader does: by a digest, and a link scanner opens and clicks before some of them."""
    drawn = hashlib.sha256(f"{seed}:{address.lower()}".encode()).digest()
    anchors = [each[0] for each in _ANCHOR.finditer(mail.html) if "ses:no-track" not in each[0]]
    links = [href[1] for each in anchors if (href := _HREF.search(each))]
    if drawn[0] < 64:  # a quarter: a scanner, flagged since 2026-08 [facts]
        yield _seen(mail, "Open", 3, "Likely", "203.0.113.7")
        if links:
            yield _seen(mail, "Click", 4, "Likely", "203.0.113.7", links[0])
    flag = None if drawn[1] < 32 else "Unlikely"  # some records have no flag
    if drawn[2] < 128:
        yield _seen(mail, "Open", 3600, flag, "198.51.100.4")
        if drawn[3] < 64:
            yield _seen(mail, "Open", 7200, flag, "198.51.100.4")
    if drawn[4] < 64 and links:  # a click needs no open: images may be blocked
        yield _seen(mail, "Click", 5400, flag, "198.51.100.4", links[0])


def preferences(contact: Contact) -> Item:
    """[SES docs: Firehose contents, subscription object] in another spelling than the API's."""
    statuses = {"OPT_IN": "OptIn", "OPT_OUT": "OptOut"}
    topics = [
        {"topicName": each["TopicName"], "subscriptionStatus": statuses[each["SubscriptionStatus"]]}
        for each in contact.topic_preferences
    ]
    return {"unsubscribeAll": contact.unsubscribe_all, "topicSubscriptionStatus": topics}


def subscription(mail: Mail, at: float, before: Item, after: Item) -> Item:
    """The record of a change of preferences by a link of a mail."""
    about = {"contactList": mail.contact_list, "timestamp": _text(at), "source": "UnsubscribeFooter"}
    changed = {"newTopicPreferences": after, "oldTopicPreferences": before}
    return _record(mail, "Subscription", "subscription", about | changed)


def _seen(mail: Mail, kind: str, seconds: float, flag: str | None, address: str, link: str | None = None) -> Item:
    about: Item = {"timestamp": _text(mail.at + seconds), "ipAddress": address, "userAgent": "Mozilla/5.0 (emulated)"}
    about |= {"isBotEvent": flag} if flag else {}
    about |= {"link": link, "linkTags": None} if link else {}
    return _record(mail, kind, kind.lower(), about)


def _bounce(mail: Mail, address: str, kind: str, detail: str, seconds: float = 1) -> Item:
    person = {"emailAddress": address}
    if kind == "Permanent":  # [SES docs: bounce object] of a delivery status notification only
        person |= {"action": "failed", "status": "5.1.1", "diagnosticCode": f"550 <{address}>"}
    about = {"bounceType": kind, "bounceSubType": detail, "bouncedRecipients": [person], "reportingMTA": "dsn; a8-1"}
    times = {"timestamp": _text(mail.at + seconds), "feedbackId": f"bounce-{mail.message_id}"}
    return _record(mail, "Bounce", "bounce", times | about)


def _complaint(mail: Mail, address: str, kind: Item) -> Item:
    times = {"timestamp": _text(mail.at + 600), "feedbackId": f"complaint-{mail.message_id}"}
    return _record(mail, "Complaint", "complaint", times | {"complainedRecipients": [{"emailAddress": address}]} | kind)


def _record(mail: Mail, kind: str, name: str, about: Item) -> Item:
    tags = {tag["Name"]: [tag["Value"]] for tag in mail.tags}
    tags |= {"ses:configuration-set": [mail.configuration_set], "ses:from-domain": [mail.sender.rpartition("@")[2]]}
    described = {
        "timestamp": _text(mail.at),
        "source": mail.sender,
        "messageId": mail.message_id,
        "destination": mail.recipients,
        "headersTruncated": False,
        "headers": [
            {"name": "To", "value": ", ".join(mail.to)},
            {"name": "Subject", "value": mail.subject},
            *({"name": each["Name"], "value": each["Value"]} for each in mail.headers),
        ],
        "commonHeaders": {"from": [mail.sender], "to": mail.to, "messageId": mail.message_id, "subject": mail.subject},
        "tags": tags,
    }
    return {"eventType": kind, "mail": described, name: about}


def _simulated(address: str) -> str:
    local, _, domain = address.lower().partition("@")
    return _SIMULATED.get(local.partition("+")[0], "") if domain == SIMULATOR else ""


def _text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
