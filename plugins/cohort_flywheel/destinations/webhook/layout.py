"""The segment file of the webhook destination, and the messages that are made of it.

Source of the rules: docs/reference/webhook.md.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from cohort_flywheel.segment.contacts import Contact
from cohort_flywheel.segment.segment_file import Layout

#: The limit of one S3 object: the segment file is sent in batches, so that the receiver sets no limit to it.
MAX_BYTES = 5 * 1024**4
#: The size of a batch that is tried first; a receiver that answers 413 gets smaller ones.
BATCH_BYTES = 1_000_000
#: The same as at the other destinations, so that a cohort has the same players at all of them.
MAX_VALUE_CHARACTERS = 100
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def header(columns: list[str]) -> list[str]:
    """The address, the playerId, then the attributes."""
    return ["emailAddress", "playerId", *columns]


def row(contact: Contact) -> list[str]:
    """The cells of one contact, in the order of the header."""
    return [contact.address, contact.player_id, *contact.attributes.values()]


def refused_column(contact: Contact) -> str | None:
    """The first column with a value that is too long or has a control character, or None."""
    text = "".join((contact.player_id, *contact.attributes.values()))
    if len(text) <= MAX_VALUE_CHARACTERS and text.isprintable():
        return None  # true of most contacts
    if _REFUSED.search(contact.player_id):
        return "playerId"
    for column, value in contact.attributes.items():
        if len(value) > MAX_VALUE_CHARACTERS or _REFUSED.search(value):
            return column
    return None


LAYOUT = Layout(MAX_BYTES, header, row, refused_column)


# --- messages: one line of JSON each


def member_message(columns: Sequence[str], cells: Sequence[str]) -> bytes:
    """The message of a row of the segment file: the player is a member of the segment."""
    address, player_id, *values = cells
    attributes = dict(zip(columns[2:], values, strict=True))
    return _line({"type": "member", "playerId": player_id, "email": address, "attributes": attributes})


def leaver_message(player_id: str) -> bytes:
    """The message of a former member: the player is not a member any longer."""
    return _line({"type": "leaver", "playerId": player_id})


def erase_message(player_id: str) -> bytes:
    """The message of an erased player: the receiver deletes all that it has of the player."""
    return _line({"type": "erase", "playerId": player_id})


def _line(message: dict[str, object]) -> bytes:
    return orjson.dumps(message) + b"\n"


class Batch(NamedTuple):
    """Whole lines of NDJSON, as many as fit into a batch; a single line may be larger."""

    number: int
    lines: int
    body: bytes


def batches(path: Path, size: int) -> Iterator[Batch]:
    """Cut a file of messages into batches of at most `size` bytes, read one at a time."""
    number, lines, body = 0, 0, bytearray()
    with path.open("rb") as file:
        for line in file:
            if body and len(body) + len(line) > size:
                yield Batch(number, lines, bytes(body))
                number, lines, body = number + 1, 0, bytearray()
            body += line
            lines += 1
    if body:
        yield Batch(number, lines, bytes(body))


def import_id(content: str, upload: int, size: int) -> str:
    """The id of an import: the same for the same messages in the same batches of the same upload, else another.

    `content` is the digest of all messages. The number of the upload is part of it: content that changed and changed
    back must be applied again.
    """
    return hashlib.sha256(f"{content} {upload} {size}".encode()).hexdigest()[:32]


def members_key(conn_id: str, segment: str) -> str:
    """The key of the record of possible members, which no lifecycle rule may delete."""
    return f"memberships/webhook/{conn_id}/{segment}.txt"
