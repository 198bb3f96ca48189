"""`make chaos`: CHAOS_KILLS=n kills in all, SEED=n; it resumes where it stopped. REPLAY=file repeats a history.

The last line counts all rounds of the seed. A violation ends the command: it prints the seed and the events that name
what is wrong, and writes them to a file for REPLAY. With SHRINK=n, up to n replays look for a shorter one. On a busy
machine CHAOS_MINUTES=30 lets runs reach their launch before the next as-of; the schedule is of 5 minutes otherwise.
On an idle one CHAOS_PACE=3 takes the steps three times as fast. A seed with all its kills
begins again; its history is kept as earlier.jsonl.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from local.config import RUN_DIR
from tests.chaos.airflow_api import RefusedError
from tests.chaos.checker.world import Violation
from tests.chaos.history import (
    DONE,
    Event,
    History,
    invariants,
    last_installation,
    read,
    related,
    repeatable,
    shrink,
    write,
)
from tests.chaos.installation import installation
from tests.chaos.killer import shares
from tests.chaos.mutations import MUTATIONS, STUCK, apply
from tests.chaos.plan import MINUTES, PACE
from tests.chaos.schedule import StuckError
from tests.chaos.session import Session

#: Kills until a quiet point, and rounds in one installation: a longer history is more to replay.
KILLS_A_ROUND, ROUNDS_AN_INSTALLATION = max(1, round(25 * PACE)), 4
#: Of a mutation, which is to be found soon.
KILLS_A_ROUND_OF_MUTATION = 15
#: In a run of more kills nothing that the checker counts may be zero: where nothing happens, nothing is violated.
LIVELY_KILLS = 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=int(os.environ.get("CHAOS_KILLS") or 1000))
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or 1))
    parser.add_argument("--fresh", action="store_true", help="forget what this seed has done before")
    parser.add_argument("--mutation", choices=sorted(MUTATIONS), help="a change of the package that must be found")
    parser.add_argument("--replay", type=Path, help="a history to repeat")
    parser.add_argument("--shrink", type=int, default=0, help="replays that look for a shorter history")
    arguments = parser.parse_args()
    began = time.monotonic()
    name = f"seed-{arguments.seed}" + (f"-{arguments.mutation}" if arguments.mutation else "")
    # read before anything is written: it may be a history of this seed
    repeated = last_installation(read(arguments.replay)) if arguments.replay else []
    history = History(RUN_DIR / "chaos" / name / ("replay.jsonl" if arguments.replay else "history.jsonl"))
    if arguments.fresh or arguments.mutation or arguments.replay:
        history.forget()
    found: list[Violation] = []
    if not arguments.replay:
        history.set_aside(arguments.kills)
    if (last := history.events[-1:]) and last[0].kind == "violation":
        print(f"{history.path} ends with a violation: --fresh forgets it, --replay repeats it", flush=True)
        return 1
    try:
        if arguments.replay:
            return _replay(repeated, history, arguments.mutation, arguments.shrink)
        while not found and history.counts().kills < arguments.kills:
            found = _install(history, arguments.seed, arguments.kills, arguments.mutation)
    except (StuckError, RefusedError) as error:
        history.add(Event("stuck", time.time(), 0.0, {"name": str(error)}))
        print(f"{STUCK}: {error}. The same command begins with a new installation.")
        return 1
    _tell(history, found, arguments.seed)
    nothing = [name for name, number in history.coverage().items() if not number]
    idle = history.counts().kills > LIVELY_KILLS and bool(nothing)
    if idle:
        print(f"Nothing was compared of: {', '.join(nothing)}")
    for why in history.stuck():
        print(f"a round did not end: {why}")
    print(f"killed in: {shares(history.killed())}")
    print(f"{(time.monotonic() - began) / 60:.0f} minutes")
    print(history.counts())
    return 1 if found or idle else 0


def _install(history: History, seed: int, kills: int, mutation: str | None) -> list[Violation]:
    """Rounds in one installation, until a violation or the last kill; the violations."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    with installation(folder, _say, apply(mutation)) as made:
        _say(f"{made.url}, logs in {made.folder}")
        session = Session(made, history, _say)
        session.begin(f"seed {seed}")
        for _ in range(ROUNDS_AN_INSTALLATION):
            if (left := kills - history.counts().kills) <= 0:
                break
            rng = random.Random(f"{seed}:{history.rounds()}")  # noqa: S311 - no secret
            if found := session.play(rng, min(left, KILLS_A_ROUND_OF_MUTATION if mutation else KILLS_A_ROUND)):
                return found  # its logs stay
        if not mutation:
            session.clean_up()
    shutil.rmtree(folder, ignore_errors=True)
    return []


def _replay(events: list[Event], history: History, mutation: str | None, tries: int) -> int:
    """Repeat a history; with tries, look for a shorter one that violates the same invariant."""
    wanted = invariants(events)

    def shows(some: Sequence[Event]) -> bool:
        with installation(Path(tempfile.mkdtemp(prefix="chaos-")), _say, apply(mutation)) as made:
            session = Session(made, history, _say)
            session.begin("replay")
            found = session.replay(some)
        for each in found:
            print(f"{each.invariant}: {each.sentence}", flush=True)
        if not wanted:  # the file names none: what the first replay shows
            wanted.update(each.invariant for each in found)
        return any(each.invariant in wanted for each in found)

    all_of_it = repeatable(events)
    if not shows(all_of_it):
        print(f"The replay shows no violation of {' or '.join(sorted(wanted)) or 'any invariant'}.")
        return 0
    if tries:
        shortest = shrink(all_of_it, shows, tries)
        path = history.path.with_name("shortest.jsonl")
        write(path, shortest)
        print(f"{len(shortest)} of {len(all_of_it)} events show it: {path}")
    return 1


def _tell(history: History, found: list[Violation], seed: int) -> None:
    """Print violations, and the shortest history that is known."""
    if not found:
        return
    for each in found:
        print(f"{each.invariant}: {each.sentence}")
    events = history.of_installation()
    whole = history.path.with_name("violation.jsonl")
    write(whole, [event for event in events if event.kind in (*DONE, "violation")])
    about = related(events, [subject for each in found for subject in each.subjects])
    print(f"seed {seed}; the events that name it, and kills and cuts near them, of {len(events)}:")
    for event in about[-40:]:
        print(f"  {event.after:7.1f} s {event.kind} {event.about}")
    set_to = f"CHAOS_MINUTES={MINUTES} CHAOS_PACE={PACE:g} SEED={seed}"
    print(f"repeat it: {set_to} make chaos REPLAY={whole}; SHRINK=10 looks for a shorter history")


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
