"""The tags of a mail, and what a configuration set needs."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cohort_flywheel.campaign.mail_tags import launch_tag, row_tag
from cohort_flywheel.campaign.settings import RunCampaign
from cohort_flywheel.destinations.ses.campaign.event_publishing import (
    EVENT_TYPES,
    TRACKED_SETTING,
    UNTRACKED_SETTING,
    check_configuration_set,
    choose_sets,
    followed_by,
    types_without,
)
from cohort_flywheel.errors import Code, FlywheelError
from local.sesv2 import shapes

FIREHOSE = {"IamRoleArn": "arn:aws:iam::123456789012:role/ses", "DeliveryStreamArn": "arn:aws:firehose:…"}
COMPLETE = {
    "Name": "all",
    "Enabled": True,
    "MatchingEventTypes": [*EVENT_TYPES],
    "KinesisFirehoseDestination": FIREHOSE,
}


def test_the_event_types_are_all_that_ses_has() -> None:
    assert set(EVENT_TYPES) == set(shapes.service().shape_for("EventType").enum)


def test_the_tags_name_the_launch_and_the_row_and_nothing_of_the_player() -> None:
    found = followed_by("cohort-flywheel", "ea_atrisk_2_2026-11-22_00-00-00", row_tag(3, 1, 42))
    assert found["ConfigurationSetName"] == "cohort-flywheel"
    tags = {tag["Name"]: tag["Value"] for tag in found["EmailTags"]}
    assert tags == {"launch": launch_tag("ea_atrisk_2_2026-11-22_00-00-00"), "row": "3-1-42"}
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,256}", text) for pair in tags.items() for text in pair)  # [SES: tags]
    assert launch_tag("a") != launch_tag("b")


@pytest.mark.parametrize("name", [None, ""])
def test_without_a_configuration_set_a_mail_is_as_it_was(name: str | None) -> None:
    assert followed_by(name, "run", "0-1-0") == {}


def test_a_complete_configuration_set_passes() -> None:
    others = {"Name": "bounces", "Enabled": True, "MatchingEventTypes": ["BOUNCE"], "SnsDestination": {"TopicArn": "a"}}
    sets: list[dict[str, Any]] = [{}, {"SendingOptions": {}}, {"SendingOptions": {"SendingEnabled": True}}]
    for sending in sets:
        check_configuration_set("events", (sending, [others, COMPLETE]))


def campaign(**changes: Any) -> RunCampaign:
    made = {
        "mode": "launch", "template": "at_risk", "from": "Studio <play@studio.example>", "not_again_days": 30,
        "test_addresses": [], "approvers": ["ann"],
    }  # fmt: skip
    return RunCampaign.model_validate(made | changes)


CONSENT = {"attribute": "tracking", "opted_in": ["yes"], "opted_out": ["no"], "silence": "opted_out"}
BOTH = {"ses_configuration_set": "all", "ses_untracked_configuration_set": "few"}


@pytest.mark.parametrize(
    ("changes", "sets", "without"),
    [
        ({}, ("all", ""), frozenset()),
        ({"tracking": "clicks"}, ("all", ""), {"OPEN"}),
        ({"tracking": "none"}, ("", "few"), frozenset()),
        ({"tracking_consent": CONSENT}, ("all", "few"), frozenset()),
        ({"tracking": "clicks", "tracking_consent": CONSENT}, ("all", "few"), {"OPEN"}),
    ],
)
def test_the_sets_are_those_of_what_is_tracked(changes: Any, sets: tuple[str, str], without: Any) -> None:
    its = campaign(**changes)
    assert choose_sets(its, BOTH) == sets
    assert choose_sets(its, {}) == ("", ""), "without any set, no e-mail is tracked"
    assert types_without(its, tracked=True) == without
    assert types_without(its, tracked=False) == {"OPEN", "CLICK"}


@pytest.mark.parametrize(
    ("changes", "settings", "default", "missing"),
    [
        ({"tracking": "none"}, {"ses_configuration_set": "all"}, None, UNTRACKED_SETTING),
        ({"tracking": "none"}, {}, "theirs", UNTRACKED_SETTING),
        ({"tracking": "clicks"}, {}, "theirs", TRACKED_SETTING),
        ({"tracking_consent": CONSENT}, {"ses_configuration_set": "all"}, None, UNTRACKED_SETTING),
        ({"tracking_consent": CONSENT}, {"ses_untracked_configuration_set": "few"}, None, TRACKED_SETTING),
        ({"tracking_consent": CONSENT}, {}, "theirs", f"{TRACKED_SETTING}, {UNTRACKED_SETTING}"),
    ],
)
def test_a_set_that_is_not_set_is_named(changes: Any, settings: Any, default: str | None, missing: str) -> None:
    with pytest.raises(FlywheelError, match=rf"^CF-SET-01: not set: {missing}\. engagement\.tracking") as error:
        choose_sets(campaign(**changes), settings, default)
    assert ("SES would use theirs" in str(error.value)) == (default is not None)


def test_a_set_that_tracks_more_than_was_agreed_is_refused() -> None:
    less = COMPLETE | {"MatchingEventTypes": [each for each in EVENT_TYPES if each not in ("OPEN", "CLICK")]}
    check_configuration_set("few", ({}, [less]), UNTRACKED_SETTING, {"OPEN", "CLICK"})
    others = {"Name": "opens", "Enabled": True, "MatchingEventTypes": ["OPEN"], "CloudWatchDestination": {}}
    for found in ([COMPLETE], [less, others]):
        with pytest.raises(
            FlywheelError, match=f"publishes .*OPEN, so that SES tracks .* or correct {UNTRACKED_SETTING}"
        ):
            check_configuration_set("few", ({}, found), UNTRACKED_SETTING, {"OPEN", "CLICK"})
    check_configuration_set("few", ({}, [less, others | {"Enabled": False}]), UNTRACKED_SETTING, {"OPEN", "CLICK"})
    with pytest.raises(FlywheelError, match="does not publish CLICK"):
        check_configuration_set("clicks", ({}, [less]), without={"OPEN"})


@pytest.mark.parametrize(
    ("found", "code", "sentence"),
    [
        (None, Code.NOT_THERE, "configuration set events does not exist in SES: create it"),
        (
            ({"SendingOptions": {"SendingEnabled": False}}, [COMPLETE]),
            Code.SES_ACCOUNT,
            "the sending of configuration set events is paused: resume it",
        ),
        (({}, []), Code.NOT_THERE, "has no enabled event destination of Data Firehose"),
        (({}, [COMPLETE | {"Enabled": False}]), Code.NOT_THERE, "has no enabled event destination of Data Firehose"),
        (
            ({}, [{name: value for name, value in COMPLETE.items() if name != "KinesisFirehoseDestination"}]),
            Code.NOT_THERE,
            "has no enabled event destination of Data Firehose",
        ),
        (
            ({}, [COMPLETE | {"MatchingEventTypes": ["SEND"]}, COMPLETE | {"MatchingEventTypes": [*EVENT_TYPES[:8]]}]),
            Code.NOT_THERE,
            "does not publish DELIVERY_DELAY, SUBSCRIPTION: add these event types",
        ),
    ],
)
def test_a_set_that_publishes_less_is_refused(found: Any, code: Code, sentence: str) -> None:
    with pytest.raises(FlywheelError, match=sentence) as error:
        check_configuration_set("events", found)
    assert error.value.code == code
