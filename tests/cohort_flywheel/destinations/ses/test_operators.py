"""Only who is not on the contact list is imported, once: against the emulated SES and its faults."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, CronDataIntervalTimetable
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from cohort_flywheel.destinations.ses import operators as module
from cohort_flywheel.runs.lock_store import acquire
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.source import EXTRACT
from local.config import CONTACT_LIST, TOPIC
from tests.cohort_flywheel.destinations.ses.ses_account import NEWEST, Account

ANN, BOB, CAT, DAN = "ann@example.com", "bob@example.com", "cat@example.com", "dan@example.com"
HEADER = f"emailAddress,unsubscribeAll,attributesData,topicPreferences.{TOPIC}"
LIST_LOCK = f"claims/ses_contact_list_{CONTACT_LIST}.json"


@pytest.fixture
def account(airflow_env: Any, servers: Any, fresh_config: Any) -> Any:
    made = Account(servers, fresh_config)
    yield made
    made.control(reset=True)


# --- who is imported -------------------------------------------------------------------------------------


def test_only_new_contacts_are_in_the_import_file(account: Account, context: Any) -> None:
    account.add(BOB)
    segment = account.segment("one", [ANN, BOB], [CAT])
    made = account.create(segment, context())
    assert made == {"job_ids": made["job_ids"], "on_list": 1, "under_way": 0, "new": 2}
    (url,) = account.jobs
    assert account.file(url) == [HEADER, f"{ANN},false,,OPT_IN", f"{CAT},false,,OPT_IN"]
    assert url.startswith(f"s3://{account.config.import_bucket}/contacts/one/0000_")
    account.wait(made["job_ids"])
    assert account.verify(segment, made["job_ids"]) == {
        "job_ids": made["job_ids"],
        "contact_list": CONTACT_LIST,
        "topic": TOPIC,
        "segment_id": segment["s3_url"],
        "segment_size": 3,
        "new_contacts": 2,
        "already_on_list": 1,
        "unsubscribed": 0,
    }
    assert account.contacts == dict.fromkeys([BOB, ANN, CAT], False)
    chosen = account.client.get_contact(ContactListName=CONTACT_LIST, EmailAddress=ANN)
    assert chosen["TopicPreferences"] == [{"TopicName": TOPIC, "SubscriptionStatus": "OPT_IN"}]


def test_an_unsubscribed_contact_is_unchanged_by_a_repeated_run(account: Account, context: Any) -> None:
    segment = account.segment("one", [ANN, BOB])
    first = account.run(segment, context())
    account.unsubscribe(ANN)
    again = account.run(segment, context())
    assert account.contacts == {ANN: True, BOB: False}
    assert again == first | {"job_ids": [], "unsubscribed": 1}
    assert len(account.jobs) == 1, "everybody is on the list: there is nothing to import"
    tomorrow = account.run(account.segment("two", [ANN, BOB, CAT]), context())
    assert account.contacts == {ANN: True, BOB: False, CAT: False}
    assert (tomorrow["segment_size"], tomorrow["unsubscribed"]) == (3, 1)


def test_a_contact_that_unsubscribes_before_the_import_job_is_unchanged(account: Account, context: Any) -> None:
    """Whether already on the list when the file was made, or come onto it since."""
    account.add(ANN)
    segment = account.segment("one", [ANN, BOB, CAT])
    account.unsubscribe(ANN)
    account.add(BOB, unsubscribed=True)
    assert account.run(segment, context())["unsubscribed"] == 2
    assert account.contacts == {ANN: True, BOB: True, CAT: False}


def test_a_contact_that_unsubscribes_before_a_retried_create_is_unchanged(account: Account, context: Any) -> None:
    """The file of the first try names ANN, who is on the list by the second."""
    segment = account.segment("one", [ANN, BOB])
    account.control(
        refuse={"code": "TooManyRequestsException", "status": 429, "operations": ["CreateImportJob"], "times": 1}
    )
    with pytest.raises(AirflowException, match="CreateImportJob with TooManyRequests.*Changes made: none") as raised:
        account.create(segment, context())
    assert not isinstance(raised.value, AirflowFailException)
    assert account.control()["calls"]["CreateImportJob"] == 1, "no retry of the SDK's"
    account.add(ANN, unsubscribed=True)
    account.run(segment, context())
    assert account.contacts == {ANN: True, BOB: False}
    assert [account.file(url)[1:] for url in account.jobs] == [[f"{BOB},false,,OPT_IN"]]


@pytest.mark.parametrize("case", ["fold", "keep"])
def test_addresses_are_compared_without_case(account: Account, context: Any, case: str) -> None:
    """Where SES folds them, an import of the other would override the choice; otherwise all are kept."""
    account.control(address_case=case)
    account.add("Ann@example.com", unsubscribed=True)
    made = account.run(account.segment("one", [ANN, BOB, "BOB@example.com"]), context())
    assert account.contacts == {"Ann@example.com": True, BOB: False}
    assert (made["segment_size"], made["unsubscribed"]) == (3, 1)
    assert len(account.file(account.jobs[0])) == 2


@pytest.mark.parametrize("first", [True, False])
def test_if_two_cases_of_an_address_are_two_contacts_an_opt_out_of_either_counts(
    account: Account, context: Any, first: bool
) -> None:
    account.control(address_case="keep")
    account.add("Ann@example.com", unsubscribed=first)
    account.add(ANN, unsubscribed=not first)
    assert account.run(account.segment("one", [ANN]), context())["unsubscribed"] == 1


def test_an_opt_out_of_the_topic_counts_and_one_of_another_does_not(account: Account, context: Any) -> None:
    segment = account.segment("one", [ANN, BOB])
    account.run(segment, context())
    account.unsubscribe(ANN, TopicName=TOPIC)
    assert account.run(segment, context())["unsubscribed"] == 1


@pytest.mark.parametrize(
    ("contact", "unsubscribed"),
    [
        ({}, False),
        ({"UnsubscribeAll": True}, True),
        ({"TopicPreferences": [{"TopicName": "T", "SubscriptionStatus": "OPT_OUT"}]}, True),
        ({"TopicPreferences": [{"TopicName": "U", "SubscriptionStatus": "OPT_OUT"}]}, False),
        ({"TopicDefaultPreferences": [{"TopicName": "T", "SubscriptionStatus": "OPT_OUT"}]}, True),
        (
            {
                "TopicDefaultPreferences": [{"TopicName": "T", "SubscriptionStatus": "OPT_OUT"}],
                "TopicPreferences": [{"TopicName": "T", "SubscriptionStatus": "OPT_IN"}],
            },
            False,
        ),
    ],
)
def test_is_unsubscribed(contact: dict[str, Any], unsubscribed: bool) -> None:
    assert module.is_unsubscribed(contact, "T") is unsubscribed


def test_more_rows_than_a_job_takes_are_several_jobs(
    account: Account, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert module.MAX_CONTACTS == account.control()["settings"]["max_contacts"] == 1_000_000
    monkeypatch.setattr(module, "MAX_CONTACTS", 2)
    account.control(max_contacts=2)  # one more, and the emulated job fails
    names = [f"player{number}@example.com" for number in range(5)]
    made = account.run(account.segment("one", names[:3], names[3:]), context())
    assert [len(account.file(url)) - 1 for url in account.jobs] == [2, 2, 1]
    assert len(set(account.jobs)) == len(made["job_ids"]) == 3
    assert list(account.contacts) == names
    assert made["new_contacts"] == 5


def test_a_list_of_many_pages_is_read_to_its_end(
    account: Account, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cohort_flywheel.destinations.ses.hook.CONTACTS_PER_PAGE", 2)
    names = [f"player{number}@example.com" for number in range(5)]
    account.add(*names, unsubscribed=True)
    made = account.run(account.segment("one", names), context())
    assert (made["already_on_list"], made["unsubscribed"], account.jobs) == (5, 5, [])


def test_a_throttled_listing_is_read_to_its_end(
    account: Account, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cohort_flywheel.destinations.ses.hook.CONTACTS_PER_PAGE", 2)
    names = [f"player{number}@example.com" for number in range(5)]
    account.add(*names)
    account.control(seconds_between_calls=0.2)
    assert account.create(account.segment("one", names), context())["on_list"] == 5
    assert account.control()["calls"]["ListContacts"] > 3, "no call was refused"


# --- one job, whatever happens ---------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0, 3])
def test_a_lost_answer_makes_no_second_job(account: Account, context: Any, seconds: float) -> None:
    """Neither while the job runs, when its contacts are not on the list yet, nor after its end."""
    segment = account.segment("one", [ANN, BOB])
    account.control(import_seconds=seconds, lose_next_answers=1, lose_operations=["CreateImportJob"])
    with pytest.raises(AirflowException, match=r"an import job of s3://\S+ may have been created") as raised:
        account.create(segment, context())
    assert not isinstance(raised.value, AirflowFailException)
    assert len(account.jobs) == 1
    if not seconds:
        account.wait([account.state["jobs"][0]["JobId"]])
    made = account.create(segment, context())
    assert made["job_ids"] == ([account.state["jobs"][0]["JobId"]] if seconds else [])
    assert (made["on_list"], made["under_way"], made["new"]) == ((0, 2, 0) if seconds else (2, 0, 0))
    account.wait(made["job_ids"])
    assert account.verify(segment, made["job_ids"])["new_contacts"] == 2
    assert len(account.jobs) == 1


def test_a_job_that_ended_well_is_adopted_for_exactly_its_file(account: Account, context: Any) -> None:
    """The list is behind, or lost its contacts: a second job of the same file would not show that."""
    segment = account.segment("one", [ANN])
    first = account.run(segment, context())
    account.client.delete_contact(ContactListName=CONTACT_LIST, EmailAddress=ANN)
    assert account.create(segment, context())["job_ids"] == first["job_ids"]
    with pytest.raises(AirflowFailException, match=r"1 of 1 rows of s3://\S+ are not on contact list") as raised:
        account.verify(segment, first["job_ids"])
    assert "@" not in str(raised.value)
    assert len(account.jobs) == 1


def test_the_earlier_job_is_found_on_any_page(account: Account, context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cohort_flywheel.destinations.ses.hook.JOBS_PER_PAGE", 2)
    segment = account.segment("one", [ANN])
    account.control(import_seconds=30)
    (first,) = account.create(segment, context())["job_ids"]
    account.control(import_seconds=0)
    for _ in range(5):
        account.wait([_job(account, "hay", [HEADER])])
    assert account.create(segment, context())["job_ids"] == [first]


@pytest.mark.parametrize("left", ["partial", "none"])
def test_after_failed_the_rest_is_imported_again(account: Account, context: Any, left: str) -> None:
    """Who came onto the list by the job that FAILED, and unsubscribed, is in no second file."""
    segment = account.segment("one", [ANN, BOB])
    account.control(fail_next_jobs=1, failed_job_contacts=left)
    (failed,) = account.create(segment, context())["job_ids"]
    with pytest.raises(
        AirflowFailException, match=f"import job {failed} has ended as FAILED: 0 contacts refused"
    ) as raised:
        account.wait([failed])
    assert "@" not in str(raised.value)
    assert account.contacts == ({ANN: False} if left == "partial" else {})
    if left == "partial":
        account.unsubscribe(ANN)
    made = account.run(segment, context())
    assert made["job_ids"] != [failed]
    assert account.contacts == {ANN: left == "partial", BOB: False}
    # of exactly this address where nothing was left, so that the address alone does not adopt
    assert len(set(account.jobs)) == (2 if left == "partial" else 1)
    assert made["segment_size"] == made["new_contacts"] == 2


def test_a_job_that_failed_without_counts_is_not_adopted(
    account: Account, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FailureInfo is optional in the model."""
    monkeypatch.setattr(module, "_refused", lambda job: False)
    segment = account.segment("one", [ANN])
    account.control(fail_next_jobs=1, failed_job_contacts="none")
    (failed,) = account.create(segment, context())["job_ids"]
    with pytest.raises(AirflowFailException, match="FAILED"):
        account.wait([failed])
    assert account.create(segment, context())["job_ids"] != [failed]


def test_only_the_contacts_that_a_job_refused_are_imported_again(account: Account, context: Any) -> None:
    segment = account.segment("one", [ANN, "no address", BOB])
    (first,) = account.create(segment, context())["job_ids"]
    with pytest.raises(AirflowFailException, match=f"import job {first} has ended as COMPLETED: 1 contacts refused"):
        account.wait([first])
    (second,) = account.create(segment, context())["job_ids"]
    assert [len(account.file(url)) - 1 for url in account.jobs] == [3, 1]
    with pytest.raises(AirflowFailException, match=f"import job {second} has ended as COMPLETED: 1 contacts refused"):
        account.wait([second])
    assert account.create(segment, context())["job_ids"] != [second], "of the same file, but it rejected a contact"


def test_some_jobs_done_and_the_next_refused(account: Account, context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The account's active jobs are used up after the first: the next try goes on with the rest."""
    monkeypatch.setattr(module, "MAX_CONTACTS", 1)
    account.control(import_seconds=8, max_active_jobs=1)
    segment = account.segment("one", [ANN, BOB])
    with pytest.raises(AirflowException, match="LimitExceededException.*import job [0-9a-f]+ was created. Clear"):
        account.create(segment, context())
    with pytest.raises(AirflowException, match="LimitExceededException.*of this segment file runs"):
        account.create(segment, context())
    account.wait([account.state["jobs"][0]["JobId"]])
    made = account.run(segment, context())
    assert (made["segment_size"], made["new_contacts"], len(account.jobs)) == (2, 2, 2)
    assert [account.file(url)[1:] for url in account.jobs] == [[f"{ANN},false,,OPT_IN"], [f"{BOB},false,,OPT_IN"]]


# --- other runs ------------------------------------------------------------------------------------------


def test_another_job_that_runs_is_waited_for(account: Account, context: Any) -> None:
    """It may add one of our rows to the list: a second write could override a choice."""
    account.control(import_seconds=30)
    (other,) = account.create(account.segment("one", [ANN]), context())["job_ids"]
    with pytest.raises(AirflowException, match=f"import job {other} into contact list players is running") as raised:
        account.create(account.segment("two", [ANN, BOB]), context(), name="two")
    assert not isinstance(raised.value, AirflowFailException)
    assert len(account.jobs) == 1


@pytest.mark.parametrize("state", ["queued", "running"])
def test_one_run_at_a_time_imports_into_the_list(account: Account, context: Any, state: str) -> None:
    run, other = context(run_id="manual__2"), context(run_id="manual__1")
    acquire(_state(account), LIST_LOCK, "list", other)
    run["ti"].runs["cohort_to_segment", "manual__1"] = state
    with pytest.raises(AirflowException, match="another run is importing into contact list players") as raised:
        account.create(account.segment("one", [ANN]), run)
    assert not isinstance(raised.value, AirflowFailException)
    assert account.jobs == []
    run["ti"].runs["cohort_to_segment", "manual__1"] = "failed"
    assert len(account.create(account.segment("one", [ANN]), run)["job_ids"]) == 1
    assert _state(account).lock_holder(LIST_LOCK) is None, "the next run sees its job"


def test_a_run_of_an_older_as_of_imports_nothing(
    account: Account, context: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run, plan = context(), account.plan(as_of=NEWEST - timedelta(days=1))
    acquire(_state(account), plan["claim_key"], plan["name"], run)
    with pytest.raises(AirflowSkipException, match="Skipping import for cohort: the newest as-of is 2026-11-22"):
        account.create(account.segment("one", [ANN]), run, as_of=NEWEST - timedelta(days=1))
    assert (account.jobs, account.contacts) == ([], {})
    assert set(account.control()["calls"]) <= {"ListContactLists"}
    assert "Skipping import for cohort" in capsys.readouterr().out
    assert _state(account).lock_holder(plan["claim_key"]) is None


def test_an_as_of_followed_by_a_later_one_under_another_schedule_imports_nothing(
    account: Account, context: Any, kept: Any
) -> None:
    """Daily becomes weekly: Sunday is the schedule's newest again, and Wednesday's run has read the graph."""
    run = context() | {"dag": DAG("a_dag", schedule=CronDataIntervalTimetable("0 0 * * 0", timezone="UTC"))}
    kept(NEWEST + timedelta(days=3), {"ann": 3})
    with pytest.raises(AirflowSkipException, match="Skipping import for cohort: the newest as-of is 2026-11-25"):
        account.create(account.segment("one", [ANN]), run, hours=4 * 24 + 9)
    assert (account.jobs, account.contacts) == ([], {})


@pytest.mark.parametrize("source", ["live", EXTRACT])
def test_a_run_that_is_not_canonical_imports_nothing(account: Account, context: Any, source: str) -> None:
    with pytest.raises(AirflowSkipException, match="Skipping import for cohort: its source is not"):
        account.create(account.segment("one", [ANN]), context(), source=source)
    assert (account.jobs, account.contacts) == ([], {})


@pytest.mark.parametrize(("hours", "imports"), [(0, True), (23.9, True), (24, False), (240, False)])
def test_the_newest_as_of_is_decided_when_the_task_runs(
    account: Account, context: Any, hours: float, imports: bool
) -> None:
    segment = account.segment("one", [ANN])
    if imports:
        assert len(account.create(segment, context(), hours=hours)["job_ids"]) == 1
    else:
        with pytest.raises(AirflowSkipException):
            account.create(segment, context(), hours=hours)
        assert account.jobs == []


# --- what is verified ------------------------------------------------------------------------------------


def test_an_empty_segment_file_changes_nothing(account: Account, context: Any) -> None:
    account.add(ANN)
    segment = account.segment("one", [])
    made = account.run(segment, context())
    assert (made["job_ids"], made["segment_size"], account.contacts) == ([], 0, {ANN: False})


def test_a_changed_segment_file_is_detected(account: Account, context: Any) -> None:
    segment = account.segment("one", [ANN, BOB])
    job_ids = account.create(segment, context())["job_ids"]
    account.wait(job_ids)
    with pytest.raises(AirflowFailException, match="has 2 rows, but 3 were released: it has changed since"):
        account.verify(segment | {"rows": 3}, job_ids)


def test_results_and_logs_hold_no_personal_data(
    account: Account, context: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    segment = account.segment("one", [ANN, BOB])
    made = account.create(segment, context())
    account.wait(made["job_ids"])
    texts = json.dumps([made, account.verify(segment, made["job_ids"])])
    texts += capsys.readouterr().out
    assert "all 2 rows are on contact list players: new contacts 2, already on list 0, unsubscribed 0" in texts
    assert "@" not in texts
    assert "player-" not in texts


def _state(account: Account) -> State:
    from cohort_flywheel.hooks.s3 import S3Hook

    return State(S3Hook(), account.config.state_bucket)


def _job(account: Account, name: str, lines: list[str]) -> str:
    """An import job of another caller."""
    key = f"contacts/{name}/file.csv"
    account.s3.put_object(Bucket=account.config.import_bucket, Key=key, Body="\n".join(lines).encode())
    into = {"ContactListName": CONTACT_LIST, "ContactListImportAction": "PUT"}
    source = {"S3Url": f"s3://{account.config.import_bucket}/{key}", "DataFormat": "CSV"}
    destination = {"ContactListDestination": into}
    return str(account.client.create_import_job(ImportDestination=destination, ImportDataSource=source)["JobId"])
