"""Mails of a launch that names a configuration set: what they carry, and what the records keep of them."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from botocore.exceptions import ReadTimeoutError

from cohort_flywheel.campaign.email_template import read_template
from cohort_flywheel.campaign.mail_tags import launch_tag
from cohort_flywheel.campaign.settings import RunCampaign
from cohort_flywheel.destinations.ses.campaign import sends_store
from cohort_flywheel.destinations.ses.campaign.event_publishing import EVENT_TYPES
from cohort_flywheel.destinations.ses.destination import DESTINATION
from cohort_flywheel.destinations.ses.hook import SesV2Hook
from cohort_flywheel.errors import FlywheelError
from local import seed
from local.config import UNTRACKED_SET
from tests.cohort_flywheel.destinations.ses.campaign.launches import UNSUBSCRIBE, Campaign, Launch

SET = "cohort-flywheel"


@pytest.fixture(autouse=True)
def _set(account: Campaign) -> None:
    seed.make_configuration_sets(account.servers, account.config)
    account.client.put_configuration_set_sending_options(ConfigurationSetName=SET, SendingEnabled=True)


def records(launch: Launch, kind: str) -> dict[str, Any]:
    """The records of the batches, by batch and attempt."""
    keys = [key for key in launch.account.state_keys() if key.endswith(f".{kind}.json")]
    return {key.partition(".")[0]: json.loads(launch.account.read(f"launches/cohort/{key}")) for key in keys}


def player_of(launch: Launch, tags: dict[str, str]) -> str:
    """The player of a mail, by its tags and the records of the launch alone."""
    assert tags["launch"] == launch_tag("cohort")
    batch, attempt, index = map(int, tags["row"].split("-"))
    return str(records(launch, "intents")[f"{batch:06d}_{attempt}"]["player_ids"][index])


def test_each_mail_names_the_set_and_its_row_and_the_records_keep_its_message_id(launch: Launch) -> None:
    prepared = launch.account.prepare(launch.plan | {"ses_configuration_set": SET}, launch.segment, launch.context())
    assert prepared == launch.prepared | {"configuration_set": SET}
    launch.prepared = prepared
    assert launch.run()["sent"] == 25
    assert json.loads(launch.account.read("launches/cohort/launch.json"))["configuration_set"] == SET
    players = {}
    for mail in launch.account.mails:
        tags = {tag["Name"]: tag["Value"] for tag in mail["tags"]}
        assert (mail["configuration_set"], sorted(tags)) == (SET, ["launch", "row"])
        players[mail["message_id"]] = player_of(launch, tags)
        assert mail["to"] == [f"{players[mail['message_id']]}@example.com"]
    assert Counter(players.values()) == Counter(launch.names)
    intents = records(launch, "intents")
    kept = {
        message_id: intents[batch]["player_ids"][int(index)]
        for batch, outcome in records(launch, "outcome").items()
        for index, message_id in outcome["message_ids"].items()
    }
    assert kept == players


def test_without_a_set_the_mails_are_as_before_and_their_ids_are_kept(launch: Launch) -> None:
    assert launch.prepared["configuration_set"] is None
    assert launch.run()["sent"] == 25
    assert "configuration_set" not in json.loads(launch.account.read("launches/cohort/launch.json"))
    assert {(mail["configuration_set"], len(mail["tags"])) for mail in launch.account.mails} == {(None, 0)}
    kept = [each for outcome in records(launch, "outcome").values() for each in outcome["message_ids"].values()]
    assert sorted(kept) == sorted(mail["message_id"] for mail in launch.account.mails)


def test_a_mail_whose_answer_was_lost_has_no_message_id(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    send = SesV2Hook.send_email

    def lose(self: SesV2Hook, **request: Any) -> str:
        found = send(self, **request)
        if request["Destination"]["ToAddresses"] == ["p004@example.com"]:
            raise ReadTimeoutError(endpoint_url="lost by the test")
        return found

    monkeypatch.setattr(SesV2Hook, "send_email", lose)
    assert launch.run()["in_doubt"] == 1
    outcome = records(launch, "outcome")["000000_1"]
    assert (outcome["in_doubt"], sorted(map(int, outcome["message_ids"]))) == (["p004"], [0, 1, 2, 3, 5, 6, 7, 8, 9])


def test_an_erased_player_of_an_interrupted_batch_is_not_in_doubt(launch: Launch) -> None:
    """An erasure leaves an empty text in the player's place, so that the index of the others stays."""
    intents = {"player_ids": ["", *launch.names[1:10]], "withdrawn": {}, "try": "earlier"}
    launch.account.s3.put_object(
        Bucket=launch.account.config.state_bucket, Key="launches/cohort/000000_1.intents.json",
        Body=json.dumps(intents).encode(),
    )  # fmt: skip
    counts = launch.run()
    assert (counts["in_doubt"], counts["sent"], counts["rows"]) == (9, 15, 24)
    assert launch.account.read("launches/cohort/in_doubt.txt").split() == launch.names[1:10]


def test_the_link_to_unsubscribe_must_not_be_tracked(launch: Launch, check: Any) -> None:
    launch.account.write_template(body_html=f"<p>Hi</p><A title='x' HREF='{UNSUBSCRIBE}'>stop</a>")
    sentence = "at_risk/body.html lets configuration set cohort-flywheel track the link to unsubscribe: mark it"
    with pytest.raises(FlywheelError, match=sentence):
        check()
    with pytest.raises(AirflowFailException, match=sentence):
        launch.account.prepare(launch.plan | {"ses_configuration_set": SET}, launch.segment, launch.context())
    assert launch.account.prepare(launch.plan, launch.segment, launch.context()), "without a set it is not tracked"
    launch.account.write_template(body_html=UNSUBSCRIBE)
    check()


# --- consent to tracking

TRACKING = {"attribute": "tracking", "opted_in": ["yes"], "opted_out": ["no"], "silence": "opted_out"}
SETS = {"ses_configuration_set": SET, "ses_untracked_configuration_set": UNTRACKED_SET}


def asked(launch: Launch, **campaign: Any) -> None:
    """Prepare the launch with both sets, and what the registry says on tracking."""
    launch.plan["campaign"] |= campaign
    launch.prepared = launch.account.prepare(launch.plan | SETS, launch.segment, launch.context())


def set_of(launch: Launch) -> dict[str, str]:
    return {mail["to"][0].partition("@")[0]: mail["configuration_set"] for mail in launch.account.mails}


def test_a_player_who_has_not_agreed_is_mailed_through_the_second_set(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the records at the time of the batch; a player without an answer has not agreed."""
    account = launch.account
    account.records(*launch.names[:15], tracking="yes")
    account.records("p003", tracking="no")
    asked(launch, tracking_consent=TRACKING)
    put = sends_store.Batches.put_outcome

    def and_then(batches: Any, number: int, *rest: Any) -> None:
        put(batches, number, *rest)
        if number == 0:
            account.records("p012", tracking="no")

    monkeypatch.setattr(sends_store.Batches, "put_outcome", and_then)
    counts = launch.run()
    agreed = {name: name not in ("p003", "p012", *launch.names[15:]) for name in launch.names}
    assert set_of(launch) == {name: SET if yes else UNTRACKED_SET for name, yes in agreed.items()}
    assert (counts["sent"], counts["untracked"]) == (25, 12)
    assert json.loads(account.read("launches/cohort/tracking.json")) == {"sent": 25, "untracked": 12}
    assert {tag["Name"] for mail in account.mails for tag in mail["tags"]} == {"launch", "row"}
    assert launch.run() == counts


@pytest.mark.parametrize(("tracking", "name"), [("none", UNTRACKED_SET), ("clicks", SET), ("all", SET)])
def test_without_a_consent_the_registry_decides_for_all_players(launch: Launch, tracking: str, name: str) -> None:
    asked(launch, tracking=tracking)
    counts = launch.run()
    assert set(set_of(launch).values()) == {name}
    assert counts.get("untracked", 0) == (25 if tracking == "none" else 0)
    assert ("tracking.json" in launch.account.state_keys()) == (tracking == "none")


def test_the_second_set_is_checked_too(check: Any, launch: Launch) -> None:
    launch.plan["campaign"]["tracking_consent"] = TRACKING
    check(untracked=UNTRACKED_SET)
    with pytest.raises(FlywheelError, match="CF-SET-01: not set: cohort_flywheel_ses_untracked_configuration_set"):
        check()
    with pytest.raises(FlywheelError, match=f"configuration set {SET} publishes CLICK, OPEN, so that SES tracks them"):
        check(untracked=SET)
    with pytest.raises(FlywheelError, match="others does not exist .* or correct cohort_flywheel_ses_untracked"):
        check(untracked="others")
    launch.plan["campaign"] |= {"tracking": "clicks", "tracking_consent": None}
    with pytest.raises(FlywheelError, match=f"configuration set {SET} publishes OPEN, so that SES tracks them"):
        check()


def test_without_any_set_no_mail_is_tracked_but_by_a_default_set(
    check: Any, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch.plan["campaign"]["tracking"] = "none"
    check("")
    found = SesV2Hook.verified_identity
    monkeypatch.setattr(
        SesV2Hook, "verified_identity", lambda *its: (found(*its) or {}) | {"ConfigurationSetName": "theirs"}
    )
    with pytest.raises(
        FlywheelError, match="not set: .*untracked_configuration_set.*SES would use theirs, the default"
    ):
        check("")


# --- the check of the plan


@pytest.fixture
def check(launch: Launch) -> Any:
    def run(name: str = SET, untracked: str = "") -> None:
        campaign = RunCampaign.model_validate(launch.plan["campaign"])
        template = read_template(launch.account.templates, "at_risk")
        settings = {"ses_configuration_set": name, "ses_untracked_configuration_set": untracked}
        DESTINATION.check_campaign(campaign, template, [], settings, "aws_default")

    return run


def test_a_complete_set_passes_and_another_is_refused(check: Any, account: Campaign) -> None:
    check()
    with pytest.raises(FlywheelError, match="configuration set others does not exist in SES"):
        check("others")
    ours = {"ConfigurationSetName": SET}
    account.client.put_configuration_set_sending_options(**ours, SendingEnabled=False)
    with pytest.raises(FlywheelError, match="the sending of configuration set cohort-flywheel is paused"):
        check()
    account.client.put_configuration_set_sending_options(**ours, SendingEnabled=True)
    (found,) = account.client.get_configuration_set_event_destinations(**ours)["EventDestinations"]
    name = found.pop("Name")
    less = found | {"MatchingEventTypes": [each for each in EVENT_TYPES if each != "CLICK"]}
    account.client.update_configuration_set_event_destination(**ours, EventDestinationName=name, EventDestination=less)
    with pytest.raises(FlywheelError, match="does not publish CLICK: add these event types"):
        check()
    account.client.update_configuration_set_event_destination(**ours, EventDestinationName=name, EventDestination=found)
    check()


@pytest.mark.parametrize("operation", ["GetConfigurationSet", "GetConfigurationSetEventDestinations"])
def test_a_right_that_is_missing_is_named(check: Any, account: Campaign, operation: str) -> None:
    account.control(refuse={"code": "AccessDeniedException", "status": 403, "operations": [operation]})
    with pytest.raises(FlywheelError, match="role ses:GetConfigurationSet and ses:GetConfigurationSetEventDest"):
        check()


def test_without_a_set_the_plan_says_what_is_missing(
    check: Any, account: Campaign, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    check("")
    assert "is not set: bounces, complaints, opens and clicks of this campaign are not recorded" in caplog.text
    assert "default configuration set" not in caplog.text
    found = SesV2Hook.verified_identity
    monkeypatch.setattr(
        SesV2Hook, "verified_identity", lambda *its: (found(*its) or {}) | {"ConfigurationSetName": "theirs"}
    )
    check("")
    assert "SES uses theirs, the default configuration set of the sender's identity" in caplog.text
