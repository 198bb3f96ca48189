"""A campaign, its states, and the e-mails that it sent."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from local.qconnect.templates import Snapshot

# [strict] The documentation does not say which of a profile's addresses is mailed: the first in this order.
_ADDRESSES = ("EmailAddress", "PersonalEmailAddress", "BusinessEmailAddress")
# [Connect guide: create campaigns] 'a recipient with email address "jane.doe@abc!com" is not valid and will not be
# processed'.
_EMAIL = re.compile(r"[^\s@,;]+@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z0-9-]+")


@dataclass
class Campaign:
    id: str
    arn: str
    request: dict[str, Any]
    starts: float  # the schedule's, epoch seconds
    ends: float
    started: float | None = None
    expanded: float | None = None
    seconds: float = 0.0
    doomed: bool = False
    fails_with: str = "half"
    stopped: float | None = None
    mails: list[dict[str, Any]] = field(default_factory=list)
    dropped: int = 0

    def of_instance(self, instance_id: str) -> bool:
        return bool(self.request["connectInstanceId"] == instance_id)

    def state(self, now: float) -> str:
        """[shape CampaignState]; [strict] Completed when all recipients were mailed or the schedule ends."""
        if self.started is None:
            return "Initialized"
        if self.stopped is not None:
            return "Stopped"
        over = self.expanded is not None and now >= self.expanded + self.seconds
        if over and self.doomed:
            return "Failed"
        return "Completed" if over or now >= self.ends else "Running"

    def sent(self, now: float) -> list[dict[str, Any]]:
        """The e-mails sent so far: one after the other while the campaign runs."""
        if self.expanded is None:
            return []
        until = min(self.stopped if self.stopped is not None else now, self.ends)
        share = 1.0 if not self.seconds else max(0.0, min(1.0, (until - self.expanded) / self.seconds))
        if self.doomed:
            # [strict] A campaign that Failed may have mailed some.
            share = min(share, 0.5) if self.fails_with == "half" else 0.0
        return self.mails[: math.ceil(len(self.mails) * share)]

    def expand(self, members: Iterable[dict[str, Any]], template: Snapshot, now: float) -> None:
        """Write a mail for each profile that has an address.

        [Connect guide: create campaigns] "Recipients with incorrect or invalid endpoints are dropped". [strict] Two
        profiles of one address are two mails.
        """
        email = self.request["channelSubtypeConfig"]["email"]["defaultOutboundConfig"]
        for profile in members:
            address = next((profile[name] for name in _ADDRESSES if name in profile), "")
            if not _EMAIL.fullmatch(address):
                self.dropped += 1
                continue
            values = profile_values(profile)
            self.mails.append(
                {
                    "ProfileId": profile["ProfileId"],
                    "AccountNumber": profile.get("AccountNumber"),
                    "Address": address,
                    "From": email["connectSourceEmailAddress"],
                    "TemplateArn": email["wisdomTemplateArn"],
                    "Missing": template.missing(values),
                }
                | template.render(values)
            )
        self.expanded = now

    def document(self) -> dict[str, Any]:
        """[shape Campaign]"""
        return {"id": self.id, "arn": self.arn} | self.request

    def summary(self) -> dict[str, Any]:
        """[shape CampaignSummary]"""
        kept = ("name", "connectInstanceId", "type", "schedule", "entryLimitsConfig", "connectCampaignFlowArn")
        found = {name: self.request[name] for name in kept if name in self.request}
        return {"id": self.id, "arn": self.arn, "channelSubtypes": ["EMAIL"]} | found


def profile_values(profile: dict[str, Any]) -> dict[str, str]:
    """A profile's attributes as variables of a template call them.

    [Connect guide: personalize templates] `Attributes.Customer.FirstName`; [Pinpoint docs: end of support]
    `Attributes.Customer.Attributes.PurchaseHistory`; [shape CustomerProfileAttributes] an address is `City`, a shipping
    address `ShippingCity`.
    """
    found: dict[str, str] = {}
    for name, value in profile.items():
        if name == "Attributes":
            found |= {f"Attributes.Customer.Attributes.{key}": text for key, text in value.items()}
        elif isinstance(value, dict):
            prefix = name.removesuffix("Address")
            found |= {f"Attributes.Customer.{prefix}{key}": text for key, text in value.items()}
        else:
            found[f"Attributes.Customer.{name}"] = value
    return found
