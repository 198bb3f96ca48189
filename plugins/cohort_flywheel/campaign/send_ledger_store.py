"""The send ledgers in the state bucket: written before mails are sent, and read before each launch of a template."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

from cohort_flywheel.campaign.send_ledger import (
    LASTS,
    Header,
    is_holdout,
    is_ledger_of,
    ledger_folder,
    ledger_key,
    read_header,
    read_ledger,
    run_of_ledger,
    write_ledger,
    write_lines,
)
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, keys, lines, objects, put_if
from cohort_flywheel.runs.schedule import utc_now
from cohort_flywheel.segment.do_not_contact_store import add_to_list, is_listed, make_list

#: The maximum difference of S3's and a worker's clock; a greater value only opens more ledgers.
_CLOCKS = timedelta(hours=1)
_MAX_HEADER_BYTES = 64 * 1024


def put_ledger(
    s3: S3Hook, bucket: str, header: Header, player_ids: Iterable[str], folder: Path, number: int = 1
) -> Header:
    """Write a ledger of a launch before anything is created or sent; return the header that is valid.

    An existing ledger is kept. Raises FlywheelError if the result was launched before with another segment file or by
    another destination.

    :param folder: a folder for temporary files.
    :param number: 1 for a new launch, one more each time it is continued.
    """
    key = ledger_key(header.template, header.name, number)
    path = folder / "ledger.jsonl"
    write_ledger(path, header, player_ids)
    put_if(s3, bucket, key, path, IfNoneMatch="*")
    found = find_ledger(s3, bucket, header.template, header.name, number)  # also after a lost answer
    if found is None:
        raise RuntimeError  # it existed, or was written, a moment ago
    return check_same_launch(found, header, f"s3://{bucket}/{key}")


def ledgers_of(s3: S3Hook, bucket: str, template: str, name: str) -> list[str]:
    """The keys of a launch's ledgers."""
    found = keys(s3, bucket, f"{ledger_folder(template)}{name}.")
    return [key for key in found if is_ledger_of(key, template, name)]


def close_ledger(s3: S3Hook, bucket: str, key: str, mails_until: datetime, folder: Path) -> None:
    """Record in a ledger that no mail is sent under it after `mails_until`, if that is earlier than before."""
    header, players = read_ledger(lines(s3, bucket, key), f"s3://{bucket}/{key}")
    if mails_until < header.last_mail:
        _put_again(s3, bucket, key, header._replace(mails_until=mails_until), players, folder)


def extend_ledger(s3: S3Hook, bucket: str, key: str, mails_until: datetime, folder: Path) -> None:
    """Record in a ledger that mails are sent under it until a later time, before they are sent."""
    header, players = read_ledger(lines(s3, bucket, key), f"s3://{bucket}/{key}")
    if mails_until > header.last_mail:
        _put_again(s3, bucket, key, header._replace(mails_until=mails_until), players, folder)


def take_out(s3: S3Hook, bucket: str, template: str, name: str, player_ids: Iterable[str], folder: Path) -> None:
    """Rewrite a launch's ledgers without players that it never mailed, so that another launch may mail them.

    :param folder: a folder for temporary files.
    """
    with closing(sqlite3.connect(folder / "never.sqlite")) as listed:
        make_list(listed, "never")
        add_to_list(listed, "never", player_ids)
        for key in ledgers_of(s3, bucket, template, name):
            header, players = read_ledger(lines(s3, bucket, key), f"s3://{bucket}/{key}")
            others = (player for player in players if not is_listed("never", player, listed))
            _put_again(s3, bucket, key, header, others, folder)


def _put_again(s3: S3Hook, bucket: str, key: str, header: Header, players: Iterable[str], folder: Path) -> None:
    path = folder / "ledger_again.jsonl"
    write_lines(path, header, players)
    put_if(s3, bucket, key, path)


def check_same_launch(found: Header, header: Header, place: str) -> Header:
    """Return the header of a ledger; raise FlywheelError unless it belongs to this launch."""
    if (found.segment_sha256, found.destination) != (header.segment_sha256, header.destination):
        raise FlywheelError(
            f"{header.name} was launched already, at {found.launched_at.isoformat()} by {found.destination} with"
            f" template {found.template} ({place}), and its segment file has changed since: it is not launched again",
            code=Code.LAUNCHED_ALREADY,
        )
    return found


def find_ledger(s3: S3Hook, bucket: str, template: str, name: str, number: int = 1) -> Header | None:
    """Return the header of a launch's ledger, or None if the launch has not begun."""
    key, client = ledger_key(template, name, number), s3.get_conn()
    try:
        answer = client.get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{_MAX_HEADER_BYTES - 1}")
    except client.exceptions.NoSuchKey:
        return None
    return read_header(answer["Body"].read().partition(b"\n")[0], f"s3://{bucket}/{key}")


def load_ledger(s3: S3Hook, bucket: str, template: str, name: str, players: sqlite3.Connection, number: int = 1) -> int:
    """Fill the list `launched` with the players of one ledger; return their number."""
    key = ledger_key(template, name, number)
    make_list(players, "launched")
    _, found = read_ledger(lines(s3, bucket, key), f"s3://{bucket}/{key}")
    return add_to_list(players, "launched", found)


def load_recently_mailed(
    s3: S3Hook, bucket: str, template: str, since: datetime, own_name: str, listed: sqlite3.Connection
) -> int:
    """Fill the list `mailed` with the players that launches of a template may have mailed at or after an instant.

    Returns their number. Covers every cohort, threshold, as-of and destination, except the launch `own_name`, and the
    players that a launch held out. A player counts as mailed at the latest time that the ledger allows
    (Header.last_mail); each ledger of a continued launch has the players that remained. The lists are on disk. Ledgers
    written long before are not opened.
    """
    make_list(listed, "mailed")
    # `since` may be in the future, and S3 dates objects in the past
    oldest, folder = min(since, utc_now()) - LASTS - _CLOCKS, ledger_folder(template)
    written = {each.key: each.written for each in objects(s3, bucket, folder)}
    number = 0
    for key, at in written.items():
        run = run_of_ledger(key.removeprefix(folder))
        # a holdout counts with its launch's first ledger, which is written after it
        if run == own_name or (is_holdout(key) and ledger_key(template, run) not in written):
            continue
        # written at most LASTS before its last mail, or rewritten later by an erasure
        if at < oldest:
            continue
        header, players = read_ledger(lines(s3, bucket, key), f"s3://{bucket}/{key}")
        if header.last_mail >= since:
            number += add_to_list(listed, "mailed", players)
    return number
