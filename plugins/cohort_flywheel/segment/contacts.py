"""Classify each member by its contact record: a contact, or a reject with a reason."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from decimal import Decimal
from typing import Literal, NamedTuple

import email_validator
from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES

from cohort_flywheel.campaign.email_template import first_missing_column, is_blank
from cohort_flywheel.config.attribute_paths import AttributePath, has_maps_above, path_text, value_at
from cohort_flywheel.config.cohorts import Consent
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.config.decimals import number_text
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.segment.list_entries import normal_form, read_entry
from cohort_flywheel.segment.members import Member

#: The Cohort Modeler's names.
_MODELERS = DataSchema()

#: Why a member is not a row of the segment file. `Reject.column` names the attribute at fault, if there is one.
REASONS = {
    "do_not_contact": "the playerId or the address is on the do-not-contact list",
    "bounced": "an e-mail to the address bounced: it cannot be reached",
    "complained": "the player, or a reader at the address, complained about an e-mail",
    "unsubscribed": "the player, or a reader at the address, unsubscribed by an e-mail",
    "no_record": "the contacts table has no record of the player",
    "opted_out": "the record says opted out, or has no value and silence means opted out",
    "no_address": "the record has no address",
    "bad_address": "the address is not valid",
    "bad_value": "the destination refuses a value of the record",
    "missing_value": "the campaign's mail needs a value that the record does not have",
    "recently_mailed": "the campaign's mail was sent to the player within not_again_days",
    "holdout": "the player is in the share that no campaign mails",
    "launch_holdout": "the player is in the share that this launch does not mail",
}

#: The data faults, which `max_reject_percent` counts; the others are choices, or what became of earlier e-mails.
DATA_FAULTS = ("no_record", "no_address", "bad_address", "bad_value", "missing_value")

#: Addresses that do not need the library, whose check takes longer than all other work for a member: up to this
#: length, so that no part of one is too long. Hyphens only inside a label, and never two together: the library checks
#: Punycode (`xn--`) and all other addresses.
_PLAIN = re.compile(r"([\w+-]++(?:\.[\w+-]++)*+)@((?:[A-Za-z0-9]++(?:-[A-Za-z0-9]++)*+\.)+[A-Za-z]{2,})", re.ASCII)
_PLAIN_CHARACTERS = 64
#: Exceptions that match _PLAIN: local parts whose case the library changes, and domains that it refuses.
_ROLES = frozenset(CASE_INSENSITIVE_MAILBOX_NAMES)
_SPECIAL_USE = tuple(f".{name}" for name in email_validator.SPECIAL_USE_DOMAIN_NAMES)

#: Returns whether a text is on the do-not-contact list.
type Listed = Callable[[str], bool]
#: Returns why an address or a playerId is suppressed, or None.
type Suppressed = Callable[[Literal["address", "player"], str], str | None]


class Contact(NamedTuple):
    """A member who may be mailed. `attributes` are text by column name, empty if the record has no value."""

    player_id: str
    address: str
    attributes: dict[str, str]


class Reject(NamedTuple):
    """A member who is not a row of the segment file, and the reason. Never holds the value at fault."""

    player_id: str
    reason: str
    column: str = ""


def projection(
    attributes: Mapping[str, AttributePath], consent: Consent | None, schema: DataSchema = _MODELERS
) -> list[AttributePath]:
    """The attributes of a record that a run reads."""
    names = [schema.address, *schema.name_columns.values(), *attributes.values()]
    return list(dict.fromkeys(names + ([consent.attribute] if consent else [])))


def lookup_paths(
    attributes: Mapping[str, AttributePath], consent: Consent | None, schema: DataSchema = _MODELERS
) -> list[AttributePath]:
    """What DynamoDB is asked for: the projection, and where silence means opted in, the whole map with the consent.

    For a path below a value that is not a map, such as JSON text, DynamoDB answers as if nothing were there: that is
    not silence.
    """
    paths = projection(attributes, consent, schema)
    if consent and consent.silence == "opted_in" and not isinstance(consent.attribute, str):
        paths.append(consent.attribute[0])
    return paths


def classify_member(
    member: Member,
    record: Mapping[str, object] | None,
    *,
    columns: Mapping[str, AttributePath],
    score_column: str | None,
    consent: Consent | None,
    do_not_contact: Listed | None,
    suppressed: Suppressed | None = None,
    schema: DataSchema = _MODELERS,
) -> Contact | Reject:
    """Return the contact or the reject of a member and its record (None: not found).

    `columns` has the attribute of each column but the score's. `do_not_contact` is called with each of
    `player_id_forms` and `address_forms`; it and `suppressed` are None for an empty list. `consent` None is `none`.
    """
    player_id = member.player_id
    if do_not_contact and any(map(do_not_contact, player_id_forms(player_id))):
        return Reject(player_id, "do_not_contact")
    if suppressed and (reason := suppressed("player", player_id)):
        return Reject(player_id, reason)
    if record is None:
        return Reject(player_id, "no_record")
    if consent and not has_consented(record, consent):
        return Reject(player_id, "opted_out", path_text(consent.attribute))
    raw = value_at(record, schema.address)
    if raw is None or raw == "":
        return Reject(player_id, "no_address", path_text(schema.address))
    address = plain_address(raw)
    if address is None:
        return Reject(player_id, "bad_address", path_text(schema.address))
    if do_not_contact and any(map(do_not_contact, address_forms(str(raw), address))):
        return Reject(player_id, "do_not_contact", path_text(schema.address))
    if suppressed and (reason := suppressed("address", address)):
        return Reject(player_id, reason, path_text(schema.address))
    values: dict[str, str] = {}
    for column, attribute in columns.items():
        value = record.get(attribute) if type(attribute) is str else value_at(record, attribute)
        text = value if type(value) is str else as_text(value)  # fast path: most values are text
        if text is None:
            return Reject(player_id, "bad_value", column)
        values[column] = "" if is_blank(text) else text  # a placeholder then takes its default
    if score_column:
        values[score_column] = number_text(member.score)
    return Contact(player_id, address, values)


def exclusion_reason(
    contact: Contact,
    *,
    defaults: Mapping[str, str | None],
    recently_mailed: Callable[[str], bool],
    holdout_percent: int,
    launch_holdout_percent: int = 0,
    launch: str = "",
) -> Reject | None:
    """Return a reject for a contact that the campaign or the holdout excludes, else None.

    `defaults` are the placeholders of the campaign's template with their defaults, empty without a campaign. The
    holdouts are checked last: they are shares of the contacts that would otherwise be mailed. `launch` is the run's
    name.
    """
    if column := first_missing_column(defaults, contact.attributes):
        return Reject(contact.player_id, "missing_value", column)
    if recently_mailed(contact.player_id):
        return Reject(contact.player_id, "recently_mailed")
    if is_held_out(contact.player_id, holdout_percent):
        return Reject(contact.player_id, "holdout")
    if is_held_out(contact.player_id, launch_holdout_percent, launch):
        return Reject(contact.player_id, "launch_holdout")
    return None


def is_held_out(player_id: str, percent: int, launch: str | None = None) -> bool:
    """Whether a player is in the holdout: by the playerId alone, so the same for each cohort, day and destination.

    With the run's name of a launch, whether the player is in the holdout of that launch, which no other decides. A
    player who is held out at one percentage is held out at every higher one.
    """
    drawn = "cohort-flywheel holdout" if launch is None else f"cohort-flywheel launch holdout\0{launch}"
    number = int.from_bytes(hashlib.sha256(f"{drawn}\0{player_id}".encode()).digest()[:8], "big")
    return number % 10_000 < percent * 100


def plain_address(raw: object) -> str | None:
    """Return the address in the form that every mail service accepts, or None if it is not valid.

    The local part is ASCII and the domain is in Punycode [Amazon SES: SMTPUTF8 is not supported].
    """
    if not isinstance(raw, str):
        return None
    if len(raw) <= _PLAIN_CHARACTERS and (plain := _PLAIN.fullmatch(raw)):
        local, domain = plain[1], plain[2].lower()
        if local.lower() not in _ROLES and not f".{domain}".endswith(_SPECIAL_USE):
            return f"{local}@{domain}"
    try:
        return email_validator.validate_email(
            raw, check_deliverability=False, allow_smtputf8=False, strict=True
        ).ascii_email
    except email_validator.EmailNotValidError:
        return None


def normalize_entry(entry: str) -> str:
    """Return an entry of the do-not-contact list without case and surrounding blanks, for comparison."""
    return entry.strip().casefold()


def player_id_forms(player_id: str) -> set[str]:
    """The texts by which the do-not-contact list may name a playerId: unchanged, in its normal form, without case."""
    normal = normal_form(player_id)
    forms = {player_id, normal, normal.casefold()} if normal else {player_id}
    return forms | address_forms(player_id, plain_address(player_id)) if "@" in player_id else forms


def address_forms(raw: str, address: str | None) -> set[str]:
    """The texts by which the list may name an address: as in the record, and `address`, its plain form (or None)."""
    forms, normal = {normalize_entry(raw), normalize_entry(address or raw)}, normal_form(raw)
    if normal and normal != raw:
        forms |= {normalize_entry(normal), normalize_entry(plain_address(normal) or normal)}
    return forms


def player_forms(player_id: str, record: Mapping[str, object] | None, schema: DataSchema = _MODELERS) -> set[str]:
    """All texts by which the list may name a player."""
    raw = value_at(record, schema.address) if record else None
    known = address_forms(raw, plain_address(raw)) if isinstance(raw, str) and raw else set()
    return player_id_forms(player_id) | known


def as_text(value: object) -> str | None:
    """A DynamoDB value as the text of one cell, or None for a list, a map, a set or bytes."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | float() | Decimal():
            return f"{value:f}" if isinstance(value, Decimal) else str(value)
        case _:
            return None


def read_do_not_contact(lines: Iterable[bytes], first_line: int = 1) -> list[str]:
    """The entries of lines of the do-not-contact list, in every form that `classify_member` looks up."""
    return [form for number, line in enumerate(lines, first_line) for form in entry_forms(line, number)]


def entry_forms(line: bytes, number: int) -> set[str]:
    """A line of the do-not-contact list in every form that `classify_member` looks up; empty for a blank line.

    Raises FlywheelError, with the line number, if the line is not UTF-8, an address or a playerId.
    """
    try:
        entry = read_entry(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise FlywheelError(
            f"the do-not-contact list is not UTF-8 on line {number}: save it as UTF-8, an address or a playerId"
            " per line",
            code=Code.DO_NOT_CONTACT_LINE,
        ) from None
    if entry is None:
        raise FlywheelError(
            f"line {number} of the do-not-contact list is not an address or a playerId: write one of them, alone on"
            " the line; a whole domain is not an entry",
            code=Code.DO_NOT_CONTACT_LINE,
        )
    addresses = (form for each in entry.addresses for form in address_forms(each, plain_address(each)))
    return {*entry.texts, *map(str.casefold, entry.texts), *addresses}


class RecordCounts:
    """Counts the records found, and for each attribute the records without a value.

    A value is a text that is not empty, a number or a boolean.
    """

    def __init__(self, attributes: Iterable[AttributePath]) -> None:
        self.records = 0
        self._paths = {path_text(path): path for path in attributes}
        self.without = dict.fromkeys(self._paths, 0)

    def add(self, records: Collection[Mapping[str, object]]) -> None:
        self.records += len(records)
        for name, path in self._paths.items():
            values = [record.get(path) if type(path) is str else value_at(record, path) for record in records]
            self.without[name] += len([0 for value in values if not (value if type(value) is str else as_text(value))])


def has_consented(record: Mapping[str, object], consent: Consent) -> bool:
    """Return whether a record says yes; silence may mean yes."""
    value = value_at(record, consent.attribute)
    if value and type(value) is str and value in consent.opted_in:  # fast path: most answers are text
        return True
    text = as_text(value)
    if text == "":
        return consent.silence == "opted_in" and has_maps_above(record, consent.attribute)
    return text is not None and text in map(as_text, consent.opted_in)
