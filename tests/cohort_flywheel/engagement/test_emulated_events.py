"""What the emulated SES and Data Firehose write is read as SES documents it, with each fault that they may have."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cohort_flywheel.engagement.event_counts import EventCounts, EventFile, count_launches
from cohort_flywheel.engagement.event_objects import EVENTS_FOLDER, choose
from cohort_flywheel.engagement.suppressions import FeedbackFile, read_feedback, suppression_key
from local.sesv2 import events
from local.sesv2.firehose import EventStream
from local.sesv2.mail import Mail

MAILED = datetime(2026, 11, 20, 10, tzinfo=UTC)
ARRIVED = datetime(2026, 11, 20, 20, tzinfo=UTC)
DAY_2, DAY_3 = datetime(2026, 11, 21, tzinfo=UTC), datetime(2026, 11, 22, tzinfo=UTC)
SALT = b"salt"
TYPES = ("SEND", "DELIVERY", "BOUNCE", "COMPLAINT", "OPEN", "CLICK")
#: The mailbox simulator's addresses, with the state of each mail; and forty readers.
SIMULATED = {
    "bounce": "bounced", "suppressionlist": "bounced", "ooto": "bounced", "complaint": "delivered",
    "success": "delivered",
}  # fmt: skip
READERS = [f"success+p{number}" for number in range(40)]


def mail(number: int, name: str) -> Mail:
    address = f"{name}@{events.SIMULATOR}"
    made = Mail(
        f"m{number:03d}", MAILED.timestamp(), "Studio", "play@studio.example", [], [address], [], [], "hello",
        "players", "Cohorts", "cohort-flywheel",
        [{"Name": "launch", "Value": "tag"}, {"Name": "row", "Value": f"0-1-{number}"}], [],
        html='<a href="https://studio.example/safety">x</a>',
    )  # fmt: skip
    made.delivered = [address]
    return made


@pytest.fixture
def stream() -> EventStream:
    made = EventStream()
    for number, name in enumerate((*SIMULATED, *READERS)):
        made.publish(events.of_mail(mail(number, name), seed=0), TYPES)
    return made


class Days:
    """The as-ofs that read what Firehose writes: each object by the first that may read it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.feedback = folder, FeedbackFile(folder / "feedback.csv", "Cohorts", SALT)
        self.read, self.files = list[str](), list[Path]()

    def read_day(self, as_of: datetime, objects: list[tuple[str, bytes]]) -> EventCounts:
        manifest = choose([key for key, _ in objects], as_of, self.read, DAY_2, "bucket")
        bodies, parquet = dict(objects), self.folder / f"{as_of:%d}.parquet"
        with EventFile(self.folder, as_of, self.feedback.add) as file:
            for key in manifest.keys:
                (self.folder / "object").write_bytes(bodies[key])
                file.add(self.folder / "object")
            counts = file.close(parquet, list(self.files), len(manifest.keys), manifest.before)
        self.read += manifest.keys
        self.files.append(parquet)
        return counts


@pytest.fixture
def days(tmp_path: Path) -> Iterator[Days]:
    made = Days(tmp_path)
    with made.feedback:
        yield made


def test_each_event_counts_once_whatever_firehose_does(stream: EventStream, days: Days, tmp_path: Path) -> None:
    first = stream.write(ARRIVED, faults=True, late=True)
    assert all(body[:2] == b"\x1f\x8b" for _, body in first), "gzip"
    assert {re.sub(r"ses-.*", "", key) for key, _ in first} == {
        f"{EVENTS_FOLDER}2026/11/20/{hour}/" for hour in (19, 20)
    }
    late = len(stream.late)
    two = days.read_day(DAY_2, first)
    three = days.read_day(DAY_3, first + stream.write(ARRIVED + timedelta(hours=9), faults=False, late=False))
    assert (two.objects, two.records, two.events, two.repeated, two.unreadable) == (2, two.events + 1, two.events, 1, 1)
    assert (three.objects, three.records, three.events, three.repeated, three.unreadable) == (1, late, late, 0, 0)
    assert two.events + three.events == len(stream.events)
    assert late > 20
    assert not (two.unknown_types or two.unknown_subtypes or three.unknown_types or three.unknown_subtypes)
    counts = count_launches(tmp_path, days.files)["tag"]
    states = Counter(SIMULATED.values()) + Counter({"delivered": len(READERS)})
    assert counts.states == states
    assert counts.bounces == {"Permanent:General": 1, "Permanent:Suppressed": 1, "Transient:General": 1}
    assert counts.complained == 1
    assert counts.opened > counts.opened_unlikely_bot > 0
    assert counts.clicked > counts.clicked_unlikely_bot > 0


def test_of_the_simulator_a_bounce_and_a_complaint_suppress(stream: EventStream, days: Days) -> None:
    days.read_day(DAY_2, stream.write(ARRIVED, faults=False, late=False))
    days.feedback.__exit__(None, None, None)
    with days.feedback.path.open("rb") as lines:
        found = [(each.key, each.reason, each.row) for each in read_feedback(lines)]
    expected = {"bounce": ("bounced", "0-1-0"), "complaint": ("complained", "0-1-3")}
    assert sorted(found) == sorted(
        (suppression_key(SALT, "address", f"{name}@{events.SIMULATOR}"), *about) for name, about in expected.items()
    )


def test_a_reader_does_the_same_for_a_seed_whatever_the_order_of_the_mails() -> None:
    forward = [list(events.of_mail(mail(number, name), seed=7)) for number, name in enumerate(READERS)]
    backward = [list(events.of_mail(mail(number, name), seed=7)) for number, name in reversed(list(enumerate(READERS)))]
    assert forward == backward[::-1]
    other = [list(events.of_mail(mail(number, name), seed=8)) for number, name in enumerate(READERS)]
    assert forward != other
