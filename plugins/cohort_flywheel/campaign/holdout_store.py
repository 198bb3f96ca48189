"""The lists of a launch with a holdout, written before its send ledger, which makes them valid."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from cohort_flywheel.campaign.holdout import (
    REASON_OF,
    Holdout,
    LaunchFacts,
    facts_key,
    holdout_key,
    holdouts,
    mailed_key,
)
from cohort_flywheel.campaign.send_ledger import Header, write_ledger
from cohort_flywheel.campaign.send_ledger_store import close_ledger
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, keys, lines, put_if, put_json
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.segment.do_not_contact_store import is_listed
from cohort_flywheel.segment.outputs import Segment


def put_holdouts(
    s3: S3Hook, plan: Plan, segment: Segment, header: Header, mailed: Iterable[str], listed: sqlite3.Connection,
    folder: Path,
) -> None:  # fmt: skip
    """Write the lists and facts of a launch that has no send ledger yet; do nothing without a holdout.

    Call it under the lock of the template, directly before put_ledger. A list of held-out players without a send ledger
    counts for no launch, and is written again by the next attempt.

    :param header: the header of the send ledger.
    :param mailed: the players of the send ledger.
    :param listed: the list `mailed` has the players of other launches, who are held out by none.
    :param folder: a folder for temporary files.

    Raises FlywheelError if the rejects of the segment are gone or have changed.
    """
    wanted = holdouts(plan)
    if not wanted:
        return
    bucket, path = plan.state_bucket, folder / "held_out.jsonl"
    numbers: dict[Holdout, int] = {"launch_holdout": 0, "global_holdout": 0}
    for holdout in wanted:

        def held_out(reason: str = REASON_OF[holdout]) -> Iterator[str]:
            players = _rejected(s3, bucket, segment, reason)
            return (player for player in players if not is_listed("mailed", player, listed))

        numbers[holdout] = sum(1 for _ in held_out())
        write_ledger(path, header._replace(players=numbers[holdout]), held_out())
        put_if(s3, bucket, holdout_key(header.template, header.name, holdout), path)
    with (folder / "mailed.txt").open("w", encoding="utf-8", newline="") as file:
        file.writelines(f"{player_id}\n" for player_id in mailed)
    put_if(s3, bucket, mailed_key(header.name), folder / "mailed.txt")
    put_json(s3, bucket, facts_key(header.name), _facts(plan, header, numbers).model_dump(mode="json"))


def close_holdouts(s3: S3Hook, plan: Plan, header: Header, mails_until: datetime, folder: Path) -> None:
    """Record in the lists of a launch that no mail is sent after `mails_until`, as in its send ledger."""
    for holdout in holdouts(plan):
        close_ledger(s3, plan.state_bucket, holdout_key(header.template, header.name, holdout), mails_until, folder)


def _facts(plan: Plan, header: Header, numbers: dict[Holdout, int]) -> LaunchFacts:
    wanted, campaign = holdouts(plan), plan.require_campaign()
    if campaign.effect_days is None:
        raise ValueError("a launch with a holdout has effect_days")
    return LaunchFacts(
        launch=plan.name,
        cohort=plan.cohort,
        template=header.template,
        as_of=plan.as_of,
        timezone=plan.timezone,
        property=plan.property,
        direction=plan.direction,
        threshold=plan.threshold,
        vertex_label=plan.data_schema.vertex_label,
        player_id=plan.data_schema.player_id,
        destination=header.destination,
        effect_days=campaign.effect_days,
        holdout_percent=wanted.get("launch_holdout", 0),
        global_holdout_percent=wanted.get("global_holdout", 0),
        launched_at=header.launched_at,
        mailed=header.players,
        **numbers,
    )


def _rejected(s3: S3Hook, bucket: str, segment: Segment, reason: str) -> Iterator[str]:
    """Yield the players of a segment's rejects with a reason; raise FlywheelError unless they are all there."""
    number = 0
    for key in keys(s3, bucket, segment.rejects_key):
        rows = csv.reader(line.decode() for line in lines(s3, bucket, key))
        next(rows, None)  # the header
        for player_id, why, _column in rows:
            if why == reason:
                number += 1
                yield player_id
    if number != segment.rejects.get(reason, 0):
        raise FlywheelError(
            f"s3://{bucket}/{segment.rejects_key} has {number:,} players held out ({reason}), and the segment"
            f" {segment.rejects.get(reason, 0):,}: the rejects are gone or have changed; clear enrich with downstream,"
            " which writes them again",
            code=Code.FILE_CHANGED,
        )
