"""All invariants."""

from __future__ import annotations

from tests.chaos.checker import engagement, kept, mails, results
from tests.chaos.checker.world import Violation, World

CHECKS = (*results.CHECKS, *mails.CHECKS, *engagement.CHECKS, *kept.CHECKS)


def check(world: World) -> list[Violation]:
    """The violations of every invariant, each of them a few times at most."""
    found = []
    for invariant in CHECKS:
        found += list(invariant(world))[:5]
    return found
