"""One campaign, started once, of what was approved, whatever happens: against the emulated Amazon Connect."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, CronDataIntervalTimetable
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from botocore.exceptions import ClientError, HTTPClientError

from cohort_flywheel.campaign.settings import RunCampaign
from cohort_flywheel.destinations.customer_profiles.campaign import hook as campaigns_hook
from cohort_flywheel.destinations.customer_profiles.campaign import operators as module
from cohort_flywheel.destinations.customer_profiles.campaign import qconnect_hook
from cohort_flywheel.destinations.customer_profiles.campaign.connect_campaigns_store import TAG, launch_key
from cohort_flywheel.destinations.customer_profiles.campaign.connect_prepare_operator import check_sender
from cohort_flywheel.destinations.customer_profiles.layout import player_key
from cohort_flywheel.engagement.suppressions import ListState
from cohort_flywheel.engagement.suppressions_store import put_state
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.names import SUPPRESSIONS_KEY
from local import seed
from local.config import PROFILES_DOMAIN
from tests.cohort_flywheel.campaign.campaigns import approved
from tests.cohort_flywheel.destinations.customer_profiles import profiles_domain
from tests.cohort_flywheel.destinations.customer_profiles.connect_account import (
    NO_MORE,
    SENDER,
    TODAY,
    Connect,
    keys_of,
    later,
)
from tests.cohort_flywheel.destinations.customer_profiles.profiles_domain import HEADER, address
from tests.cohort_flywheel.suppressed import suppress

PLAYERS = ("ann", "bob", "cat")
LINK = "{{amazonSESUnsubscribeUrl}}"


@pytest.fixture
def connect(airflow_env: Any, servers: Any, fresh_config: Any, tmp_path: Path) -> Any:
    made = Connect(servers, fresh_config, tmp_path)
    yield made
    made.control(reset=True)
    made.campaign_control(reset=True)
    made.template_control(reset=True)
    _ses(made, reset=True)
    for identity in made.ses.list_email_identities()["EmailIdentities"]:
        made.ses.delete_email_identity(EmailIdentity=identity["IdentityName"])
    seed.make_sender(servers, fresh_config)  # the one that all tests were given


@pytest.fixture
def ready(connect: Connect, context: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], Any]:
    """A run whose campaign is prepared: its plan, segment file, what was prepared, and context."""
    plan, run = connect.launch_plan(), context(run_id="today")
    segment = connect.imported(plan, run, *PLAYERS)
    return plan, segment, connect.prepare(plan, segment, run), run


def _ses(connect: Connect, **settings: Any) -> Any:
    return connect._control("sesv2", settings)


# --- what is prepared ------------------------------------------------------------------------------------


def test_the_mail_becomes_a_message_template_version_without_mailing(connect: Connect, ready: Any) -> None:
    plan, segment, prepared, _ = ready
    (template,) = connect.message_templates
    assert prepared == {
        "mode": "launch",
        "template": "at_risk",
        "template_digest": prepared["template_digest"],
        "template_arn": f"{template['arn']}:1",
        "from": SENDER,
        "reply_to": None,
        "rows": 3,
        "segment_id": prepared["segment_id"],
        "segment_sha256": segment["sha256"],
        "message": {
            "subject": "We miss you, Sam",
            "text": prepared["message"]["text"],
            "html_url": prepared["message"]["html_url"],
        },
    }
    assert prepared["message"]["text"] == f"Dear Sam Sample, play Healer again!\nNo more: {NO_MORE}\n"
    assert template["name"] == "cohort_flywheel_at_risk"
    email = template["versions"]["1"]["email"]
    assert email["subject"] == "We miss you, {{Attributes.Customer.FirstName}}"
    html = email["body"]["html"]["content"]
    assert (
        "{{Attributes.Customer.Attributes.FavoriteRole}}" in html and f'href="{NO_MORE}"'.replace("&", "&amp;") in html
    )
    assert (connect.made, connect.ledger(plan["name"])) == ([], None)


def test_a_version_is_made_of_each_content_and_of_the_same_once(connect: Connect, ready: Any, context: Any) -> None:
    plan, segment, prepared, _ = ready
    assert connect.prepare(plan, segment, context()) == prepared
    connect.write_template(subject_txt="Other")
    changed = connect.prepare(plan, segment, context())
    assert changed["template_arn"] == prepared["template_arn"][:-1] + "2"
    assert changed["template_digest"] != prepared["template_digest"]
    assert changed["message"]["subject"] == "Other"
    connect.write_template()
    again = connect.prepare(plan, segment, context())
    assert again["message"] == prepared["message"]
    assert len(connect.message_templates) == 1


def test_a_changed_or_removed_default_makes_a_new_version(connect: Connect, ready: Any, context: Any) -> None:
    plan, segment, _, _ = ready
    bodies = {"body_html": f"<p>{LINK}</p>", "body_txt": LINK}
    versions = []
    for subject in ("To {{LastName|a}}", "To {{LastName|b}}", "To {{LastName}}"):
        connect.write_template(subject_txt=subject, **bodies)
        versions.append(connect.prepare(plan, segment, context())["template_arn"].rpartition(":")[2])
    assert versions == ["2", "3", "4"]
    latest = connect.qconnect.get_message_template(
        knowledgeBaseId=connect.base, messageTemplateId=connect.message_templates[0]["id"]
    )["messageTemplate"]
    assert not latest.get("defaultAttributes")


@pytest.mark.parametrize("lost", ["CreateMessageTemplate", "UpdateMessageTemplate", "CreateMessageTemplateVersion"])
@pytest.mark.parametrize("lose_by", ["drop", "error"])
def test_a_lost_answer_creates_no_second_template(connect: Connect, context: Any, lost: str, lose_by: str) -> None:
    plan, run = connect.launch_plan(), context()
    segment = connect.imported(plan, run, *PLAYERS)
    if lost == "UpdateMessageTemplate":
        connect.prepare(plan, segment, run)
        connect.write_template(subject_txt="Other")
    connect.template_control(lose_next_answers=20, lose_operations=[lost], lose_by=lose_by)
    with pytest.raises(AirflowException) as raised:
        connect.prepare(plan, segment, run)
    assert not isinstance(raised.value, AirflowFailException), "a later try can mend it"
    connect.template_control(lose_next_answers=0)
    connect.prepare(plan, segment, run)
    (template,) = connect.message_templates
    assert len(template["versions"]) == (2 if lost == "UpdateMessageTemplate" else 1)


def test_a_template_changed_meanwhile_is_not_used(
    connect: Connect, ready: Any, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our look and the version: the version is of what was seen, or none."""
    plan, segment, prepared, _ = ready
    create = qconnect_hook.QConnectHook.create_version

    def after_another(hook: Any, base: str, template_id: str, sha256: str) -> Any:
        content = {"email": {"subject": "Spam", "body": {"plainText": {"content": "Spam"}}}}
        connect.qconnect.update_message_template(knowledgeBaseId=base, messageTemplateId=template_id, content=content)
        return create(hook, base, template_id, sha256)

    with (
        monkeypatch.context() as patch,
        pytest.raises(AirflowException, match="CreateMessageTemplateVersion with ConflictException") as raised,
    ):
        patch.setattr(qconnect_hook.QConnectHook, "create_version", after_another)
        connect.prepare(plan, segment, context())
    assert not isinstance(raised.value, AirflowFailException)
    assert connect.prepare(plan, segment, context())["message"] == prepared["message"]


def test_the_template_is_found_on_any_page_and_others_are_unchanged(
    connect: Connect, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qconnect_hook, "TEMPLATES_PER_PAGE", 2)
    content = {"email": {"subject": "Mine", "body": {"plainText": {"content": "Mine"}}}}
    for name in ("at_risk", "b", "c", "d", "e"):
        connect.qconnect.create_message_template(
            knowledgeBaseId=connect.base, name=name, channelSubtype="EMAIL", content=content
        )
    plan, run = connect.launch_plan(), context()
    segment = connect.imported(plan, run, *PLAYERS)
    first = connect.prepare(plan, segment, run)
    assert connect.prepare(plan, segment, run) == first
    assert [each["name"] for each in connect.message_templates] == [
        "at_risk", "b", "c", "d", "e", "cohort_flywheel_at_risk",
    ]  # fmt: skip
    assert connect.message_templates[0]["latest"] == content


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"subject_txt": "Hi {{Level}}"}, "template at_risk names Level, which is not a column of the segment"),
        (
            {"subject_txt": "Hi", "body_html": f"{{{{FirstName|}}}} {LINK}", "body_txt": LINK},
            "FirstName of template at_risk has an empty default",
        ),
        ({"body_html": "<p>Hi</p>"}, "at_risk/body.html has no {{amazonSESUnsubscribeUrl}}"),
        ({"body_txt": "Hi"}, "at_risk/body.txt has no {{amazonSESUnsubscribeUrl}}"),
    ],
)
def test_a_template_that_the_segment_or_connect_cannot_fill_is_refused(
    connect: Connect, context: Any, files: dict[str, str], sentence: str
) -> None:
    connect.write_template(**files)
    plan, run = connect.launch_plan(), context()
    segment = connect.segment("one", ["ann"])
    with pytest.raises(AirflowFailException, match=f"{sentence}.*Changes made: none"):
        connect.prepare(plan, segment, run)
    assert connect.message_templates == []


def test_two_players_with_one_address_are_refused_at_a_launch(
    connect: Connect, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connect mails each profile of the segment: none of them can be left out."""
    monkeypatch.setattr(profiles_domain, "address", lambda player: f"{player}@example.com")
    plan, segment = connect.launch_plan(), connect.segment("shared", ["ann", "bob"], ["cat", "ANN"])
    with pytest.raises(AirflowFailException, match="1 of 4 rows have the address of a row before them") as raised:
        connect.prepare(plan, segment, context())
    assert "example.com" not in str(raised.value)
    listed = connect.s3.get_object(Bucket=connect.config.state_bucket, Key=f"launches/{plan['name']}/same_address.txt")
    assert listed["Body"].read() == b"ANN\n"
    assert connect.message_templates == []
    assert connect.prepare(connect.launch_plan("draft"), segment, context())["rows"] == 4


def test_the_cohorts_own_attributes_are_placeholders_too(connect: Connect, context: Any) -> None:
    connect.write_template(subject_txt="Level {{Level}}")
    plan, run = connect.launch_plan(), context()
    segment = connect.segment(plan["name"], ["ann"], header=[*HEADER, "Level"])
    connect.run(segment, run, name=plan["name"])
    connect.contacts("ann")
    prepared = connect.prepare(plan, segment, run)
    connect.launch(plan, segment, prepared, run)
    (mail,) = connect.made[0]["mails"]
    assert (mail["subject"], mail["Missing"]) == ("Level x", [])


def test_an_empty_segment_and_no_campaign_are_skipped(connect: Connect, context: Any) -> None:
    with pytest.raises(AirflowSkipException, match="is empty: no player to mail"):
        connect.prepare(connect.launch_plan(), connect.segment("none", []), context())
    with pytest.raises(AirflowSkipException, match="has no campaign"):
        plan = connect.launch_plan() | {"campaign": {"mode": "none"}}
        connect.prepare(plan, connect.segment("one", ["ann"]), context())
    assert connect.message_templates == []


# --- draft and test --------------------------------------------------------------------------------------


def test_a_draft_has_a_mail_and_no_campaign(connect: Connect, context: Any) -> None:
    """A campaign started in Connect would bypass the approval and the send ledger."""
    plan, run = connect.launch_plan("draft"), context()
    segment = connect.imported(plan, run, *PLAYERS)
    prepared = connect.prepare(plan, segment, run)
    assert connect.prepare(plan, segment, run) == prepared
    assert [each["name"] for each in connect.message_templates] == ["cohort_flywheel_at_risk"]
    assert (connect.made, connect.ledger()) == ([], None)
    with pytest.raises(AirflowFailException, match="the campaign of this run is draft"):
        connect.launch(plan, segment, prepared, run)


@pytest.mark.parametrize("lost", [None, "CreateCampaign"])
@pytest.mark.parametrize("lose_by", ["drop", "error"])
def test_a_campaign_is_created_once_with_its_segment_and_template(
    connect: Connect, ready: Any, lost: str | None, lose_by: str
) -> None:
    plan, _, prepared, _ = ready
    if lost:
        connect.campaign_control(lose_next_answers=20, lose_operations=[lost], lose_by=lose_by)
        with pytest.raises((ClientError, HTTPClientError)):
            connect.made_before(plan, prepared)
        connect.campaign_control(lose_next_answers=0)
    campaign_id = connect.made_before(plan, prepared)
    assert connect.made_before(plan, prepared) == campaign_id
    (made,) = connect.made
    assert (made["id"], made["name"], made["state"], made["mails"]) == (
        campaign_id, "ea_atrisk_2_today", "Initialized", [],
    )  # fmt: skip
    config = made["channelSubtypeConfig"]["email"]["defaultOutboundConfig"]
    assert config == {
        "connectSourceEmailAddress": "play@studio.email.connect.aws",
        "sourceEmailAddressDisplayName": "Riftwars: Ascension",
        "wisdomTemplateArn": prepared["template_arn"],
    }
    assert made["source"] == {"customerProfilesSegmentArn": prepared["segment_id"]}
    assert set(made["schedule"]) == {"startTime", "endTime"}, "players who join the segment later are not mailed"
    assert made["tags"] == {
        "owner": f"arn:aws:connect:us-east-1:123456789012:instance/{connect.instance}",
        TAG: f"s3://{connect.config.state_bucket}/sends/at_risk/ea_atrisk_2_today.jsonl",
    }
    assert connect.campaign_control()["calls"].get("StartCampaign", 0) == 0


def test_a_campaign_of_another_mail_that_was_never_started_is_replaced(connect: Connect, ready: Any) -> None:
    plan, segment, prepared, run = ready
    campaign_id = connect.made_before(plan, prepared)
    connect.write_template(subject_txt="Other")
    other = connect.prepare(plan, segment, run)
    launched = connect.launch(plan, segment, other, run)
    (made,) = connect.made
    assert made["id"] == launched["campaign_id"] != campaign_id
    assert {mail["subject"] for mail in made["mails"]} == {"Other"}


def test_a_campaign_of_this_name_that_a_person_made_is_not_replaced(connect: Connect, ready: Any) -> None:
    """Without our tag, or with the tag of another state bucket."""
    plan, segment, prepared, run = ready
    connect.write_template(subject_txt="Other")
    other = connect.prepare(plan, segment, run)
    for tags in ({}, {TAG: f"s3://theirs/sends/at_risk/{plan['name']}.jsonl"}):
        campaign_id = connect.campaigns.create_campaign(**connect.request(plan, prepared) | {"tags": tags})["id"]
        with pytest.raises(AirflowFailException, match=f"delete it .*delete-campaign --id {campaign_id}"):
            connect.launch(plan, segment, other, run)
        assert ([each["id"] for each in connect.made], connect.ledger()) == ([campaign_id], None)
        connect.campaigns.delete_campaign(id=campaign_id)
    connect.launch(plan, segment, other, run)
    assert connect.mailed == keys_of(PLAYERS)


def test_a_campaign_that_connect_refuses_is_an_error(connect: Connect, ready: Any) -> None:
    connect.campaign_control(refuse={"code": "ValidationException", "status": 400, "operations": ["CreateCampaign"]})
    with pytest.raises(AirflowFailException, match="refuses the campaign .* the sender was added to it") as raised:
        connect.launch(*ready)
    assert "may have been created" not in str(raised.value)


def test_a_sender_that_is_not_verified_is_refused_before_anything_is_made(connect: Connect, context: Any) -> None:
    plan = connect.launch_plan(**{"from": "play@nowhere.example"})
    with pytest.raises(AirflowFailException, match="nowhere.example is not verified.*Changes made: none"):
        connect.prepare(plan, connect.segment("one", ["ann"]), context())
    assert connect.message_templates == []


def test_a_reply_to_address_is_refused(connect: Connect, context: Any) -> None:
    plan = connect.launch_plan()
    plan["campaign"]["reply_to"] = "help@studio.example"
    with pytest.raises(AirflowFailException, match="Amazon Connect takes no reply-to address: remove it.*made: none"):
        connect.prepare(plan, connect.segment("one", ["ann"]), context())
    assert connect.message_templates == []


def test_a_test_mails_three_samples_to_the_test_addresses_only(connect: Connect, context: Any) -> None:
    plan = connect.launch_plan("test", **{"from": "Studio <play@studio.example>"})
    run = context()
    segment = connect.imported(plan, run, *PLAYERS)
    prepared = connect.prepare(plan, segment, run)
    mails = _kept_mails(connect)
    assert [mail["delivered"] for mail in mails] == [["qa@studio.example"]] * 3
    assert [mail["subject"] for mail in mails] == [
        "We miss you, Sam", "We miss you, friend", "We miss you, Sam <&> Åsa",
    ]  # fmt: skip
    assert "Sam &lt;&amp;&gt; Åsa" in mails[2]["html"] and "Sam <&> Åsa" in mails[2]["text"]
    assert connect.made == []
    with pytest.raises(AirflowFailException, match="the campaign of this run is test"):
        connect.launch(plan, segment, prepared, run)


def test_the_sender_of_a_sample_is_the_one_that_an_approver_reads(connect: Connect, context: Any) -> None:
    plan = connect.launch_plan("test", **{"from": "Riftwars: Ascension <play@studio.example>"})
    run = context()
    prepared = connect.prepare(plan, connect.imported(plan, run, *PLAYERS), run)
    for mail in _kept_mails(connect):
        assert f"{mail['sender_name']} <{mail['sender']}>" == prepared["from"] == plan["campaign"]["from"]


def _kept_mails(connect: Connect) -> list[dict[str, Any]]:
    return [mail for account in _ses(connect)["accounts"] for mail in account["mails"]]


@pytest.mark.parametrize("sender", ["play@studio.example", "Studio <PLAY@mail.studio.example>"])
def test_a_sender_is_verified_by_its_domain_or_one_above(connect: Connect, sender: str) -> None:
    campaign = connect.launch_plan(**{"from": sender})["campaign"]
    _ses(connect, unverify=["studio.example"])
    with pytest.raises(FlywheelError, match=r"the sender .* is not verified: verify (mail\.)?studio.example in Amazon"):
        check_sender(RunCampaign.model_validate(campaign), "aws_default")
    _ses(connect, verify=["studio.example"])
    check_sender(RunCampaign.model_validate(campaign), "aws_default")


def test_an_address_of_connects_own_is_verified_and_sends_no_test(connect: Connect) -> None:
    check_sender(RunCampaign.model_validate(connect.launch_plan()["campaign"]), "aws_default")
    with pytest.raises(FlywheelError, match="of Connect's own domain.*or campaign=draft"):
        check_sender(RunCampaign.model_validate(connect.launch_plan("test")["campaign"]), "aws_default")
    with pytest.raises(FlywheelError, match="from is 'Studio': write an address"):
        check_sender(RunCampaign.model_validate(connect.launch_plan(**{"from": "Studio"})["campaign"]), "aws_default")


# --- a launch --------------------------------------------------------------------------------------------


def test_a_launch_mails_exactly_the_rows(connect: Connect, ready: Any) -> None:
    plan, segment, prepared, run = ready
    launched = connect.launch(plan, segment, prepared, run)
    (made,) = connect.made
    assert launched == {
        "campaign_id": made["id"],
        "campaign_state": launched["campaign_state"],
        "template": "at_risk",
        "players": 3,
    }
    assert launched["campaign_state"] in ("Running", "Completed")
    assert connect.mailed == keys_of(PLAYERS)
    assert all("Jo, Jr." in mail["subject"] and "of ours" not in mail["html"] for mail in made["mails"])
    assert connect.ledger() == sorted(PLAYERS)


def test_the_campaign_is_created_before_the_send_ledger_is_put_and_started_after(
    connect: Connect, ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Players count as mailed only once Connect has taken the campaign; a mail is sent only once they count."""
    plan, segment, prepared, run = ready
    seen: list[Any] = []
    for call in ("create_campaign", "start_campaign"):
        real = getattr(campaigns_hook.ConnectCampaignsHook, call)

        def looked(hook: Any, asked: Any, real: Any = real) -> Any:
            seen.append(connect.ledger())
            return real(hook, asked)

        monkeypatch.setattr(campaigns_hook.ConnectCampaignsHook, call, looked)
    connect.launch(plan, segment, prepared, run)
    assert seen == [None, sorted(PLAYERS)]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ServiceQuotaExceededException", 402),
        ("AccessDeniedException", 403),
        ("ThrottlingException", 429),
        ("ValidationException", 400),
        ("ConflictException", 409),
        ("InternalServerException", 500),
    ],
)
def test_where_the_campaign_cannot_be_created_no_player_counts_as_mailed(
    connect: Connect, ready: Any, code: str, status: int
) -> None:
    connect.campaign_control(refuse={"code": code, "status": status, "operations": ["CreateCampaign"]})
    with pytest.raises(AirflowException):
        connect.launch(*ready)
    assert (connect.made, connect.ledger()) == ([], None)
    connect.campaign_control(refuse=None)
    connect.launch(*ready)
    assert connect.mailed == keys_of(PLAYERS)


@pytest.mark.parametrize("lost", ["CreateCampaign", "StartCampaign", "ListCampaigns", "GetCampaignState"])
@pytest.mark.parametrize("lose_by", ["drop", "error"])
def test_a_lost_answer_mails_each_player_once(connect: Connect, ready: Any, lost: str, lose_by: str) -> None:
    plan, segment, prepared, run = ready
    connect.campaign_control(lose_next_answers=20, lose_operations=[lost], lose_by=lose_by, campaign_seconds=60)
    with pytest.raises(AirflowException) as raised:
        connect.launch(plan, segment, prepared, run)
    assert not isinstance(raised.value, AirflowFailException), "a later try can mend it"
    connect.campaign_control(lose_next_answers=0)
    launched = connect.launch(plan, segment, prepared, run)
    connect.campaign_control(clock_ahead_seconds=120)
    assert connect.mailed == keys_of(PLAYERS)
    assert [each["id"] for each in connect.made] == [launched["campaign_id"]]
    again = connect.launch(plan, segment, prepared, run)
    assert again == launched | {"campaign_state": "Completed"}
    assert connect.campaign_control()["calls"]["StartCampaign"] == 1
    assert connect.mailed == keys_of(PLAYERS)


class Killed(BaseException):
    """As a worker that is killed: nothing catches it."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "place", ["module._put_ledger", "hook.create_campaign", "module.put_json", "hook.start_campaign", "hook.state"]
)
def test_a_worker_that_is_killed_mails_each_player_once(
    connect: Connect, ready: Any, monkeypatch: pytest.MonkeyPatch, place: str, when: str
) -> None:
    plan, segment, prepared, run = ready
    whose: Any = campaigns_hook.ConnectCampaignsHook
    if place.startswith("module."):
        whose = module if place == "module.put_json" else module.ConnectLaunchCampaignOperator
    name = place.partition(".")[2]
    real = getattr(whose, name)

    def killed(*arguments: Any, **more: Any) -> Any:
        if when == "after":
            real(*arguments, **more)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(whose, name, killed)
        connect.launch(plan, segment, prepared, run)
    assert connect.mailed in ([], keys_of(PLAYERS))
    connect.launch(plan, segment, prepared, run)
    assert connect.mailed == keys_of(PLAYERS)
    assert len(connect.made) == 1
    assert connect.ledger() == sorted(PLAYERS)


def test_a_stale_listing_does_not_start_a_second_campaign(
    connect: Connect, ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the start was lost, and the campaign is on no list yet: what is recorded is asked, not the list."""
    plan, segment, prepared, run = ready
    monkeypatch.setattr(campaigns_hook.ConnectCampaignsHook, "campaigns", lambda *_: iter(()))
    for lost in ("CreateCampaign", "StartCampaign"):
        connect.campaign_control(lose_next_answers=20, lose_operations=[lost])
        with pytest.raises(AirflowException):
            connect.launch(plan, segment, prepared, run)
    connect.campaign_control(lose_next_answers=0)
    connect.launch(plan, segment, prepared, run)
    assert sorted(connect.states) == ["Completed", "Initialized"]
    assert connect.mailed == keys_of(PLAYERS)


def test_of_two_tries_at_once_the_recorded_campaign_is_started(
    connect: Connect, ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A try that Airflow took for dead goes on: it records its campaign while this one makes its own."""
    plan, segment, prepared, run = ready
    create = campaigns_hook.ConnectCampaignsHook.create_campaign

    def behind_another(hook: Any, request: Any) -> str:
        patch.undo()
        connect.launch(plan, segment, prepared, run)
        return create(hook, request)

    with monkeypatch.context() as patch:
        patch.setattr(campaigns_hook.ConnectCampaignsHook, "create_campaign", behind_another)
        connect.launch(plan, segment, prepared, run)
    assert sorted(connect.states) == ["Completed", "Initialized"]
    assert connect.mailed == keys_of(PLAYERS)


def test_the_campaign_is_found_on_any_page(connect: Connect, ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, segment, prepared, run = ready
    monkeypatch.setattr(campaigns_hook, "CAMPAIGNS_PER_PAGE", 2)
    for number in range(5):
        connect.made_before(plan | {"name": f"other_{number}"}, prepared)
    made = connect.made_before(plan, prepared)
    assert connect.launch(plan, segment, prepared, run)["campaign_id"] == made
    assert connect.mailed == keys_of(PLAYERS)
    assert connect.states.count("Initialized") == 5


def test_a_campaign_started_in_connect_prevents_a_launch(connect: Connect, ready: Any) -> None:
    plan, segment, prepared, run = ready
    made = connect.made_before(plan, prepared)
    connect.campaigns.start_campaign(id=made)
    with pytest.raises(
        AirflowFailException, match=f"campaign {made}.* no launch has started it: a user of Connect has"
    ):
        connect.launch(plan, segment, prepared, run)
    assert connect.mailed == keys_of(PLAYERS)
    assert connect.ledger() == sorted(PLAYERS), "so that no other run mails them"


def test_a_campaign_whose_time_is_nearly_over_is_replaced(connect: Connect, ready: Any) -> None:
    plan, segment, prepared, run = ready
    made = connect.made_before(plan, prepared)
    monthly = plan | {"schedule": "0 0 1 1 *"}  # so that this as-of is the newest for long
    connect.campaign_control(clock_ahead_seconds=0.6 * 86_400)
    launched = connect.launch(monthly, segment, prepared, run, clock=later(0.6))
    assert [each["id"] for each in connect.made] == [launched["campaign_id"]] != [made]
    assert connect.mailed == keys_of(PLAYERS)


def test_a_recorded_campaign_whose_time_is_nearly_over_is_not_started(connect: Connect, ready: Any) -> None:
    """The send ledger is there, so a person decides."""
    _broken_off(connect, ready)
    plan, *rest = ready
    monthly = plan | {"schedule": "0 0 1 1 *"}
    with pytest.raises(AirflowFailException, match="which was not started, ends too soon, at .*: delete s3://.*sends/"):
        connect.launch(monthly, *rest, clock=later(0.6))
    assert connect.mailed == []


@pytest.mark.parametrize("changed", [{"segment_sha256": "0" * 64}, {"template_arn": "arn:other"}])
def test_a_result_is_not_launched_again_with_other_content(
    connect: Connect, ready: Any, changed: dict[str, str]
) -> None:
    plan, segment, prepared, run = ready
    connect.launch(plan, segment, prepared, run)
    other = prepared | changed
    segment = segment | ({"sha256": changed["segment_sha256"]} if "segment_sha256" in changed else {})
    with pytest.raises(AirflowFailException, match="was launched already, with another segment or mail"):
        connect.launch(plan, segment, other, run)
    assert connect.mailed == keys_of(PLAYERS)


def test_a_result_that_ses_has_launched_is_not_launched_again(connect: Connect, ready: Any) -> None:
    plan, *rest = ready
    record = {"ses_template": "at_risk_0", "template_digest": "0", "from": "a@b.example", "segment_sha256": "0"}
    connect.s3.put_object(
        Bucket=connect.config.state_bucket, Key=launch_key(plan["name"]), Body=json.dumps(record).encode()
    )
    with pytest.raises(AirflowFailException, match="CF-CAMPAIGN-10: .* was launched already, with another segment"):
        connect.launch(plan, *rest)
    assert connect.mailed == []


def test_another_segment_of_the_name_is_refused_by_the_send_ledger(connect: Connect, ready: Any) -> None:
    """The try before this one ended after its ledger: nothing was started, and yet nothing else may be mailed."""
    plan, segment, prepared, run = ready
    connect.campaign_control(refuse={"code": "AccessDeniedException", "status": 403, "operations": ["StartCampaign"]})
    with pytest.raises(AirflowFailException, match="StartCampaign with AccessDeniedException"):
        connect.launch(plan, segment, prepared, run)
    connect.campaign_control(refuse=None)
    other = connect.imported(plan, run, "ann", "dan")
    with pytest.raises(AirflowFailException, match=r"has changed it since: delete s3://.*/sends/.*; then trigger"):
        connect.launch(plan, segment, prepared, run)
    with pytest.raises(AirflowFailException, match="launched already"):
        connect.prepare(plan, other, run)
    assert (connect.mailed, connect.states) == ([], ["Initialized"])
    assert connect.ledger() == sorted(PLAYERS)


# --- what must hold --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "forge",
    [
        lambda right: None,
        lambda right: "success",
        lambda right: {},
        lambda right: right | {"approved": False},
        lambda right: right | {"approved": "true"},
        lambda right: right | {"by": "mallory"},
        lambda right: {"approved": True, "digest": right["digest"]},
        lambda right: right | {"digest": "0" * 64},
        lambda right: {"approved": True, "by": "ann"},
    ],
    ids=["none", "a state", "nothing", "refused", "text", "no approver", "no user", "another digest", "no digest"],
)
def test_without_an_approval_of_this_mail_no_player_is_mailed(
    connect: Connect, ready: Any, forge: Callable[[dict[str, Any]], Any]
) -> None:
    plan, segment, prepared, run = ready
    with pytest.raises(AirflowFailException, match="no recorded approval of exactly this segment and mail"):
        connect.launch(plan, segment, prepared, run, answer=forge(approved(prepared)))
    assert (connect.made, connect.ledger()) == ([], None)


@pytest.mark.parametrize(
    "change",
    [
        {"template_arn": "other"}, {"template_digest": "other"}, {"segment_id": "other"},
        {"message": {"subject": "other", "text": "other"}},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_any_change_after_the_approval_needs_another_approval(
    connect: Connect, ready: Any, change: dict[str, Any]
) -> None:
    plan, segment, prepared, run = ready
    answer = approved(prepared)
    with pytest.raises(AirflowFailException, match="exactly this segment and mail"):
        connect.launch(plan, segment, prepared | change, run, answer=answer)
    assert connect.made == []


@pytest.mark.parametrize(
    "change",
    [{"rows": 99}, {"segment_sha256": "other"}, {"from": "other"}, {"template": "other"}, {"mode": "draft"}],
    ids=lambda change: next(iter(change)),
)
def test_the_preparation_of_another_run_is_refused(connect: Connect, ready: Any, change: dict[str, Any]) -> None:
    plan, segment, prepared, run = ready
    with pytest.raises(AirflowFailException, match="what was prepared is not this run's segment and campaign"):
        connect.launch(plan, segment, prepared | change, run)
    assert connect.made == []


@pytest.mark.parametrize("name", ["rows", "mode", "message"])
def test_a_preparation_that_was_set_by_hand_is_refused(connect: Connect, ready: Any, name: str) -> None:
    plan, segment, prepared, run = ready
    with pytest.raises(AirflowFailException, match="the output of prepare_campaign is not what the task returned"):
        connect.launch(plan, segment, prepared | {name: "other"}, run, answer=approved(prepared))
    assert connect.made == []


def test_an_older_as_of_is_not_launched(connect: Connect, ready: Any) -> None:
    plan, segment, prepared, run = ready
    with pytest.raises(AirflowSkipException, match="the newest as-of is"):
        connect.launch(plan, segment, prepared, run, clock=later(1))
    assert (connect.made, connect.ledger()) == ([], None)


def test_the_schedule_in_force_decides_whether_an_as_of_is_older(connect: Connect, ready: Any) -> None:
    """Yearly becomes daily between the plan and the launch."""
    plan, segment, prepared, run = ready
    daily = {"dag": DAG("a_dag", schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"))}
    with pytest.raises(AirflowSkipException, match="the newest as-of is"):
        connect.launch(plan | {"schedule": "0 0 1 1 *"}, segment, prepared, run | daily, clock=later(1))
    assert (connect.made, connect.ledger()) == ([], None)


@pytest.mark.parametrize("changes", [{"source": "live"}, {"source": "extract"}, {"dry_run": True}])
def test_a_run_that_is_not_canonical_is_not_launched(connect: Connect, ready: Any, changes: dict[str, Any]) -> None:
    plan, segment, prepared, run = ready
    with pytest.raises(AirflowFailException, match="is not the canonical run of its as-of"):
        connect.launch(plan | changes, segment, prepared, run)
    assert (connect.made, connect.ledger()) == ([], None)


def test_a_backfill_is_not_launched(connect: Connect, ready: Any, context: Any) -> None:
    plan, segment, prepared, _ = ready
    with pytest.raises(AirflowFailException, match="a backfill never launches"):
        connect.launch(plan, segment, prepared, context(run_id="today", run_type="backfill"))
    assert (connect.made, connect.ledger()) == ([], None)


@pytest.mark.parametrize(
    ("withdraw", "reason"),
    [
        (lambda c: c.do_not_contact("bob"), "do_not_contact 1"),
        (lambda c: c.do_not_contact(address("bob").upper()), "do_not_contact 1"),
        (lambda c: c.do_not_contact("another", "'bob',unsubscribed\u200b"), "do_not_contact 1"),
        (lambda c: c.do_not_contact(f'"Smith, Bob" <{address("bob")}>;'), "do_not_contact 1"),
        (lambda c: c.contacts("bob", marketing="no"), "opted_out 1"),
        (lambda c: c.contacts("bob", marketing=""), "opted_out 1"),
        (lambda c: c.forget("bob"), "no_record 1"),
        (lambda c: c.contacts("bob", email=""), "no_address 1"),
        (lambda c: c.contacts("bob", email="bob"), "bad_address 1"),
        (lambda c: c.contacts("bob", email="other@example.com"), "other_address 1"),
        (lambda c: suppress(c.config.state_bucket, "player", "bob"), "complained 1"),
        (lambda c: suppress(c.config.state_bucket, "address", address("bob").upper(), "bounced"), "bounced 1"),
    ],
)
def test_a_player_who_has_withdrawn_stops_the_launch(
    connect: Connect, ready: Any, withdraw: Callable[[Connect], Any], reason: str
) -> None:
    plan, segment, prepared, run = ready
    plan["withhold"]["suppressions"] = SUPPRESSIONS_KEY
    withdraw(connect)
    with pytest.raises(
        AirflowFailException, match=rf"1 of 3 rows may not be mailed any more \({reason}\): trigger a new run"
    ) as raised:
        connect.launch(plan, segment, prepared, run)
    assert "bob" not in str(raised.value) and "@" not in str(raised.value)
    assert (connect.made, connect.ledger()) == ([], None)


def test_a_launch_is_refused_if_the_suppressions_are_older_than_one_as_of(connect: Connect, ready: Any) -> None:
    plan, segment, prepared, run = ready
    plan["reads_engagement"] = True
    with pytest.raises(AirflowFailException, match="CF-CAMPAIGN-16: the suppression list has the events up to no"):
        connect.launch(plan, segment, prepared, run)
    assert (connect.made, connect.ledger()) == ([], None)
    put_state(S3Hook(), plan["state_bucket"], ListState(as_of=TODAY - timedelta(days=1)))
    assert connect.launch(plan, segment, prepared, run)["campaign_state"]


def _broken_off(connect: Connect, ready: Any) -> None:
    """A try that came as far as the start, which was refused."""
    plan, segment, prepared, run = ready
    connect.campaign_control(refuse={"code": "ThrottlingException", "status": 429, "operations": ["StartCampaign"]})
    with pytest.raises(AirflowException, match="Throttling") as raised:
        connect.launch(plan, segment, prepared, run)
    assert not isinstance(raised.value, AirflowFailException)
    assert f"campaign {connect.made[0]['id']} may have been started" not in str(raised.value)
    connect.campaign_control(refuse=None)


def test_a_player_who_withdraws_between_two_attempts_is_not_mailed_and_the_others_can_be(
    connect: Connect, ready: Any
) -> None:
    plan, _, _, run = ready
    _broken_off(connect, ready)
    connect.contacts("bob", marketing="no")
    ledger, record = f"sends/at_risk/{plan['name']}.jsonl", f"launches/{plan['name']}/launch.json"
    with pytest.raises(
        AirflowFailException, match=f"opted_out 1.*: delete s3://.*{ledger} and .*{record}.*; then trigger"
    ):
        connect.launch(*ready)
    assert connect.mailed == []
    for key in (ledger, record):  # as the sentence says
        connect.s3.delete_object(Bucket=connect.config.state_bucket, Key=key)
    connect.campaigns.delete_campaign(id=connect.made[0]["id"])
    segment = connect.segment(plan["name"], ["ann", "cat"])
    connect.run(segment, run, name=plan["name"], as_of=TODAY)
    connect.launch(plan, segment, connect.prepare(plan, segment, run), run)
    assert connect.mailed == keys_of(["ann", "cat"])


def test_a_launch_that_was_not_started_in_time_names_its_send_ledger(connect: Connect, ready: Any) -> None:
    _broken_off(connect, ready)
    with pytest.raises(AirflowFailException, match="was not started in time: .* delete s3://.*sends/at_risk"):
        connect.launch(*ready, clock=later(1))
    assert (connect.mailed, connect.ledger()) == ([], sorted(PLAYERS))


def test_a_refused_start_is_retried(connect: Connect, ready: Any) -> None:
    refusal = {"code": "InvalidCampaignStateException", "status": 409, "operations": ["StartCampaign"], "times": 1}
    connect.campaign_control(refuse=refusal)
    with pytest.raises(AirflowException, match="InvalidCampaignStateException") as raised:
        connect.launch(*ready)
    assert not isinstance(raised.value, AirflowFailException)
    connect.launch(*ready)
    assert connect.mailed == keys_of(PLAYERS)


def test_many_rows_are_looked_up_again_by_the_hundred(connect: Connect, context: Any) -> None:
    everybody = [f"player{number}" for number in range(250)]
    plan, run = connect.launch_plan(), context()
    segment = connect.imported(plan, run, *everybody)
    prepared = connect.prepare(plan, segment, run)
    connect.contacts("player7", "player249", marketing="no")
    with pytest.raises(AirflowFailException, match=r"2 of 250 rows .*\(opted_out 2\)"):
        connect.launch(plan, segment, prepared, run)
    connect.contacts("player7", "player249")
    connect.launch(plan, segment, prepared, run)
    assert connect.mailed == keys_of(everybody)


def test_a_player_mailed_by_another_cohort_meanwhile_stops_the_launch(connect: Connect, ready: Any) -> None:
    """Both were approved before either was launched, so neither segment file could know."""
    plan, segment, prepared, run = ready
    other = connect.launch_plan(name="other_today", threshold=1)
    theirs = connect.imported(other, run, "bob", "dan")
    arn = prepared["segment_id"].removesuffix("_2") + "_1"
    them = connect.prepare(other, theirs, run) | {"segment_id": arn}
    connect.launch(other, theirs, them, run)
    assert connect.mailed == keys_of(["bob", "dan"])
    with pytest.raises(AirflowFailException, match=r"1 of 3 rows may not be mailed any more \(recently_mailed 1\)"):
        connect.launch(plan, segment, prepared, run)
    assert connect.mailed == keys_of(["bob", "dan"])
    assert connect.ledger() is None


def test_launches_of_a_template_are_exclusive(connect: Connect, ready: Any, context: Any) -> None:
    plan, segment, prepared, run = ready
    first = context(run_id="first")
    run["ti"].runs["cohort_to_segment", "first"] = "running"
    key = "claims/campaign_at_risk.json"
    body = json.dumps({"dag_id": first["dag_run"].dag_id, "run_id": "first"}).encode()
    connect.s3.put_object(Bucket=connect.config.state_bucket, Key=key, Body=body)
    with pytest.raises(AirflowException, match="another run is launching a campaign of template at_risk") as raised:
        connect.launch(plan, segment, prepared, run)
    assert not isinstance(raised.value, AirflowFailException)
    run["ti"].runs["cohort_to_segment", "first"] = "success"
    connect.launch(plan, segment, prepared, run)
    assert connect.mailed == keys_of(PLAYERS)
    left = connect.s3.list_objects_v2(Bucket=connect.config.state_bucket, Prefix="claims/").get("Contents", [])
    assert left == []


def test_adopting_the_campaign_of_a_killed_attempt_releases_its_locks(connect: Connect, ready: Any) -> None:
    """Else other runs would wait for as long as the campaign is followed."""
    plan, segment, prepared, run = ready
    launched = connect.launch(plan, segment, prepared, run)
    bucket, ours = connect.config.state_bucket, {"dag_id": run["dag_run"].dag_id, "run_id": run["dag_run"].run_id}
    for name in ("campaign_at_risk", f"customer_profiles_{PROFILES_DOMAIN}_ea_atrisk_2"):
        connect.s3.put_object(Bucket=bucket, Key=f"claims/{name}.json", Body=json.dumps(ours).encode())
    assert connect.launch(plan, segment, prepared, run) == launched
    assert connect.s3.list_objects_v2(Bucket=bucket, Prefix="claims/")["KeyCount"] == 0


def test_a_segment_that_another_run_has_changed_is_not_mailed(connect: Connect, ready: Any, context: Any) -> None:
    plan, segment, prepared, run = ready
    connect.imported(plan | {"name": "again"}, context(run_id="again"), "ann", "dan")
    with pytest.raises(AirflowFailException, match="the segment ea_atrisk_2 is not this run's verified one any more"):
        connect.launch(plan, segment, prepared, run)
    assert (connect.made, connect.ledger()) == ([], None)


def test_a_segment_that_has_other_profiles_by_now_is_not_mailed(connect: Connect, ready: Any) -> None:
    plan, segment, prepared, run = ready
    profile = next(p for p in connect.state["profiles"] if p["AccountNumber"] == player_key("bob"))
    connect.client.delete_profile(DomainName=PROFILES_DOMAIN, ProfileId=profile["ProfileId"])
    with pytest.raises(AirflowFailException, match="segment ea_atrisk_2 has 2 profiles by now, but 3 were approved"):
        connect.launch(plan, segment, prepared, run)
    assert (connect.made, connect.ledger()) == ([], None)


def test_a_segment_file_that_has_changed_since_is_not_mailed(connect: Connect, ready: Any) -> None:
    plan, segment, prepared, run = ready
    key = segment["parts"][0]["s3_key"]
    connect.s3.put_object(
        Bucket=connect.config.import_bucket, Key=key, Body=b"emailAddress,playerId\na@example.com,a\n"
    )
    with pytest.raises(AirflowFailException, match="has changed since it was approved"):
        connect.launch(plan, segment, prepared, run)
    assert (connect.made, connect.ledger()) == ([], None)


# --- what was started ------------------------------------------------------------------------------------


def test_a_campaign_that_was_started_is_adopted_on_any_later_day(connect: Connect, ready: Any) -> None:
    plan, segment, prepared, run = ready
    connect.campaign_control(campaign_seconds=60)
    launched = connect.launch(plan, segment, prepared, run)
    assert launched["campaign_state"] == "Running"
    connect.contacts("bob", marketing="no")
    assert connect.launch(plan, segment, prepared, run, clock=later(3)) == launched


@pytest.mark.parametrize("end", ["Failed", "Stopped", "gone"])
def test_a_campaign_that_ended_badly_is_not_started_again(connect: Connect, ready: Any, end: str) -> None:
    plan, segment, prepared, run = ready
    connect.campaign_control(
        campaign_seconds=60 if end == "Stopped" else 0, fail_next_campaigns=1 if end == "Failed" else 0
    )
    if end == "Failed":
        with pytest.raises(AirflowFailException, match="is Failed, and may have mailed"):
            connect.launch(plan, segment, prepared, run)
    else:
        campaign_id = connect.launch(plan, segment, prepared, run)["campaign_id"]
        if end == "Stopped":
            connect.campaigns.stop_campaign(id=campaign_id)
        else:
            connect.campaigns.delete_campaign(id=campaign_id)
    mailed = connect.mailed
    with pytest.raises(AirflowFailException, match=f"is {end}, and may have mailed .* it is not started again"):
        connect.launch(plan, segment, prepared, run)
    assert connect.mailed == mailed
    assert connect.campaign_control()["calls"]["StartCampaign"] == 1
    assert connect.ledger() == sorted(PLAYERS)


def test_logs_and_xcoms_have_no_players(connect: Connect, ready: Any, capsys: pytest.CaptureFixture[str]) -> None:
    plan, segment, prepared, run = ready
    launched = connect.launch(plan, segment, prepared, run)
    record = connect.s3.get_object(Bucket=connect.config.state_bucket, Key=launch_key(plan["name"]))["Body"].read()
    texts = json.dumps([prepared, launched]) + record.decode() + capsys.readouterr().out
    for player in PLAYERS:
        assert address(player) not in texts and f'"{player}"' not in texts
    assert "Jo, Jr." not in texts
