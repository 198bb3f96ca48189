"""A launch by the emulated SES: no player is mailed twice and every player is accounted for, wherever it fails."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, CronDataIntervalTimetable
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from cohort_flywheel.campaign.email_template import read_template
from cohort_flywheel.campaign.launch import ApprovalAnswer, PreparedCampaign
from cohort_flywheel.campaign.launch_store import PARTIAL_OUTPUT, get_approval, put_approval, withdraw_approval
from cohort_flywheel.campaign.sender import read_sender
from cohort_flywheel.destinations.ses.campaign import sends_store as ses_sends
from cohort_flywheel.destinations.ses.campaign import ses_launch_operator, ses_prepare_operator, stored_template
from cohort_flywheel.destinations.ses.hook import SesV2Hook
from cohort_flywheel.engagement.suppressions import ListState
from cohort_flywheel.engagement.suppressions_store import put_state
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, put_json
from cohort_flywheel.runs.lock_store import acquire
from cohort_flywheel.runs.names import SUPPRESSIONS_KEY
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.state_store import State
from local import seed
from local.config import CONFIGURATION_SET, CONTACT_LIST, TOPIC
from tests.cohort_flywheel.campaign.campaigns import approved
from tests.cohort_flywheel.destinations.ses.campaign.launches import (
    SENDER,
    UNSUBSCRIBE,
    Campaign,
    Killed,
    Launch,
    total,
)
from tests.cohort_flywheel.destinations.ses.ses_account import NEWEST
from tests.cohort_flywheel.suppressed import suppress

# --- what is prepared


def test_the_mail_is_stored_by_its_content_and_shown_for_a_made_up_player(account: Campaign, context: Any) -> None:
    plan, segment = account.launch_plan(), account.released("cohort", account.players(3))
    prepared = account.prepare(plan, segment, context())
    (name,) = account.state["templates"]
    assert prepared == {
        "mode": "launch",
        "template": "at_risk",
        "template_digest": prepared["template_digest"],
        "ses_template": name,
        "placeholders": {"FirstName": "friend", "LastName": None},
        "from": SENDER,
        "reply_to": None,
        "rows": 3,
        "segment_id": segment["s3_url"],
        "segment_sha256": segment["sha256"],
        "configuration_set": None,
        "untracked_configuration_set": None,
        "links": [],
        "message": {
            "subject": "We miss you, Sam",
            "text": f"Dear Sam Sample. Stop: {UNSUBSCRIBE}",
            "html_url": prepared["message"]["html_url"],
        },
    }
    sample = account.read(prepared["message"]["html_url"].removeprefix(f"s3://{account.config.state_bucket}/"))
    assert sample.startswith("<p>Dear Sam Sample</p>")
    stored = account.client.get_email_template(TemplateName=name)["TemplateContent"]
    assert stored["Subject"] == "We miss you, {{FirstName}}"
    assert stored["Html"].startswith("<p>Dear {{_html_FirstName}} {{_html_LastName}}</p>")
    assert name == stored_template.ses_template_name("at_risk", stored)
    assert account.mails == []


def test_the_same_mail_is_stored_once_and_another_beside_it(account: Campaign, context: Any) -> None:
    plan, segment = account.launch_plan("draft"), account.released("cohort", account.players(1))
    first = account.prepare(plan, segment, context())
    assert account.prepare(plan, segment, context()) == first
    assert account.control()["calls"]["CreateEmailTemplate"] == 1
    account.write_template(subject_txt="Please come back")
    assert account.prepare(plan, segment, context())["ses_template"] != first["ses_template"]
    assert len(account.state["templates"]) == 2
    assert account.mails == []


def test_a_template_whose_answer_was_lost_is_found(account: Campaign, context: Any) -> None:
    plan, segment = account.launch_plan("draft"), account.released("cohort", account.players(1))
    account.control(lose_next_answers=1, lose_operations=["CreateEmailTemplate"], lose_by="error")
    account.prepare(plan, segment, context())
    assert len(account.state["templates"]) == 1


def test_a_template_changed_in_ses_is_rejected(account: Campaign, context: Any) -> None:
    plan, segment = account.launch_plan("draft"), account.released("cohort", account.players(1))
    name = account.prepare(plan, segment, context())["ses_template"]
    account.client.update_email_template(TemplateName=name, TemplateContent={"Subject": "Buy", "Text": "more"})
    with pytest.raises(AirflowFailException, match=f"SES template {name} was changed outside this package: delete it"):
        account.prepare(plan, segment, context())


@pytest.mark.parametrize("mode", ["none", "launch"])
def test_without_recipients_the_launch_is_skipped(account: Campaign, context: Any, mode: str) -> None:
    plan = account.launch_plan(mode) if mode == "launch" else account.plan() | {"campaign": {"mode": "none"}}
    with pytest.raises(AirflowSkipException, match="is empty" if mode == "launch" else "has no campaign"):
        account.prepare(plan, account.released("cohort", []), context())
    assert account.state["templates"] == {}


def test_an_account_that_may_not_mail_is_refused(account: Campaign, context: Any) -> None:
    """Before anything is made, and again before anything is sent."""
    plan, segment = account.launch_plan(), account.released("cohort", account.players(3))
    wrong: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"production_access": False}, {"production_access": True}, "in the sandbox"),
        ({"sending_enabled": False}, {"sending_enabled": True}, "the sending of the SES account is paused"),
        ({"max_24_hour_send": 2}, {"max_24_hour_send": 9}, "send 2 more mails within 24 hours, and the .* has 3 rows"),
        (
            {"unverify": ["studio.example"]},
            {"verify": ["studio.example"]},
            "sender play@studio.example is not verified",
        ),
    ]
    for control, back, sentence in wrong:
        account.control(**control)
        with pytest.raises(AirflowFailException, match=sentence):
            account.prepare(plan, segment, context())
        account.control(**back)
    assert account.state["templates"] == {}
    prepared = account.prepare(plan, segment, context())
    for control, back, sentence in wrong:
        account.control(**control)
        with pytest.raises(AirflowFailException, match=sentence):
            account.launch(plan, segment, prepared, context())
        account.control(**back)
    assert (account.mails, account.state_keys(), account.state_keys("sends/")) == ([], [], [])


def test_a_quota_that_is_just_enough_is_enough(account: Campaign, context: Any) -> None:
    plan, segment = account.launch_plan(), account.released("cohort", account.players(3))
    account.control(max_24_hour_send=3)
    assert account.launch(plan, segment, account.prepare(plan, segment, context()), context())["sent"] == 3


def test_a_mail_that_the_segment_cannot_fill_is_refused(account: Campaign, context: Any) -> None:
    plan, segment = account.launch_plan(), account.released("cohort", account.players(1))
    for files, sentence in [
        ({"body_txt": f"{{{{Level}}}} {UNSUBSCRIBE}"}, "names Level, which is not a column of the segment"),
        ({"body_txt": "no link"}, "body.txt has {{amazonSESUnsubscribeUrl}} 0 times"),
        ({"body_html": UNSUBSCRIBE * 2}, "body.html has {{amazonSESUnsubscribeUrl}} 2 times"),
    ]:
        account.write_template(**files)
        with pytest.raises(AirflowFailException, match=sentence):
            account.prepare(plan, segment, context())
    assert account.state["templates"] == {}


def test_a_sender_without_an_address_is_refused_by_the_plan(account: Campaign) -> None:
    with pytest.raises(FlywheelError, match="from is 'Studio': write an address"):
        ses_prepare_operator.check_sender("Studio", "aws_default")
    ses_prepare_operator.check_sender("play@mail.studio.example", "aws_default")  # below a domain that is verified


def test_a_test_mails_three_made_up_samples(account: Campaign, context: Any) -> None:
    plan, segment = account.launch_plan("test"), account.released("cohort", account.players(1), first_name="Real")
    assert account.prepare(plan, segment, context())["mode"] == "test"
    assert [mail["subject"] for mail in account.mails] == [
        "We miss you, Sam",
        "We miss you, friend",
        "We miss you, Sam <&> Åsa",
    ]
    for mail in account.mails:
        assert mail["to"] == mail["delivered"] == ["qa@studio.example", "boss@studio.example"]
        assert (mail["contact_list"], mail["failure"], mail["sender"]) == (None, None, "play@studio.example")
        assert "Real" not in mail["html"]
        assert "href='https://unsubscribe.example'" in mail["html"]
    assert "<p>Dear Sam &lt;&amp;&gt; Åsa Sample &lt;&amp;&gt; Åsa</p>" in account.mails[2]["html"]


def test_the_sender_of_a_mail_is_the_one_that_an_approver_reads(account: Campaign, context: Any) -> None:
    sender = read_sender('"Riftwars: Ascension, Café" <play@studio.example>')
    plan, segment = account.launch_plan("test", **{"from": sender}), account.released("cohort", account.players(1))
    prepared = account.prepare(plan, segment, context())
    assert prepared["from"] == "Riftwars: Ascension, Café <play@studio.example>"
    for mail in account.mails:
        assert f"{mail['sender_name']} <{mail['sender']}>" == prepared["from"]


def test_replies_go_to_the_address_that_an_approver_reads(launch: Launch, context: Any) -> None:
    account, reply_to = launch.account, "Café: Help <help@others.example>"  # it needs no verification
    launch.run()
    assert [mail["reply_to"] for mail in account.mails] == [[]] * len(launch.names)
    record = json.loads(account.read("launches/cohort/launch.json"))
    assert "reply_to" not in record, "as an earlier version wrote it"
    plan, segment = account.launch_plan("test", name="other"), account.released("other", account.players(1))
    plan["campaign"]["reply_to"] = reply_to
    prepared = account.prepare(plan, segment, context())
    assert prepared["reply_to"] == reply_to
    assert [mail["reply_to"] for mail in account.mails[-3:]] == [[reply_to]] * 3


def test_a_launch_sends_the_reply_to_address_that_was_approved(launch: Launch) -> None:
    reply_to = "Help <help@studio.example>"
    launch.plan["campaign"]["reply_to"] = reply_to
    with pytest.raises(AirflowFailException, match="what was prepared is not this run's segment and campaign"):
        launch.run()
    launch.prepared = launch.account.prepare(launch.plan, launch.segment, launch.context())
    launch.run()
    assert [mail["reply_to"] for mail in launch.account.mails] == [[reply_to]] * len(launch.names)


def test_a_name_of_blanks_takes_the_default_of_its_placeholder(account: Campaign) -> None:
    for blank in (" ", "\xa0", "\u200b\u200d", "\u3164", "\t\n"):
        assert (
            stored_template.template_data({"FirstName": "friend"}, {"FirstName": blank})["_html_FirstName"] == "friend"
        )


def test_ses_renders_the_mail_as_the_preview(account: Campaign) -> None:
    """The content of a template is known only by its placeholders."""
    read = read_template(account.templates, "at_risk")
    assert stored_template.ses_template(read)["Text"] == f"Dear {{{{FirstName}}}} {{{{LastName}}}}. Stop: {UNSUBSCRIBE}"
    stored = {"Subject": "a", "Html": "b\n", "Text": "c\nd"}
    same = {"Subject": "a", "Html": "b", "Text": "c\r\nd\r\n"}
    assert stored_template.ses_template_name("x", stored) == stored_template.ses_template_name("x", same)
    assert stored_template.ses_template_name("x", stored) != stored_template.ses_template_name(
        "x", stored | {"Text": "c d"}
    )
    assert len(stored_template.ses_template_name("x" * 40, stored)) <= 64, "the most that SES takes"
    with pytest.raises(FlywheelError, match="the mail needs a value of LastName"):
        stored_template.template_data({"LastName": None}, {})


# --- who is mailed what


def test_each_approved_player_is_mailed_once(launch: Launch) -> None:
    counts = launch.run()
    assert counts == {
        "rows": 25,
        "sent": 25,
        "withdrawn": {},
        "in_doubt": 0,
        "refused": {},
        "batches": 3,
        "in_doubt_list": None,
    }
    assert launch.account.mailed == Counter(launch.names)
    mail = launch.account.mails[0]
    assert (mail["subject"], mail["sender"]) == ("We miss you, Jo", "play@studio.example")
    assert (mail["contact_list"], mail["topic"], mail["failure"]) == (CONTACT_LIST, TOPIC, None)
    assert "<p>Dear Jo O&#x27;Neil</p>" in mail["html"]
    assert mail["text"].startswith("Dear Jo O'Neil. Stop: https://")
    assert {header["Name"] for header in mail["headers"]} == {"List-Unsubscribe", "List-Unsubscribe-Post"}
    ledger = launch.account.read("sends/at_risk/cohort.jsonl").splitlines()
    assert json.loads(ledger[0])["players"] == 25
    assert ledger[1:] == launch.names


def test_a_name_is_neither_markup_nor_ses_own_placeholder(account: Campaign, context: Any) -> None:
    plan = account.launch_plan()
    account.players(1)
    segment = account.released("cohort", ["p000"], first_name=f"<b>{UNSUBSCRIBE}", last_name=UNSUBSCRIBE * 2)
    account.launch(plan, segment, account.prepare(plan, segment, context()), context())
    (mail,) = account.mails
    assert "&lt;b&gt;((amazonSESUnsubscribeUrl)) ((amazon" in mail["html"]
    assert "href='https://" in mail["html"]
    assert "Stop: https://" in mail["text"]


def test_a_missing_value_takes_the_default(account: Campaign, context: Any) -> None:
    plan = account.launch_plan()
    account.players(1)
    segment = account.released("cohort", ["p000"], first_name="")
    account.launch(plan, segment, account.prepare(plan, segment, context()), context())
    assert account.mails[0]["text"].startswith("Dear friend O'Neil.")


def test_a_player_without_a_required_value_is_not_mailed(account: Campaign, context: Any) -> None:
    """Such a row is a reject already; a file that has it all the same mails no half sentence."""
    plan = account.launch_plan()
    account.players(1)
    segment = account.released("cohort", ["p000"], last_name="")
    counts = account.launch(plan, segment, account.prepare(plan, segment, context()), context())
    assert (counts["withdrawn"], account.mails) == ({"missing_value": 1}, [])


def test_a_cleared_launch_mails_no_player_again(launch: Launch) -> None:
    first = launch.run()
    assert launch.run() == first
    assert launch.account.mailed == Counter(launch.names)
    assert launch.account.control()["calls"]["SendEmail"] == 25


def test_mails_go_no_faster_than_the_account_may(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulated account refuses the mail that is one too many within any second."""
    launch.account.control(max_send_rate=10)
    monkeypatch.setattr(ses_sends, "_WAITS", (0.2,) * 20)
    assert launch.run()["sent"] == 25
    calls = launch.account.control()["calls"]["SendEmail"]
    assert calls <= 50, f"{calls} calls for 25 mails: most were refused"
    assert launch.account.mailed == Counter(launch.names)


def test_a_contact_that_has_unsubscribed_is_not_mailed(launch: Launch) -> None:
    """SES gives the same answer, so the launch does not know."""
    launch.account.add("p003@example.com")
    launch.account.unsubscribe("p003@example.com")
    assert launch.run()["sent"] == 25
    delivered = [address for mail in launch.account.mails for address in mail["delivered"]]
    assert len(delivered) == 24
    assert "p003@example.com" not in delivered


# --- who has withdrawn since


def test_consent_and_the_do_not_contact_list_are_checked_again(launch: Launch) -> None:
    account, launch.plan["do_not_contact_key"] = launch.account, "do_not_contact.txt"
    account.records("p001", marketing="no")
    account.records("p002", marketing="")
    account.records("p003", email="other@example.com")
    account.records("p004", email="no address")
    account.records("p005", email="")
    account.forget("p006")
    account.do_not_contact('"p007",unsubscribed', "Jo <P008@EXAMPLE.com>\u200b")
    counts = launch.run()
    assert counts["withdrawn"] == {
        "bad_address": 1, "do_not_contact": 2, "no_address": 1, "no_record": 1, "opted_out": 2, "other_address": 1,
    }  # fmt: skip
    assert (counts["sent"], total(counts)) == (17, counts["rows"])
    assert account.mailed == Counter(launch.names[:1] + launch.names[9:])


def test_the_suppression_list_is_checked_again_before_each_batch(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, bucket = launch.account, launch.account.config.state_bucket
    launch.plan["withhold"] |= {"suppressions": SUPPRESSIONS_KEY}
    account.records("p004", email="p004@other.example")
    suppress(bucket, "address", "P001@example.com", "bounced")
    suppress(bucket, "player", "p002", "complained")
    suppress(bucket, "address", "p004@example.com", "bounced")
    put = ses_sends.Batches.put_outcome

    def and_then(batches: Any, number: int, *rest: Any) -> None:
        put(batches, number, *rest)
        if number == 0:
            suppress(bucket, "player", "p003", "unsubscribed")
            suppress(bucket, "player", "p023", "unsubscribed")

    monkeypatch.setattr(ses_sends.Batches, "put_outcome", and_then)
    counts = launch.run()
    assert counts["withdrawn"] == {"bounced": 1, "complained": 1, "other_address": 1, "unsubscribed": 1}
    assert total(counts) == counts["rows"] == 25
    assert {"p001", "p002", "p004", "p023"}.isdisjoint(account.mailed)
    assert "p003" in account.mailed, "mailed before"


@pytest.mark.parametrize(("days", "refused"), [(0, False), (1, False), (-1, False), (2, True), (None, True)], ids=str)
def test_a_launch_is_refused_if_the_suppressions_are_older_than_one_as_of(
    launch: Launch, days: int | None, refused: bool
) -> None:
    if days is not None:
        put_state(S3Hook(), launch.plan["state_bucket"], ListState(as_of=NEWEST - timedelta(days=days)))
    launch.plan["reads_engagement"] = True
    if not refused:
        assert launch.run()["sent"] == 25
        return
    with pytest.raises(AirflowFailException, match=r"CF-CAMPAIGN-16: the suppression list has the events up to") as why:
        launch.run()
    up_to = "no as-of" if days is None else "2026-11-20T00:00:00"
    assert up_to in str(why.value)
    assert "run the DAG engagement of the newest as-of" in str(why.value)
    assert "Changes made: none" in str(why.value)
    assert launch.account.mails == []
    assert not launch.account.state_keys("sends/")
    with pytest.raises(AirflowFailException, match="CF-CAMPAIGN-16"):  # before an approver is asked
        launch.account.prepare(launch.plan, launch.segment, launch.context())
    put_state(S3Hook(), launch.plan["state_bucket"], ListState(as_of=NEWEST))
    assert launch.run()["sent"] == 25


def test_a_player_who_withdraws_during_the_launch_is_not_mailed(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by a record, one by the list, which is read again once it has changed."""
    account, launch.plan["do_not_contact_key"] = launch.account, "do_not_contact.txt"
    account.do_not_contact("another-player")
    put = ses_sends.Batches.put_outcome

    def and_then(batches: Any, number: int, *rest: Any) -> None:
        put(batches, number, *rest)
        if number == 0:
            account.records("p012", marketing="no")
            account.do_not_contact("p003", "p023")

    monkeypatch.setattr(ses_sends.Batches, "put_outcome", and_then)
    counts = launch.run()
    assert counts["withdrawn"] == {"do_not_contact": 1, "opted_out": 1}
    assert {"p012", "p023"}.isdisjoint(account.mailed)
    assert "p003" in account.mailed, "mailed before"


def test_a_player_mailed_by_another_launch_is_not_mailed_again(launch: Launch, context: Any) -> None:
    """Of another cohort, which was launched between this one's segment file and its approval."""
    account = launch.account
    other = account.launch_plan(name="toxic")
    segment = account.released("toxic", launch.names[20:] + account.players(0))
    account.launch(other, segment, account.prepare(other, segment, context()), context(), hours=14)
    counts = launch.run()
    assert (counts["withdrawn"], counts["sent"], total(counts)) == ({"recently_mailed": 5}, 20, 25)
    assert account.mailed == Counter(launch.names)
    assert launch.run() == counts, "also when it is cleared"
    ledger = account.read("sends/at_risk/cohort.jsonl").splitlines()
    assert (json.loads(ledger[0])["players"], ledger[1:]) == (20, launch.names[:20])


def test_a_later_launch_does_not_mail_the_players_of_an_interrupted_one(
    launch: Launch, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = launch.account
    with monkeypatch.context() as broken:
        broken.setattr(ses_sends.Batches, "put_intents", _kill)
        with pytest.raises(Killed):
            launch.run()
    other = account.launch_plan(name="toxic")
    segment = account.released("toxic", launch.names)
    later = account.launch(other, segment, account.prepare(other, segment, context()), context())
    assert later["withdrawn"] == {"recently_mailed": 25}
    assert launch.run()["sent"] == 25
    assert account.mailed == Counter(launch.names)


@pytest.mark.parametrize(("days", "hours", "sent"), [(1, -23.5, 0), (1, -24, 0), (1, -24.5, 25), (2, -47.5, 0)])
def test_not_again_days_end(launch: Launch, context: Any, days: int, hours: float, sent: int) -> None:
    """So many days before the as-of of the later launch, to the hour."""
    account = launch.account
    launch.run(hours=hours)
    plan = account.launch_plan(name="toxic", not_again_days=days)
    segment = account.released("toxic", launch.names)
    assert account.launch(plan, segment, account.prepare(plan, segment, context()), context())["sent"] == sent


# --- who may launch


def test_without_an_approval_of_exactly_this_no_player_is_mailed(launch: Launch) -> None:
    whole = approved(launch.prepared)
    changes: list[dict[str, Any]] = [
        {"approved": False}, {"approved": "true"}, {"by": "bob"}, {"by": None}, {"digest": "0" * 64},
    ]  # fmt: skip
    for answer in (None, {}, "approved", *(whole | change for change in changes)):
        with pytest.raises(AirflowFailException, match="no recorded approval of exactly this segment and mail"):
            launch.run(answer=answer)
    assert (launch.account.mails, launch.account.state_keys("sends/")) == ([], [])


def test_a_withdrawn_approval_does_not_count(launch: Launch) -> None:
    s3, plan = S3Hook(), Plan.model_validate(launch.plan)
    prepared = PreparedCampaign.model_validate(launch.prepared)
    withdraw_approval(s3, plan, prepared)
    assert launch.account.state_keys("launches/") == [], "there was none"
    put_approval(s3, plan, ApprovalAnswer.model_validate(approved(launch.prepared)))
    withdraw_approval(s3, plan, prepared)
    with pytest.raises(AirflowFailException, match="no recorded approval of exactly this segment and mail"):
        launch.run(answer=get_approval(s3, plan, prepared))
    assert launch.account.mails == []


def test_an_approval_is_of_every_part_of_what_was_prepared(launch: Launch) -> None:
    answer, prepared = approved(launch.prepared), launch.prepared
    for part in prepared:
        launch.prepared = prepared | {part: "another"}
        with pytest.raises(AirflowFailException):
            launch.run(answer=answer)
    assert (launch.account.mails, launch.account.state_keys("sends/")) == ([], [])


@pytest.mark.parametrize("mode", ["draft", "test"])
def test_only_a_launch_mails(account: Campaign, context: Any, mode: str) -> None:
    plan, segment = account.launch_plan(mode), account.released("cohort", account.players(1))
    prepared = account.prepare(plan, segment, context())
    with pytest.raises(AirflowFailException, match=f"the campaign of this run is {mode}: only campaign=launch mails"):
        account.launch(plan, segment, prepared, context())
    assert account.state_keys("sends/") == []


def test_what_was_prepared_for_another_segment_is_refused(launch: Launch) -> None:
    launch.segment = launch.account.released("cohort", launch.names[:3])
    with pytest.raises(AirflowFailException, match="what was prepared is not this run's segment and campaign"):
        launch.run()


def test_a_segment_file_whose_bytes_have_changed_is_refused(launch: Launch) -> None:
    """A writer of the bucket adds an address after the approval."""
    part = launch.segment["parts"][1]["s3_key"]
    place = {"Bucket": launch.account.config.import_bucket, "Key": part}
    body = launch.account.s3.get_object(**place)["Body"].read()
    launch.account.s3.put_object(**place, Body=body.replace(b"p020@", b"eve@"))
    with pytest.raises(AirflowFailException, match="has changed since it was approved"):
        launch.run()
    assert launch.account.mails == []


def test_a_template_that_changed_since_the_approval_is_refused(launch: Launch) -> None:
    name = launch.prepared["ses_template"]
    launch.account.client.update_email_template(TemplateName=name, TemplateContent={"Subject": "Buy", "Text": "more"})
    with pytest.raises(AirflowFailException, match="was changed outside this package: delete it"):
        launch.run()
    launch.account.client.delete_email_template(TemplateName=name)
    with pytest.raises(AirflowFailException, match="is gone"):
        launch.run()
    assert launch.account.mails == []


def test_a_run_of_an_older_as_of_sends_no_mail(launch: Launch) -> None:
    with pytest.raises(AirflowSkipException, match="Skipping import for cohort: the newest as-of is 2026-11-23"):
        launch.run(hours=24)
    assert (launch.account.mails, launch.account.state_keys("sends/")) == ([], [])


def test_the_schedule_in_force_decides_whether_an_as_of_is_older(launch: Launch, context: Any) -> None:
    """Weekly becomes daily between the plan and the launch; the other way a later day has a snapshot."""
    launch.plan = launch.plan | {"schedule": "0 0 * * 0"}
    dag = DAG("a_dag", schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"))
    launch.context = lambda: context() | {"dag": dag}
    with pytest.raises(AirflowSkipException, match="Skipping import for cohort: the newest as-of is 2026-11-25"):
        launch.run(hours=3 * 24)
    assert (launch.account.mails, launch.account.state_keys("sends/")) == ([], [])


def test_a_backfill_never_launches(launch: Launch, context: Any) -> None:
    launch.context = lambda: context(run_type="backfill")
    with pytest.raises(AirflowFailException, match="a backfill never launches"):
        launch.run()


def test_what_does_not_stand_for_its_day_never_launches(launch: Launch) -> None:
    plan = launch.plan
    changes: list[dict[str, Any]] = [{"dry_run": True}, {"source": "live"}, {"source": "extract"}]
    for change in changes:
        launch.plan = plan | change
        with pytest.raises(AirflowFailException, match="is not the canonical run of its as-of"):
            launch.run()
    assert launch.account.state_keys("sends/") == []


def test_a_result_is_launched_once_even_if_its_segment_or_mail_changes(launch: Launch) -> None:
    account = launch.account
    launch.run()
    segment, prepared = launch.segment, launch.prepared
    launch.segment = account.released("cohort", launch.names[:5])
    launch.prepared = prepared | {"rows": 5, "segment_sha256": launch.segment["sha256"]}
    another = "cohort was launched already, at .* its segment file has changed since"
    with pytest.raises(AirflowFailException, match=another):
        launch.run()
    with pytest.raises(AirflowFailException, match=another):  # before an approval is requested
        account.prepare(launch.plan, launch.segment, launch.context())
    launch.segment = account.released("cohort", launch.names[:13], launch.names[13:])
    assert launch.segment == segment
    account.write_template(subject_txt="Please come back")
    launch.prepared = account.prepare(launch.plan, segment, launch.context())
    with pytest.raises(AirflowFailException, match="cohort was launched already, with another segment, mail or sender"):
        launch.run()
    launch.prepared = prepared
    launch.run()
    assert account.mailed == Counter(launch.names)


def test_a_launch_that_stopped_continues_with_a_configuration_set_that_was_added_since(launch: Launch) -> None:
    account = launch.account
    account.control(refuse={"code": "SendingPausedException", "status": 400, "operations": ["SendEmail"], "after": 12})
    with pytest.raises(AirflowFailException, match="SES answers SendEmail with SendingPausedException"):
        launch.run()
    account.control(refuse=None)
    seed.make_configuration_sets(account.servers, account.config)
    launch.prepared |= {"configuration_set": CONFIGURATION_SET}
    assert launch.run()["sent"] == 25
    assert account.mailed == Counter(launch.names)
    assert Counter(mail["configuration_set"] for mail in account.mails) == {None: 12, CONFIGURATION_SET: 13}
    assert "configuration_set" not in json.loads(account.read("launches/cohort/launch.json"))


def test_two_launches_of_one_template_do_not_begin_together(launch: Launch, context: Any) -> None:
    """The second would not see the players that the first is about to mail."""
    from cohort_flywheel.hooks.s3 import S3Hook

    state = State(S3Hook(), launch.account.config.state_bucket)
    acquire(state, "claims/campaign_at_risk.json", "template", context(run_id="manual__1"))
    run = context(run_id="manual__2")
    run["ti"].runs["cohort_to_segment", "manual__1"] = "running"
    launch.context = lambda: run
    with pytest.raises(AirflowException, match="another run is launching a campaign of template at_risk") as raised:
        launch.run()
    assert not isinstance(raised.value, AirflowFailException)
    assert launch.account.state_keys("sends/") == []
    run["ti"].runs["cohort_to_segment", "manual__1"] = "failed"
    assert launch.run()["sent"] == 25
    assert state.lock_holder("claims/campaign_at_risk.json") is None


def test_finding_the_send_ledger_of_a_killed_attempt_releases_its_locks(launch: Launch, context: Any) -> None:
    """Else other runs would wait for as long as the mails take."""
    from cohort_flywheel.hooks.s3 import S3Hook

    state, run = State(S3Hook(), launch.account.config.state_bucket), context()
    counts = launch.run()
    acquire(state, "claims/campaign_at_risk.json", "template", run)
    assert launch.run() == counts
    assert state.lock_holder("claims/campaign_at_risk.json") is None


# --- wherever it breaks off


def _kill(*_: Any, **__: Any) -> Any:
    raise Killed


def _at(number: int, before: Callable[..., Any] | None, after: bool) -> Callable[..., Any]:
    """A function that is killed at its nth call, before it does anything or after it has done it."""
    calls = iter(range(1, 1_000_000))

    def maybe(*args: Any, **kwargs: Any) -> Any:
        is_it = next(calls) == number
        if is_it and not after:
            raise Killed
        answer = before(*args, **kwargs) if before else None
        if is_it:
            raise Killed
        return answer

    return maybe


PLACES = {
    "record": (ses_launch_operator.SesLaunchCampaignOperator, "_put_record", 1, 0),
    "ledger": (ses_launch_operator, "put_ledger", 1, 0),
    "first intents": (ses_sends.Batches, "put_intents", 1, 10),
    "first mail": (SesV2Hook, "send_email", 1, 10),
    "a mail in the middle": (SesV2Hook, "send_email", 15, 10),
    "second intents": (ses_sends.Batches, "put_intents", 2, 10),
    "first outcome": (ses_sends.Batches, "put_outcome", 1, 10),
    "last mail": (SesV2Hook, "send_email", 25, 5),
    "last outcome": (ses_sends.Batches, "put_outcome", 3, 5),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("place", PLACES)
def test_a_launch_killed_anywhere_mails_each_player_at_most_once_and_accounts_for_all(
    launch: Launch, place: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, name, number, most = PLACES[place]
    with monkeypatch.context() as broken:
        broken.setattr(holder, name, _at(number, getattr(holder, name), after))
        with pytest.raises(Killed):
            launch.run()
    counts = launch.run()
    assert (counts["rows"], total(counts)) == (25, 25)
    mailed = launch.account.mailed
    assert max(mailed.values()) == 1, "a player was mailed twice"
    assert counts["in_doubt"] <= most
    doubted = launch.account.read("launches/cohort/in_doubt.txt").split() if counts["in_doubt_list"] else []
    assert len(doubted) == counts["in_doubt"]
    assert set(launch.names) == set(mailed) | set(doubted), "every player is accounted for"
    assert counts["sent"] == len(set(launch.names) - set(doubted)), "who is in doubt is not counted as sent"
    assert launch.run() == counts, "a third try finds it all as it is"
    assert launch.account.mailed == mailed


def test_killed_at_every_mail_of_a_launch(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A try gets a little further each time, and each costs a batch at most."""
    tries = 0
    while True:
        tries += 1
        with monkeypatch.context() as broken:
            broken.setattr(SesV2Hook, "send_email", _at(3, SesV2Hook.send_email, True))
            try:
                counts = launch.run()
            except Killed:
                continue
            break
    assert tries == 4
    assert (counts["in_doubt"], counts["sent"], total(counts)) == (25, 0, 25)
    assert max(launch.account.mailed.values()) == 1


def test_of_two_tries_at_work_at_the_same_time_one_stops(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that Airflow took for dead goes on: the second begins while the first is about to send."""
    put, counts = ses_sends.Batches.put_intents, {}

    def and_another(batches: Any, *rest: Any) -> None:
        put(batches, *rest)
        monkeypatch.setattr(ses_sends.Batches, "put_intents", put)
        counts.update(launch.run())

    monkeypatch.setattr(ses_sends.Batches, "put_intents", and_another)
    with pytest.raises(AirflowException, match=r"another attempt of this launch is running \(s3://\S+outcome.json\)"):
        launch.run()
    assert (counts["in_doubt"], counts["sent"]) == (10, 15)
    assert launch.account.mailed == Counter(launch.names), "those in doubt were mailed by the first, and once"


def test_a_try_that_is_beaten_to_a_batch_sends_nothing_of_it(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    put = ses_sends.Batches.put_intents

    def and_another(batches: Any, *rest: Any) -> None:
        monkeypatch.setattr(ses_sends.Batches, "put_intents", put)
        launch.run()
        put(batches, *rest)

    monkeypatch.setattr(ses_sends.Batches, "put_intents", and_another)
    with pytest.raises(AirflowException, match=r"another attempt of this launch is running \(s3://\S+intents.json\)"):
        launch.run()
    assert launch.account.mailed == Counter(launch.names)


def test_a_put_whose_answer_was_lost_is_not_another_try(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's second try of a conditional put meets the object of its first."""

    def twice(*place: Any, **condition: Any) -> bool:
        put_json(*place, **condition)
        return put_json(*place, **condition)

    monkeypatch.setattr(ses_sends, "put_json", twice)
    assert launch.run()["sent"] == 25


def test_an_incomplete_launch_of_an_older_as_of_mails_no_more_players_and_reports_them(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(SesV2Hook, "send_email", _at(15, SesV2Hook.send_email, False))
        with pytest.raises(Killed):
            launch.run()
    before = launch.account.mailed
    counts = launch.run(hours=24)
    assert (counts["sent"], counts["in_doubt"], counts["withdrawn"]) == (10, 10, {"older_as_of": 5})
    assert launch.account.mailed == before
    assert "cohort is no longer the newest run; skipping the remaining recipients" in capsys.readouterr().out
    # players without an attempt are free for the newer run; those who may have the mail are not
    header, *listed = launch.account.read("sends/at_risk/cohort.jsonl").splitlines()
    assert (json.loads(header)["players"], set(launch.names) - set(listed)) == (25, set(launch.names[20:]))
    assert launch.run(hours=24) == counts


def test_two_players_with_one_address_get_one_mail(launch: Launch) -> None:
    account, names = launch.account, launch.names
    account.records(names[3], email=f"{names[20].upper()}@example.com")
    segment = account.released("cohort", names)
    (part,) = segment["parts"]
    place = {"Bucket": account.config.import_bucket, "Key": part["s3_key"]}
    body = account.s3.get_object(**place)["Body"].read()
    body = body.replace(f"{names[3]}@example.com".encode(), f"{names[20].upper()}@example.com".encode())
    account.s3.put_object(**place, Body=body)
    part["sha256"] = hashlib.sha256(body).hexdigest()
    segment["sha256"] = hashlib.sha256(f"{part['sha256']}\n".encode()).hexdigest()
    launch.segment = segment
    launch.prepared = account.prepare(launch.plan, segment, launch.context())
    counts = launch.run()
    assert (counts["sent"], counts["withdrawn"]) == (24, {"same_address": 1})
    assert sum(number for name, number in account.mailed.items() if name.lower() == names[20]) == 1


def test_a_stopped_launch_reports_its_counts(launch: Launch) -> None:
    run = launch.context()
    launch.context = lambda: run
    refusal = {"code": "AccountSuspendedException", "status": 400, "operations": ["SendEmail"]}
    launch.account.control(refuse=refusal | {"after": 0})
    with pytest.raises(AirflowFailException, match="SES answers SendEmail with AccountSuspendedException"):
        launch.run()
    reached = run["ti"].xcoms[run["ti"].task_id, PARTIAL_OUTPUT]
    assert (total(reached) + reached["left"], reached["left"]) == (25, 25)


def test_a_launch_releases_the_run_lock(launch: Launch) -> None:
    from cohort_flywheel.hooks.s3 import S3Hook

    state, run = State(S3Hook(), launch.account.config.state_bucket), launch.context()
    launch.context = lambda: run
    acquire(state, launch.plan["claim_key"], "cohort", run)  # as its pre_execute does
    launch.run()
    assert state.lock_holder(launch.plan["claim_key"]) is None


# --- what SES answers


@pytest.mark.parametrize("lose_by", ["drop", "error"])
def test_only_a_mail_with_a_lost_answer_is_in_doubt(launch: Launch, lose_by: str) -> None:
    """The SDK sends it no second time; the others of its batch are sent."""
    launch.account.control(lose_next_answers=2, lose_after=6, lose_operations=["SendEmail"], lose_by=lose_by)
    counts = launch.run()
    assert (counts["sent"], counts["in_doubt"], total(counts)) == (23, 2, 25)
    assert launch.account.mailed == Counter(launch.names)
    doubted = launch.account.read("launches/cohort/in_doubt.txt").split()
    assert len(set(doubted) & set(launch.names)) == 2
    assert counts["in_doubt_list"] == f"s3://{launch.account.config.state_bucket}/launches/cohort/in_doubt.txt"
    assert launch.run() == counts


def test_a_server_error_that_took_no_effect_is_in_doubt_too(launch: Launch) -> None:
    """Its response does not say whether it did."""
    launch.account.control(
        refuse={"code": "InternalServiceErrorException", "status": 500, "operations": ["SendEmail"], "times": 1}
    )
    counts = launch.run()
    assert (counts["sent"], counts["in_doubt"]) == (24, 1)
    doubted = launch.account.read("launches/cohort/in_doubt.txt").split()
    assert set(launch.names) - set(launch.account.mailed) == set(doubted)


def test_many_lost_answers_stop_the_launch_before_all_are_in_doubt(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ses_sends, "_MAX_IN_DOUBT", 2)
    monkeypatch.setattr(ses_sends, "SENDS_IN_FLIGHT", 1)
    launch.account.control(lose_next_answers=25, lose_operations=["SendEmail"], lose_by="error")
    with pytest.raises(
        AirflowException,
        match=r"2 answers of SES were lost in one batch.*2 players are in doubt.*\(s3://\S+/in_doubt.txt\)",
    ) as raised:
        launch.run()
    assert not isinstance(raised.value, AirflowFailException)
    assert len(launch.account.mails) == 2
    launch.account.control(lose_next_answers=0)
    counts = launch.run()
    assert (counts["sent"], counts["in_doubt"], counts["batches"]) == (23, 2, 4)
    assert launch.account.mailed == Counter(launch.names)


@pytest.mark.parametrize("times", [1, 2])
def test_a_mail_that_was_throttled_is_sent_after_a_wait(launch: Launch, times: int) -> None:
    launch.account.control(
        refuse={"code": "TooManyRequestsException", "status": 429, "operations": ["SendEmail"], "times": times}
    )
    assert launch.run()["sent"] == 25
    assert launch.account.mailed == Counter(launch.names)
    assert launch.account.control()["calls"]["SendEmail"] == 25 + times


def test_an_exhausted_quota_stops_the_launch_and_the_next_attempt_continues(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others send from the account too: it was enough at the beginning."""
    account = launch.account
    with monkeypatch.context() as changed:
        changed.setattr(ses_launch_operator, "check_account", lambda *_: account.control(max_24_hour_send=14))
        with pytest.raises(
            AirflowException, match=r"SES throttles the mails \(TooManyRequestsException\).*14 mails were sent"
        ) as raised:
            launch.run()
    assert not isinstance(raised.value, AirflowFailException)
    assert len(account.mails) == 14
    account.control(max_24_hour_send=1_000)
    counts = launch.run()
    assert (counts["sent"], counts["in_doubt"], total(counts)) == (25, 0, 25)
    assert account.mailed == Counter(launch.names)


@pytest.mark.parametrize("code", ["SendingPausedException", "AccountSuspendedException", "AccessDeniedException"])
def test_an_error_of_the_account_stops_the_launch_and_leaves_the_rest(launch: Launch, code: str) -> None:
    refusal = {"code": code, "status": 400, "operations": ["SendEmail"], "after": 12}
    launch.account.control(refuse=refusal)
    with pytest.raises(AirflowFailException, match=f"SES answers SendEmail with {code}: correct the cause"):
        launch.run()
    assert len(launch.account.mails) == 12
    launch.account.control(refuse=None)
    counts = launch.run()
    assert (counts["sent"], counts["in_doubt"], counts["refused"]) == (25, 0, {})
    assert launch.account.mailed == Counter(launch.names)


def test_a_mail_that_ses_refuses_is_counted_by_its_reason(launch: Launch) -> None:
    launch.account.add("p003@example.com", unsubscribed=True)
    launch.account.control(unsubscribed_answer="reject")
    counts = launch.run()
    assert (counts["sent"], counts["refused"], total(counts)) == (24, {"MessageRejected": 1}, 25)
    assert "p003" not in launch.account.mailed
    assert "p003" in launch.account.read("launches/cohort/000000_1.outcome.json")


def test_if_ses_rejects_all_players_all_remain_for_another_attempt(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender that is not verified any more, for one: all of them are mailed once that is mended."""
    with monkeypatch.context() as changed:
        changed.setattr(
            ses_launch_operator, "check_verified", lambda *_: launch.account.control(unverify=["studio.example"])
        )
        with pytest.raises(AirflowFailException, match=r"SES has refused the last 2\d mails \(MessageRejected\)"):
            launch.run()
    assert launch.account.mails == []
    launch.account.control(verify=["studio.example"])
    counts = launch.run()
    assert (counts["sent"], counts["refused"]) == (25, {})


def test_refusals_followed_by_accepted_mails_are_final(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by a try that has mailed no player itself."""
    for name in launch.names[20:]:
        launch.account.add(f"{name}@example.com", unsubscribed=True)
    launch.account.control(unsubscribed_answer="reject")
    with monkeypatch.context() as broken:
        broken.setattr(ses_sends.Batches, "put_intents", _at(3, ses_sends.Batches.put_intents, False))
        with pytest.raises(Killed):
            launch.run()
    counts = launch.run()
    assert (counts["sent"], counts["refused"]) == (20, {"MessageRejected": 5})


def test_if_ses_cannot_be_reached_no_player_is_in_doubt(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has left this machine."""
    from cohort_flywheel.destinations.ses import hook as sesv2

    hook_once = sesv2.SesV2Hook._once.func  # type: ignore[attr-defined]

    def nowhere(hook: Any) -> Any:
        client = hook_once(hook)
        client.meta.events.register_first(
            "before-send.sesv2.SendEmail", lambda request, **_: setattr(request, "url", "http://127.0.0.1:9/v2")
        )
        return client

    with monkeypatch.context() as broken:
        broken.setattr(sesv2.SesV2Hook, "_once", property(nowhere))
        with pytest.raises(AirflowException, match=r"SES cannot be reached \(EndpointConnectionError\)") as raised:
            launch.run()
    assert not isinstance(raised.value, AirflowFailException)
    assert launch.run()["sent"] == 25


# --- results, logs and errors


def test_results_logs_and_errors_hold_no_personal_data(
    launch: Launch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    launch.account.records("p001", marketing="no")
    launch.account.control(lose_next_answers=1, lose_operations=["SendEmail"])
    texts = json.dumps([launch.prepared, launch.run()])
    launch.account.control(refuse={"code": "MessageRejected", "status": 400, "operations": ["SendEmail"]})
    launch.account.write_template("other")
    other = Launch(launch.account, launch.context, name="toxic", template="other")
    with pytest.raises(AirflowFailException, match="SES has refused the last") as raised:
        other.run()
    texts += capsys.readouterr().out + caplog.text + str(raised.value)
    assert "p00" not in texts
    assert "example.com" not in texts
    assert "O'Neil" not in texts
