"""The send ledger: whom each launch of a template may mail, so that nobody is mailed again too soon.

A file a launch: a line of JSON (Header), then a playerId a line. A playerId with a line break is in no segment file.
It holds personal data, and rests in the state bucket only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from cohort_flywheel.errors import FlywheelError


class Header(NamedTuple):
    """What a launch is: the result's name, and the digest of the segment file that was approved.

    `players` is how many the ledger named as it was put; an erasure leaves it so.
    """

    name: str
    template: str
    segment_sha256: str
    destination: str
    launched_at: datetime
    players: int


def ledger_folder(template: str) -> str:
    """Of all launches of a template, whatever the cohort, the threshold and the destination."""
    return f"sends/{template}/"


def ledger_key(template: str, name: str) -> str:
    return f"{ledger_folder(template)}{name}.jsonl"


def write_ledger(path: Path, header: Header, player_ids: Iterable[str]) -> None:
    """Write a ledger; raises FlywheelError where its players are not as many as its header says."""
    number = write_lines(path, header, player_ids)
    if number != header.players:
        raise FlywheelError(
            f"{number:,} players are to be mailed, and {header.players:,} were counted before: the segment file has"
            " changed since; clear check_limits with downstream"
        )


def write_lines(path: Path, header: Header, player_ids: Iterable[str]) -> int:
    """Write a header and these players; returns their number."""
    number = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        about = header._asdict() | {"launched_at": header.launched_at.isoformat()}
        file.write(f"{json.dumps(about, sort_keys=True)}\n")
        for player_id in player_ids:
            file.write(f"{player_id}\n")
            number += 1
    return number


def read_header(line: bytes, place: str) -> Header:
    """The first line of a ledger; raises FlywheelError, with its place, for what is none."""
    try:
        about = json.loads(line)
        return Header(**about | {"launched_at": datetime.fromisoformat(about["launched_at"])})
    except (ValueError, TypeError, KeyError):
        raise FlywheelError(
            f"{place} is no send ledger: restore it (its earlier version, where the bucket is versioned), or take it"
            " out of the folder if it is not ours; without it somebody could be mailed again"
        ) from None


def read_ledger(lines: Iterable[bytes], place: str) -> tuple[Header, Iterator[str]]:
    """The header of a ledger and its players, streamed."""
    rest = iter(lines)
    return read_header(next(rest, b""), place), (line.decode() for line in rest if line)
