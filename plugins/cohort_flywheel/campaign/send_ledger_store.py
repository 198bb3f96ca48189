"""The send ledger in the state bucket: put once as a launch begins, and read by everybody who might mail again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

from cohort_flywheel.campaign.send_ledger import (
    Header,
    ledger_folder,
    ledger_key,
    read_header,
    read_ledger,
    write_ledger,
    write_lines,
)
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, lines, put_if
from cohort_flywheel.segment.do_not_contact_store import add_to_list, is_listed, make_list

#: By how much S3's clock and a worker's may differ, generously: it only makes us open some ledgers more.
_CLOCKS = timedelta(hours=1)
_MAX_HEADER_BYTES = 64 * 1024
#: So long after it began a launch may still mail: the quota of SES is for a day, and so is a campaign's schedule.
LASTS = timedelta(hours=24)


def put_ledger(s3: S3Hook, bucket: str, header: Header, player_ids: Iterable[str], folder: Path) -> Header:
    """Put the ledger of a launch, before anything is created or sent; returns the header that is in force.

    A launch that is tried again meets its own, and goes on. Raises FlywheelError where the result was launched
    already, with another segment file or by another destination.

    :param folder: where the file may lie meanwhile.
    """
    key = ledger_key(header.template, header.name)
    path = folder / "ledger.jsonl"
    write_ledger(path, header, player_ids)
    put_if(s3, bucket, key, path, IfNoneMatch="*")
    found = find_ledger(s3, bucket, header.template, header.name)  # also where an answer was lost
    if found is None:
        raise RuntimeError  # it was there, or was put, a moment ago
    return check_same_launch(found, header, f"s3://{bucket}/{key}")


def take_out(s3: S3Hook, bucket: str, template: str, name: str, player_ids: Iterable[str], folder: Path) -> None:
    """Put a launch's ledger without those whom it has never tried to mail, so that another launch may.

    :param folder: where the file and a list may lie meanwhile.
    """
    key, path = ledger_key(template, name), folder / "ledger_without.jsonl"
    with closing(sqlite3.connect(folder / "never.sqlite")) as listed:
        make_list(listed, "never")
        add_to_list(listed, "never", player_ids)
        header, players = read_ledger(lines(s3, bucket, key), f"s3://{bucket}/{key}")
        write_lines(path, header, (player for player in players if not is_listed("never", player, listed)))
    s3.get_conn().upload_file(str(path), bucket, key)


def check_same_launch(found: Header, header: Header, place: str) -> Header:
    """Raise FlywheelError unless a ledger is that of this very launch; returns it."""
    if (found.segment_sha256, found.destination) != (header.segment_sha256, header.destination):
        raise FlywheelError(
            f"{header.name} was launched already, at {found.launched_at.isoformat()} by {found.destination} with"
            f" template {found.template} ({place}), and its segment file is another one now: it is not launched again"
        )
    return found


def find_ledger(s3: S3Hook, bucket: str, template: str, name: str) -> Header | None:
    """The header of a launch's ledger, or None where it has not begun."""
    key, client = ledger_key(template, name), s3.get_conn()
    try:
        answer = client.get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{_MAX_HEADER_BYTES - 1}")
    except client.exceptions.NoSuchKey:
        return None
    return read_header(answer["Body"].read().partition(b"\n")[0], f"s3://{bucket}/{key}")


def load_ledger(s3: S3Hook, bucket: str, template: str, name: str, players: sqlite3.Connection) -> int:
    """Make the list `launched` of the players of one launch; returns their number."""
    key = ledger_key(template, name)
    make_list(players, "launched")
    _, found = read_ledger(lines(s3, bucket, key), f"s3://{bucket}/{key}")
    return add_to_list(players, "launched", found)


def load_recently_mailed(
    s3: S3Hook, bucket: str, template: str, since: datetime, own_name: str, listed: sqlite3.Connection
) -> int:
    """Make the list `mailed` of the players of a template's launches at or after an instant; returns how many.

    Of every cohort, threshold, as-of and destination, but of `own_name`: who is tried again was not mailed by another.
    A launch may go on for a day (LASTS), so that many later than it began its last mail may have been sent. The lists
    may be longer than a worker's memory.
    """
    make_list(listed, "mailed")
    pages = s3.get_conn().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=ledger_folder(template))
    own, number = ledger_key(template, own_name), 0
    for item in (item for page in pages for item in page.get("Contents", ())):
        key = item["Key"]
        if (
            key == own or item["LastModified"] < since - LASTS - _CLOCKS
        ):  # put as its launch began, or later by an erasure
            continue
        header, players = read_ledger(lines(s3, bucket, key), f"s3://{bucket}/{key}")
        if header.launched_at >= since - LASTS:
            number += add_to_list(listed, "mailed", players)
    return number
