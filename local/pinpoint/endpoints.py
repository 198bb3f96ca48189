"""The endpoints of one application: validation and updates.

Error texts hold no values: an address or a name never reaches a log or a list of failures.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from . import shapes
from .naming import derived_id, iso_now

Item = dict[str, Any]

# [Pinpoint docs: quotas] for all of these. A 16th endpoint of a user is refused [strict].
MAX_ENDPOINT_BYTES = 15 * 1024
MAX_ENDPOINTS_PER_USER = 15
MAX_ATTRIBUTE_NAME = 50
MAX_ATTRIBUTE_VALUE = 100
MAX_VALUES = 50
MAX_ATTRIBUTES_PER_APP = 250

# [shape EndpointBatchItem.Address] "use a phone number in E.164 format": a plus sign and at most 15 digits.
_E164 = re.compile(r"\+[1-9][0-9]{1,14}")
# [shape EndpointBatchItem.Address] "For the email channel, use an email address". [strict] ASCII on both sides of
# the @: Amazon SES, which does Pinpoint's mailing, has no SMTPUTF8 (botocore's model of sesv2, shape Destination).
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_EMAIL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+{_LABEL}")
# [shape EndpointBatchItem.Attributes] "avoid using the following characters". [strict] They are refused.
_BAD_IN_NAME = re.compile(r"[#:?\\/]")
# [shape UpdateEndpointRequest.EndpointId] "The identifier can't contain $, { or }."
_BAD_IN_ID = re.compile(r"[${}]")


class EndpointError(ValueError):
    """An endpoint that Pinpoint would reject; the text says why."""


def attribute_name_fault(name: str) -> str | None:
    """What is wrong with the name of a custom attribute or metric [shape EndpointBatchItem.Attributes]."""
    if not 1 <= len(name) <= MAX_ATTRIBUTE_NAME:
        return f"an attribute's name must have 1 to {MAX_ATTRIBUTE_NAME} characters"
    if _BAD_IN_NAME.search(name):
        return "an attribute's name must not contain # : ? \\ or /"
    return None


def key_of(endpoint_id: str) -> str:
    """[shape UpdateEndpointRequest.EndpointId] "The case insensitive unique identifier for the endpoint"."""
    return endpoint_id.lower()


class EndpointBook:
    """All endpoints of an application, found by id, by user and by address."""

    def __init__(self, application_id: str) -> None:
        self.application_id = application_id
        self.by_key: dict[str, Item] = {}
        self._of_user: dict[str, set[str]] = defaultdict(set)
        self._of_address: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._attribute_names: set[str] = set()
        self._chosen = 0

    def choose_id(self) -> str:
        """A new generated id."""
        self._chosen += 1
        return derived_id(self.application_id, "endpoint", self._chosen)

    def get(self, endpoint_id: str) -> Item | None:
        return self.by_key.get(key_of(endpoint_id))

    def of_user(self, user_id: str) -> list[Item]:
        return [self.by_key[key] for key in sorted(self._of_user.get(user_id, ()))]

    def judge(self, endpoint_id: str, update: Item) -> Item:
        """Return the endpoint after this update; raises EndpointError if it is invalid."""
        if not endpoint_id or _BAD_IN_ID.search(endpoint_id):
            raise EndpointError("An Id must not be empty, nor contain $, { or }.")
        endpoint = _merged(self.get(endpoint_id) or self._new(endpoint_id), update)
        _check(endpoint)
        user = endpoint.get("User", {}).get("UserId")
        if user is not None and len(self._of_user.get(user, set()) - {key_of(endpoint_id)}) >= MAX_ENDPOINTS_PER_USER:
            raise EndpointError(f"The user already has {MAX_ENDPOINTS_PER_USER} endpoints, which is the limit.")
        new_names = _attribute_names(update) - self._attribute_names
        if len(self._attribute_names) + len(new_names) > MAX_ATTRIBUTES_PER_APP:
            raise EndpointError(f"The application would have more than {MAX_ATTRIBUTES_PER_APP} attributes.")
        return endpoint

    def put(self, endpoint_id: str, update: Item) -> Item:
        """Register a new endpoint or update the one with this id."""
        endpoint = self.judge(endpoint_id, update)
        self.delete(endpoint_id)
        key = key_of(endpoint_id)
        self.by_key[key] = endpoint
        self._attribute_names.update(_attribute_names(update))
        if user := endpoint.get("User", {}).get("UserId"):
            self._of_user[user].add(key)
        # [shape EndpointBatchItem.EndpointStatus] "automatically sets this value to INACTIVE if you update another
        # endpoint that has the same address". OptOut stays with each endpoint: an opt-out on the old one remains there.
        same_address = self._of_address[(endpoint["ChannelType"], endpoint["Address"])]
        for other in same_address:
            self.by_key[other]["EndpointStatus"] = "INACTIVE"
        same_address.add(key)
        return endpoint

    def delete(self, endpoint_id: str) -> Item | None:
        key = key_of(endpoint_id)
        endpoint = self.by_key.pop(key, None)
        if endpoint is not None:
            self._of_user[endpoint.get("User", {}).get("UserId", "")].discard(key)
            self._of_address[(endpoint["ChannelType"], endpoint["Address"])].discard(key)
        return endpoint

    def _new(self, endpoint_id: str) -> Item:
        # A new endpoint has not opted out [shape EndpointResponse.OptOut: NONE, the user hasn't opted out].
        return {
            "Id": endpoint_id,
            "ApplicationId": self.application_id,
            "CohortId": str(int(derived_id(endpoint_id), 16) % 100),
            "CreationDate": iso_now(),
            "OptOut": "NONE",
        }


def _merged(endpoint: Item, update: Item) -> Item:
    """Merge the update's members into the endpoint; other members are unchanged.

    [shape UpdateEndpoint] "If an update includes one or more values for a custom attribute, Amazon Pinpoint replaces
    (overwrites) any existing values": the values of that attribute, not the other attributes.
    """
    result = dict(endpoint)
    for name, value in update.items():
        if name == "Id":
            continue
        if name == "User":
            attributes = {
                **endpoint.get("User", {}).get("UserAttributes", {}),
                **value.get("UserAttributes", {}),
            }
            value = {**endpoint.get("User", {}), **value} | ({"UserAttributes": attributes} if attributes else {})
        elif isinstance(value, dict):
            value = {**endpoint.get(name, {}), **value}
        result[name] = value
    # [shape EndpointBatchItem.EndpointStatus] "automatically sets this value to ACTIVE when you create or update".
    return result | {"EffectiveDate": iso_now(), "EndpointStatus": "ACTIVE"}


def _check(endpoint: Item) -> None:
    # [Pinpoint docs: importing segments] A new endpoint needs Address and ChannelType.
    for name in ("ChannelType", "Address"):
        if not endpoint.get(name):
            raise EndpointError(f"A new endpoint needs {name}.")
    channel, address = endpoint["ChannelType"], endpoint["Address"]
    channels = shapes.shape("ChannelType").enum
    if channel not in channels:
        raise EndpointError(f"ChannelType must be one of {', '.join(channels)}.")
    if channel == "EMAIL" and not (_EMAIL.fullmatch(address) and len(address) <= 254):
        raise EndpointError("Address is not an e-mail address.")
    if channel in ("SMS", "VOICE") and not _E164.fullmatch(address):
        raise EndpointError("Address is not a phone number in E.164 format.")
    # [shape EndpointBatchItem.OptOut] "Possible values are: ALL [...] and, NONE".
    if endpoint["OptOut"] not in ("ALL", "NONE"):
        raise EndpointError("OptOut must be ALL or NONE.")
    _check_attributes(endpoint)
    if len(json.dumps(endpoint, ensure_ascii=False).encode()) > MAX_ENDPOINT_BYTES:
        raise EndpointError(f"An endpoint must not be larger than {MAX_ENDPOINT_BYTES} bytes.")


def _check_attributes(endpoint: Item) -> None:
    for name, values in _attributes(endpoint):
        if fault := attribute_name_fault(name):
            raise EndpointError(f"{fault[0].upper()}{fault[1:]}.")
        if len(values) > MAX_VALUES:
            raise EndpointError(f"An attribute must not have more than {MAX_VALUES} values.")
        if any(len(value) > MAX_ATTRIBUTE_VALUE for value in values):
            raise EndpointError(f"An attribute's value must not have more than {MAX_ATTRIBUTE_VALUE} characters.")


def _attributes(endpoint: Item) -> Iterator[tuple[str, list[str]]]:
    yield from endpoint.get("Attributes", {}).items()
    yield from endpoint.get("User", {}).get("UserAttributes", {}).items()
    yield from ((name, []) for name in endpoint.get("Metrics", {}))


def _attribute_names(update: Item) -> set[str]:
    """[strict] Attributes, user attributes and metrics count together towards the limit of an application."""
    return {
        *(f"Attributes.{name}" for name in update.get("Attributes", {})),
        *(f"User.UserAttributes.{name}" for name in update.get("User", {}).get("UserAttributes", {})),
        *(f"Metrics.{name}" for name in update.get("Metrics", {})),
    }
