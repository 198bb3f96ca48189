"""The objects in which Data Firehose writes the events of SES to S3."""

import gzip
import hashlib
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

Item = dict[str, Any]

_TYPES = {
    "Send": "SEND", "Delivery": "DELIVERY", "Bounce": "BOUNCE", "Complaint": "COMPLAINT", "Open": "OPEN",
    "Click": "CLICK", "Rendering Failure": "RENDERING_FAILURE", "Subscription": "SUBSCRIPTION",
}  # fmt: skip


class EventStream:
    """The events of an account that were published, and which of them were written."""

    def __init__(self) -> None:
        self.events: list[Item] = []
        self._written = 0
        self._late: list[Item] = []
        self._late_since = datetime.min

    def publish(self, records: Iterable[Item], types: Iterable[str]) -> None:
        """Add the records of the event types that a destination has."""
        wanted = set(types)
        self.events += [each for each in records if _TYPES[each["eventType"]] in wanted]

    @property
    def late(self) -> list[Item]:
        """The events that arrived by the last time, and are written the next time."""
        return self._late

    def write(self, arrived: datetime, *, faults: bool, late: bool) -> list[tuple[str, bytes]]:
        """Return the keys and the bodies of the objects of the events since the last time.

        With `late` a quarter of them is written the next time, under the hour of now, so that an event may come before
        its Send. [Firehose docs] A write to S3 is tried again for up to 24 hours, and the hour is that of the oldest
        record's arrival.
        """
        found = _objects(self._late, self._late_since, "late") if self._late else []
        new, number = self.events[self._written :], self._written
        self._written, self._late, self._late_since = len(self.events), [], arrived
        on_time: list[Item] = []
        for each in new:
            (self._late if late and _is_late(each) else on_time).append(each)
        return found + (_objects(on_time, arrived, str(number), faults=faults) if on_time else [])


def _is_late(record: Item) -> bool:
    """Draw by the recipients and the type, so that the order of the mails does not matter."""
    text = f"{record['mail']['destination']} {record['eventType']}"
    return hashlib.sha256(text.encode()).digest()[0] < 64


def _objects(records: list[Item], arrived: datetime, name: str, *, faults: bool = False) -> list[tuple[str, bytes]]:
    """Return the keys and the bodies of the objects that Firehose writes of some records.

    [Firehose docs] delivery is at least once, and the hour is that of the oldest record's arrival. With faults there
    are two objects: the second has the first record again, two records without a newline between them, a line that
    cannot be read, and the hour before.
    """
    if not faults:
        return [(_key(arrived, f"{name}-0"), _body(records))]
    half = len(records) // 2
    together = "".join(json.dumps(each) for each in records[half : half + 2]).encode()
    second = together + b"\n" + b'{"eventType":"Open","mail":{"times\n' + _lines(records[half + 2 :] + records[:1])
    earlier = arrived - timedelta(hours=1)
    first = (_key(arrived, f"{name}-0"), _body(records[:half]))
    return [first, (_key(earlier, f"{name}-1"), gzip.compress(second))]


def _key(arrived: datetime, name: str) -> str:
    return f"events/{arrived:%Y/%m/%d/%H}/ses-events-1-{arrived:%Y-%m-%d-%H-%M-%S}-{name}.gz"


def _body(records: list[Item]) -> bytes:
    return gzip.compress(_lines(records))


def _lines(records: list[Item]) -> bytes:
    return "".join(json.dumps(each) + "\n" for each in records).encode()
