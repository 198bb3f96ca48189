"""Erasure of players: find and remove them in our files, and recognize them later by a salted hash."""

from __future__ import annotations

import csv
import hashlib
import json
import mmap
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import IO, NamedTuple

from pydantic import JsonValue

from cohort_flywheel.common.records import Record
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.runs.names import GRAPH_LOADS_FOLDER, PENDING_SNAPSHOTS_FOLDER, SNAPSHOTS_FOLDER
from cohort_flywheel.segment.contacts import normalize_entry
from cohort_flywheel.segment.list_entries import is_exact
from cohort_flywheel.segment.snapshot import write_without

#: Keys in the state bucket: the list of players to erase, the salt, one tombstone per erased player, and the counts of
#: each erasure.
PLAYERS_KEY = "erasure/players.txt"
SALT_KEY = "erasure/salt"
TOMBSTONES_FOLDER = "erasure/tombstones/"
DONE_FOLDER = "erasure/done/"

#: The maximum number of players of one erasure: each file is searched for all of them.
MAX_PLAYERS = 1000

#: A copy of a graph file, or error messages of the loader, which hold ids of vertices. An erasure deletes each of them
#: without reading it: a load makes its copies again.
GRAPH_LOAD_FILE = "graph load file"

#: Of a graph load: where each file is, its findings and its report, without ids.
_LOAD_RECORD = r"[^/]+/(?:[0-9a-f]{16}|findings|report)\.json"

_PARTITION = rf"(?:{SNAPSHOTS_FOLDER}|{PENDING_SNAPSHOTS_FOLDER})cohort=[^/]+/as_of=[^/]+/"

_KINDS = {
    GRAPH_LOAD_FILE: re.compile(rf"{GRAPH_LOADS_FOLDER}(?!{_LOAD_RECORD}$).*[^/]"),
    "snapshot": re.compile(rf"{_PARTITION}(?:snapshot|[0-9a-f]{{16}})\.parquet"),
    "extract": re.compile(r"(?:dry_run/)?export/.+|(?:dry_run/)?staged/[^/]+\.json|dropped/.+"),
    "file of rows": re.compile(r"(?:dry_run/)?(?:segments|staged|rejects)/.+\.csv"),
    "import file": re.compile(r"contacts/.+\.csv"),
    "membership": re.compile(r"memberships/.+\.txt"),
    "send ledger": re.compile(r"sends/.+\.jsonl"),
    "list of a launch": re.compile(r"launches/.+\.txt"),
    "batch of a launch": re.compile(r"launches/.+\.json"),
}
#: Objects without players, the lists that an erasure treats apart, and a console's mark of a folder. Of an effect the
#: lists are send ledgers and lists of a launch; what was measured has counts only.
_NOT_SEARCHED = re.compile(
    r"(?:dry_run/)?(?:claims|last_runs|reports)/.+\.json|(?:dry_run/)?reports/.+\.html|results/.+\.json"
    r"|what_if/.+\.(?:csv|svg)|erasure/.+"
    r"|engagement/(?:manifests|counts|reports|launch_effects|effect_reports|graph|removals)/.+\.json"
    r"|engagement/(?:events|effects|launches)/.+\.parquet|engagement/feedback/.+\.csv"
    r"|engagement/suppressions\.(?:csv|json)|engagement/remove\.txt"
    rf"|do_not_contact\.txt|{GRAPH_LOADS_FOLDER}{_LOAD_RECORD}|.*/"
)
#: The text between two quotes, without and with escapes. Only parsing the whole file shows which quote opens a string,
#: and an uploaded file may be broken, so all are checked.
_PLAIN = re.compile(rb'"(?=([^"\\]*)")')
_ESCAPED = re.compile(rb'"(?=([^"\\]*(?:\\.[^"\\]*)+)")', re.DOTALL)
#: The columns that identify the player of a row; in some schemas the id of a vertex is the playerId.
_PLAYER_COLUMNS = ("playerId", "User.UserId", "vertexId")
_ADDRESS_COLUMNS = ("emailAddress", "Address")

#: Pairs of playerId (empty if unknown) and address.
Addresses = Collection[tuple[str, str]]


def read_players(lines: Iterable[bytes], key: str = PLAYERS_KEY) -> list[str]:
    """Read a list of playerIds (or of addresses), one per line; raises FlywheelError with the line number only.

    Each line is read as it is, so that no other player is erased: a line that would need cleaning is refused. In
    double quotes, as a JSON string, a line can have any playerId.
    """
    players = set()
    for number, line in enumerate(lines, start=1):
        try:
            players.add(_read_player(line.decode("utf-8-sig").rstrip("\r\n"), number, key))
        except UnicodeDecodeError:
            raise FlywheelError(
                f"line {number} of {key} is not UTF-8: save it as UTF-8", code=Code.ERASURE_LIST
            ) from None
    players.discard("")
    if not players:
        raise FlywheelError(f"{key} has no players: write one playerId per line", code=Code.ERASURE_LIST)
    if len(players) > MAX_PLAYERS:
        raise FlywheelError(
            f"{key} has {len(players):,} players, and at most {MAX_PLAYERS:,} are erased together: split it",
            code=Code.ERASURE_LIST,
        )
    return sorted(players)


def _read_player(text: str, number: int, key: str) -> str:
    if not text.strip():
        return ""
    if text.startswith('"'):
        with suppress(ValueError):  # also for half of a surrogate pair, which is not a playerId
            player = json.loads(text)
            if isinstance(player, str) and player.encode():
                return player
        raise FlywheelError(
            f"line {number} of {key} begins with a quote and is not a JSON string: write the playerId without"
            ' quotes, or, if the quote is part of it, as "\\"…"',
            code=Code.ERASURE_LIST,
        )
    if text != text.strip():
        raise FlywheelError(
            f"line {number} of {key} has a blank at an end: remove it, or, if it is part of the playerId, write"
            ' the playerId in double quotes, as " …"',
            code=Code.ERASURE_LIST,
        )
    if not is_exact(text):
        raise FlywheelError(
            f"line {number} of {key} is more than a playerId: remove what is not part of it (quotes, brackets,"
            " other columns, invisible characters), or, if all of it is the playerId, write it as JSON, in double"
            ' quotes, as "a, b"',
            code=Code.ERASURE_LIST,
        )
    return text


# --- tombstones


def tombstone(salt: bytes, player_id: str) -> str:
    """Return the salted hash of a playerId: with the salt one can check a playerId, but not list the erased ones."""
    return hashlib.blake2b(player_id.encode(), key=salt, digest_size=32).hexdigest()


class ErasureOutput(Record):
    """The output of CohortErasureOperator.

    `objects` are versions in which one of the players is, `in_graph` vertices with properties or edges of ours.
    """

    players: int
    objects: int
    at_destination: int
    stays: int
    in_graph: int = 0


def done_key(run_id: str) -> str:
    """Return the key of the counts of a run. It has a digest of the run id, which a user may have chosen."""
    return f"{DONE_FOLDER}{hashlib.sha256(run_id.encode()).hexdigest()[:32]}.json"


class Tombstones:
    """The set of erased players, by their hashes."""

    def __init__(self, salt: bytes, hashes: Iterable[str]) -> None:
        self._salt = salt
        self._hashes = frozenset(hashes)

    def __contains__(self, player_id: str) -> bool:
        return tombstone(self._salt, player_id) in self._hashes


# --- files


def kind_of(bucket: str, key: str) -> str | None:
    """The kind of an object that may contain players: `snapshot`, `extract`, …; None if it is not searched.

    Raises FlywheelError for an object of an unknown kind, which may contain players too.
    """
    if kind := next((kind for kind, pattern in _KINDS.items() if pattern.fullmatch(key)), None):
        return kind
    if _NOT_SEARCHED.fullmatch(key):
        return None
    raise _unknown(f"s3://{bucket}/{key}")


def _unknown(place: str) -> FlywheelError:
    return FlywheelError(
        f"{place} is not a file of this package, so it cannot be searched for players: remove them from it, and move"
        " all of its versions to another folder",
        code=Code.ERASURE_UNKNOWN_FILE,
    )


class Found(NamedTuple):
    """The number of lines of a file that belong to the players, and their addresses (`Addresses`)."""

    lines: int
    addresses: frozenset[tuple[str, str]] = frozenset()


def look(
    kind: str,
    path: Path,
    players: Collection[str],
    addresses: Addresses,
    rest: Path,
    place: str = "a file",
    memory_mb: int | None = None,
) -> Found:
    """Find the players in a file, and write the file without them to `rest`; an extract is only searched.

    Rows and lines of others keep their bytes. `addresses` identify the players of a file without playerIds; `place`
    names the file in an error; `memory_mb` is the limit of DuckDB, in MiB, None for its default.
    """
    match kind:
        case "extract":
            return Found(_in_extract(path, frozenset(players)))
        case "snapshot":
            return Found(write_without(path, players, rest, place, memory_mb))
        case "membership" | "send ledger" | "list of a launch":
            return Found(_lines(path, rest, frozenset(f"{player}\n".encode() for player in players)))
        case "batch of a launch":
            return Found(_in_lists(path, rest, frozenset(players)))
        case _:
            texts = frozenset(normalize_entry(address) for _, address in addresses)
            return _rows(path, rest, frozenset(players), texts, place)


def _in_extract(path: Path, players: frozenset[str]) -> int:
    """Count the players that an extract contains, with any JSON escapes and any line breaks."""
    if not path.stat().st_size:
        return 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        plain = {player.encode() for player in players}.intersection(map(itemgetter(1), _PLAIN.finditer(content)))
        escaped = players.intersection(chain.from_iterable(_decoded(found[1]) for found in _ESCAPED.finditer(content)))
    return len({text.decode() for text in plain} | escaped)


def _decoded(quoted: bytes) -> Iterator[str]:
    """Yield the value of a JSON string; nothing if it is invalid."""
    with suppress(ValueError):
        yield json.loads(f'"{quoted.decode()}"', strict=False)


def _lines(path: Path, rest: Path, lines: frozenset[bytes]) -> int:
    """Copy a file without some of its lines; return how many it loses."""
    found = 0
    with path.open("rb") as file, rest.open("wb") as other:
        for line in file:
            if line in lines:
                found += 1
            else:
                other.write(line)
    return found


def _in_lists(path: Path, rest: Path, players: frozenset[str]) -> int:
    """Copy a small JSON object without the players in its lists.

    In the list `player_ids` an empty text stays in the place of a player: the index of a player identifies the e-mail.
    """
    found = 0

    def without(value: JsonValue, in_place: bool = False) -> JsonValue:
        nonlocal found
        if isinstance(value, dict):
            return {name: without(each, name == "player_ids") for name, each in value.items()}
        if not isinstance(value, list):
            return value
        others = [without(each) for each in value if not (isinstance(each, str) and each in players)]
        found += len(value) - len(others)
        return ["" if each in players else each for each in value] if in_place else others

    rest.write_text(json.dumps(without(json.loads(path.read_bytes())), indent=2, sort_keys=True), encoding="utf-8")
    return found


def _rows(path: Path, rest: Path, players: frozenset[str], addresses: frozenset[str], place: str) -> Found:
    found, beside = 0, set()
    with _as_it_is(path, "r") as file, _as_it_is(rest, "w") as other:
        end = "\r\n" if file.readline().endswith("\r\n") else "\n"
        file.seek(0)
        rows = csv.reader(file)
        write = csv.writer(other, lineterminator=end).writerow
        header = next(rows, None)
        if header is None:  # an empty object
            return Found(0)
        write(header)
        ids = [index for index, name in enumerate(header) if name in _PLAYER_COLUMNS]
        address = next((index for index, name in enumerate(header) if name in _ADDRESS_COLUMNS), None)
        if not ids and address is None and header != ["line"]:  # `write_matched` has numbers of lines only
            raise _unknown(place)
        for row in rows:
            its = row[address] if address is not None else ""
            theirs = [row[index] for index in ids if row[index] in players]
            if theirs or (not ids and normalize_entry(its) in addresses):
                found += 1
                if its:
                    beside.add((theirs[0] if theirs else "", its))
            else:
                write(row)
    return Found(found, frozenset(beside))


def _as_it_is(path: Path, mode: str) -> IO[str]:
    # other rows keep their bytes, also if they are not UTF-8
    return path.open(mode, encoding="utf-8", errors="surrogateescape", newline="")
