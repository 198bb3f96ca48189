"""All invariants."""

from __future__ import annotations

from tests.chaos.checker import engagement, erased, imports, kept, mails, reports, results, snapshots
from tests.chaos.checker.world import Violation, World

CHECKS = (
    *reports.CHECKS, *results.CHECKS, *imports.CHECKS, *snapshots.CHECKS, *mails.CHECKS, *engagement.CHECKS,
    *erased.CHECKS, *kept.CHECKS,
)  # fmt: skip


def check(world: World) -> list[Violation]:
    """The violations of every invariant, each of them a few times at most; a check that fails itself is one too."""
    found = []
    for invariant in CHECKS:
        try:
            found += list(invariant(world))[:5]
        except Exception as error:  # noqa: BLE001 - the other invariants are checked all the same
            said = f"{invariant.__name__} cannot be checked: {type(error).__name__}"
            found.append(Violation("checker", said, (invariant.__name__,)))
    return found
