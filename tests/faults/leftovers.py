"""What a run leaves in other systems."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: A bucket and a key.
Place = tuple[str, str]

#: What a run leaves that its plan refused, or could not ask: no task removes it.
OF_A_REFUSED_RUN = "reports/cohort_to_segment/"


def read_json(place: Place, body: bytes) -> Any:
    """What an object holds, which is JSON unless something went wrong."""
    try:
        return json.loads(body)
    except ValueError:
        raise ValueError(f"s3://{place[0]}/{place[1]} is not JSON: {len(body)} bytes, {body[:200]!r}") from None


def is_report(place: Place) -> bool:
    return place[1].startswith("reports/") and place[1].endswith(".json")


def without_reports(objects: Mapping[Place, bytes]) -> dict[Place, bytes]:
    """What a task can read: the report of a run that failed is in no later task's way, which puts another one."""
    return {place: body for place, body in objects.items() if not is_report(place)}


def without_uncounted(place: Place, body: bytes) -> bytes:
    """A report without the count that a run does not have where the graph did not answer."""
    return re.sub(rb'"vertices_without_number": (null|\d+)', b"", body) if is_report(place) else body


def can_read_reports(operation: str, place: Place) -> bool:
    """Whether a call to S3 reads, deletes or lists a report; a place is a bucket and a key, or a prefix."""
    if operation.startswith("List"):
        return place[1].startswith("reports/") or "reports/".startswith(place[1])
    return is_report(place) and operation != "PutObject"


@dataclass(frozen=True)
class Leftovers:
    objects: dict[Place, bytes]
    #: the destination, by its emulation
    there: dict[str, Any]

    @property
    def report(self) -> dict[str, Any]:
        """The report of the run; a run that its plan refused has another, filed under the DAG."""
        found = {place for place in self.objects if is_report(place) and not place[1].startswith(OF_A_REFUSED_RUN)}
        reports = [read_json(place, self.objects[place]) for place in found]
        return reports[0] if len(reports) == 1 else {"faults": [f"there are {len(reports)}"]}

    @property
    def rows(self) -> dict[str, str]:
        """The address of each player in the segment file."""
        found: dict[str, str] = {}
        for (_, key), body in self.objects.items():
            if key.startswith("segments/"):
                rows = csv.DictReader(io.StringIO(body.decode(), newline=""))
                found |= {row["playerId"]: row["emailAddress"] for row in rows}
        return found

    @property
    def ledger(self) -> set[str]:
        """The players in the send ledger."""
        return self._listed(held_out=False)

    @property
    def held_out(self) -> set[str]:
        """The players that the launch has held out."""
        return self._listed(held_out=True)

    def _listed(self, *, held_out: bool) -> set[str]:
        ledgers = {key: body for (_, key), body in self.objects.items() if key.startswith("sends/")}
        wanted = (body for key, body in ledgers.items() if key.endswith("_holdout.jsonl") is held_out)
        return {line for body in wanted for line in body.decode().splitlines()[1:]}


#: An instant as the emulated services write it: since 2001 in seconds, or a text.
_SECONDS, _TEXT = 1e9, re.compile(r"20\d\d-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)?")


def without_clock(there: Any) -> Any:
    """What is there, without the instants and the number of calls: two runs that left the same differ in them."""
    if isinstance(there, dict):
        return {name: without_clock(value) for name, value in there.items() if name != "calls"}
    if isinstance(there, list):
        return [without_clock(value) for value in there]
    if (isinstance(there, float) and there > _SECONDS) or (isinstance(there, str) and _TEXT.fullmatch(there)):
        return "an instant"
    return there
