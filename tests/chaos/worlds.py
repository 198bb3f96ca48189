"""A world in which every invariant holds, for the tests of the checker, which break it in one place."""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from tests.chaos.checker.mails import launch_tag
from tests.chaos.checker.world import EVENTS, EXPORT, IMPORT, STATE, Approval, Stored, World

AS_OF = "2026-11-22_00-05-00"
RUN = f"ea_atrisk_2_{AS_OF}"
RUN_ID = "manual__2026-11-22T00:06:00+00:00"
#: When objects were written, and when the report was.
WRITTEN, REPORTED = datetime(2026, 11, 22, 0, 7, tzinfo=UTC), datetime(2026, 11, 22, 0, 8, tzinfo=UTC)
ASKED, MAILED = WRITTEN.timestamp() + 10, WRITTEN.timestamp() + 20
SEGMENT = f"segments/{RUN}_{'a' * 16}/"
CONTACTS = f"contacts/{RUN}_{'a' * 16}/0000_{'b' * 16}.csv"
SNAPSHOT = f"snapshots/cohort=ea_atrisk/as_of={AS_OF}/snapshot.parquet"
REJECTS = f"rejects/{RUN}/{'c' * 16}_50000/"
REPORT = f"reports/{RUN}/cohort_to_segment__manual.json"
LEDGER = f"sends/at_risk/{RUN}.jsonl"
BATCH = f"launches/{RUN}/000000_1"
INTENTS, OUTCOME = f"{BATCH}.intents.json", f"{BATCH}.outcome.json"
OBJECT = "events/2026/11/22/00/stream-1.gz"
PARQUET = f"engagement/events/as_of={AS_OF}/events.parquet"
ENGAGEMENT = f"engagement/reports/{AS_OF}.json"
GRAPH_LOAD = "staged/graph_loads/graph_load__manual/load/report.json"
WHAT_IF = "what_if/ea_atrisk_2_2026-11-21_2026-11-22.csv"


def address(player: str) -> str:
    return f"success+{player}@simulator.amazonses.com"


def stored(content: Any, modified: datetime = WRITTEN) -> Stored:
    """An object: bytes, a text, or JSON."""
    if isinstance(content, bytes):
        return Stored(content, modified)
    return Stored((content if isinstance(content, str) else json.dumps(content)).encode(), modified)


def import_file(players: Iterable[str]) -> str:
    rows = "".join(f"{address(player)},false,,OPT_IN\n" for player in players)
    return f"emailAddress,unsubscribeAll,attributesData,topicPreferences.news\n{rows}"


def segment_file(players: Iterable[str]) -> str:
    return "emailAddress,playerId\n" + "".join(f"{address(player)},{player}\n" for player in players)


def mail(player: str, at: float = MAILED, launch: str = RUN, number: int = 1) -> dict[str, Any]:
    tags = [{"Name": "launch", "Value": launch_tag(launch)}, {"Name": "row", "Value": "0-1-0"}]
    to = [address(player)]
    about = {"message_id": f"mail-{number}", "at": at, "to": to, "delivered": to, "bounced": []}
    return about | {"template": f"at_risk_{'d' * 16}", "tags": tags}


def event(number: int, kind: str = "Delivery", seconds: int = 2, launch: str = RUN) -> dict[str, Any]:
    """A record as SES publishes it."""
    at = f"{WRITTEN + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S.000Z}"
    tags = {"launch": [launch_tag(launch)], "row": ["0-1-0"]}
    about = {"timestamp": f"{WRITTEN:%Y-%m-%dT%H:%M:%S.000Z}", "messageId": f"mail-{number}", "tags": tags}
    return {"eventType": kind, "mail": about, kind.lower(): {"timestamp": at}}


def objects_of(records: Iterable[dict[str, Any]], *, run_together: bool = False) -> bytes:
    return gzip.compress(("" if run_together else "\n").join(map(json.dumps, records)).encode())


def parquet(rows: Iterable[tuple[str, str, str, datetime]], launch: str = RUN) -> bytes:
    """The kept events: key, message id, type, time."""
    values = [(key, ident, launch_tag(launch), kind, at.replace(tzinfo=None)) for key, ident, kind, at in rows]
    return _parquet("key VARCHAR, message_id VARCHAR, launch VARCHAR, type VARCHAR, time TIMESTAMP", values)


@functools.cache
def snapshot(*players: str) -> bytes:
    return _parquet("score INTEGER, player_id VARCHAR, properties VARCHAR", [(3, player, None) for player in players])


def _parquet(columns: str, rows: Iterable[tuple[Any, ...]]) -> bytes:
    """A file compressed as the package's are."""
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as sql:
        sql.execute(f"CREATE TABLE made ({columns})")
        for row in rows:
            sql.execute(f"INSERT INTO made VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608 - no value is in it
        path = Path(folder) / "made.parquet"
        sql.table("made").write_parquet(str(path), compression="zstd")
        return path.read_bytes()


@functools.cache
def both_kept() -> bytes:
    return parquet([(f"k{n}", f"mail-{n}", "Delivery", WRITTEN + timedelta(seconds=2)) for n in (1, 2)])


def sound() -> World:
    """One run of three players: wayne96 and xortiz are rows and were mailed, msmith is a reject."""
    extract = json.dumps([{"playerId": [player], "ea_atrisk": [3]} for player in ("msmith", "wayne96", "xortiz")])
    players, rows = {address(player): player for player in ("msmith", "wayne96", "xortiz")}, ["wayne96", "xortiz"]
    counts = {"members": 3, "rows": 2, "rejects": {"opted_out": 1}}
    report = {
        "run": {"run_id": RUN_ID, "reported": REPORTED.isoformat()},
        "plan": {"cohort": "ea_atrisk"},
        "extract": {
            "url": f"s3://export-bucket/export/{RUN}.json", "sha256": hashlib.sha256(extract.encode()).hexdigest(),
            "vertices_read": 4, "vertices": 4, "vertices_not_beyond": 0, "vertices_not_as_required": 0,
            "vertices_erased": 0, "members": 3, "merged": 1, "vertices_without_playerId": 0,
        },
        "segment": {"parts": [{"s3_key": f"{SEGMENT}0000.csv"}], "rejects_key": REJECTS, **counts},
        "imported": {"segment_size": 2, "new_contacts": 2, "already_on_list": 0},
        "campaign": {"launched": {"rows": 2, "sent": 2, "withdrawn": {}, "in_doubt": 0, "refused": {}}},
        "faults": [],
    }  # fmt: skip
    header = {"name": RUN, "launched_at": datetime.fromtimestamp(ASKED + 1, UTC).isoformat()}
    state: dict[str, Any] = {
        REPORT: report,
        f"results/ea_atrisk/2/{AS_OF}.json": {
            "s3_url": f"s3://import-bucket/{SEGMENT}",
            "snapshot": SNAPSHOT,
            **counts,
        },
        f"{REJECTS}0000.csv": "playerId,reason,column\nmsmith,opted_out,\n",
        f"rejects/{RUN}/unusable_vertices.csv": "vertexId,playerId\n",
        SNAPSHOT: snapshot("msmith", "wayne96", "xortiz"),
        LEDGER: f"{json.dumps(header)}\nwayne96\nxortiz\n",
        f"launches/{RUN}/launch.json": {},
        INTENTS: {"player_ids": rows, "withdrawn": {}},
        OUTCOME: {"sent": 2, "in_doubt": []},
        f"engagement/manifests/{AS_OF}.json": {"keys": [OBJECT]},
        ENGAGEMENT: {
            "events": {
                "records": 3, "events": 2, "repeated": 1, "late": 0, "other_mails": 0, "unknown_types": {},
            },
            "launches": {RUN: {"messages": 2, "states": {"delivered": 2}}},
        },
        PARQUET: both_kept(),
        GRAPH_LOAD: {"loaded": 5, "duplicates": 1, "jobs": [{"records": 5, "duplicates": 1}]},
        WHAT_IF: "as_of,members,joined,left\n2026-11-20,3,,\n2026-11-21,,,\n2026-11-22,4,2,1\n",
    }  # fmt: skip
    later = {REPORT, ENGAGEMENT}
    return World(
        buckets={
            EXPORT: {f"export/{RUN}.json": stored(extract)},
            IMPORT: {f"{SEGMENT}0000.csv": stored(segment_file(rows)), CONTACTS: stored(import_file(rows))},
            STATE: {key: stored(content, REPORTED if key in later else WRITTEN) for key, content in state.items()},
            EVENTS: {OBJECT: stored(objects_of([event(1), event(2), event(1)], run_together=True))},
        },
        names={EXPORT: "export-bucket", IMPORT: "import-bucket", STATE: "state-bucket", EVENTS: "events"},
        mails=[mail("wayne96", number=1), mail("xortiz", number=2)],
        jobs=[{"JobStatus": "COMPLETED", "ImportDataSource": {"S3Url": f"s3://import-bucket/{CONTACTS}"}}],
        contacts={address(player) for player in rows},
        players=players,
        approvals=[Approval(RUN, "ann", "Approve", ASKED, "ana")],
        approvers=("ann", "ana"),
        texts=[("task.log", "2 rows of 3 members; an editor of xortizes")],
    )
