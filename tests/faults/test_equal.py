"""Cases are equal only where the same code does the same in the same state: each part of the rule, broken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.faults.equal import calls_of, equal_cases
from tests.faults.sites import OF_AWS, Case, Site

READ, WRITE = Site("extract", "s3", "GetObject", 1), Site("extract", "s3", "PutObject", 1)
CASES = [Case(site, OF_AWS[0]) for site in (READ, WRITE)]


class Extract:
    """An operator."""


class World:
    def __init__(self) -> None:
        self.sites: dict[Site, list[str]] = {READ: [], WRITE: []}
        self.calls = {"extract": calls_of({READ: "digest of a key", WRITE: "digest of a body"})}
        self.code = {"extract": {"extract.py:execute"}}
        self.checkpoints = {"extract": SimpleNamespace(objects={("bucket", "key"): b"rows"})}
        self.class_ = Extract

    def task_of(self, site: Site) -> str:
        return site.task

    def operator(self, task: str) -> type:
        return self.class_


def equal(change: Any) -> list[Case]:
    one: Any = World()
    other: Any = World()
    change(other)
    return list(equal_cases(one, [other], CASES))


def test_the_same_task_in_the_same_state_is_equal() -> None:
    assert equal(lambda world: None) == CASES


@pytest.mark.parametrize(
    "change",
    [
        lambda world: setattr(world, "class_", type("Other", (), {})),
        lambda world: world.code["extract"].add("extract.py:of_another_destination"),
        lambda world: world.checkpoints["extract"].objects.update({("bucket", "key"): b"other rows"}),
        lambda world: world.checkpoints["extract"].objects.update({("bucket", "another key"): b""}),
        lambda world: world.calls.update(extract=calls_of({READ: "digest of a key", WRITE: "of another body"})),
        lambda world: world.calls.update(extract=calls_of({READ: "digest of a key"})),
        # two undisturbed runs have not made the same calls
        lambda world: world.calls.clear(),
    ],
)
def test_a_difference_makes_a_case_one_of_its_own(change: Any) -> None:
    assert equal(change) == []


@pytest.mark.parametrize("site", [READ, Site("extract", "sesv2", "GetAccount", 1)])
def test_a_request_that_is_not_known_or_not_compared_is_not_equal(site: Site) -> None:
    """A body that cannot be read twice has no digest, and no service but S3, DynamoDB and the graph is compared."""
    one, other = World(), World()
    for world in (one, other):
        world.calls = {"extract": calls_of({READ: "digest", site: "" if site == READ else "digest"})}
    worlds: Any = (one, other)
    assert equal_cases(worlds[0], worlds[1:], CASES) == {}


def test_a_call_that_is_not_tried_there_is_tried_here() -> None:
    assert equal(lambda world: world.sites.pop(WRITE)) == CASES[:1]
