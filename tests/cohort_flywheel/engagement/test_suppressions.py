"""What suppresses an address, and which entry of a key counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from cohort_flywheel.engagement.event_records import BOUNCES, COMPLAINTS, Event, read_event
from cohort_flywheel.engagement.suppressions import (
    AwaitedSuppressions,
    Entry,
    ListState,
    date_text,
    feedback_of,
    merge,
    read_entries,
    suppression_key,
    write_entries,
)
from tests.cohort_flywheel.engagement.ses_events import ADDRESS, event, mail

SALT = b"0" * 32
AT = "2026-11-21T10:05:00.000000+00:00"
KINDS_OF_BOUNCE = sorted((kind, detail) for kind, details in BOUNCES.items() for detail in details)


def feedback(record: dict[str, Any], topic: str = "Cohorts") -> list[tuple[str, str]]:
    """The reason and the state of each address of a record; also checks key, date and tags."""
    found = read_event(record)
    assert isinstance(found, Event)
    rows = list(feedback_of(found, record, topic, SALT))
    for row in rows:
        assert (row.key, row.at) == (suppression_key(SALT, "address", ADDRESS), AT)
        assert (row.launch, row.row) == ("launch", "0-1-0")
    return [(row.reason, row.state) for row in rows]


@pytest.mark.parametrize(("kind", "detail"), [*KINDS_OF_BOUNCE, ("Permanent", "Moved"), ("Odd", "General")])
def test_the_bounces_of_an_address_that_cannot_be_reached_suppress_it(kind: str, detail: str) -> None:
    reached = (kind, detail) not in (("Permanent", "General"), ("Permanent", "NoEmail"))
    found = feedback(event("Bounce", bounceType=kind, bounceSubType=detail))
    assert found == ([] if reached else [("bounced", "suppressed")])


@pytest.mark.parametrize("kind", [*sorted(COMPLAINTS), "rude"])
def test_every_complaint_but_its_opposite_suppresses(kind: str) -> None:
    found = feedback(event("Complaint", complaintFeedbackType=kind or None))
    assert found == ([] if kind == "not-spam" else [("complained", "suppressed")])


def test_a_complaint_of_the_accounts_list_suppresses() -> None:
    record = event("Complaint", complaintFeedbackType=None, complaintSubType="OnAccountSuppressionList")
    assert feedback(record) == [("complained", "suppressed")]


@pytest.mark.parametrize("kind", ["Send", "Reject", "Rendering Failure", "Delivery", "DeliveryDelay", "Open", "Click"])
def test_no_other_event_suppresses(kind: str) -> None:
    assert feedback(event(kind)) == []


def _topics(**statuses: str) -> dict[str, Any]:
    return {"topicSubscriptionStatus": [{"topicName": n, "subscriptionStatus": s} for n, s in statuses.items()]}


@pytest.mark.parametrize(
    ("new", "old", "of_topic", "of_any"),
    [
        ({"unsubscribeAll": True}, {}, "suppressed", "suppressed"),
        ({"unsubscribeAll": True} | _topics(Cohorts="OptIn"), {}, "suppressed", "suppressed"),
        (_topics(Cohorts="OptOut"), {}, "suppressed", "suppressed"),
        (_topics(Cohorts="OptIn"), {}, "lifted", "lifted"),
        ({"unsubscribeAll": False} | _topics(Cohorts="OptIn"), {"unsubscribeAll": True}, "lifted", "lifted"),
        # another topic says nothing of ours
        (_topics(News="OptOut"), {}, None, "suppressed"),
        (_topics(News="OptIn"), {}, None, "lifted"),
        (_topics(News="OptOut", Cohorts="OptIn"), {}, "lifted", "suppressed"),
        # subscribed to the list again: the topic has no preference of its own
        ({"unsubscribeAll": False}, {"unsubscribeAll": True}, "lifted", "lifted"),
        ({"unsubscribeAll": False}, {"unsubscribeAll": False}, None, None),
        ({}, {}, None, None),
        ({"topicSubscriptionStatus": None}, None, None, None),
    ],
)
def test_an_opt_out_and_an_opt_in_are_those_of_our_topic(
    new: dict[str, Any], old: Any, of_topic: str | None, of_any: str | None
) -> None:
    record = event("Subscription", newTopicPreferences=new, oldTopicPreferences=old)
    for topic, state in (("Cohorts", of_topic), ("", of_any)):
        assert feedback(record, topic) == ([("unsubscribed", state)] if state else [])


def test_each_recipient_of_an_event_is_suppressed() -> None:
    people = [{"emailAddress": f"Jo <{each}@example.com>"} for each in ("a", "b")]
    record = event("Bounce", mail(destination=["a@example.com", "b@example.com"]), bouncedRecipients=people)
    found = read_event(record)
    assert isinstance(found, Event)
    keys = [row.key for row in feedback_of(found, record, "", SALT)]
    assert keys == [suppression_key(SALT, "address", f"{each}@example.com") for each in ("a", "b")]


def test_a_key_is_that_of_an_address_in_any_case_and_of_a_player_as_it_is() -> None:
    address = suppression_key(SALT, "address", "Jo@Example.com")
    assert address == suppression_key(SALT, "address", " jo@example.COM")
    assert suppression_key(SALT, "address", "jo@bücher.example") == suppression_key(
        SALT, "address", "jo@xn--bcher-kva.example"
    )
    player = suppression_key(SALT, "player", "jo@example.com")
    others = (suppression_key(SALT, "player", "Jo@example.com"), suppression_key(b"1" * 32, "player", "jo@example.com"))
    assert len({address, player, *others}) == 4
    assert len(address) == 32


# --- the list


def merged(folder: Path, *files: list[Entry]) -> tuple[list[Entry], Any]:
    paths = [folder / f"{number}.csv" for number in range(len(files))]
    for path, entries in zip(paths, files, strict=True):
        write_entries(path, entries)
    counts = merge(folder, paths, folder / "merged.csv")
    return list(read_entries((folder / "merged.csv").read_bytes().splitlines())), counts


def entry(
    at: int, state: str = "suppressed", reason: str = "unsubscribed", kind: str = "address", **changes: str
) -> Entry:
    return Entry(kind, "k", reason, date_text(datetime(2026, 11, at, tzinfo=UTC)), state)._replace(**changes)


def test_the_latest_entry_of_a_key_and_a_reason_counts_in_any_order(tmp_path: Path) -> None:
    days = [entry(1), entry(2, "lifted"), entry(3), entry(4, "removed", why='ann: "it works", again')]
    bounced, player = entry(2, reason="bounced"), entry(2, kind="player")
    for number, order in enumerate(permutations([*days, bounced])):
        folder = tmp_path / str(number)
        folder.mkdir()
        found, counts = merged(folder, list(order[:2]), [*order[2:], player])
        assert found == [bounced, days[3], player]
        assert counts == (
            {"bounced": 1, "complained": 0, "unsubscribed": 0}, {"bounced": 0, "complained": 0, "unsubscribed": 1},
        )  # fmt: skip


def test_adding_entries_again_changes_nothing_and_a_removal_stays(tmp_path: Path) -> None:
    first, _ = merged(tmp_path, [entry(1), entry(1, reason="bounced"), entry(3, "removed")])
    again, _ = merged(tmp_path, first, [entry(1), entry(2), entry(1, reason="bounced")])
    assert again == first
    later, counts = merged(tmp_path, first, [entry(4)])
    assert (later[-1], counts[0]["unsubscribed"]) == (entry(4), 1)


def test_of_entries_at_the_same_instant_the_stricter_one_counts(tmp_path: Path) -> None:
    for order in permutations([entry(1, "lifted"), entry(1), entry(1, "removed")]):
        assert merged(tmp_path, list(order))[0] == [entry(1)]


def test_a_list_without_entries_is_empty(tmp_path: Path) -> None:
    assert merged(tmp_path, [])[0] == []


def test_dates_sort_as_texts() -> None:
    east = datetime(2026, 11, 21, 1, tzinfo=timezone(timedelta(hours=9)))
    times = [east, datetime(2026, 11, 21, tzinfo=UTC), datetime(2026, 11, 21, 0, 0, 0, 1, tzinfo=UTC)]
    assert sorted(map(date_text, times)) == list(map(date_text, times))


def test_the_state_of_the_list_only_advances() -> None:
    day, hour = timedelta(days=1), timedelta(hours=1)
    at = datetime(2026, 11, 22, tzinfo=UTC)
    state = ListState().with_more(at, None)
    assert state == ListState(as_of=at, account_until=None)
    state = state.with_more(at + day, at + hour)
    assert state.with_more(at - day, at) == state == ListState(as_of=at + day, account_until=at + hour)
    assert state.with_more(None, None) == state


@pytest.mark.parametrize(
    ("as_of", "in_time", "sentence"),
    [
        (datetime(2026, 11, 22, tzinfo=UTC), True, "the events up to 2026-11-22T00:00:00+00:00"),
        (None, False, "the events up to no as-of: engagement has not read those of this as-of"),
    ],
)
def test_the_report_says_which_suppressions_a_run_had(as_of: datetime | None, in_time: bool, sentence: str) -> None:
    assert AwaitedSuppressions(as_of=as_of, in_time=in_time).sentence == sentence


DAYS = [datetime(2026, 11, day, tzinfo=UTC) for day in range(20, 25)]


@pytest.mark.parametrize(
    ("has", "begun", "read", "of", "added", "up_to"),
    [
        (None, [0], [0], 0, [0], 0),
        (0, [0, 1], [0, 1], 1, [1], 1),
        # its own again, and no other: the list has them
        (1, [0, 1], [0, 1], 0, [0], 1),
        # the run of 1 has failed after it had read the events
        (0, [0, 1, 2], [0, 1, 2], 2, [1, 2], 2),
        # it has failed before: the objects of its manifest are in no later one
        (0, [0, 1, 2], [0, 2], 2, [2], 0),
        (0, [0, 1, 2, 3], [0, 1, 2, 3], 1, [1, 2, 3], 3),
        # 1 never began: 2 has read its objects
        (0, [0, 2], [0, 2], 2, [2], 2),
        (None, [1, 2, 3], [3], 3, [3], None),
    ],
)
def test_a_run_adds_what_the_list_does_not_have_and_says_up_to_when_it_has_all(
    has: int | None, begun: list[int], read: list[int], of: int, added: list[int], up_to: int | None
) -> None:
    state = ListState(as_of=None if has is None else DAYS[has])
    found = state.missing([DAYS[each] for each in reversed(begun)], {DAYS[each] for each in read}, DAYS[of])
    assert found == ([DAYS[each] for each in added], None if up_to is None else DAYS[up_to])
