"""What the suppression list and the engagement events have of one player, for `explain` and `export`."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from local.support_desk import Desk

_INTENTS = re.compile(r"launches/([^/]+)/(\d+)_(\d+)\.intents\.json")
_EVENTS_FOLDER = "engagement/events/"


class PlayerEvent(NamedTuple):
    """An event of an e-mail to the player; `subtype`, `bot` and `link` are None where it has none."""

    launch: str
    time: str
    type: str
    subtype: str | None
    bot: str | None
    link: str | None


def suppressions_of(desk: Desk, addresses: Iterable[str]) -> list[dict[str, str]]:
    """Return the entries of the suppression list of the player and the addresses; raises ClientError."""
    from cohort_flywheel.engagement.suppressions import read_entries, suppression_key
    from cohort_flywheel.governance.erasure import SALT_KEY
    from cohort_flywheel.runs.names import SUPPRESSIONS_KEY

    lines = desk.body("state", SUPPRESSIONS_KEY).splitlines()
    salt = bytes.fromhex(json.loads(desk.body("state", SALT_KEY))["salt"])
    keys = {suppression_key(salt, "player", desk.player)}
    keys |= {suppression_key(salt, "address", address) for address in addresses}
    return [entry._asdict() for entry in read_entries(lines) if entry.key in keys]


def events_of(desk: Desk, launch: str | None = None) -> Iterator[PlayerEvent]:
    """Yield the events of the e-mails to the player, of one launch or of all, in the order of time; raises ClientError.

    The records of a launch say which rows are the player's, and the events name the rows.
    """
    from cohort_flywheel.campaign.mail_tags import launch_tag
    from cohort_flywheel.common.duckdb import connect

    mails = [(launch_tag(name), row, name) for name, row in _mails(desk, launch)]
    if not mails:
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = list[str]()
        for key in desk.keys("state", _EVENTS_FOLDER):
            if key.endswith(".parquet"):
                path = Path(folder) / f"{len(paths)}.parquet"
                path.write_bytes(desk.body("state", key))
                paths.append(str(path))
        if not paths:
            return
        with connect(Path(folder)) as sql:
            sql.execute("CREATE TABLE mail (launch VARCHAR, row_tag VARCHAR, name VARCHAR)")
            sql.executemany("INSERT INTO mail VALUES (?, ?, ?)", mails)
            sql.read_parquet(paths).create_view("event")
            found: list[tuple[Any, ...]] = sql.execute(
                "SELECT DISTINCT name, time, type, subtype, bot, link FROM event JOIN mail USING (launch, row_tag)"
                " ORDER BY ALL"
            ).fetchall()
    yield from (PlayerEvent(name, f"{time.isoformat()}+00:00", *rest) for name, time, *rest in found)


def _mails(desk: Desk, launch: str | None) -> Iterator[tuple[str, str]]:
    """Yield the launch and the row tag of each e-mail that the player may have been sent."""
    from cohort_flywheel.campaign.mail_tags import row_tag

    for key in desk.keys("state", f"launches/{launch}/" if launch else "launches/"):
        if not (match := _INTENTS.fullmatch(key)):
            continue
        name, number, attempt = match[1], int(match[2]), int(match[3])
        for index, player in enumerate(json.loads(desk.body("state", key))["player_ids"]):
            if player == desk.player:
                yield name, row_tag(number, attempt, index)
