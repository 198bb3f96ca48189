"""Count events once, as columns: those of an as-of, and of each launch."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import Field

from cohort_flywheel.common.duckdb import connect, hide_values
from cohort_flywheel.common.records import Json, Record
from cohort_flywheel.engagement.click_counts import Clicks
from cohort_flywheel.engagement.event_objects import MEMORY
from cohort_flywheel.engagement.event_records import (
    UNREACHABLE,
    UNSUBSCRIBE_CLICK,
    Event,
    UnknownType,
    read_event,
    records,
)

#: The columns of the Parquet file, by their DuckDB types, NULL where there is no value; `key` finds copies of an event.
COLUMNS = {
    "key": "UUID", "message_id": "VARCHAR", "launch": "VARCHAR", "row_tag": "VARCHAR", "type": "VARCHAR",
    "subtype": "VARCHAR", "time": "TIMESTAMP", "bot": "VARCHAR", "link": "VARCHAR",
}  # fmt: skip
#: The delivery states of a message, the strongest last: a bounce may follow a delivery. `tracked` is a message of which
#: only opens, clicks or complaints came.
STATES = ("tracked", "sent", "delayed", "delivered", "rendering_failure", "rejected", "bounced")
_STATE_OF_TYPE = {
    "Send": "sent", "DeliveryDelay": "delayed", "Delivery": "delivered", "Rendering Failure": "rendering_failure",
    "Reject": "rejected", "Bounce": "bounced",
}  # fmt: skip

#: The messages of a launch that are counted by their events, each once: the fields of LaunchCounts.
_MESSAGES = {
    "complained": "type = 'Complaint' AND subtype IS DISTINCT FROM 'not-spam'",
    "unsubscribed": "type = 'Subscription' AND subtype = 'unsubscribed'",
    "unsubscribe_clicked": f"type = 'Click' AND subtype = '{UNSUBSCRIBE_CLICK}'",
} | {
    name + suffix: f"type = '{kind}' AND subtype IS DISTINCT FROM '{UNSUBSCRIBE_CLICK}'{flag}"
    for name, kind in (("opened", "Open"), ("clicked", "Click"))
    for suffix, flag in (("", ""), ("_unlikely_bot", " AND bot = 'Unlikely'"), ("_no_flag", " AND bot IS NULL"))
}

#: The messages of an as-of by which SES judges a sender: the fields of EventCounts.
_RATES = {
    "sent": "type = 'Send'",
    "bounced": f"type = 'Bounce' AND subtype IN {UNREACHABLE}",
    "complained": _MESSAGES["complained"],
}


class EventCounts(Record):
    """The counts of an as-of: `records = events + repeated + late + other_mails + unknown types`, and `unreadable`.

    `sent`, `bounced` (for good, and not because of a suppression list) and `complained` are the messages with such an
    event. `late` are events of mails from before the 62 days of memory; `other_mails` those without a launch's tags;
    `unknown_…` are types, and subtypes and bot flags, that SES does not document; events of the latter count too.
    """

    objects: int
    before_first: int = 0
    records: int = 0
    events: int = 0
    repeated: int = 0
    late: int = 0
    other_mails: int = 0
    unreadable: int = 0
    sent: int = 0
    bounced: int = 0
    complained: int = 0
    unknown_types: dict[str, int] = Field(default_factory=dict)
    unknown_subtypes: dict[str, int] = Field(default_factory=dict)


class LaunchCounts(Record):
    """The messages of a launch by what became of them, from the events of 62 days.

    `messages` is the sum of `states`. Of the others each message counts once; without a suffix all are counted, also
    by bots; `_unlikely_bot` are those that SES flagged Unlikely, `_no_flag` those without a flag. A click on the link
    to unsubscribe, which SES tracks where it is not marked, is an `unsubscribe_clicked` and not a `clicked`.
    `untracked` are the e-mails of players who have not agreed to tracking, by the records of the launch. `clicks` are
    the clicked messages by link and by time.
    """

    messages: int = 0
    states: dict[str, int] = Field(default_factory=dict)
    bounces: dict[str, int] = Field(default_factory=dict)
    complained: int = 0
    unsubscribed: int = 0
    unsubscribe_clicked: int = 0
    opened: int = 0
    opened_unlikely_bot: int = 0
    opened_no_flag: int = 0
    clicked: int = 0
    clicked_unlikely_bot: int = 0
    clicked_no_flag: int = 0
    in_doubt: int = 0
    in_doubt_sent: int = 0
    untracked: int = 0
    clicks: Clicks = Clicks()


def records_of(path: Path) -> Iterator[Json | None]:
    """Yield the records of an object, plain or compressed with gzip; None for each piece that cannot be read."""
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if is_gzip else path.open("rb") as lines:
            yield from records(lines)
    except (EOFError, gzip.BadGzipFile, zlib.error):
        yield None


class EventFile:
    """Write the events of an as-of, in the order of their objects, and count what is left out.

    :param note: called with each event and its record, also with those that are left out.
    :param read: gives the event of a record; by default of one of SES.
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    """

    def __init__(
        self,
        folder: Path,
        as_of: datetime,
        note: Callable[[Event, Json], None] = lambda event, record: None,
        read: Callable[[Json], Event | UnknownType | None] = read_event,
        memory_mb: int | None = None,
    ) -> None:
        self._folder, self._oldest, self._note, self._read = folder, as_of - MEMORY, note, read
        self._memory_mb = memory_mb
        self._file = (folder / "events.csv").open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._numbers, self._types, self._subtypes = Counter[str](), Counter[str](), Counter[str]()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, path: Path) -> None:
        """Add the events of an object, plain or compressed with gzip. One that is cut off is read as far as it goes."""
        self.add_records(records_of(path))

    def add_records(self, found: Iterable[Json | None]) -> None:
        """Add the events of records; None is a piece that cannot be read."""
        for record in found:
            event = self._read(record) if record is not None else None
            if record is None or event is None:
                self._numbers["unreadable"] += 1
                continue
            self._numbers["records"] += 1
            if isinstance(event, UnknownType):
                self._types[event.name] += 1
                continue
            self._note(event, record)
            if not event.launch or not event.row:
                self._numbers["other_mails"] += 1
            elif event.mailed_at < self._oldest:
                self._numbers["late"] += 1
            else:
                if event.unknown:
                    self._subtypes[event.unknown] += 1
                time = str(event.at).removesuffix("+00:00")
                about = (event.launch, event.row, event.type, event.subtype, time, event.bot, event.link)
                self._writer.writerow((self._numbers["written"], event.key, event.message_id, *about))
                self._numbers["written"] += 1

    def close(self, parquet: Path, others: Sequence[Path], objects: int, before: int) -> EventCounts:
        """Write each event that no other as-of has once, as Parquet; return the counts.

        :param others: the Parquet files of other as-ofs.
        """
        self._file.close()
        written = self._numbers.pop("written", 0)
        with connect(self._folder, self._memory_mb) as sql, hide_values("keep each event once"):
            sql.read_csv(
                str(self._folder / "events.csv"), auto_detect=False, header=False, sep=",", quotechar='"',
                escapechar='"', columns={"place": "BIGINT"} | COLUMNS, parallel=False, max_line_size=2_000_000,
                buffer_size=4_000_000,
            ).create_view("day")  # fmt: skip
            # the events of a day may be many; DuckDB takes the CSV file for a few rows, and would put them into memory
            sql.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
            sql.execute("CREATE TABLE first AS SELECT min(place) AS place, key FROM day GROUP BY key")
            if others:
                sql.read_parquet([str(path) for path in others]).create_view("others")
                again = "SELECT DISTINCT key FROM others WHERE key IN (SELECT key FROM first)"
                sql.execute(f"DELETE FROM first WHERE key IN ({again})")  # noqa: S608 - no value is in it
            (events,) = sql.execute("SELECT count(*) FROM first").fetchall()[0]
            once = "SELECT * EXCLUDE (place) FROM day WHERE place IN (SELECT place FROM first)"
            sql.sql(once).write_parquet(str(parquet), compression="zstd", row_group_size=20_000)
            sql.read_parquet(str(parquet)).create_view("kept")
            rates = {
                name: sql.execute(f"SELECT count(DISTINCT message_id) FROM kept WHERE {condition}").fetchall()[0][0]  # noqa: S608 - ours
                for name, condition in _RATES.items()
            }
        return EventCounts.model_validate(
            rates
            | self._numbers
            | {"objects": objects, "before_first": before, "events": events, "repeated": written - events}
            | {"unknown_types": dict(sorted(self._types.items()))}
            | {"unknown_subtypes": dict(sorted(self._subtypes.items()))}
        )


def count_launches(folder: Path, files: Sequence[Path], memory_mb: int | None = None) -> dict[str, LaunchCounts]:
    """Return the counts of each launch, by its tag, from the Parquet files of all as-ofs."""
    if not files:
        return {}
    found: dict[str, Json] = {}
    ranks = " ".join(f"WHEN '{kind}' THEN {STATES.index(state)}" for kind, state in _STATE_OF_TYPE.items())
    with connect(folder, memory_mb) as sql, hide_values("count the launches"):
        sql.read_parquet([str(path) for path in files]).create_view("events")
        states = (
            "SELECT launch, state, count(*) FROM (SELECT launch, message_id,"  # noqa: S608 - the names are ours
            f" max(CASE type {ranks} ELSE 0 END) AS state FROM events GROUP BY ALL) GROUP BY ALL ORDER BY ALL"
        )
        for launch, state, number in sql.execute(states).fetchall():
            counts = found.setdefault(launch, {"messages": 0, "states": {}, "bounces": {}})
            counts["states"][STATES[state]] = number
            counts["messages"] += number
        bounces = (
            "SELECT launch, subtype, count(DISTINCT message_id) FROM events WHERE type = 'Bounce' GROUP BY ALL"
            " ORDER BY ALL"
        )
        for launch, subtype, number in sql.execute(bounces).fetchall():
            found[launch]["bounces"][subtype] = number
        for name, condition in _MESSAGES.items():
            query = f"SELECT launch, count(DISTINCT message_id) FROM events WHERE {condition} GROUP BY launch"  # noqa: S608 - ours
            for launch, number in sql.execute(query).fetchall():
                found[launch][name] = number
    return {launch: LaunchCounts.model_validate(counts) for launch, counts in sorted(found.items())}


def rows_of(folder: Path, files: Sequence[Path], launch: str, memory_mb: int | None = None) -> frozenset[str]:
    """Return the tags of the rows of a launch whose mail SES has sent, by any event that shows it."""
    if not files:
        return frozenset()
    with connect(folder, memory_mb) as sql, hide_values("find the e-mails of a launch"):
        sql.read_parquet([str(path) for path in files]).create_view("events")
        rows = "SELECT DISTINCT row_tag FROM events WHERE launch = ? AND type NOT IN ('Reject', 'Rendering Failure')"
        return frozenset(row for (row,) in sql.execute(rows, [launch]).fetchall())
