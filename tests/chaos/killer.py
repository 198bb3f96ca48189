"""Which process is killed next, and which server is cut off how: by a seed, in fixed shares, spread over the tasks."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tests.chaos.proxy import MODES

#: The share of each role of a process among the kills. `task` is the process of a task, `pool` the process of a Celery
#: worker that starts it, `worker` a whole worker.
SHARES: Mapping[str, float] = {
    "task": 0.62, "pool": 0.14, "worker": 0.08, "scheduler": 0.05, "triggerer": 0.04, "dag-processor": 0.03,
    "api-server": 0.025, "postgresql": 0.015,
}  # fmt: skip
TASKS_AND_WORKERS = ("task", "pool", "worker")
SHARED = ("api-server", "postgresql")
#: The roles whose processes run one task, and the kills that one task may have: a share of all of theirs, or a few.
#: Without a limit most of them hit `plan`, the first task of each run, and no run comes as far as its import.
OF_ONE_TASK = ("task", "pool")
MOST, FEW = 0.1, 5
SERVERS = ("graph", "table", "aws")
#: By the proxy, and by SIGSTOP of the server itself.
CUTS = (*MODES, "stop")
#: Seconds of a cut: the shortest and the longest.
SECONDS = (1.0, 20.0)


class Process(NamedTuple):
    """A process that may be killed; `task` is `dag_id.task_id`, or empty if it runs none, or has just begun one."""

    role: str
    pid: int
    task: str = ""


class Cut(NamedTuple):
    server: str
    mode: str
    seconds: float


def choose_role(rng: random.Random, kills: Mapping[str, int]) -> str:
    """The role to kill next: drawn by the shares, within the limits that the kills so far leave.

    At least 80 % are tasks and workers, and at most 5 % API server or PostgreSQL, after each kill.
    """
    after = sum(kills.values()) + 1
    drawn = rng.choices(list(SHARES), list(SHARES.values()))[0]
    ours = sum(kills.get(role, 0) for role in TASKS_AND_WORKERS) + (drawn in TASKS_AND_WORKERS)
    shared = sum(kills.get(role, 0) for role in SHARED) + (drawn in SHARED)
    return "task" if ours < 0.8 * after or shared > 0.05 * after else drawn


def another_role(processes: Sequence[Process]) -> str:
    """The role to kill where none of the chosen one appears: of tasks and workers the first that runs."""
    return next((role for role in TASKS_AND_WORKERS if any(role == each.role for each in processes)), "task")


def choose_process(
    rng: random.Random, processes: Sequence[Process], role: str, killed: Mapping[str, int]
) -> Process | None:
    """A process of a role, of a task that was killed least often; None if none runs, or each task has had its share.

    :param killed: the kills of each task.
    """
    found = sorted(each for each in processes if each.role == role)
    if role in OF_ONE_TASK:
        most = max(FEW, MOST * sum(killed.values()))
        fewest = min((killed.get(each.task, 0) for each in found), default=0)
        found = [each for each in found if killed.get(each.task, 0) == fewest < most]
    return rng.choice(found) if found else None


def choose_cut(rng: random.Random) -> Cut:
    return Cut(rng.choice(SERVERS), rng.choice(CUTS), round(rng.uniform(*SECONDS), 1))


def shares(kills: Mapping[str, int]) -> str:
    """The kills by role or by task, for the log."""
    total = sum(kills.values())
    return ", ".join(f"{role} {number} ({number / total:.0%})" for role, number in sorted(kills.items()) if number)
