"""What was tried, and what came of it."""

from __future__ import annotations

from collections.abc import Collection

from tests.faults.sites import Case, Site


class Tally:
    def __init__(self, sites: Collection[Site]) -> None:
        self._sites = set(sites)
        self.tried: list[Case] = []
        self.failed: dict[Case, list[str]] = {}

    def add(self, case: Case, wrong: list[str]) -> None:
        self.tried.append(case)
        if wrong:
            self.failed[case] = wrong

    def __str__(self) -> str:
        sites = {case.site for case in self.tried}
        return (
            f"faults: {len(self.tried)} tried, {len(self.tried) - len(self.failed)} survived,"
            f" {len(sites)} of {len(self._sites)} call sites"
        )
