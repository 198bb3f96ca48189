"""A player who asked to be forgotten: found in a file of ours, taken out of it, and known again by a salted hash."""

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
from typing import IO, Any, NamedTuple, Protocol

import orjson

from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.segment.contacts import normalize_entry
from cohort_flywheel.segment.list_entries import is_exact
from cohort_flywheel.segment.members import Vertex

#: In the state bucket: who is to be erased, the salt, and a tombstone each.
PLAYERS_KEY = "erasure/players.txt"
SALT_KEY = "erasure/salt"
TOMBSTONES_FOLDER = "erasure/tombstones/"

#: One or a few: all of them are looked for in everything that there is.
MAX_PLAYERS = 1000

_KINDS = {
    "snapshot": re.compile(r"snapshots/.+\.jsonl"),
    "extract": re.compile(r"(?:dry_run/)?export/.+|(?:dry_run/)?staged/[^/]+\.json|dropped/.+"),
    "file of rows": re.compile(r"(?:dry_run/)?(?:segments|staged|rejects)/.+\.csv"),
    "import file": re.compile(r"contacts/.+\.csv"),
    "membership": re.compile(r"memberships/.+\.txt"),
    "send ledger": re.compile(r"sends/.+\.jsonl"),
    "list of a launch": re.compile(r"launches/.+\.txt"),
    "batch of a launch": re.compile(r"launches/.+\.json"),
}
#: What stands between two quotes, without and with escapes. Which of them open a string only a whole file can tell, and
#: a dropped one may be broken: so all are looked at.
_PLAIN = re.compile(rb'"(?=([^"\\]*)")')
_ESCAPED = re.compile(rb'"(?=([^"\\]*(?:\\.[^"\\]*)+)")', re.DOTALL)
#: The columns by which a row tells whose it is.
_PLAYER_COLUMNS = ("playerId", "User.UserId")
_ADDRESS_COLUMNS = ("emailAddress", "Address")

#: Whose an address is, empty where only the address was told, and the address.
Addresses = Collection[tuple[str, str]]


def read_players(lines: Iterable[bytes]) -> list[str]:
    """The playerIds of a list, one a line; raises FlywheelError, with the line's number and never its text.

    Each line is read as it stands: a player too many would be erased. A line that a reader of lists would have to
    clean first is refused; in double quotes, as a string of JSON, any playerId can be written.
    """
    players = set()
    for number, line in enumerate(lines, start=1):
        try:
            players.add(_read_player(line.decode("utf-8-sig").rstrip("\r\n"), number))
        except UnicodeDecodeError:
            raise FlywheelError(
                f"line {number} of {PLAYERS_KEY} is not UTF-8: save it so, a playerId a line", code=Code.ERASURE_LIST
            ) from None
    players.discard("")
    if not players:
        raise FlywheelError(f"{PLAYERS_KEY} names nobody: write a playerId a line into it", code=Code.ERASURE_LIST)
    if len(players) > MAX_PLAYERS:
        raise FlywheelError(
            f"{PLAYERS_KEY} names {len(players):,} players, and {MAX_PLAYERS:,} at most are erased together: split it",
            code=Code.ERASURE_LIST,
        )
    return sorted(players)


def _read_player(text: str, number: int) -> str:
    if not text.strip():
        return ""
    if text.startswith('"'):
        with suppress(ValueError):  # half of a surrogate pair, which is no playerId, is one too
            player = json.loads(text)
            if isinstance(player, str) and player.encode():
                return player
        raise FlywheelError(
            f"line {number} of {PLAYERS_KEY} begins with a quote and is no string of JSON: write the playerId without"
            ' quotes, or, where the quote is its own, as "\\"…"',
            code=Code.ERASURE_LIST,
        )
    if text != text.strip():
        raise FlywheelError(
            f"line {number} of {PLAYERS_KEY} has a blank at an end: take it out, or, where the playerId has it, write"
            ' the playerId in double quotes, as " …"',
            code=Code.ERASURE_LIST,
        )
    if not is_exact(text):
        raise FlywheelError(
            f"line {number} of {PLAYERS_KEY} is more than a playerId: take out what is not part of it (quotes,"
            " brackets, other columns, invisible characters), or, where all of it is the playerId, write it"
            ' as JSON, in double quotes, as "a, b"',
            code=Code.ERASURE_LIST,
        )
    return text


# --- afterwards


def tombstone(salt: bytes, player_id: str) -> str:
    """Whoever has the salt can ask whether a playerId was erased; nobody can read out of it which were."""
    return hashlib.blake2b(player_id.encode(), key=salt, digest_size=32).hexdigest()


class Tombstones:
    """Who was erased."""

    def __init__(self, salt: bytes, hashes: Iterable[str]) -> None:
        self._salt, self._hashes = salt, frozenset(hashes)

    def __contains__(self, player_id: str) -> bool:
        return tombstone(self._salt, player_id) in self._hashes


class Taker(Protocol):
    def clear(self) -> None: ...
    def add(self, vertices: Iterable[Vertex]) -> None: ...


class WithoutErased:
    """Hands vertices on, but those of erased players, which it counts as `left_out`.

    :param tombstones: None where nobody was ever erased, which costs nothing.
    """

    def __init__(self, taker: Taker, tombstones: Tombstones | None) -> None:
        self._taker, self.tombstones = taker, tombstones
        self.left_out = 0

    def clear(self) -> None:
        self.left_out = 0
        self._taker.clear()

    def add(self, vertices: Iterable[Vertex]) -> None:
        self._taker.add(vertices if self.tombstones is None else self._others(vertices, self.tombstones))

    def _others(self, vertices: Iterable[Vertex], erased: Tombstones) -> Iterator[Vertex]:
        for vertex in vertices:
            if vertex.player_id is not None and vertex.player_id in erased:
                self.left_out += 1
            else:
                yield vertex


# --- what there is


def kind_of(key: str) -> str | None:
    """What an object is that may hold a player: `snapshot`, `extract`, …; None for any other."""
    return next((kind for kind, pattern in _KINDS.items() if pattern.fullmatch(key)), None)


class Found(NamedTuple):
    """How many lines of a file are of the players, and the addresses that stand in them (`Addresses`)."""

    lines: int
    addresses: frozenset[tuple[str, str]] = frozenset()


def look(kind: str, path: Path, players: Collection[str], addresses: Addresses, rest: Path) -> Found:
    """Find the players in a file, and write it without them to `rest`; an extract is only looked at.

    Rows and lines of others keep their bytes. `addresses` are asked where a file has no playerId.
    """
    match kind:
        case "extract":
            return Found(_in_extract(path, frozenset(players)))
        case "snapshot":
            starts = {b"[" + text + b"," for player in players for text in _as_json(player)}
            return Found(_lines(path, rest, tuple(starts), "vertices"))
        case "membership" | "send ledger" | "list of a launch":
            return Found(_lines(path, rest, tuple(f"{player}\n".encode() for player in players), None))
        case "batch of a launch":
            return Found(_in_lists(path, rest, frozenset(players)))
        case _:
            return _rows(
                path, rest, frozenset(players), frozenset(normalize_entry(address) for _, address in addresses)
            )


def _in_extract(path: Path, players: frozenset[str]) -> int:
    """How many of the players an extract names, whoever wrote it, with whatever escapes and on however few lines."""
    if not path.stat().st_size:
        return 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        plain = {player.encode() for player in players}.intersection(map(itemgetter(1), _PLAIN.finditer(content)))
        escaped = players.intersection(chain.from_iterable(_said(found[1]) for found in _ESCAPED.finditer(content)))
    return len({text.decode() for text in plain} | escaped)


def _said(quoted: bytes) -> Iterator[str]:
    """What a string of JSON says; nothing where it is none."""
    with suppress(ValueError):
        yield json.loads(f'"{quoted.decode()}"', strict=False)


def _as_json(player: str) -> set[bytes]:
    return {orjson.dumps(player), json.dumps(player).encode()}


def _lines(path: Path, rest: Path, starts: tuple[bytes, ...], counted: str | None) -> int:
    """Leave the lines out that begin so, and correct the last line, which has their number."""
    found = 0
    with path.open("rb") as file, rest.open("wb") as other:
        for line in file:
            if line.startswith(starts):
                found += 1
            elif counted and line.startswith(f'{{"{counted}":'.encode()):
                other.write(json.dumps({counted: json.loads(line)[counted] - found}).encode() + b"\n")
            else:
                other.write(line)
    return found


def _in_lists(path: Path, rest: Path, players: frozenset[str]) -> int:
    """Leave the players out of every list of a small object of JSON."""
    found = 0

    def without(value: Any) -> Any:
        nonlocal found
        if isinstance(value, dict):
            return {name: without(each) for name, each in value.items()}
        if not isinstance(value, list):
            return value
        others = [without(each) for each in value if not (isinstance(each, str) and each in players)]
        found += len(value) - len(others)
        return others

    rest.write_text(json.dumps(without(json.loads(path.read_bytes())), indent=2, sort_keys=True), encoding="utf-8")
    return found


def _rows(path: Path, rest: Path, players: frozenset[str], addresses: frozenset[str]) -> Found:
    found, beside = 0, set()
    with _as_it_is(path, "r") as file, _as_it_is(rest, "w") as other:
        end = "\r\n" if file.readline().endswith("\r\n") else "\n"
        file.seek(0)
        rows = csv.reader(file)
        write = csv.writer(other, lineterminator=end).writerow
        header = next(rows, [])
        if header:
            write(header)
        player, address = _column(header, _PLAYER_COLUMNS), _column(header, _ADDRESS_COLUMNS)
        for row in rows:
            its = row[address] if address is not None else ""
            if row[player] in players if player is not None else normalize_entry(its) in addresses:
                found += 1
                if its:
                    beside.add((row[player] if player is not None else "", its))
            else:
                write(row)
    return Found(found, frozenset(beside))


def _as_it_is(path: Path, mode: str) -> IO[str]:
    # whoever wrote the other rows, and however their lines end
    return path.open(mode, encoding="utf-8", errors="surrogateescape", newline="")


def _column(header: list[str], names: Iterable[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)
