"""Which cases of a destination are equal to cases of another one, and so need not be tried twice.

A fault at a call of a task is equal in two destinations if

1. the task is of the same operator class, ran the same functions of the package and made the same calls, in each of
   two undisturbed runs: of each process the same operations, as often, and each request the same but for its signature;
2. these calls are to S3, DynamoDB and the graph alone, and before the task all buckets had the same objects (the table
   and the graph are the same servers');
3. the case was tried at the other destination and survived, and once the task had ended, without being cleared, all
   objects, states and XComs were those of the undisturbed run there: what follows is what follows an undisturbed task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from tests.faults.sites import GRAPH, Case, Site

if TYPE_CHECKING:
    from tests.faults.harness import World

COMPARED = {"s3", "dynamodb", GRAPH}


def equal_cases(world: World, others: Iterable[World], cases: Iterable[Case]) -> dict[Case, World]:
    """The cases that are equal to those of an earlier world, by the first two rules, and of which."""
    shared: dict[str, World] = {}
    for other in others:
        for task in same_tasks(world, other):
            shared.setdefault(task, other)
    found = {}
    for case in cases:
        beside = shared.get(world.task_of(case.site))
        if beside and case.site in beside.sites:
            found[case] = beside
    return found


def same_tasks(one: World, other: World) -> set[str]:
    """The tasks that do the same in both worlds."""
    return {task for task in one.calls.keys() & other.calls.keys() if _is_same(task, one, other)}


def _is_same(task: str, one: World, other: World) -> bool:
    return (
        one.calls[task] == other.calls[task]
        and all(call.request and call.service in COMPARED for call in one.calls[task])
        and one.operator(task) is other.operator(task)
        and one.code[task] == other.code[task]
        and one.checkpoints[task].objects == other.checkpoints[task].objects
    )


class Call(NamedTuple):
    """A call of a process, without its number: which of several that are under way at once is the n-th is chance."""

    process: str
    service: str
    operation: str
    #: a digest of what it asks, empty if that is not known
    request: str


def calls_of(requests: dict[Site, str]) -> Counter[Call]:
    return Counter(Call(site.task, site.service, site.operation, request) for site, request in requests.items())
