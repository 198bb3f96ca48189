"""A refused mail: a fault of the sender or the account is not booked as the players' own."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from botocore.session import get_session

from cohort_flywheel.campaign.launch_store import PARTIAL_OUTPUT
from cohort_flywheel.destinations.ses.campaign import sends_store as ses_sends
from cohort_flywheel.destinations.ses.campaign import ses_launch_operator
from cohort_flywheel.destinations.ses.campaign.send_outcomes import Outcome, settled
from tests.cohort_flywheel.destinations.ses.campaign.launches import Killed, Launch, total

SENDER_IS_GONE = {"unverify": ["studio.example"]}


def after_batch(launch: Launch, number: int, monkeypatch: pytest.MonkeyPatch, **change: Any) -> None:
    """Change the account once the outcome of a batch is recorded."""
    put = ses_sends.Batches.put_outcome

    def and_then(batches: Any, batch: int, attempt: int, outcome: Outcome) -> None:
        put(batches, batch, attempt, outcome)
        if (batch, attempt) == (number, 1):
            launch.account.control(**change)

    monkeypatch.setattr(ses_sends.Batches, "put_outcome", and_then)


def stopped(launch: Launch, sentence: str) -> dict[str, Any]:
    """What a launch that fails has reached."""
    run = launch.context()
    launch.context = lambda: run
    with pytest.raises(AirflowFailException, match=sentence):
        launch.run()
    reached: dict[str, Any] = run["ti"].xcoms[run["ti"].task_id, PARTIAL_OUTPUT]
    return reached


@pytest.fixture
def sixty(account: Any, context: Any, monkeypatch: pytest.MonkeyPatch) -> Launch:
    monkeypatch.setattr(ses_launch_operator, "BATCH", 10)
    return Launch(account, context, 60)


def test_a_sender_that_fails_after_the_first_batch_does_not_refuse_players(
    sixty: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One withdrawal in each batch: none of them is refused as a whole."""
    withdrawn = sixty.names[4::10]
    sixty.account.records(*withdrawn, marketing="no")
    with monkeypatch.context() as changed:
        after_batch(sixty, 0, changed, **SENDER_IS_GONE)
        reached = stopped(sixty, r"SES has refused the last 2\d mails \(MessageRejected\) and accepted none after")
    assert (reached["sent"], reached["refused"], reached["in_doubt"]) == (9, {}, 0)
    assert total(reached) + reached["left"] == 60
    assert sixty.account.control()["calls"]["SendEmail"] < 9 + 20 + 8, "it stops soon"
    with pytest.raises(AirflowFailException, match="sender play@studio.example is not verified"):
        sixty.run()
    sixty.account.control(verify=["studio.example"])
    counts = sixty.run()
    assert (counts["sent"], counts["withdrawn"], counts["refused"]) == (54, {"opted_out": 6}, {})
    assert sixty.account.mailed == Counter(set(sixty.names) - set(withdrawn))
    assert sixty.run() == counts


def test_a_short_last_batch_is_left_if_the_sender_is_at_fault(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer refusals than stop a launch: SES is asked about the sender before they are the players' own."""
    with monkeypatch.context() as changed:
        after_batch(launch, 1, changed, **SENDER_IS_GONE)
        reached = stopped(launch, "the sender play@studio.example is not verified")
    assert (reached["sent"], reached["refused"], reached["left"]) == (20, {}, 5)
    launch.account.control(verify=["studio.example"])
    assert launch.run()["sent"] == 25
    assert launch.account.mailed == Counter(launch.names)


def test_refusals_of_an_account_in_the_sandbox_are_not_final(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """There it takes the mails to verified addresses, so that a refusal is followed by a mail that it takes."""
    monkeypatch.setattr(ses_sends, "_WAITS", (0.5,) * 20)
    verified = [f"{launch.names[number]}@example.com" for number in (12, 18)]
    for address in verified:
        launch.account.client.create_email_identity(EmailIdentity=address)
    launch.account.control(verify=[*verified])
    with monkeypatch.context() as changed:
        after_batch(launch, 0, changed, production_access=False)
        reached = stopped(launch, "the SES account is in the sandbox")
    assert (reached["sent"], reached["refused"], reached["left"]) == (12, {}, 13)
    launch.account.control(production_access=True)
    counts = launch.run()
    assert (counts["sent"], counts["refused"]) == (25, {})
    assert launch.account.mailed == Counter(launch.names)


def test_refusals_of_a_launch_without_accepted_mails_are_not_final(account: Any, context: Any) -> None:
    few = Launch(account, context, 3)
    refusal = {"code": "BadRequestException", "status": 400, "operations": ["SendEmail"]}
    account.control(refuse=refusal)
    reached = stopped(few, r"SES has refused the last 3 mails \(BadRequestException\)")
    assert (reached["refused"], reached["left"]) == ({}, 3)
    account.control(refuse=None)
    assert few.run()["sent"] == 3


def test_a_final_refusal_is_kept_after_any_interruption(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    """One in each batch; that of the last batch is followed by no mail. A kill comes as the first is recorded."""
    own = [launch.names[number] for number in (9, 19, 24)]
    for name in own:
        launch.account.add(f"{name}@example.com", unsubscribed=True)
    launch.account.control(unsubscribed_answer="reject")
    put = ses_sends.Batches.put_outcome

    def killed(batches: Any, batch: int, attempt: int, outcome: Outcome) -> None:
        if outcome.refused:  # its intents are put
            raise Killed
        put(batches, batch, attempt, outcome)

    with monkeypatch.context() as broken:
        broken.setattr(ses_sends.Batches, "put_outcome", killed)
        with pytest.raises(Killed):
            launch.run()
    counts = launch.run()
    assert (counts["sent"], counts["refused"], counts["in_doubt"]) == (22, {"MessageRejected": 3}, 0)
    assert total(counts) == counts["rows"] == 25
    assert launch.account.mailed == Counter(set(launch.names) - set(own))
    calls = launch.account.control()["calls"]["SendEmail"]
    assert launch.run() == counts
    assert launch.account.control()["calls"]["SendEmail"] == calls


def test_many_players_of_their_own_can_be_put_on_the_do_not_contact_list(
    sixty: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the sentence says: the launch goes on without them."""
    sixty.plan["do_not_contact_key"] = "do_not_contact.txt"
    sixty.account.do_not_contact("another-player")
    own = sixty.names[20:50]
    for name in own:
        sixty.account.add(f"{name}@example.com", unsubscribed=True)
    sixty.account.control(unsubscribed_answer="reject")
    assert stopped(sixty, "SES has refused the last 2")["sent"] == 20
    assert stopped(sixty, "SES has refused the last 2")["refused"] == {}
    sixty.account.do_not_contact(*own)
    counts = sixty.run()
    assert (counts["sent"], counts["withdrawn"], counts["refused"]) == (30, {"do_not_contact": 30}, {})
    assert sixty.account.mailed == Counter(sixty.names[:20] + sixty.names[50:])


# --- what SES answers, by botocore's model

#: What an answer is taken for. A throttled mail is tried again, and then left.
KINDS = {
    "AccountSuspendedException": "account", "SendingPausedException": "account", "LimitExceededException": "account",
    "MailFromDomainNotVerifiedException": "sender", "NotFoundException": "template, list or configuration set",
    "MessageRejected": "mail or sender", "BadRequestException": "mail or sender",
    "TooManyRequestsException": "throttle",
}  # fmt: skip
#: BulkEmailEntryResult, which this package does not use, has finer words: each is one of SendEmail's answers.
STATUSES = {
    "MESSAGE_REJECTED": "MessageRejected", "MAIL_FROM_DOMAIN_NOT_VERIFIED": "MailFromDomainNotVerifiedException",
    "CONFIGURATION_SET_NOT_FOUND": "NotFoundException", "TEMPLATE_NOT_FOUND": "NotFoundException",
    "ACCOUNT_SUSPENDED": "AccountSuspendedException", "ACCOUNT_THROTTLED": "TooManyRequestsException",
    "ACCOUNT_DAILY_QUOTA_EXCEEDED": "TooManyRequestsException", "INVALID_SENDING_POOL_NAME": "NotFoundException",
    "ACCOUNT_SENDING_PAUSED": "SendingPausedException", "CONFIGURATION_SET_SENDING_PAUSED": "SendingPausedException",
    "INVALID_PARAMETER": "BadRequestException", "TRANSIENT_FAILURE": None, "FAILED": None, "SUCCESS": None,
}  # fmt: skip


def test_each_error_of_the_model_is_classified() -> None:
    service = get_session().get_service_model("sesv2")
    assert {shape.name for shape in service.operation_model("SendEmail").error_shapes} == set(KINDS)
    status = service.shape_for("BulkEmailEntryResult").members["Status"]
    assert set(status.enum) == set(STATUSES)
    assert {name for name in STATUSES.values() if name} < set(KINDS)
    assert {code for code, kind in KINDS.items() if kind == "mail or sender"} == set(ses_sends._OF_THE_MAIL)
    assert {code for code, kind in KINDS.items() if kind == "throttle"} < set(ses_sends._THROTTLED)


@pytest.mark.parametrize(("code", "status"), [("MailFromDomainNotVerifiedException", 400), ("NotFoundException", 404)])
def test_an_error_of_the_sender_or_the_template_stops_the_launch(launch: Launch, code: str, status: int) -> None:
    launch.account.control(refuse={"code": code, "status": status, "operations": ["SendEmail"], "after": 12})
    reached = stopped(launch, f"SES answers SendEmail with {code}")
    assert (reached["sent"], reached["refused"], reached["left"]) == (12, {}, 13)
    launch.account.control(refuse=None)
    assert launch.run()["sent"] == 25


def test_only_some_refusals_of_a_batch_become_final() -> None:
    before = Outcome(sent=1, left=["a", "b", "c", "d"], refusals={"MessageRejected": ["a", "b"], "Bad": ["c"]})
    assert settled(before, {"a", "c", "elsewhere"}) == Outcome(
        refused={"MessageRejected": ["a"], "Bad": ["c"]}, left=["b", "d"], refusals={"MessageRejected": ["b"]}
    )
    assert settled(before, {"elsewhere"}) == Outcome(left=["a", "b", "c", "d"], refusals=before.refusals)
