"""The file of a Pinpoint import job.

Source of the rules: the Amazon Pinpoint user guide, "Importing segments" and "Amazon Pinpoint quotas".
"""

from __future__ import annotations

import re

from cohort_flywheel.runs.names import endpoint_id
from cohort_flywheel.segment.contacts import Contact
from cohort_flywheel.segment.segment_file import Layout

CHANNEL = "EMAIL"

#: 1 GB per job. It is not documented whether a second job adds to the segment or replaces it.
MAX_BYTES = 1_000_000_000
MAX_ENDPOINT_BYTES = 15_000
MAX_VALUE_CHARACTERS = 100

#: No line breaks or tabs inside a value; read strictly: no control character, no Unicode line break, and no half of a
#: surrogate pair (which is not UTF-8).
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def header(columns: list[str]) -> list[str]:
    """Return the seed's five columns in its order and case, the stable Id, then the attributes.

    There is no OptOut column: an import never opts an endpoint in again.
    """
    first, last, *rest = columns
    user = "User.UserAttributes."
    names = [user + name for name in rest]
    return ["ChannelType", "Address", "User.UserId", user + first, user + last, "Id", *names]


def row(contact: Contact) -> list[str]:
    """The cells of one contact, in the order of the header."""
    first, last, *rest = contact.attributes.values()
    player_id = contact.player_id
    return [CHANNEL, contact.address, player_id, first, last, endpoint_id(CHANNEL, player_id), *rest]


def refused_column(contact: Contact) -> str | None:
    """The first attribute whose value Pinpoint would refuse, or None."""
    text = "".join((contact.player_id, *contact.attributes.values()))
    if len(text) > MAX_VALUE_CHARACTERS or not text.isprintable():  # one of them may be at fault
        if _REFUSED.search(contact.player_id):
            return "playerId"
        for column, value in contact.attributes.items():
            if len(value) > MAX_VALUE_CHARACTERS or _REFUSED.search(value):
                return column
    characters = len(text) + len("".join((contact.address, *contact.attributes)))
    if 4 * characters < MAX_ENDPOINT_BYTES // 2:
        return None  # a character has at most four bytes, and the names of the columns need less than the other half
    # read strictly: the names of the attributes count as their values do
    names = header(list(contact.attributes))
    if sum(len(text.encode()) for text in (*names, *row(contact))) > MAX_ENDPOINT_BYTES:
        cells = {"playerId": contact.player_id, **contact.attributes}
        return max(cells, key=lambda column: len(cells[column].encode()))
    return None


LAYOUT = Layout(MAX_BYTES, header, row, refused_column)
