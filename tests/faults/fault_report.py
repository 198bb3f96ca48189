"""The fault cases that were tried, and their results."""

from __future__ import annotations

from collections.abc import Collection

from tests.faults.sites import Case, Site


class FaultReport:
    """The cases of one destination."""

    def __init__(self, destination: str, sites: Collection[Site]) -> None:
        self.destination = destination
        self.sites = set(sites)
        self.tried: list[Case] = []
        self.failed: dict[Case, list[str]] = {}
        #: of those tried: by an earlier command, with the same code
        self.earlier: list[Case] = []
        #: of those tried: stopped before the end of the run, once all was as in the undisturbed one
        self.stopped: list[Case] = []
        #: not tried, as they are equal to a case of another destination
        self.equal: list[Case] = []

    def add(self, case: Case, wrong: list[str], *, stopped: bool, earlier: bool = False) -> None:
        self.tried.append(case)
        if stopped:
            self.stopped.append(case)
        if earlier:
            self.earlier.append(case)
        if wrong:
            self.failed[case] = wrong

    @property
    def done(self) -> int:
        return len(self.tried) + len(self.equal)

    def __str__(self) -> str:
        return total(self)


def total(*reports: FaultReport) -> str:
    """The line that counts them all."""
    tried, failed, stopped, earlier, equal = (
        sum(map(len, lists))
        for lists in zip(
            *((each.tried, each.failed, each.stopped, each.earlier, each.equal) for each in reports), strict=True
        )
    )
    reached = sum(len({case.site for case in (*report.tried, *report.equal)}) for report in reports)
    line = (
        f"faults: {tried} tried, {tried - failed} survived,"
        f" {reached} of {sum(len(report.sites) for report in reports)} call sites"
    )
    if stopped:
        line += f"; {stopped} of them up to a task where all was as in the undisturbed run, the others to the end"
    if equal:
        line += f"; {equal} more are equal to a case of another destination"
    if earlier:
        line += f"; {earlier} were tried by an earlier command, with the same code"
    return line
