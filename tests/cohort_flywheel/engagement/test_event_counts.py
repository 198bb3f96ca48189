"""Events are counted once, and the messages of a launch by what became of them."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cohort_flywheel.common.duckdb import connect
from cohort_flywheel.engagement.event_counts import (
    COLUMNS,
    EventCounts,
    EventFile,
    LaunchCounts,
    count_launches,
    rows_of,
)
from tests.cohort_flywheel.engagement.ses_events import ADDRESS, event, line, mail

NEWEST = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., tuple[EventCounts, Path]]:
    """Reads objects as an as-of does; returns its counts and its Parquet file."""

    def run(*contents: bytes, others: tuple[Path, ...] = (), name: str = "a") -> tuple[EventCounts, Path]:
        folder = tmp_path / name
        folder.mkdir()
        for other in others:  # as they are downloaded
            (folder / f"{other.parent.name}.parquet").write_bytes(other.read_bytes())
        with EventFile(folder, NEWEST) as file:
            for content in contents:
                (folder / "object").write_bytes(content)
                file.add(folder / "object")
            kept = [folder / f"{other.parent.name}.parquet" for other in others]
            return file.close(folder / "events.parquet", kept, len(contents), 0), folder / "events.parquet"

    return run


def rows(path: Path) -> list[tuple[Any, ...]]:
    with connect(path.parent) as sql:
        return sql.read_parquet(str(path)).fetchall()


def test_the_columns_are_those_that_the_documentation_names(read: Any) -> None:
    _, path = read(line(event("Click", isBotEvent="Likely")))
    ((_, *rest),) = rows(path)
    at = datetime(2026, 11, 21, 10, 5)
    assert rest == ["m1", "launch", "0-1-0", "Click", None, at, "Likely", "https://studio.example/play"]
    assert len(COLUMNS) == 9
    assert ADDRESS.encode() not in path.read_bytes()


def test_each_event_counts_once_within_an_as_of_and_between_them(read: Any) -> None:
    some = [event("Send"), event("Delivery"), event("Open")]
    first, path = read(line(*some), gzip.compress(line(some[0], event("Click"), end="")))
    assert (first.objects, first.records, first.events, first.repeated) == (2, 5, 4, 1)
    second, later = read(line(*some, event("Bounce")), others=(path,), name="b")
    assert (second.records, second.events, second.repeated) == (4, 1, 3)
    assert [row[4] for row in rows(later)] == ["Bounce"]


def test_what_is_left_out_is_counted_by_its_reason(read: Any) -> None:
    old = mail(timestamp="2026-09-20T23:59:59.000Z")
    counts, path = read(
        line(event("Send"), event("Open", old), event("Send", mail(launch=None)), {"eventType": "Forwarded"})
        + b"rubbish\n"
        + line(event("Bounce", bounceSubType="Moved"))
    )
    assert counts == EventCounts(
        objects=1, records=5, events=2, sent=1, late=1, other_mails=1, unreadable=1, unknown_types={"Forwarded": 1},
        unknown_subtypes={"Bounce Permanent:Moved": 1},
    )  # fmt: skip
    assert counts.records == counts.events + counts.repeated + counts.late + counts.other_mails + 1
    assert len(rows(path)) == 2


def test_the_messages_by_which_ses_judges_a_sender_are_counted(read: Any) -> None:
    """A bounce because of a suppression list, a passing one and a `not-spam` are none of the sender's faults."""
    content = [event("Send", mail(f"m{number}")) for number in range(9)] + [
        event("Bounce", mail("m1")), event("Bounce", mail("m1"), feedbackId="again"),
        event("Bounce", mail("m2"), bounceSubType="NoEmail"),
        event("Bounce", mail("m3"), bounceSubType="OnAccountSuppressionList"),
        event("Bounce", mail("m4"), bounceType="Transient"),
        event("Complaint", mail("m5")), event("Complaint", mail("m6"), complaintFeedbackType="not-spam"),
        event("Complaint", mail("m7"), complaintFeedbackType=None),
    ]  # fmt: skip
    counts, _ = read(line(*content))
    assert (counts.sent, counts.bounced, counts.complained) == (9, 2, 2)


def test_an_object_that_is_cut_off_is_read_as_far_as_it_goes(read: Any) -> None:
    whole = gzip.compress(b"".join(line(event("Send", mail(f"m{n}"))) for n in range(2000)))
    counts, path = read(whole[: len(whole) // 2], line(event("Send", mail("last"))))
    assert counts.unreadable in (1, 2), "the end of the object, and perhaps a part of a record"
    assert 1 < counts.events < 2000
    assert rows(path)[-1][1] == "last"


def test_an_as_of_without_events_has_an_empty_file(read: Any) -> None:
    counts, path = read()
    assert (counts, rows(path)) == (EventCounts(objects=0), [])


def test_the_same_objects_give_the_same_bytes(read: Any) -> None:
    content = line(
        *(event("Open", mail(f"m{n % 700}"), timestamp=f"2026-11-21T10:00:{n % 60:02d}Z") for n in range(3000))
    )
    digests = [hashlib.sha256(read(content, name=name)[1].read_bytes()).hexdigest() for name in "ab"]
    assert digests[0] == digests[1]


def test_a_message_has_one_state_and_the_states_add_up(read: Any) -> None:
    """A bounce may follow a delivery, events come in any order, and a click needs no open."""
    of = {name: mail(name, row=f"0-1-{number}") for number, name in enumerate("abcdefgh")}
    content = [
        event("Click", of["a"], isBotEvent="Unlikely"), event("Send", of["a"]), event("Delivery", of["a"]),
        event("Send", of["b"]), event("Bounce", of["b"]), event("Delivery", of["b"]),
        event("Send", of["c"]), event("Reject", of["c"]),
        event("Rendering Failure", of["d"]),
        event("Send", of["e"]), event("DeliveryDelay", of["e"]),
        event("Send", of["f"]),
        event("Open", of["g"]), event("Open", of["g"], timestamp="2026-11-21T11:00:00Z", isBotEvent="Likely"),
        event("Delivery", of["h"]), event("Complaint", of["h"]), event("Subscription", of["h"]),
        event("Complaint", of["a"], complaintFeedbackType="not-spam"), event("Send", mail("z", launch="other")),
    ]  # fmt: skip
    _, path = read(line(*content))
    found = count_launches(path.parent, [path])
    assert found["other"] == LaunchCounts(messages=1, states={"sent": 1})
    launch = found["launch"]
    assert launch.states == {
        "tracked": 1, "sent": 1, "delayed": 1, "delivered": 2, "rendering_failure": 1, "rejected": 1, "bounced": 1,
    }  # fmt: skip
    assert launch.messages == sum(launch.states.values()) == 8
    assert launch.bounces == {"Permanent:General": 1}
    assert (launch.complained, launch.unsubscribed) == (1, 1)
    assert (launch.opened, launch.opened_unlikely_bot, launch.opened_no_flag) == (1, 0, 1)
    assert (launch.clicked, launch.clicked_unlikely_bot, launch.clicked_no_flag) == (1, 1, 0)
    assert rows_of(path.parent, [path], "launch") == {f"0-1-{number}" for number in (0, 1, 2, 4, 5, 6, 7)}


def test_an_event_may_come_an_as_of_before_the_send_of_its_message(read: Any) -> None:
    _, first = read(line(event("Open")))
    assert count_launches(first.parent, [first])["launch"].states == {"tracked": 1}
    counts, second = read(line(event("Send"), event("Open")), others=(first,), name="b")
    assert (counts.events, counts.repeated) == (1, 1)
    (second.parent / "first.parquet").write_bytes(first.read_bytes())
    found = count_launches(second.parent, [second, second.parent / "first.parquet"])["launch"]
    assert (found.messages, found.states, found.opened) == (1, {"sent": 1}, 1)


def test_a_click_on_the_link_to_unsubscribe_is_counted_apart(read: Any) -> None:
    headers = [{"name": "List-Unsubscribe", "value": "<https://stop.example/x>"}]
    clicks = [
        event("Click", mail("a", headers=headers), link="https://stop.example/y", isBotEvent="Unlikely"),
        event("Click", mail("b")),
        event("Click", mail("c", headers=headers), link="https://stop.example/z"),
        event("Click", mail("c", headers=headers)),
    ]
    _, path = read(line(*clicks))
    launch = count_launches(path.parent, [path])["launch"]
    assert (launch.messages, launch.clicked, launch.clicked_unlikely_bot, launch.unsubscribe_clicked) == (3, 2, 0, 2)


def test_without_files_there_is_nothing_to_count(tmp_path: Path) -> None:
    assert (count_launches(tmp_path, []), rows_of(tmp_path, [], "launch")) == ({}, frozenset())


def test_the_database_reads_its_folder_alone(tmp_path: Path) -> None:
    import duckdb

    outside = tmp_path / "outside.csv"
    outside.write_text("a\n")
    (tmp_path / "folder").mkdir()
    with connect(tmp_path / "folder") as sql:
        assert sql.execute("SELECT current_setting('threads'), current_setting('memory_limit')").fetchall() == [
            (1, "64.0 MiB")
        ]
        with pytest.raises(duckdb.PermissionException):
            sql.read_csv(str(outside))
        with pytest.raises(duckdb.Error):
            sql.execute("INSTALL httpfs")
