"""The send ledger: the players that a launch of a template may mail, so that they are not mailed again too soon.

One file per launch, one more each time it is continued, and one for each holdout, whose players count as mailed. Each
is a line of JSON (Header), then one playerId per line. A segment file has no playerId with a line break. It has
personal data, and is in the state bucket only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cohort_flywheel.errors import Code, FlywheelError

#: The maximum time that a ledger is valid: a later mail of its launch needs another ledger.
LASTS = timedelta(hours=24)

_HOLDOUT = re.compile(r"\.(?:launch|global)_holdout\.jsonl$")


class Header(NamedTuple):
    """A launch: the result's name, and the digest of the segment file that was approved.

    `players` is the number of players when the ledger was written; an erasure does not change it. No mail is sent
    under the ledger after `mails_until`; a ledger of an earlier version of this package does not have this field.
    """

    name: str
    template: str
    segment_sha256: str
    destination: str
    launched_at: datetime
    players: int
    mails_until: datetime | None = None

    @property
    def last_mail(self) -> datetime:
        """The latest time at which a player of the ledger may have been mailed."""
        return self.mails_until or self.launched_at + LASTS


def ledger_folder(template: str) -> str:
    """The folder of all launches of a template, at any cohort, threshold and destination."""
    return f"sends/{template}/"


def ledger_key(template: str, name: str, number: int = 1) -> str:
    """The key of a launch's first ledger, or with a number from 2 of one that continues it."""
    return f"{ledger_folder(template)}{name}{f'.{number}' if number > 1 else ''}.jsonl"


def is_ledger_of(key: str, template: str, name: str) -> bool:
    return re.fullmatch(rf"{re.escape(ledger_folder(template) + name)}(\.\d+)?\.jsonl", key) is not None


def is_holdout(key: str) -> bool:
    """Whether the players of a ledger are those that its launch held out (`holdout.holdout_key`)."""
    return _HOLDOUT.search(key) is not None


def run_of_ledger(file_name: str) -> str:
    """Return the run's name of `<run>.jsonl`, `<run>.2.jsonl` or a holdout; the threshold in it may have decimals."""
    return re.sub(r"(\.\d+)?\.jsonl$", "", _HOLDOUT.sub(".jsonl", file_name))


def write_ledger(path: Path, header: Header, player_ids: Iterable[str]) -> None:
    """Write a ledger; raises FlywheelError if the number of players is not that of its header."""
    number = write_lines(path, header, player_ids)
    if number != header.players:
        raise FlywheelError(
            f"{number:,} players are to be mailed, and {header.players:,} were counted before: the segment file has"
            " changed since; clear check_limits with downstream",
            code=Code.SEGMENT_FILE_CHANGED,
        )


def write_lines(path: Path, header: Header, player_ids: Iterable[str]) -> int:
    """Write a header and these players; returns their number."""
    number = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        about = {field: _json_value(value) for field, value in header._asdict().items() if value is not None}
        file.write(f"{json.dumps(about, sort_keys=True)}\n")
        for player_id in player_ids:
            file.write(f"{player_id}\n")
            number += 1
    return number


def _json_value(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _instant(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError
    return found


def read_header(line: bytes, place: str) -> Header:
    """The first line of a ledger; raises FlywheelError, with its place, if it is not one."""
    try:
        about = json.loads(line)
        times = {field: _instant(about[field]) for field in ("launched_at", "mails_until") if field in about}
        return Header(**about | times)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise FlywheelError(
            f"{place} is not a send ledger: restore it (its earlier version, if the bucket is versioned), or remove it"
            " from the folder if it is not ours; without it players could be mailed again",
            code=Code.STATE_DAMAGED,
        ) from None


def read_ledger(lines: Iterable[bytes], place: str) -> tuple[Header, Iterator[str]]:
    """The header of a ledger and its players, streamed."""
    rest = iter(lines)
    return read_header(next(rest, b""), place), (line.decode() for line in rest if line)
