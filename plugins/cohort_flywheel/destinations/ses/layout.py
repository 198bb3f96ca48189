"""The segment file where mail goes out by Amazon SES, and the file that brings new contacts onto its contact list.

No import takes the segment file: it is itself the segment, and says who is mailed, in which order, with which
attributes. The contact list knows who has unsubscribed, so the file of an import names addresses and nothing else.

Source of the rules: the Amazon SES developer guide, "Using list management".
"""

from __future__ import annotations

import re

from cohort_flywheel.segment.contacts import Contact
from cohort_flywheel.segment.segment_file import Layout

#: What one object of S3 may have; a segment file's parts come nowhere near.
MAX_BYTES = 5 * 1024**4

#: As Pinpoint has it, so that a cohort has the same players wherever it goes.
MAX_VALUE_CHARACTERS = 100

#: One row is one line, and an attribute may stand in a mail's subject [strict]: no control character, no Unicode
#: line break, and no half of a surrogate pair (which is no UTF-8).
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def header(columns: list[str]) -> list[str]:
    """The address, the playerId, then the attributes under the names that a template calls them by."""
    return ["emailAddress", "playerId", *columns]


def row(contact: Contact) -> list[str]:
    """The cells of one contact, in the order of the header."""
    return [contact.address, contact.player_id, *contact.attributes.values()]


def refused_column(contact: Contact) -> str | None:
    """The first attribute whose value no mail should carry, or None."""
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
    """A new contact with consent. Never write one for a contact of the list: it replaces the record."""
    return [address, "false", "", "OPT_IN"]


def import_folder(segment_key: str) -> str:
    """Where the files of the imports of one segment file lie: `segments/<name>/` becomes `contacts/<name>/`.

    Apart from the segment files, so that SES may read these and no playerId.
    """
    return f"{IMPORT_FOLDER}{segment_key.rstrip('/').rpartition('/')[2]}/"


def import_file_name(index: int, digest: str) -> str:
    """Other bytes have another address, and so another import job."""
    return f"{index:04d}_{digest[:16]}.csv"


IMPORT_FOLDER = "contacts/"


LAYOUT = Layout(MAX_BYTES, header, row, refused_column)
