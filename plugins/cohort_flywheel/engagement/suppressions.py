"""The suppression list: addresses and players that are not mailed, because of what became of earlier e-mails.

Each entry has a date, and the latest of a key and a reason decides: entries may be read in any order, and again. A key
is a keyed hash of an address or a playerId: with the salt one can check an address, but not list them.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parseaddr
from itertools import groupby, takewhile
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

from pydantic import Field

from cohort_flywheel.common.duckdb import connect, hide_values
from cohort_flywheel.common.records import Json, Record
from cohort_flywheel.engagement.event_records import UNREACHABLE, Event
from cohort_flywheel.runs.as_of import Instant
from cohort_flywheel.segment.contacts import normalize_entry, plain_address

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

type Kind = Literal["address", "player"]
#: `lifted` is a later opt-in in SES, `removed` a person's decision.
type EntryState = Literal["suppressed", "lifted", "removed"]

SUPPRESSION_REASONS = ("bounced", "complained", "unsubscribed")


class Entry(NamedTuple):
    """A line of the suppression list; `at` is the text of `date_text`, `why` a person's name and reason."""

    kind: str
    key: str
    reason: str
    at: str
    state: str
    why: str = ""


class SuppressedAddress(NamedTuple):
    """An address of a destination's own list."""

    address: str
    reason: str
    at: datetime


class Feedback(NamedTuple):
    """What a recipient's address got by an event, with the tags by which the player is found."""

    key: str
    reason: str
    at: str
    state: str
    launch: str = ""
    row: str = ""


class ListState(Record):
    """What the list has: the events up to an as-of, and SES's account-level list until a time."""

    as_of: Instant | None = None
    account_until: Instant | None = None

    def missing(
        self, begun: Iterable[datetime], read: Collection[datetime], as_of: datetime
    ) -> tuple[list[datetime], datetime | None]:
        """Return the as-ofs whose feedback a run adds, and up to which the list then has the events.

        It adds its own again, and those that are not in the list, as their runs have failed after their events were
        read. One whose events were not read yet is waited for: the objects of its manifest are in no later one.

        :param begun: the as-ofs with a manifest.
        :param read: the as-ofs whose events were read.
        :param as_of: that of the run.
        """
        later = sorted(each for each in begun if self.as_of is None or each > self.as_of)
        added = {as_of, *(each for each in later if each in read)}
        whole = list(takewhile(lambda each: each in added, later))
        return sorted(added), whole[-1] if whole else self.as_of

    def with_more(self, as_of: datetime | None, account_until: datetime | None) -> ListState:
        """Return the state after a run; a replay of an earlier as-of changes neither."""
        return ListState(
            as_of=max((each for each in (self.as_of, as_of) if each), default=None),
            account_until=max((each for each in (self.account_until, account_until) if each), default=None),
        )


class AwaitedSuppressions(Record):
    """The output of SuppressionsSensor.

    `as_of` is the as-of up to which the list has the events, and `in_time` whether those of the run are among them.
    """

    as_of: Instant | None
    in_time: bool

    @property
    def sentence(self) -> str:
        """What the log of a run's report says."""
        late = "" if self.in_time else ": engagement has not read those of this as-of"
        return f"the events up to {self.as_of.isoformat() if self.as_of else 'no as-of'}{late}"


class SuppressionCounts(Record):
    """The output of UpdateSuppressionsOperator.

    `addresses` and `players` are the suppressed ones of the whole list, by reason. Of this run: `feedback` are the
    bounces, complaints, unsubscribes and opt-ins that it added, `unknown_players` those of them whose player no record
    names, and `account_list` the entries that were read of SES's account-level list.
    """

    addresses: dict[str, int] = Field(default_factory=dict)
    players: dict[str, int] = Field(default_factory=dict)
    feedback: int = 0
    unknown_players: int = 0
    account_list: int = 0


def suppression_key(salt: bytes, kind: Kind, text: str) -> str:
    """Return the key of an address, in any case, or of a playerId."""
    known = normalize_entry(plain_address(text) or text) if kind == "address" else text
    return hashlib.blake2b(f"{kind}\0{known}".encode(), key=salt, digest_size=16).hexdigest()


def date_text(at: datetime) -> str:
    """Return a date as a text that sorts in the order of time."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def feedback_of(event: Event, record: Json, topic: str, salt: bytes) -> Iterator[Feedback]:
    """Yield what the recipients of an event are suppressed for, or not any more.

    :param record: the record of the event.
    :param topic: the topic of our mails; empty: each topic counts.
    """
    addresses, reason, state = list[str](), "", "suppressed"
    if event.type == "Bounce" and event.subtype in UNREACHABLE:
        addresses, reason = [each["emailAddress"] for each in record["bounce"]["bouncedRecipients"]], "bounced"
    elif event.type == "Complaint" and event.subtype != "not-spam":
        people = record["complaint"]["complainedRecipients"]
        addresses, reason = [each["emailAddress"] for each in people], "complained"
    elif event.type == "Subscription" and (found := _subscription(record["subscription"], topic)):
        addresses, reason, state = list(record["mail"]["destination"]), "unsubscribed", found
    for address in addresses:
        key = suppression_key(salt, "address", parseaddr(address)[1] or address)
        yield Feedback(key, reason, date_text(event.at), state, event.launch, event.row)


class FeedbackFile:
    """Write the feedback of events, in their order.

    :param topic: the topic of our mails; empty: each topic counts.
    """

    def __init__(self, path: Path, topic: str, salt: bytes) -> None:
        self.path, self._topic, self._salt = path, topic, salt
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, event: Event, record: Json) -> None:
        self._writer.writerows(feedback_of(event, record, self._topic, self._salt))


def _subscription(about: Json, topic: str) -> EntryState | None:
    """Return what a change of preferences says of the topic; None if it says nothing."""
    new, old = about.get("newTopicPreferences") or {}, about.get("oldTopicPreferences") or {}
    topics = {each["topicName"]: each["subscriptionStatus"] for each in new.get("topicSubscriptionStatus") or []}
    opted_out = topics.get(topic) == "OptOut" if topic else "OptOut" in topics.values()
    if new.get("unsubscribeAll") or opted_out:
        return "suppressed"
    opted_in = topics.get(topic) == "OptIn" if topic else "OptIn" in topics.values()
    return "lifted" if opted_in or (old.get("unsubscribeAll") and topic not in topics) else None


# --- the list


def write_entries(path: Path, entries: Iterable[tuple[str, ...]]) -> int:
    """Write entries, or feedback, as CSV without a header; return their number."""
    number = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for entry in entries:
            writer.writerow(entry)
            number += 1
    return number


def read_entries(lines: Iterable[bytes]) -> Iterator[Entry]:
    yield from map(Entry._make, csv.reader(line.decode() for line in lines))


def read_feedback(lines: Iterable[bytes]) -> Iterator[Feedback]:
    yield from map(Feedback._make, csv.reader(line.decode() for line in lines))


def merge(
    folder: Path, files: Iterable[Path], target: Path, memory_mb: int | None = None
) -> tuple[dict[str, int], dict[str, int]]:
    """Write a list with the latest entry of each key and reason; count the suppressed addresses and players, by reason.

    :param folder: that of all these files, and of temporary ones.
    :param files: lists, and files of `write_entries`, in any order.
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    """
    addresses, players = dict.fromkeys(SUPPRESSION_REASONS, 0), dict.fromkeys(SUPPRESSION_REASONS, 0)
    fields = ", ".join(f'"{name}"' for name in Entry._fields)
    # of entries at the same instant the stricter one counts
    order = "kind, key, reason, \"at\" DESC, state = 'suppressed' DESC, state, why"
    with (
        connect(folder, memory_mb) as sql,
        target.open("w", encoding="utf-8", newline="") as file,
        hide_values("sort the suppression list"),
    ):
        sql.read_csv(
            [str(path) for path in files], auto_detect=False, header=False, sep=",", quotechar='"', escapechar='"',
            columns=dict.fromkeys(Entry._fields, "VARCHAR"), parallel=False,
        ).create_view("entry")  # fmt: skip
        writer = csv.writer(file, lineterminator="\n")
        rows = sql.execute(f"SELECT {fields} FROM entry ORDER BY {order}")  # noqa: S608 - the names are ours
        for _, entries in groupby(_fetched(rows), key=itemgetter(0, 1, 2)):
            latest = next(entries)
            writer.writerow(latest)
            if latest.state == "suppressed":
                (players if latest.kind == "player" else addresses)[latest.reason] += 1
    return addresses, players


def _fetched(rows: DuckDBPyConnection) -> Iterator[Entry]:
    while some := rows.fetchmany(10_000):
        yield from (Entry._make(text or "" for text in row) for row in some)
