"""The records of an object, and what an event keeps."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from cohort_flywheel.engagement.event_records import BOUNCES, TYPES, Event, UnknownType, read_event, records
from local.sesv2 import shapes
from tests.cohort_flywheel.engagement.ses_events import ADDRESS, AGENT, event, line, mail


def read(record: dict[str, Any]) -> Event:
    found = read_event(record)
    assert isinstance(found, Event), found
    return found


def test_every_type_of_ses_is_known() -> None:
    published = {each.upper().replace("DELIVERYDELAY", "DELIVERY_DELAY").replace(" ", "_") for each in TYPES}
    assert published == set(shapes.service().shape_for("EventType").enum)


@pytest.mark.parametrize("kind", TYPES)
def test_an_event_keeps_no_address_agent_or_header(kind: str) -> None:
    found = read(event(kind))
    assert (found.type, found.message_id, found.launch, found.row) == (kind, "m1", "launch", "0-1-0")
    text = repr(found)
    for secret in (ADDRESS, "p001", *AGENT.values(), "Jo", "FirstName", "5.1.1"):
        assert secret not in text


def test_the_time_is_the_events_own_or_the_mails() -> None:
    mailed, own = datetime(2026, 11, 21, 10, tzinfo=UTC), datetime(2026, 11, 21, 10, 5, tzinfo=UTC)
    times = {kind: read(event(kind)).at for kind in TYPES}
    without = {"Send", "Reject", "Rendering Failure"}
    assert times == {kind: mailed if kind in without else own for kind in TYPES}


def test_a_copy_has_the_same_key_and_every_other_event_another() -> None:
    first = event("Click")
    others = [
        event("Open"),
        event("Click", mail("m2")),
        event("Click", timestamp="2026-11-21T10:05:00.001Z"),
        event("Click", link="https://studio.example/other"),
        event("Bounce"),
        event("Bounce", feedbackId="f9"),
        event("Bounce", bouncedRecipients=[{"emailAddress": "other@example.com"}]),
    ]
    keys = [read(each).key for each in (first, *others)]
    assert keys[0] == "a9d5e65158e94a2d74fbb64069ae84be", "another key would count each event of the last 62 days again"
    assert len(set(keys)) == len(keys)
    assert read(json.loads(json.dumps(first))).key == keys[0]
    folded = event("Bounce", bouncedRecipients=[{"emailAddress": ADDRESS.upper()}])
    assert read(folded).key == read(event("Bounce")).key, "SES may write an address in another case"


@pytest.mark.parametrize(
    ("link", "kept"),
    [
        ("https://studio.example/a/b?player=p1#top", "https://studio.example/a/b"),
        ("http://ann:secret@studio.example:8080/x", "http://studio.example:8080/x"),
        ("mailto:ann@example.com", "(other)"),
        ("https://studio.example", "https://studio.example"),
        ("https://studio.example/\n\u2028é", "https://studio.example/???"),
        (f"https://studio.example/stop/{ADDRESS}/now", "https://studio.example/stop/(address)/now"),
        ("https://studio.example/stop/p001%40example.com", "https://studio.example/stop/(address)"),
    ],
)
def test_a_link_is_kept_without_its_query(link: str, kept: str) -> None:
    assert read(event("Click", link=link)).link == kept


@pytest.mark.parametrize(
    ("flag", "kept", "unknown"),
    [
        ("Likely", "Likely", ""),
        ("Unlikely", "Unlikely", ""),
        (None, "", ""),
        ("Maybe", "", "Open isBotEvent Maybe"),
        (True, "", "Open isBotEvent True"),
        ({"score": ADDRESS}, "", "Open (other)"),
    ],
)
def test_the_flag_of_a_bot_is_kept_a_missing_one_is_not_unlikely_and_another_is_named(
    flag: Any, kept: str, unknown: str
) -> None:
    found = read(event("Open", **({"isBotEvent": flag} if flag else {})))
    assert (found.bot, found.unknown) == (kept, unknown)


@pytest.mark.parametrize(
    ("delay", "subtype", "unknown"),
    [("SpamDetected", "SpamDetected", ""), (None, "", ""), ("Moon", "Moon", "DeliveryDelay Moon")],
)
def test_a_delay_keeps_its_kind(delay: str | None, subtype: str, unknown: str) -> None:
    found = read(event("DeliveryDelay", delayType=delay))
    assert (found.subtype, found.unknown) == (subtype, unknown)


@pytest.mark.parametrize(("kind", "detail"), [(kind, detail) for kind in BOUNCES for detail in sorted(BOUNCES[kind])])
def test_every_documented_bounce_is_known(kind: str, detail: str) -> None:
    found = read(event("Bounce", bounceType=kind, bounceSubType=detail))
    assert (found.subtype, found.unknown) == (f"{kind}:{detail}", "")


@pytest.mark.parametrize(
    ("about", "subtype", "unknown"),
    [
        ({"bounceSubType": "Moved"}, "Permanent:Moved", "Bounce Permanent:Moved"),
        ({"bounceType": "Odd", "bounceSubType": "General"}, "Odd:General", "Bounce Odd:General"),
        ({"bounceSubType": f"to {ADDRESS}"}, "", "Bounce (other)"),
    ],
)
def test_an_unknown_bounce_is_kept_and_named(about: dict[str, Any], subtype: str, unknown: str) -> None:
    found = read(event("Bounce", **about))
    assert (found.subtype, found.unknown) == (subtype, unknown)


@pytest.mark.parametrize(
    ("about", "subtype", "unknown"),
    [
        ({}, "abuse", ""),
        ({"complaintFeedbackType": "not-spam"}, "not-spam", ""),
        ({"complaintFeedbackType": None}, "", ""),
        (
            {"complaintFeedbackType": None, "complaintSubType": "OnAccountSuppressionList"},
            "OnAccountSuppressionList",
            "",
        ),
        ({"complaintFeedbackType": "rude"}, "rude", "Complaint rude"),
    ],
)
def test_a_complaint_keeps_its_feedback_type(about: dict[str, Any], subtype: str, unknown: str) -> None:
    found = read(event("Complaint", **about))
    assert (found.subtype, found.unknown) == (subtype, unknown)


@pytest.mark.parametrize(
    ("link", "value", "subtype"),
    [
        ("https://stop.example/a?b=c", "<https://STOP.example/x>, <mailto:a@b.example>", "unsubscribe"),
        ("https://studio.example/play", "<https://stop.example/x>", ""),
        ("https://studio.example/play", "<mailto:stop@studio.example>", ""),
        ("", "<>", ""),
    ],
)
def test_a_click_on_the_link_to_unsubscribe_is_known_by_the_mails_header(link: str, value: str, subtype: str) -> None:
    headers = [{"name": "To", "value": ADDRESS}, {"name": "List-Unsubscribe", "value": value}]
    found = read(event("Click", mail(headers=headers), link=link))
    assert found.subtype == subtype
    if subtype:
        assert found.link == "https://stop.example", "its path names the recipient"
    assert read(event("Click", mail(headers=None), link=link)).subtype == ""
    assert read(event("Open", mail(headers=headers))).subtype == ""


@pytest.mark.parametrize(
    ("preferences", "subtype"),
    [
        ({"unsubscribeAll": True}, "unsubscribed"),
        ({"topicSubscriptionStatus": [{"topicName": "Cohorts", "subscriptionStatus": "OptOut"}]}, "unsubscribed"),
        ({"topicSubscriptionStatus": [{"topicName": "Cohorts", "subscriptionStatus": "OptIn"}]}, "subscribed"),
        ({"unsubscribeAll": False}, "subscribed"),
    ],
)
def test_a_change_of_preferences_is_an_opt_out_or_an_opt_in(preferences: dict[str, Any], subtype: str) -> None:
    assert read(event("Subscription", newTopicPreferences=preferences)).subtype == subtype


def test_a_mail_without_our_tags_has_neither_launch_nor_row() -> None:
    found = read(event("Send", mail(launch=None)))
    assert (found.launch, found.row) == ("", "")
    odd = mail() | {"tags": {"launch": ["a b"], "row": "0-1-0"}}
    assert (read(event("Send", odd)).launch, read(event("Send", odd)).row) == ("", "")


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({"eventType": "Forwarded", "mail": mail()}, UnknownType("Forwarded")),
        ({"eventType": ADDRESS, "mail": mail()}, UnknownType("(other)")),
        ({"mail": mail()}, None),
        ({"eventType": "Send"}, None),
        ({"eventType": "Send", "mail": mail(timestamp="yesterday")}, None),
        ({"eventType": "Send", "mail": mail(timestamp="2026-11-21T10:00:00")}, None),
        ({"eventType": "Send", "mail": mail("")}, None),
        ({"eventType": "Bounce", "mail": mail(), "bounce": {"timestamp": "2026-11-21T10:00:00Z"}}, None),
        ({"eventType": "Open", "mail": [], "open": []}, None),
        (event("Send", mail(tags=["launch"])), None),
        (event("Open", timestamp="0001-01-01T00:00:00+10:00"), None),
        (event("Subscription", oldTopicPreferences=[1]), None),
        (event("Subscription", newTopicPreferences={"topicSubscriptionStatus": [{"topicName": "Cohorts"}]}), None),
        ({"eventType": "Subscription", "mail": mail()}, None),
    ],
)
def test_what_is_no_event_is_not_fatal(record: dict[str, Any], found: Any) -> None:
    assert read_event(record) == found


def test_records_are_read_with_and_without_newlines_between_them() -> None:
    some = [event("Send"), event("Open"), event("Click")]
    for content in (
        line(*some),
        line(*some, end=""),
        line(*some, end=" \r\n\n"),
        line(*some[:2], end="") + line(some[2]),
    ):
        assert list(records(content.splitlines(keepends=True))) == some


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"rubbish\n", [None]),
        (b"[1, 2]\n7\nnull\n", [None, None, None]),
        (b"\xff\xfe\n", [None]),
        (line(event("Send"))[:-40] + b"\n" + line(event("Open")), [None, event("Open")]),
        (line(event("Send"))[:-40] + line(event("Open")), [None, event("Open")]),
        (b"rubbish" + line(event("Open"), end="") + b"rubbish", [None, event("Open"), None]),
        (b'{"a":' * 100_000, [None]),
        (b"", []),
    ],
)
def test_an_unreadable_piece_is_counted_and_what_follows_is_read(content: bytes, found: list[Any]) -> None:
    assert list(records(content.splitlines(keepends=True))) == found
