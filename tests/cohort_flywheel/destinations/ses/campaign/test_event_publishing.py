"""The tags of a mail, and what a configuration set needs."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cohort_flywheel.campaign.mail_tags import launch_tag, row_tag
from cohort_flywheel.destinations.ses.campaign.event_publishing import (
    EVENT_TYPES,
    check_configuration_set,
    followed_by,
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
