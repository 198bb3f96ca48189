"""The segment file of Amazon SES, and the import file of new contacts.

The segment file is not imported: it is the segment itself, with the players to mail, in order, with their attributes.
The contact list has the unsubscribed players, so an import file has only addresses.

Source of the rules: the Amazon SES developer guide, "Using list management".
"""

from __future__ import annotations

import re

from cohort_flywheel.segment.contacts import Contact
from cohort_flywheel.segment.segment_file import Layout

#: The maximum size of an S3 object; the parts of a segment file are much smaller.
MAX_BYTES = 5 * 1024**4

#: The limit of Pinpoint, so that a cohort has the same players at every destination.
MAX_VALUE_CHARACTERS = 100

#: One row is one line, and an attribute can be in the subject of a mail [strict]: no control character, no Unicode line
#: break, and no half of a surrogate pair (which is not UTF-8).
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def header(columns: list[str]) -> list[str]:
    """The address, the playerId, then the attributes under the names of the placeholders."""
    return ["emailAddress", "playerId", *columns]


def row(contact: Contact) -> list[str]:
    """The cells of one contact, in the order of the header."""
    return [contact.address, contact.player_id, *contact.attributes.values()]


def refused_column(contact: Contact) -> str | None:
    """The first attribute with a value that a mail must not contain, or None."""
    text = "".join((contact.player_id, *contact.attributes.values()))
    if len(text) <= MAX_VALUE_CHARACTERS and text.isprintable():
        return None  # true of most contacts
    if _REFUSED.search(contact.player_id):
        return "playerId"
    for column, value in contact.attributes.items():
        if len(value) > MAX_VALUE_CHARACTERS or _REFUSED.search(value):
            return column
    return None


def import_header(topic: str) -> list[str]:
    """The first line of an import's file."""
    return ["emailAddress", "unsubscribeAll", "attributesData", f"topicPreferences.{topic}"]


def import_row(address: str) -> list[str]:
    """A new contact with consent. Do not write one for an existing contact: it would replace the record."""
    return [address, "false", "", "OPT_IN"]


def import_folder(segment_key: str) -> str:
    """The folder of the import files of one segment file: `segments/<name>/` becomes `contacts/<name>/`.

    It is separate from the segment files, so that SES may read it without reading playerIds.
    """
    return f"{IMPORT_FOLDER}{segment_key.rstrip('/').rpartition('/')[2]}/"


def import_file_name(index: int, digest: str) -> str:
    """A file name with the digest: other bytes have another address, and so another import job."""
    return f"{index:04d}_{digest[:16]}.csv"


IMPORT_FOLDER = "contacts/"


LAYOUT = Layout(MAX_BYTES, header, row, refused_column)
