"""What was tried, and what came of it."""

from __future__ import annotations

from collections.abc import Collection

from tests.faults.sites import Case, Site


class Tally:
    """Of one world."""

    def __init__(self, sites: Collection[Site]) -> None:
        self.sites = set(sites)
        self.tried: list[Case] = []
        self.failed: dict[Case, list[str]] = {}

    def add(self, case: Case, wrong: list[str]) -> None:
        self.tried.append(case)
        if wrong:
            self.failed[case] = wrong

    def __str__(self) -> str:
        return total(self)


def total(*tallies: Tally) -> str:
    """The line that counts them all."""
    tried, failed = (sum(map(len, of)) for of in ((t.tried for t in tallies), (t.failed for t in tallies)))
    sites = sum(len({case.site for case in tally.tried}) for tally in tallies)
    return (
        f"faults: {tried} tried, {tried - failed} survived,"
        f" {sites} of {sum(len(tally.sites) for tally in tallies)} call sites"
    )
