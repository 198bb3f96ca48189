"""What can go wrong, and where: the words of the harness."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.faults import code

GRAPH, WEBHOOK = "graph", "webhook"
#: The operation that is called for each player. Which player the n-th call is about is chance, as eight are under way
#: at once; so of its sites some are tried: in a batch of 100 the first, one in its middle and the last, the first of
#: the next batch, and the last of all.
MANY, OF_MANY = "SendEmail", (1, 50, 100, 101)
#: Of a trigger's looks the first is tried: how many there are is chance.
TRIGGER = "(trigger)"

# How long a fault lasts. A person clears what failed only once it is gone.
CALL = "its first sending"
ATTEMPT = "each sending of the attempt"
CLEARED = "until the run has failed and is cleared"


class Site(NamedTuple):
    """One outside call: the n-th of its operation to begin in one process of a task, or of a mapped task's instance."""

    task: str
    service: str
    operation: str
    number: int

    def __str__(self) -> str:
        return f"{self.task}: {self.service} {self.operation} #{self.number}"


class Fault(NamedTuple):
    kind: str
    lasts: str = ATTEMPT


class Case(NamedTuple):
    site: Site
    fault: Fault

    def __str__(self) -> str:
        return f"{self.site} × {self.fault.kind}"


#: For every call to AWS.
OF_AWS = (
    Fault("killed before"),
    Fault("killed after"),
    Fault("answer lost, connection closed"),
    Fault("answer lost, time-out"),
    Fault("time-out"),
    Fault("throttled once", CALL),
    Fault("throttled"),
    Fault("500"),
    Fault("503 until cleared", CLEARED),
)
#: For the calls of one operation.
OF_OPERATION = {
    "BatchGetItem": (Fault("30 % of keys unprocessed"),),
    "CreateImportJob": (Fault("job FAILED"),),
    "StartUploadJob": (Fault("job FAILED"),),
    "POST batches": (Fault("413", CALL),),
}
#: For calls with a file in their answer, or in their request: UploadPart is a multipart upload broken in the middle.
OF_DOWNLOADS = (Fault("answer cut in the middle"),)
OF_UPLOADS = (Fault("upload cut in the middle"),)
#: For every traversal.
OF_GRAPH = (
    Fault("killed before"),
    Fault("killed mid-stream"),
    Fault("killed after"),
    Fault("refused once", CALL),
    Fault("refused until cleared", CLEARED),
    Fault("cut mid-batch once", CALL),
    Fault("cut mid-batch"),
    Fault("time-out once", CALL),
    Fault("time-out"),
    Fault("throttled once", CALL),
    Fault("throttled"),
    Fault("500"),
)
#: For every request to the receiver of the webhook.
OF_WEBHOOK = (
    Fault("killed before"),
    Fault("killed after"),
    Fault("answer lost, connection closed", CALL),
    Fault("answer lost, time-out", CALL),
    Fault("time-out", CALL),
    Fault("throttled once", CALL),
    Fault("throttled"),
    Fault("500"),
    Fault("503 until cleared", CLEARED),
    Fault("redirected until cleared", CLEARED),
)
RESTARTED = Fault("server restarted mid-stream", CALL)


@dataclass
class Call:
    """A call under way, and whether it is the one that the fault is meant for."""

    site: Site
    #: a digest of what it asks, if that is known
    request: str = ""
    sendings: int = 0


class Watch:
    """Numbers and reports the calls of one process, and decides which the fault strikes."""

    def __init__(self, task: str, case: Case | None, tell: Callable[..., None]) -> None:
        self.task, self.case, self.tell = task, case, tell
        self._numbers: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()  # an upload in parts has several threads
        self._reached, self._request = False, ""

    def begin(self, service: str, operation: str, kinds: Collection[str] = (), request: str = "", **told: Any) -> Call:
        with self._lock:
            self._numbers[service, operation] += 1
            site = Site(self.task, service, operation, self._numbers[service, operation])
            self.tell(site=site, kinds=kinds, request=request, **told)
            return Call(site, request)

    def strikes(self, call: Call) -> str:
        """The kind of the fault that strikes this sending of the call; empty for none."""
        call.sendings += 1
        if not self.case:
            return ""
        wanted, fault = self.case
        # what was left unprocessed is asked for, and a mail sent again, in a call of its own, and a graph is read again
        # over a new connection
        again = wanted.service == GRAPH or wanted.operation == MANY or "unprocessed" in fault.kind
        with self._lock:
            # so is a request that our own code makes again
            follows = (again or bool(call.request and call.request == self._request)) and fault.lasts != CALL
            if call.site == wanted:
                hit = call.sendings == 1 or fault.lasts != CALL
                self._request = call.request
            else:
                hit = follows and self._reached and call.site[:3] == wanted[:3]
            if hit and not self._reached:
                self._reached = True
                self.tell(struck=True, ran=code.ran())  # a process that is killed reports nothing more
        return fault.kind if hit else ""


def die() -> None:
    """As the kernel ends a process that takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()


def cases(sites: dict[Site, list[str]]) -> list[Case]:
    """Every call site × every fault that applies there; a site says of itself that it is an upload or a download."""
    found = []
    for site, kinds in sites.items():
        faults = {GRAPH: OF_GRAPH, WEBHOOK: OF_WEBHOOK}.get(site.service, OF_AWS)
        faults += OF_OPERATION.get(site.operation, ())
        faults += OF_DOWNLOADS if "download" in kinds else ()
        faults += OF_UPLOADS if "upload" in kinds else ()
        found += [Case(site, fault) for fault in faults]
    return found


def few_of_many(sites: dict[Site, list[str]]) -> dict[Site, list[str]]:
    """The sites without most of those that are much the same."""
    last = max((site.number for site in sites if site.operation == MANY), default=0)

    def tried(site: Site) -> bool:
        if site.operation == MANY:
            return site.number in (*OF_MANY, last)
        return site.number == 1 or not site.task.endswith(TRIGGER)

    return {site: kinds for site, kinds in sites.items() if tried(site)}


def dangerous(all_cases: list[Case], names: Collection[str]) -> list[Case]:
    """The cases of these names, which must be there."""
    chosen = [case for case in all_cases if str(case) in names]
    assert len(chosen) == len(names), sorted(set(names) - {str(case) for case in chosen})
    return chosen


def part(all_cases: list[Case], names: Collection[str]) -> list[Case]:
    """A fixed part: the dangerous cases, and each other kind of fault once, in the task that has the fewest so far."""
    chosen = dangerous(all_cases, names)
    for kind in dict.fromkeys(case.fault.kind for case in all_cases):
        if kind not in {case.fault.kind for case in chosen}:
            times = Counter(case.site.task for case in chosen)
            here = (case for case in all_cases if case.fault.kind == kind)
            chosen.append(min(here, key=lambda case: times[case.site.task]))
    return [case for case in all_cases if case in chosen]
