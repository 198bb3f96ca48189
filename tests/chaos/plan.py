"""Which action the driver takes next: by a seed, so that a history can be repeated."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

#: The users: who triggers, who may approve, who may not.
TRIGGERS, APPROVER, OTHER = "ana", "ann", "bob"
#: Minutes between two as-ofs. A new as-of ends the launches of the one before, so a busy machine needs more.
MINUTES = int(os.environ.get("CHAOS_MINUTES") or 5)
if MINUTES not in (5, 10, 15, 20, 30):
    raise SystemExit(
        f"CHAOS_MINUTES is {MINUTES}: set it to 5, 10, 15, 20 or 30, so that all as-ofs are equally far apart"
    )
#: How many times as fast steps follow one another; a round has as many times the kills.
PACE = float(os.environ.get("CHAOS_PACE") or 1)
#: The cohorts that runs name, and their thresholds.
COHORTS: Mapping[str, tuple[int, ...]] = {
    "ea_atrisk": (2, 1, 0), "ea_malice": (2, 1), "ea_mischief": (3, 2), "ea_duty": (7, 6), "ea_altruism": (28, 25),
    "ea_reputation": (-70, -60),
}  # fmt: skip
#: The cohort and the two thresholds that each round begins with: many players are beyond both.
PAIR = ("ea_atrisk", 1, 0)
#: How often each action is drawn.
WEIGHTS: Mapping[str, int] = {
    "launch": 20, "answer": 25, "run": 14, "clear": 10, "contacts": 8, "do_not_contact": 6, "scores": 6, "registry": 6,
    "write_events": 8, "approve_all": 6, "unsubscribe": 4, "backfill": 4, "what_if": 4, "engagement": 3,
    "lose_answers": 3, "erase": 2, "graph_load": 2,
}  # fmt: skip
#: How a question is answered. `late` waits until the next as-of.
ANSWERS = ("approve", "approve", "approve", "approve", "reject", "wrong person", "twice", "late", "own run")
#: How the questions of a quiet point are answered, in turn: most runs ask only there. A question whose answer is not
#: accepted is asked again.
QUIET_ANSWERS = ("wrong person", "approve", "twice", "approve", "own run", "approve", "approve", "reject")
#: The tasks that a user may clear, each with downstream or without.
TASKS = (
    "plan", "extract", "enrich", "check_limits", "create_import_job", "wait_for_import_job", "verify_segment",
    "record_result", "prepare_campaign", "approve_campaign", "launch_campaign", "report",
)  # fmt: skip


class Action(NamedTuple):
    """What is done; its parameters do not depend on what Airflow has done until then, but by an index into it."""

    name: str
    about: dict[str, JsonValue]


def first_actions(rng: random.Random) -> list[Action]:
    """What a round begins with.

    The launches of the pair have a template of their own, so that they may mail all of their players; answers of SES
    are lost. A run of the same cohort reads the graph whether there is a snapshot or not.
    """
    cohort, *thresholds = PAIR
    other = rng.choice(sorted(COHORTS.keys() - {cohort}))
    launches = [*((cohort, each) for each in thresholds), (other, COHORTS[other][-1])]
    return [
        Action("lose_answers", {"seconds": 20}),
        Action("registry", {"cohort": cohort, "edit": "template"}),
        *(Action("launch", {"cohort": name, "threshold": each, "campaign": "launch"}) for name, each in launches),
        Action("run", {"cohort": cohort, "threshold": COHORTS[cohort][0], "option": "live"}),
    ]


def choose(rng: random.Random, players: Sequence[str]) -> Action:
    """The next action.

    :param players: the playerIds of the contacts, sorted, or of the rows of a segment.
    """
    name = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    return Action(name, _about(name, rng, players))


def _about(name: str, rng: random.Random, players: Sequence[str]) -> dict[str, JsonValue]:
    match name:
        case "run" | "launch":
            cohort = rng.choice(sorted(COHORTS))
            about: dict[str, JsonValue] = {"cohort": cohort, "threshold": rng.choice(COHORTS[cohort])}
            if name == "launch":
                return about | {"campaign": "launch"}
            option = rng.choice(("none", "none", "dry_run", "extract_only", "live", "test"))
            return about | {"option": option}
        case "answer":
            return {"how": rng.choice(ANSWERS), "index": rng.randrange(1000)}
        case "approve_all":
            return {"noes": rng.randrange(3)}
        case "lose_answers":
            return {"seconds": rng.choice((3, 20))}
        case "clear":
            downstream = rng.random() < 0.7
            return {"index": rng.randrange(1000), "task": rng.choice(TASKS), "downstream": downstream}
        case "contacts":
            kind = rng.choice(("no", "no", "address", "deleted"))
            return {"kind": kind, "players": _some(rng, players, 8)}
        case "do_not_contact" | "unsubscribe":
            return {"players": _some(rng, players, 8)}
        case "erase":
            return {"players": _some(rng, players, 3)}
        case "scores":
            cohort = rng.choice(sorted(COHORTS))
            return {"cohort": cohort, "players": _some(rng, players, 20), "change": rng.choice((-2, -1, 1, 2))}
        case "registry":
            return {"cohort": rng.choice(sorted(COHORTS)), "edit": rng.choice(("template", "holdout", "threshold"))}
        case "backfill":
            behavior = rng.choice(("none", "completed", "failed"))
            return {"back": rng.randint(1, 4), "number": rng.randint(1, 3), "behavior": behavior}
        case "what_if":
            cohort = rng.choice(sorted(COHORTS))
            return {"cohort": cohort, "threshold": COHORTS[cohort][0]}
    return {}


def _some(rng: random.Random, players: Sequence[str], number: int) -> list[JsonValue]:
    return [*rng.sample(players, min(number, len(players)))]
