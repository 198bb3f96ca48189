"""The suppression list of whole days, with SES's account-level list, wherever a run is killed."""

from __future__ import annotations

import json
import sqlite3
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from cohort_flywheel.campaign.mail_tags import launch_tag
from cohort_flywheel.destinations.ses.hook import SesV2Hook
from cohort_flywheel.engagement import suppressions_store as store
from cohort_flywheel.engagement.suppressions import ListState, date_text
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, put_if
from cohort_flywheel.runs.names import SUPPRESSIONS_KEY
from local.config import TOPIC
from tests.cohort_flywheel.destinations.ses.ses_account import Account
from tests.cohort_flywheel.engagement.event_days import NEWEST, Events, killed_at_write
from tests.cohort_flywheel.engagement.ses_events import event, line, mail
from tests.cohort_flywheel.suppressed import suppress

RUN = "ea_atrisk_2_2026-11-21_00-00-00"
LAUNCH = launch_tag(RUN)
YESTERDAY, TOMORROW = NEWEST - timedelta(days=1), NEWEST + timedelta(days=1)
OPT_IN = {"unsubscribeAll": False, "topicSubscriptionStatus": [{"topicName": TOPIC, "subscriptionStatus": "OptIn"}]}


@pytest.fixture
def account(servers: Any, fresh_config: Any) -> Any:
    made = Account(servers, fresh_config)
    yield made
    made.control(reset=True)


@pytest.fixture
def events(
    airflow_env: Any, servers: Any, fresh_config: Any, account: Account, context: Any, monkeypatch: pytest.MonkeyPatch
) -> Events:
    made = Events(servers, fresh_config, context, monkeypatch)
    made.launched(RUN, **{"000000_1__intents__json": {"player_ids": ["p0", "p1", "", "p3"]}})
    return made


def of(kind: str, number: int, **about: Any) -> bytes:
    """An event of the mail to player p<number>."""
    address = f"p{number}@example.com"
    sent = mail(f"m{number}", launch=LAUNCH, row=f"0-1-{number}", destination=[address])
    people = {"Bounce": "bouncedRecipients", "Complaint": "complainedRecipients"}
    named = {people[kind]: [{"emailAddress": address}]} if kind in people else {}
    return line(event(kind, sent, **(named | about)))


class Listed:
    """What the list of a state bucket says."""

    def __init__(self, bucket: str) -> None:
        self.table = store.SuppressionTable(S3Hook(), bucket, SUPPRESSIONS_KEY, sqlite3.connect(":memory:"))
        self.table.refresh()

    def __call__(self, number: int) -> tuple[str | None, str | None]:
        """Why the address and the playerId of p<number> are suppressed."""
        return self.table.reason("address", f"P{number}@Example.com"), self.table.reason("player", f"p{number}")


def test_a_bounce_suppresses_the_address_and_the_others_the_player_too(events: Events) -> None:
    events.put(5, of("Bounce", 0), of("Complaint", 1), of("Subscription", 3), of("Delivery", 4), of("Open", 4))
    report = events.run()
    listed = Listed(events.state)
    assert [listed(number) for number in (0, 1, 3, 4)] == [
        ("bounced", None), ("complained", "complained"), ("unsubscribed", "unsubscribed"), (None, None),
    ]  # fmt: skip
    assert report["suppressions"] == {
        "addresses": {"bounced": 1, "complained": 1, "unsubscribed": 1},
        "players": {"bounced": 0, "complained": 1, "unsubscribed": 1},
        "feedback": 3, "unknown_players": 0, "account_list": 0,
    }  # fmt: skip
    assert not any(b"example.com" in body for body in events.kept.values())
    assert b"p1" not in events.kept[SUPPRESSIONS_KEY] + events.kept["engagement/feedback/2026-11-22_00-00-00.csv"]


def test_what_a_transient_bounce_and_a_not_spam_report_leave_is_nothing(events: Events) -> None:
    events.put(5, of("Bounce", 0, bounceType="Transient"), of("Complaint", 1, complaintFeedbackType="not-spam"))
    assert events.run()["suppressions"]["feedback"] == 0
    assert Listed(events.state)(0) == Listed(events.state)(1) == (None, None)


def test_a_player_who_is_not_known_any_more_has_a_suppressed_address(events: Events) -> None:
    """Erased, of another launch, of a mail without our tags, and of a mail from before the 62 days of memory."""
    old = mail("m8", launch=None, timestamp="2026-08-01T00:00:00Z", destination=["p8@example.com"])
    events.put(
        5, of("Complaint", 2), line(event("Complaint", mail("m7", launch="0" * 32, row="0-1-0"))),
        line(event("Complaint", old, complainedRecipients=[{"emailAddress": "p8@example.com"}])),
    )  # fmt: skip
    report = events.run()
    assert (report["suppressions"]["feedback"], report["suppressions"]["unknown_players"]) == (3, 3)
    assert (report["events"]["other_mails"], report["events"]["late"]) == (1, 0)
    assert Listed(events.state)(2) == Listed(events.state)(8) == ("complained", None)


def test_a_later_opt_in_lifts_an_unsubscribe_and_nothing_else(events: Events) -> None:
    at = {"timestamp": "2026-11-21T12:00:00Z"}
    events.put(30, of("Subscription", 1), of("Complaint", 3))
    events.put(5, of("Subscription", 1, newTopicPreferences=OPT_IN, **at), name="b")
    events.put(5, of("Subscription", 3, newTopicPreferences=OPT_IN, **at), name="c")
    events.run(YESTERDAY)
    assert Listed(events.state)(1) == ("unsubscribed", "unsubscribed")
    events.run()
    assert Listed(events.state)(1) == (None, None)
    assert Listed(events.state)(3) == ("complained", "complained")
    before = events.kept
    for as_of in (NEWEST, YESTERDAY, NEWEST):
        events.run(as_of)
    assert Listed(events.state)(1) == (None, None), "a replay brings nothing back"
    of_yesterday = "engagement/reports/2026-11-21_00-00-00.json"  # counts the whole list, as it is at the replay
    assert {key for key, body in events.kept.items() if body != before[key]} <= {of_yesterday}


def test_a_list_that_is_gone_stops_runs_and_is_not_begun_again(events: Events) -> None:
    """Otherwise each player of the earlier as-ofs would be mailed again."""
    assert Listed(events.state)(1) == (None, None), "before the first run there is no list"
    events.put(30, of("Complaint", 1))
    events.run(YESTERDAY)
    S3Hook().get_conn().delete_object(Bucket=events.state, Key=SUPPRESSIONS_KEY)
    with pytest.raises(FlywheelError, match=r"CF-STATE-01: s3://.*/engagement/suppressions.csv is gone"):
        Listed(events.state)
    events.put(5, of("Complaint", 3))
    with pytest.raises(AirflowFailException, match=r"CF-STATE-01: s3://.*/engagement/suppressions.csv is gone"):
        events.run()
    assert SUPPRESSIONS_KEY not in events.kept


def test_the_topic_of_the_deployment_decides_which_opt_out_is_ours(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"topicSubscriptionStatus": [{"topicName": "News", "subscriptionStatus": "OptOut"}]}
    events.put(5, of("Subscription", 1, newTopicPreferences=other))
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_SES_TOPIC", "Cohorts")
    assert events.run()["suppressions"]["feedback"] == 0


def test_the_accounts_list_is_read_once_and_then_from_where_it_ended(
    events: Events, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    listed = SesV2Hook.suppressed_destinations

    def ask(self: SesV2Hook, since: Any) -> Any:
        asked.append(since)
        return listed(self, since)

    monkeypatch.setattr(SesV2Hook, "suppressed_destinations", ask)
    for number in range(12):
        account.client.put_suppressed_destination(EmailAddress=f"p{number}@example.com", Reason="BOUNCE")
    account.client.put_suppressed_destination(EmailAddress="P20@example.com", Reason="COMPLAINT")
    last = account.client.get_suppressed_destination(EmailAddress="P20@example.com")["SuppressedDestination"]
    assert events.run()["suppressions"]["account_list"] == 13
    assert (Listed(events.state)(11), Listed(events.state)(20)) == (("bounced", None), ("complained", None))
    state = json.loads(events.kept["engagement/suppressions.json"])
    assert (state["as_of"], state["account_until"]) == (NEWEST.isoformat(), last["LastUpdateTime"].isoformat())
    events.run(TOMORROW)
    assert asked == [None, last["LastUpdateTime"] - timedelta(days=1)]


def test_a_right_that_is_missing_is_named(events: Events, account: Account) -> None:
    account.control(
        refuse={"code": "AccessDeniedException", "status": 403, "operations": ["ListSuppressedDestinations"]}
    )
    with pytest.raises(AirflowFailException, match="CF-AWS-01: AWS answered ListSuppressedDestinations"):
        events.suppress(events.plan(NEWEST))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_task_killed_at_any_write_leaves_what_an_undisturbed_one_leaves(
    events: Events, number: int, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two writes are the list and its state."""
    events.put(5, of("Complaint", 1))
    events.read()
    plan = events.plan(NEWEST)
    with killed_at_write(store, number, monkeypatch, after=after):
        events.suppress(plan)
    assert events.suppress(plan)["addresses"]["complained"] == 1
    assert Listed(events.state)(1) == ("complained", "complained")
    assert json.loads(events.kept["engagement/suppressions.json"])["as_of"] == NEWEST.isoformat()


def test_what_a_failed_run_has_read_is_added_by_the_next_one(events: Events) -> None:
    """No later as-of reads its objects again, as they are in its manifest."""
    events.put(5, of("Complaint", 1))
    events.read()
    events.put(-5, of("Complaint", 3), name="b")
    assert events.run(TOMORROW)["suppressions"]["feedback"] == 2
    assert (Listed(events.state)(1), Listed(events.state)(3)) == (("complained", "complained"),) * 2
    assert store.read_state(S3Hook(), events.state).as_of == TOMORROW


def test_the_list_is_only_as_new_as_what_was_read(events: Events) -> None:
    """A run that failed before it had read its events holds the list back: a launch is refused, not misled."""
    events.run(YESTERDAY)
    events.put(5, of("Complaint", 1))
    keys = [each["Key"] for each in events.s3.list_objects_v2(Bucket=events.bucket)["Contents"]]
    begun = json.dumps({"keys": keys, "before": 0}).encode()
    events.s3.put_object(Bucket=events.state, Key="engagement/manifests/2026-11-22_00-00-00.json", Body=begun)
    events.run(TOMORROW)
    assert Listed(events.state)(1) == (None, None)
    assert store.read_state(S3Hook(), events.state).as_of == YESTERDAY
    events.run()
    assert Listed(events.state)(1) == ("complained", "complained")
    assert store.read_state(S3Hook(), events.state).as_of == TOMORROW


def test_a_list_that_another_writer_changes_meanwhile_has_both(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    events.put(5, of("Complaint", 1))
    events.read()
    plan, put, others = events.plan(NEWEST), put_if, iter(range(2))

    def late(*arguments: Any, **conditions: Any) -> bool:
        for number in others:  # the first attempt creates the list, the second changes it
            with monkeypatch.context() as inner:
                inner.setattr(store, "put_if", put)
                suppress(events.state, "address", f"p{number + 50}@example.com", "bounced")
            break
        return put(*arguments, **conditions)

    monkeypatch.setattr(store, "put_if", late)
    assert events.suppress(plan)["addresses"] == {"bounced": 2, "complained": 1, "unsubscribed": 0}
    monkeypatch.setattr(store, "put_if", lambda *_, **__: False)
    suppressed = [each for each in events.kept if each == SUPPRESSIONS_KEY]
    assert suppressed
    events.put(5, of("Complaint", 3), name="more")
    events.read(TOMORROW)
    with pytest.raises(AirflowException, match="CF-LOCK-02: another run changes s3://"):
        events.suppress(events.plan(TOMORROW))


def test_without_the_salt_no_address_can_be_looked_up(events: Events) -> None:
    events.put(5, of("Complaint", 1))
    events.run()
    events.s3.delete_object(Bucket=events.state, Key="erasure/salt")
    with pytest.raises(ValueError, match="CF-STATE-01: .*erasure/salt is gone, and without it"):
        Listed(events.state)


def test_a_list_that_has_changed_is_read_again(events: Events) -> None:
    listed = Listed(events.state)
    assert listed(1) == (None, None)
    suppress(events.state, "player", "p1")
    assert listed(1) == (None, None)
    listed.table.refresh()
    assert listed(1) == (None, "complained")
    suppress(events.state, "player", "p1", state="removed", at=date_text(TOMORROW))
    listed.table.refresh()
    assert listed(1) == (None, None)


def test_the_reasons_of_a_batch_are_those_of_each(events: Events) -> None:
    """Addresses that differ in case only are one entry of the list."""
    for address, reason in (("Mum@example.com", "complained"), ("dad@example.com", "bounced")):
        suppress(events.state, "address", address, reason)
    suppress(events.state, "player", "p1")
    listed = Listed(events.state)
    addresses = ("mum@example.com", "Mum@example.com", "MUM@example.com", "Dad@example.com", "kid@example.com")
    asked: list[Any] = [("player", "p1"), ("player", "P1"), *(("address", each) for each in addresses)] * 2
    alone = {each: listed.table.reason(*each) for each in asked}
    assert listed.table.reasons(asked) == {each: reason for each, reason in alone.items() if reason}
    assert listed.table.reasons(asked)["address", "MUM@example.com"] == "complained"


def test_a_list_that_is_gone_is_noticed_by_what_was_read_of_the_accounts_list(events: Events) -> None:
    store.put_state(S3Hook(), events.state, ListState(account_until=NEWEST))
    with pytest.raises(FlywheelError, match=r"CF-STATE-01: s3://.*suppressions.csv is gone.* entries up to 2026-11-22"):
        Listed(events.state)
