"""`python -m local pinpoint-events`: the e-mail events of Pinpoint's event stream, counted once, for each campaign.

A one-off import, as Pinpoint has ended: of the objects that Data Firehose wrote, as JSON, or as the Parquet of AWS's
"Digital User Engagement Events Database". The format:
https://docs.aws.amazon.com/pinpoint/latest/developerguide/event-streams-data-email.html. All `event_timestamp`s of a
message are the time at which it was sent; the time of an event is `arrival_timestamp`. The events have the endpoint of
the recipient and no user, who is found by the endpoint's `_campaign.send`.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from local.config import ROOT, LocalError

if str(ROOT / "plugins") not in sys.path:
    sys.path.insert(0, str(ROOT / "plugins"))

from cohort_flywheel.common.duckdb import connect
from cohort_flywheel.common.records import Json
from cohort_flywheel.engagement import event_records as ses
from cohort_flywheel.engagement.event_counts import EventFile, count_launches, records_of
from cohort_flywheel.engagement.event_objects import MEMORY
from cohort_flywheel.engagement.event_records import Event, UnknownType

#: The types of e-mail events, those of SES that they become, and their objects in the record.
TYPES = {
    "_email.send": ("Send", "send"), "_email.delivered": ("Delivery", "delivery"), "_email.open": ("Open", "open"),
    "_email.click": ("Click", "click"), "_email.hardbounce": ("Bounce", "bounce"),
    "_email.softbounce": ("Bounce", "bounce"), "_email.complaint": ("Complaint", "complaint"),
    "_email.unsubscribe": ("Subscription", "unsubscribe"), "_email.rejected": ("Reject", "reject"),
}  # fmt: skip
_BOUNCE_KINDS = {"_email.hardbounce": "Permanent", "_email.softbounce": "Transient"}
_CAMPAIGN_SEND = "_campaign.send"
#: The columns that are read of a Parquet file.
_COLUMNS = ("event_type", "event_timestamp", "arrival_timestamp", "client", "attributes", "client_context", "facets")
_NAME = re.compile(r"[A-Za-z0-9 _.:-]{1,60}")
_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
#: No event is too old: each as-of of the daily DAG knows those of 62 days.
_ALL = datetime(1970, 1, 1, tzinfo=UTC) + MEMORY
#: Parquet files have the headers of each e-mail, which are skipped.
_MEMORY_MB = 512


#: Of LaunchCounts: Pinpoint has no bot flags, and the records of launches do not have its campaigns.
_OF_PINPOINT = {"messages", "states", "bounces", "complained", "unsubscribed", "opened", "clicked"}


class Imported(NamedTuple):
    """What an import has found: the counts of EventCounts, and of LaunchCounts by the id of a campaign."""

    events: dict[str, Any]
    campaigns: dict[str, dict[str, Any]]
    opted_out: list[str]
    unknown_players: int


def read_pinpoint_event(record: Json) -> Event | UnknownType | None:
    """Return the event of a record; None for a record that is not one of Pinpoint.

    The launch is the id of the campaign, and the row that of its run: both are empty for transactional e-mails and
    those of a journey.
    """
    name = record.get("event_type")
    if not isinstance(name, str):
        return None
    if name not in TYPES:
        return UnknownType(name if _NAME.fullmatch(name) else "(other)")
    kind, of = TYPES[name]
    try:
        found = record["facets"]["email_channel"]["mail_event"]
        about, attributes = found.get(of) or {}, record.get("attributes") or {}
        message_id = str(found["mail"]["message_id"])
        mailed_at, at = _instant(record["event_timestamp"]), _instant(record["arrival_timestamp"])
        link = str(about.get("link") or (attributes.get("feedback") if kind == "Click" else "") or "")
        feedback, subtype = str(about.get("feedback_id") or ""), _subtype(name, about)
        launch, row = (_id(attributes.get(each)) for each in ("campaign_id", "campaign_activity_id"))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError):
        return None
    if not message_id:
        return None
    unique = json.dumps([message_id, name, at.isoformat(), link, feedback])
    return Event(
        hashlib.blake2b(unique.encode(), digest_size=16).hexdigest(),
        ses.plain(message_id, 200),
        launch,
        (row or "-") if launch else "",
        kind,
        subtype if _NAME.fullmatch(subtype) else "",
        at,
        mailed_at,
        "",
        ses.kept_link(link, whole=True),
        _unknown(kind, subtype),
    )


def _instant(milliseconds: object) -> datetime:
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int):
        raise TypeError
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _id(text: object) -> str:
    return text if isinstance(text, str) and _ID.fullmatch(text) else ""


def _subtype(name: str, about: Json) -> str:
    match TYPES[name][0]:
        case "Bounce":
            kind, detail = about.get("bounce_type") or _BOUNCE_KINDS[name], about.get("bounce_sub_type")
            return f"{kind}:{detail}" if detail else str(kind)
        case "Complaint":
            return str(about.get("complaint_feedback_type") or "")
        case "Subscription":
            return "unsubscribed"
    return ""


def _unknown(kind: str, subtype: str) -> str:
    of, _, detail = subtype.partition(":")
    if kind == "Bounce":
        known = of in ses.BOUNCES and detail in {"", *ses.BOUNCES[of]}
    else:
        known = kind != "Complaint" or subtype in ses.COMPLAINTS
    return "" if known else f"{kind} {subtype}" if _NAME.fullmatch(subtype) else f"{kind} (other)"


# --- the objects


def objects(folder: Path) -> list[Path]:
    """Return the files of a folder and those below it, in the order of their paths; raises LocalError without one."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    if not found:
        raise LocalError(f"{folder} has no files: download the objects into it (aws s3 sync).")
    return found


def _records(path: Path) -> Iterator[Json | None]:
    """The records of an object; of a Parquet file, as the JSON that they were. None for what cannot be read."""
    import duckdb

    if not _is_parquet(path):
        yield from records_of(path)
        return
    with connect(path.parent, _MEMORY_MB) as sql:
        try:
            parquet = sql.read_parquet(str(path))
            parquet.create_view("events")
            names = [name for name in _COLUMNS if name in parquet.columns]
            rows = sql.execute(f"SELECT {', '.join(names)} FROM events")  # noqa: S608 - the names are ours
            while some := rows.fetchmany(1_000):
                yield from (dict(zip(names, row, strict=True)) for row in some)
        except duckdb.Error:
            yield None


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


# --- who is not mailed again


class OptOuts:
    """The addresses that bounced for good, and the addresses and players who complained or unsubscribed."""

    def __init__(self) -> None:
        self._addresses, self._endpoints, self._players = set[str](), set[str](), dict[str, str]()

    def note(self, event: Event, record: Json) -> None:
        """Note the recipients of an event. Bounces and complaints name them, and an unsubscribe those of its mail."""
        mail_event = record["facets"]["email_channel"]["mail_event"]
        if event.type == "Bounce" and event.subtype in ("Permanent", *ses.UNREACHABLE):
            people = ("bounce", "bounced_recipients")
        elif event.type == "Complaint" and event.subtype != "not-spam":
            people = ("complaint", "complained_recipients")
        elif event.type == "Subscription":
            people = ("unsubscribe", "")
        else:
            return
        with suppress(AttributeError, KeyError, TypeError):  # recipients that cannot be read
            recipients = (mail_event.get(people[0]) or {}).get(people[1])
            known = [each["email_address"] for each in recipients or []] or mail_event["mail"]["destination"]
            self._addresses.update(each for each in known if isinstance(each, str))
        if event.type != "Bounce" and (endpoint := _id((record.get("client") or {}).get("client_id"))):
            self._endpoints.add(endpoint)

    def join(self, found: Iterable[Json | None]) -> None:
        """Find the players of the noted endpoints by what `_campaign.send` says of an endpoint."""
        for record in found:
            if record is None or record.get("event_type") != _CAMPAIGN_SEND:
                continue
            try:
                endpoint = record["client"]["client_id"]
                if endpoint in self._endpoints and (user := _user(record["client_context"])):
                    self._players[endpoint] = user
            except (KeyError, TypeError, ValueError, AttributeError):
                continue

    @property
    def lines(self) -> list[str]:
        return sorted({*self._addresses, *self._players.values()})

    @property
    def unknown(self) -> int:
        return len(self._endpoints - self._players.keys())

    def __bool__(self) -> bool:
        return bool(self._endpoints)


def _user(context: Mapping[str, Any]) -> str:
    endpoint = json.loads(context["custom"]["endpoint"])
    return str((endpoint.get("User") or {}).get("UserId") or "")


# --- the import


def read(folder: Path, parquet: Path) -> Imported:
    """Write the events of a folder of objects as Parquet, with the columns of the daily DAG; return what was found.

    :param folder: the objects, in any folders below it.
    :param parquet: the file to write.
    """
    files, opted_out = objects(folder), OptOuts()
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        with EventFile(work, _ALL, opted_out.note, read_pinpoint_event) as file:
            for path in files:
                file.add_records(_records(path))
            counts = file.close(work / "events.parquet", [], len(files), 0)
        if opted_out:
            for path in files:
                opted_out.join(_records(path))
        campaigns = count_launches(work, [work / "events.parquet"])
        parquet.write_bytes((work / "events.parquet").read_bytes())
    return Imported(
        counts.model_dump(mode="json", exclude={"before_first", "late"}),
        {name: each.model_dump(mode="json", include=_OF_PINPOINT) for name, each in campaigns.items()},
        opted_out.lines,
        opted_out.unknown,
    )


def pinpoint_events_command(folder: Path, into: Path) -> None:
    """Write `events.parquet`, `counts.json` and `opted_out.txt`, and print the counts."""
    into.mkdir(parents=True, exist_ok=True)
    found = read(folder, into / "events.parquet")
    counts = {"events": found.events, "campaigns": found.campaigns, "unknown_players": found.unknown_players}
    text = json.dumps(counts, indent=2, sort_keys=True)
    (into / "counts.json").write_text(text + "\n", encoding="utf-8")
    people = into / "opted_out.txt"
    people.touch(mode=0o600)
    people.write_text("".join(f"{line}\n" for line in found.opted_out), encoding="utf-8")
    print(text)
    print(f"{into}: events.parquet, counts.json, and {len(found.opted_out):,} lines in opted_out.txt")
