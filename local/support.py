"""`python -m local explain` and `export`: what happened to one player, and all that is stored of the player.

For the support desk, with the person's own AWS credentials (include/iam/people/support_desk.json). The playerId is read
from standard input: an argument would be in the shell's history and in the list of processes. Nothing is logged.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from botocore.exceptions import ClientError

from local.config import LocalError
from local.player_events import events_of, suppressions_of
from local.support_desk import Desk, Place, status_of

# --- explain


def explain(desk: Desk, run_or_date: str) -> Iterator[str]:
    """Yield a sentence for each place that says why the player is, or is not, in the segment of a run, or of a date."""
    runs = runs_of(desk, run_or_date)
    record = desk.record()
    for run in runs:
        yield from _in_run(desk, run)
    yield from _on_list(desk)
    yield from _suppressed(desk, record)
    yield from _mailed(desk, runs)
    yield from _erased(desk)
    has = "has a record now" if record.found else "has no record now" if record.status == "read" else record.status
    yield f"{record.place}: {has}"


def _in_run(desk: Desk, run: str) -> Iterator[str]:
    from cohort_flywheel.segment.contacts import REASONS

    cohort, as_of = read_run(run)
    yield from _in_snapshot(desk, cohort, as_of)
    yield from _looked(desk, f"rejects of {run}", "state", f"rejects/{run}", lambda row: (
        f"rejected: {row['reason']} ({REASONS.get(row['reason'], 'no longer a reason')})"
        + (f", at {row['column']}" if row.get("column") else "")
    ), "no reject")  # fmt: skip
    yield from _looked(
        desk, f"segment file of {run}", "import", f"segments/{run}_", lambda row: "a row of the segment", "no row"
    )
    yield from _events(desk, run)


def _in_snapshot(desk: Desk, cohort: str, as_of: datetime) -> Iterator[str]:
    from cohort_flywheel.runs import names
    from cohort_flywheel.segment.snapshot import read_file_header, read_vertices

    place = f"snapshot of {cohort} of {as_of:%Y-%m-%d %H:%M} UTC"
    try:
        content = desk.body("state", names.snapshot_key(cohort, as_of))
    except ClientError as error:
        yield f"{place}: {status_of(error)}"
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot.parquet"
        path.write_bytes(content)
        header = read_file_header(path, place)
        scores = [vertex.score for vertex in read_vertices(path) if vertex.player_id == desk.player]
    if scores:
        score = ", ".join(map(str, scores))
        yield f"{place}: {header.property} is {score}; members are {header.direction} the threshold"
    else:
        yield f"{place}: not in it, so {header.property} was not {header.direction} the floor {header.floor}"


def _looked(desk: Desk, place: str, role: str, prefix: str, say: Any, otherwise: str) -> Iterator[str]:
    """The player's rows of CSV files; a sentence for each."""
    try:
        keys = [key for key in desk.keys(role, prefix) if key.endswith(".csv")]
        rows = [row for key in keys for row in rows_of(desk.body(role, key), desk.player)]
    except ClientError as error:
        yield f"{place}: {status_of(error)}"
        return
    if not keys:
        yield f"{place}: expired, or the run did not come so far"
        return
    yield from (f"{place}: {say(row)}" for row in rows)
    if not rows:
        yield f"{place}: {otherwise}"


def _on_list(desk: Desk) -> Iterator[str]:
    from cohort_flywheel.segment.contacts import entry_forms, player_id_forms

    try:
        lines = desk.body("state", "do_not_contact.txt").splitlines()
    except ClientError as error:
        yield f"do-not-contact list: {status_of(error)}"
        return
    forms = set(player_id_forms(desk.player))
    found = [number for number, line in enumerate(lines, start=1) if not forms.isdisjoint(entry_forms(line, number))]
    yield f"do-not-contact list: {'line ' + ', '.join(map(str, found)) if found else 'the playerId is not on it now'}"


def _suppressed(desk: Desk, record: Place) -> Iterator[str]:
    """Each entry of the suppression list that the player, or the address of the record, has."""
    try:
        found = suppressions_of(desk, desk.addresses(record))
    except ClientError as error:
        status = status_of(error)
        yield f"suppression list: {'does not exist' if status == 'expired' else status}"
        return
    states = {"suppressed": "is suppressed", "lifted": "was suppressed, until an opt-in",
              "removed": "was suppressed, until a person removed it"}  # fmt: skip
    for entry in found:
        why = f" ({entry['why']})" if entry["why"] else ""
        yield f"suppression list: the {entry['kind']} {states[entry['state']]}: {entry['reason']}, {entry['at']}{why}"
    if not found:
        which = "nor the address" if record.found else "; the address is not known"
        yield f"suppression list: the playerId is not on it{' ' if record.found else ''}{which}"


def _events(desk: Desk, run: str) -> Iterator[str]:
    """What became of the e-mails to the player of a run's launch."""
    try:
        found = list(events_of(desk, run))
    except ClientError as error:
        yield f"events of {run}: {status_of(error)}"
        return
    for each in found:
        more = [text for text in (each.subtype, each.link, each.bot and f"{each.bot} a bot, by SES") if text]
        yield f"events of {run}: {each.type} at {each.time}{f' ({", ".join(more)})' if more else ''}"
    if not found:
        yield f"events of {run}: none of an e-mail to the player"


def _mailed(desk: Desk, runs: Collection[str]) -> Iterator[str]:
    """The launches whose ledger has the player, those of these runs first."""
    from cohort_flywheel.campaign.send_ledger import is_holdout, read_ledger

    found = []
    try:
        for key in desk.keys("state", "sends/"):
            header, players = read_ledger(desk.body("state", key).splitlines(), key)
            if desk.player in players:
                held_out = ", held out and not mailed" if is_holdout(key) else ""
                at = header.launched_at.isoformat()
                found.append(f"{header.name} with template {header.template}, launched {at}{held_out}")
    except ClientError as error:
        yield f"send ledgers: {status_of(error)}"
        return
    found.sort(key=lambda text: not text.startswith(tuple(runs)))
    yield "send ledgers: " + ("; ".join(found) if found else "in none, so never mailed by this package")


def _erased(desk: Desk) -> Iterator[str]:
    from cohort_flywheel.governance.erasure import SALT_KEY, TOMBSTONES_FOLDER, tombstone

    try:
        salt = bytes.fromhex(json.loads(desk.body("state", SALT_KEY))["salt"])
        name = tombstone(salt, desk.player)
        desk.body("state", TOMBSTONES_FOLDER + name)
    except ClientError as error:
        status = status_of(error)
        yield f"erasure: {'not erased' if status == 'expired' else status}"
        return
    yield "erasure: the player was erased, and no later run has the player"


def rows_of(content: bytes, player: str, addresses: Collection[str] = ()) -> Iterator[dict[str, str]]:
    for row in csv.DictReader(io.StringIO(content.decode(errors="replace"), newline="")):
        ids = [row[name] for name in ("playerId", "User.UserId", "vertexId") if row.get(name)]
        if player in ids or (not ids and row.get("emailAddress") in addresses):
            yield row


# --- the commands


def runs_of(desk: Desk, run_or_date: str) -> list[str]:
    """Return the run, or the names of the runs of a date that have a report; raises LocalError.

    The date is that of the as-of in the zone of the schedule.
    """
    try:
        wanted = date.fromisoformat(run_or_date)
    except ValueError:
        read_run(run_or_date)
        return [run_or_date]
    try:
        names = sorted({key.split("/")[1] for key in desk.keys("state", "reports/")})
    except ClientError as error:
        raise LocalError(f"The reports of the runs cannot be listed: {status_of(error)}.") from None
    found = [name for name in names if _is_run(name) and read_run(name)[1].astimezone(desk.zone).date() == wanted]
    if not found:
        raise LocalError(f"No run of {run_or_date} has a report: give the name of a run, or another date.")
    return found


def _is_run(name: str) -> bool:
    try:
        read_run(name)
    except LocalError:
        return False
    return True


def read_player(lines: Iterable[str]) -> str:
    """Read the playerId from standard input; raises LocalError."""
    player = "".join(lines).rstrip("\r\n")
    if not player or "\n" in player:
        raise LocalError("Write one playerId to standard input, as in: python -m local explain … < player.txt")
    return player


def read_settings(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The names of the buckets and the table, from the environment as Airflow takes its Variables."""
    names = ("export_bucket", "import_bucket", "state_bucket", "contacts_table")
    found = {name: environ.get(f"AIRFLOW_VAR_COHORT_FLYWHEEL_{name.upper()}", "") for name in names}
    if missing := [f"AIRFLOW_VAR_COHORT_FLYWHEEL_{name.upper()}" for name, value in found.items() if not value]:
        raise LocalError(f"Not set: {', '.join(missing)}. Set each to the value of the deployment's Airflow Variable.")
    return found


def read_run(run: str) -> tuple[str, datetime]:
    """The cohort and the as-of of a run's name, as in `ea_atrisk_2_2026-11-22_00-00-00`; raises LocalError."""
    from cohort_flywheel.config.decimals import parse_number
    from cohort_flywheel.runs import names

    stem, instant = run[:-20], run[-19:]
    cohort, _, threshold = stem.rpartition("_")
    try:
        parse_number(threshold)
    except ValueError:
        cohort = ""
    if not cohort or not names.is_instant(instant):
        raise LocalError(f"{run!r} is not the name of a run: write it as in ea_atrisk_2_2026-11-22_00-00-00 (its report"
                         " and its segment have it).")  # fmt: skip
    return cohort, names.from_instant(instant)


def explain_command(run_or_date: str) -> None:
    """Print what happened to the player in a run, or in all runs of a date."""
    desk = Desk(read_player(sys.stdin), read_settings())
    for sentence in explain(desk, run_or_date):
        print(sentence)
