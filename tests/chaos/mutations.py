"""Changes of the package, each a fault that a chaos run must find: `python -m tests.chaos.mutations` tries them all."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from local.config import ROOT

_SES = "destinations/ses/campaign"
#: How the line of a run begins in which runs did not end.
STUCK = "stuck"
#: Seconds after which a run of one mutation is stopped.
SECONDS = 3600


class Change(NamedTuple):
    """A text of a file of the package, and what is there instead."""

    file: str
    old: str
    new: str


class Mutation(NamedTuple):
    """A fault, and the invariants of which one must find it."""

    changes: Sequence[Change]
    found_by: tuple[str, ...]


MUTATIONS: Mapping[str, Mutation] = {
    "lock_removed": Mutation(
        [Change("runs/lock_store.py", "state_of(context[\"ti\"], other)) in ACTIVE_STATES:",
                "state_of(context[\"ti\"], other)) in ():")],
        ("one job per content", "mailed once", "every player accounted", "result files"),
    ),
    "ledger_written_late": Mutation(
        [Change(f"{_SES}/ses_launch_operator.py",
                "header = put_ledger(s3, bucket, header, left.player_ids(\"mailed\", players), folder, number)",
                "header = put_ledger(s3, bucket, header._replace(players=0), (), folder, number)"),
         Change(f"{_SES}/ses_launch_operator.py",
                "        load_ledger(s3, bucket, template, name, players, number)\n",
                "        make_list(players, \"launched\")\n"
                "        rows = [(p,) for p in left.player_ids(\"mailed\", players)]\n"
                "        players.executemany(\"INSERT INTO launched VALUES (?)\", rows)\n")],
        ("in a ledger", "mailed once"),
    ),
    "ledgers_ignored": Mutation(
        [Change("campaign/send_ledger_store.py", "if header.last_mail >= since:", "if header.last_mail < since:")],
        ("mailed once",),
    ),
    "in_doubt_mailed_again": Mutation(
        [Change(f"{_SES}/sends_store.py", "withdrawn=intents[\"withdrawn\"], in_doubt=in_doubt)",
                "withdrawn=intents[\"withdrawn\"], left=in_doubt)")],
        ("mailed once", "launches account"),
    ),
    "withdrawals_ignored": Mutation(
        [Change(f"{_SES}/withdrawals_store.py", "for player_id, reason in reasons if reason}",
                "for player_id, reason in reasons if reason == \"recently_mailed\"}")],
        ("no after a no",),
    ),
    "any_user_approves": Mutation(
        [Change("campaign/operators.py", "if by not in approvers:", "if by is None:"),
         Change("campaign/approval.py", " or answer.get(\"by\") not in approvers", "")],
        ("approved",),
    ),
    "jobs_not_adopted": Mutation(
        [Change("destinations/ses/operators.py", "running = [job for job in jobs if job[\"JobStatus\"] not in _ENDED]",
                "running = [job for job in jobs if job[\"JobStatus\"] in ()]")],
        ("one job per content",),
    ),
    "snapshot_overwritten": Mutation(
        [Change("runs/state_store.py", "self.fetch_snapshot(snapshot_key, path), IfNoneMatch=\"*\")",
                "self.fetch_snapshot(snapshot_key, path))"),
         Change("runs/state_store.py", "            return final\n        path, key =",
                "            pass\n        path, key =")],
        ("snapshots stay",),
    ),
    "rejects_lost": Mutation(
        [Change("segment/enrich_operator.py", "        put_unless_equal(s3, rejects_path,",
                "        if not shard:\n            put_unless_equal(s3, rejects_path,")],
        ("every player accounted",),
    ),
    "objects_read_again": Mutation(
        [Change("engagement/events_store.py", "read.update(Manifest.model_validate(manifest[0]).keys)",
                "Manifest.model_validate(manifest[0])")],
        ("events once",),
    ),
    "events_incremented": Mutation(
        [Change("engagement/event_counts.py", "SELECT min(place) AS place, key FROM day GROUP BY key",
                "SELECT place, key FROM day")],
        ("events once",),
    ),
    "player_in_a_log": Mutation(
        [Change(f"{_SES}/ses_launch_operator.py", "        for number, attempt, rows in left:\n",
                "        for number, attempt, rows in left:\n"
                "            self.log.info(\"mailing %s\", [row.player_id for row in rows])\n")],
        ("no personal data",),
    ),
    "erasure_leaves_rows": Mutation(
        [Change("governance/erasure_operator.py", "if not found.lines:",
                "if not found.lines or kind == \"file of rows\":")],
        ("erased stay out",),
    ),
}  # fmt: skip


def mutate(package: Path, name: str) -> None:
    """Change a copy of the package; raises ValueError where its code is not as the mutation expects it."""
    for file, old, new in MUTATIONS[name].changes:
        path = package / file
        text = path.read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise ValueError(f"{name}: {file} has {text.count(old)} times: {old}")
        path.write_text(text.replace(old, new), encoding="utf-8")


def apply(name: str | None) -> Callable[[Path], None] | None:
    """What `installation` does with the copy of the package."""
    return (lambda package: mutate(package, str(name))) if name else None


def main() -> int:
    """Run each mutation until it is found, or for `kills` kills; print a table."""
    kills, names = int(sys.argv[1]) if len(sys.argv) > 1 else 50, sys.argv[2:] or sorted(MUTATIONS)
    missed = []
    for name in names:
        command = [sys.executable, "-m", "tests.chaos", "--mutation", name, "--kills", str(kills)]
        # its processes end with it
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
            try:
                output, _ = run.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                run.terminate()  # not SIGKILL: it removes what it has started
                output = f"{run.communicate()[0]}\n{STUCK}: not ended after {SECONDS} s"
        found = found_in(name, output)
        if not found:
            missed.append(name)
        print(f"| {name} | {', '.join(found) or why_not_found(output)} | {output.splitlines()[-1:]} |", flush=True)
    return 1 if missed else 0


def found_in(name: str, output: str) -> list[str]:
    """The invariants that have found a mutation, by the output of its run."""
    return [each for each in MUTATIONS[name].found_by if f"\n{each}: " in output]


def why_not_found(output: str) -> str:
    """Say why a run has not found its mutation: a run that did not get so far says nothing about the checker."""
    if f"\n{STUCK}: " in f"\n{output}":
        return "stuck"
    mails = re.findall(r"(\d+) mails", output)
    if not mails:
        return "no quiet point was reached"
    return "not found" if int(mails[-1]) else "nothing was mailed"


if __name__ == "__main__":
    sys.exit(main())
