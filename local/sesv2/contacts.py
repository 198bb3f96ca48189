"""A contact list: its topics, contacts and subscriptions, and imports into it."""

import re
import time
from collections.abc import Iterator
from typing import Any

from moto.ses.models import Contact, ContactList

from .control import control
from .errors import AlreadyExistsError, BadRequestError, NotFoundError

Item = dict[str, Any]

MAX_TOPICS = 20  # [SES docs: list management] "A list can have a maximum of 20 topics."
# [asked] "can contain up to 64 characters. Only alphanumeric characters, underscores(_) and hyphens(-) are allowed."
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# [shape Destination] "the local part [...] may only contain 7-bit ASCII characters", and the domain is Punycode.
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_EMAIL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@(?:{_LABEL}\.)+{_LABEL}")


def is_address(text: str) -> bool:
    return _EMAIL.fullmatch(text) is not None


class FlywheelContact(Contact):
    """moto's contact, with timestamps as numbers and its position in listings."""

    def __init__(self, list_name: str, address: str, number: int, now: float) -> None:
        super().__init__(list_name, address, [], False, None)
        self.number = number
        self.created = self.updated = now

    def replace(self, record: Item, now: float) -> None:
        """Set all preferences of the contact; those that the record omits are cleared."""
        self.topic_preferences = record.get("TopicPreferences", [])
        self.unsubscribe_all = record.get("UnsubscribeAll", False)
        self.attributes_data = record.get("AttributesData")
        self.updated = now

    def preference(self, topic: str) -> str | None:
        found = [p["SubscriptionStatus"] for p in self.topic_preferences if p["TopicName"] == topic]
        return found[-1] if found else None


class FlywheelContactList(ContactList):
    """moto's list. Its contacts keep their order of creation."""

    contacts: dict[str, FlywheelContact]  # type: ignore[assignment]

    def __init__(self, name: str, description: str | None, topics: list[Item]) -> None:
        check_list(name, topics)
        super().__init__(name, description, topics)
        self.created = self.updated = time.time()
        self._numbered = 0

    # --- contacts

    def create_contact(self, contact_list_name: str, params: Item) -> None:
        self._check(params["EmailAddress"], params)
        if _key(params["EmailAddress"]) in self.contacts:
            raise AlreadyExistsError(f"{params['EmailAddress']} already exists in List.")
        self.put(params["EmailAddress"], params)

    def update_contact(self, email: str, params: Item) -> None:
        """[shape UpdateContact] "You must specify all existing topic preferences [...] otherwise, all your existing
        preferences will be removed". [strict] UnsubscribeAll and AttributesData go too if left out ([asked])."""
        self._check(email, params)
        self.get_contact(email).replace(params, time.time())

    def get_contact(self, email: str) -> FlywheelContact:
        contact = self.contacts.get(_key(email))
        if contact is None:
            raise NotFoundError(f"{email} doesn't exist in List.")
        return contact

    def delete_contact(self, email: str) -> None:
        self.get_contact(email)
        del self.contacts[_key(email)]

    def has(self, email: str) -> bool:
        return _key(email) in self.contacts

    def put(self, address: str, record: Item) -> FlywheelContact:
        """[shape ContactListImportAction] "If the record already exists, it will override it with the new value":
        consent included."""
        key, now = _key(address), time.time()
        if key not in self.contacts:
            self._numbered += 1
            self.contacts[key] = FlywheelContact(self.contact_list_name, address, self._numbered, now)
        self.contacts[key].replace(record, now)
        return self.contacts[key]

    def after(self, number: int) -> Iterator[FlywheelContact]:
        """The contacts that come after this one in a listing."""
        return (contact for contact in self.contacts.values() if contact.number > number)

    def _check(self, address: str, params: Item) -> None:
        if not is_address(address):
            raise BadRequestError(f"EmailAddress <{address}> is invalid")
        for preference in params.get("TopicPreferences", []):
            if self.default_of(preference["TopicName"]) is None:
                raise BadRequestError(f"List: {self.contact_list_name} doesn't contain Topic: a preference's.")

    # --- who is subscribed

    def default_of(self, topic: str) -> str | None:
        """A topic's default status, or None if the list does not have the topic."""
        found = [t["DefaultSubscriptionStatus"] for t in self.topics if t["TopicName"] == topic]
        return found[0] if found else None

    def may_be_mailed(self, contact: FlywheelContact, topic: str | None) -> bool:
        """[SES docs: subscription management] "If a contact unsubscribes from a particular topic or list, Amazon SES
        does not allow email sending to the contact for that topic or list". [strict] A topic's default counts too."""
        if contact.unsubscribe_all:
            return False
        return topic is None or (contact.preference(topic) or self.default_of(topic)) == "OPT_IN"

    def unsubscribe(self, address: str, topic: str | None) -> None:
        """[SES docs: subscription management] With a topic "unsubscribed only from that specific topic", without one
        "from all the topics in the list"."""
        contact = self.get_contact(address)
        if topic is None:
            contact.unsubscribe_all = True
        else:
            if self.default_of(topic) is None:
                raise BadRequestError("The list does not have this topic.")
            others = [p for p in contact.topic_preferences if p["TopicName"] != topic]
            contact.topic_preferences = [*others, {"TopicName": topic, "SubscriptionStatus": "OPT_OUT"}]
        contact.updated = time.time()

    def subscribe(self, address: str, topic: str | None) -> None:
        """[SES docs: subscription management] The page of preferences: opts in to a topic, and to the list."""
        contact = self.get_contact(address)
        contact.unsubscribe_all = False
        if topic is not None:
            others = [p for p in contact.topic_preferences if p["TopicName"] != topic]
            contact.topic_preferences = [*others, {"TopicName": topic, "SubscriptionStatus": "OPT_IN"}]
        contact.updated = time.time()

    def passes(self, contact: FlywheelContact, chosen: Item) -> bool:
        """[SES docs: list management] Applies UseDefaultIfPreferenceUnavailable. [strict] A contact unsubscribed from
        all is opted out of every topic; without a topic, that alone is what counts."""
        wanted = chosen.get("FilteredStatus")
        if wanted is None:
            return True
        by_topic = chosen.get("TopicFilter", {})
        topic = by_topic.get("TopicName")
        status = "OPT_IN" if topic is None else contact.preference(topic)
        if status is None and by_topic.get("UseDefaultIfPreferenceUnavailable", False):
            status = self.default_of(topic)
        return ("OPT_OUT" if contact.unsubscribe_all else status) == wanted

    # --- response documents

    def details(self) -> Item:
        """[shape GetContactListResponse]"""
        return self.summary() | {
            "Topics": self.topics,
            "Description": self.description,
            "CreatedTimestamp": self.created,
        }

    def summary(self) -> Item:
        """[shape ContactList]: a listing has fewer members than GetContactList."""
        return {"ContactListName": self.contact_list_name, "LastUpdatedTimestamp": self.updated}

    def contact_details(self, contact: FlywheelContact) -> Item:
        """[shape GetContactResponse]"""
        return self.contact_summary(contact) | {
            "ContactListName": self.contact_list_name,
            "AttributesData": contact.attributes_data,
            "CreatedTimestamp": contact.created,
        }

    def contact_summary(self, contact: FlywheelContact) -> Item:
        """[shape Contact]: without AttributesData. [asked] The defaults are those of topics without a preference."""
        unset = [t for t in self.topics if contact.preference(t["TopicName"]) is None]
        return {
            "EmailAddress": contact.email_address,
            "TopicPreferences": contact.topic_preferences,
            "TopicDefaultPreferences": [
                {"TopicName": t["TopicName"], "SubscriptionStatus": t["DefaultSubscriptionStatus"]} for t in unset
            ],
            "UnsubscribeAll": contact.unsubscribe_all,
            "LastUpdatedTimestamp": contact.updated,
        }


def check_list(name: str, topics: list[Item]) -> None:
    names = [topic["TopicName"] for topic in topics]
    if any(_NAME.fullmatch(word) is None for word in (name, *names)):
        raise BadRequestError("A list's and a topic's name have 1 to 64 characters of A-Z, a-z, 0-9, _ and -.")
    if len(names) > MAX_TOPICS:
        raise BadRequestError(f"Maximum of <{MAX_TOPICS}> topics allowed per ContactList")
    if len(set(names)) != len(names):
        raise BadRequestError("Duplicate topic names are not allowed within a List.")


def _key(address: str) -> str:
    """[strict] Whether two addresses that differ in case are one contact is not documented: by default they are, so
    that an import of one overrides the other's consent; address_case keep makes two of them."""
    return address.lower() if control.settings.address_case == "fold" else address
