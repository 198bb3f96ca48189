"""Events as SES publishes them, in the form of its documentation's examples."""

from __future__ import annotations

import json
from typing import Any

ADDRESS = "p001@example.com"
AGENT = {"ipAddress": "192.0.2.1", "userAgent": "Mozilla/5.0 (a player's)"}


def mail(message_id: str = "m1", launch: str | None = "launch", row: str = "0-1-0", **changes: Any) -> dict[str, Any]:
    tags = {"ses:configuration-set": ["cohort-flywheel"], "ses:source-ip": ["192.0.2.9"]}
    ours = {"launch": [launch], "row": [row]} if launch else {}
    return {
        "timestamp": "2026-11-21T10:00:00.000Z",
        "messageId": message_id,
        "source": "Studio <play@studio.example>",
        "sendingAccountId": "123456789012",
        "destination": [ADDRESS],
        "headersTruncated": False,
        "headers": [{"name": "To", "value": ADDRESS}],
        "commonHeaders": {"to": [ADDRESS], "subject": "We miss you, Jo"},
        "tags": tags | ours,
    } | changes


def event(kind: str, of: dict[str, Any] | None = None, **about: Any) -> dict[str, Any]:
    """An event; its own timestamp is five minutes after the mail's, unless its type has none."""
    at = {"timestamp": "2026-11-21T10:05:00.000Z"}
    person = [{"emailAddress": ADDRESS}]
    names: dict[str, tuple[str, dict[str, Any]]] = {
        "Send": ("send", {}),
        "Reject": ("reject", {"reason": "Bad content"}),
        "Rendering Failure": ("failure", {"errorMessage": "Attribute 'FirstName' is not present", "templateName": "t"}),
        "Delivery": ("delivery", at | {"recipients": [ADDRESS], "smtpResponse": "250 ok", "processingTimeMillis": 9}),
        "DeliveryDelay": ("deliveryDelay", at | {"delayType": "MailboxFull", "delayedRecipients": person}),
        "Bounce": (
            "bounce",
            at
            | {
                "bounceType": "Permanent", "bounceSubType": "General", "feedbackId": "f1", "reportingMTA": "dsn; a",
                "bouncedRecipients": [{"emailAddress": ADDRESS, "status": "5.1.1", "diagnosticCode": ADDRESS}],
            },
        ),
        "Complaint": (
            "complaint", at | {"complainedRecipients": person, "feedbackId": "f2", "complaintFeedbackType": "abuse"}
        ),
        "Open": ("open", at | AGENT),
        "Click": ("click", at | AGENT | {"link": "https://studio.example/play?player=p001#x", "linkTags": None}),
        "Subscription": (
            "subscription",
            at
            | {
                "contactList": "players", "source": "UnsubscribeHeader",
                "newTopicPreferences": {"unsubscribeAll": True, "topicSubscriptionStatus": []},
                "oldTopicPreferences": {"unsubscribeAll": False, "topicSubscriptionStatus": []},
            },
        ),
    }  # fmt: skip
    name, defaults = names[kind]
    return {"eventType": kind, "mail": of or mail(), name: defaults | about}


def line(*events: dict[str, Any], end: str = "\n") -> bytes:
    """Records as Firehose writes them, each with a newline after it unless `end` is another."""
    return "".join(json.dumps(each) + end for each in events).encode()
