"""A launch that is continued under a weekly or monthly schedule, and the launches before and after it."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from cohort_flywheel.campaign.launch_store import PARTIAL_OUTPUT
from tests.cohort_flywheel.destinations.ses.campaign.launches import Launch, total
from tests.cohort_flywheel.destinations.ses.ses_account import NEWEST

MONTHLY = "0 0 22 * *"
DAY = 24


@pytest.fixture
def monthly(launch: Launch) -> Launch:
    """A monthly launch that stopped after 14 of 25 players."""
    launch.plan["schedule"] = MONTHLY
    refusal = {"code": "AccountSuspendedException", "status": 400, "operations": ["SendEmail"], "after": 14}
    launch.account.control(refuse=refusal)
    with pytest.raises(AirflowFailException, match="AccountSuspendedException"):
        launch.run()
    launch.account.control(refuse=None)
    assert len(launch.account.mails) == 14
    return launch


def another(launch: Launch, name: str, days: int, not_again_days: int, names: list[str], **plan: Any) -> dict[str, Any]:
    """Another launch of the same template, so many days later."""
    account = launch.account
    as_of = NEWEST + timedelta(days=days)
    made = account.launch_plan(name=name, as_of=as_of, not_again_days=not_again_days, **plan)
    segment = account.released(name, names)
    prepared = account.prepare(made, segment, launch.context())
    return account.launch(made, segment, prepared, launch.context(), hours=days * DAY + 15)


def test_a_player_mailed_25_days_later_is_not_mailed_by_the_next_launch(monthly: Launch) -> None:
    first = set(monthly.account.mailed)
    counts = monthly.run(hours=25 * DAY)
    assert (counts["sent"], total(counts)) == (25, 25)
    late = set(monthly.names) - first
    assert len(late) == 11
    ledger = monthly.account.read("sends/at_risk/cohort.2.jsonl").splitlines()
    assert set(ledger[1:]) == late
    assert json.loads(ledger[0])["mails_until"] == (NEWEST + timedelta(days=25)).isoformat()
    later = another(monthly, "december", 30, 28, monthly.names, schedule=MONTHLY)
    assert (later["withdrawn"], later["sent"]) == ({"recently_mailed": 11}, 14), "the others had theirs 30 days ago"
    assert monthly.account.mailed == Counter(monthly.names) + Counter(first)


@pytest.mark.parametrize(("not_again_days", "sent"), [(5, 14), (4, 25)])
def test_the_days_are_counted_from_the_last_mail(monthly: Launch, not_again_days: int, sent: int) -> None:
    monthly.run(hours=25 * DAY)
    assert another(monthly, "december", 30, not_again_days, monthly.names, schedule=MONTHLY)["sent"] == sent


def test_a_continued_launch_does_not_mail_players_who_were_mailed_meanwhile(monthly: Launch) -> None:
    """By another cohort, whose own not_again_days had passed."""
    left = sorted(set(monthly.names) - set(monthly.account.mailed))
    other = another(monthly, "toxic", 10, 7, left[:4])
    assert other["sent"] == 4
    counts = monthly.run(hours=25 * DAY)
    assert (counts["sent"], counts["withdrawn"], total(counts)) == (21, {"recently_mailed": 4}, 25)
    assert monthly.account.mailed == Counter(monthly.names)
    assert monthly.run(hours=26 * DAY) == counts
    assert "cohort.3.jsonl" not in monthly.account.state_keys("sends/"), "no player is left to mail"


def test_a_launch_that_is_continued_waits_for_one_that_begins(monthly: Launch, context: Any) -> None:
    """The two would not see each other's send ledgers."""
    from cohort_flywheel.hooks.s3 import S3Hook
    from cohort_flywheel.runs.lock_store import acquire
    from cohort_flywheel.runs.state_store import State

    state = State(S3Hook(), monthly.account.config.state_bucket)
    acquire(state, "claims/campaign_at_risk.json", "template", context(run_id="manual__1"))
    run = context(run_id="manual__2")
    run["ti"].runs["cohort_to_segment", "manual__1"] = "running"
    monthly.context = lambda: run
    with pytest.raises(AirflowException, match="another run is launching a campaign of template at_risk") as raised:
        monthly.run(hours=25 * DAY)
    assert not isinstance(raised.value, AirflowFailException)
    reached = run["ti"].xcoms[run["ti"].task_id, PARTIAL_OUTPUT]
    assert (reached["sent"], reached["left"]) == (14, 11), "what the first try had reached"
    assert len(monthly.account.mails) == 14


def test_an_attempt_sends_no_mail_after_the_end_of_its_send_ledger(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cohort_flywheel.destinations.ses.campaign import sends_store as ses_sends

    hours = [0.0]
    put = ses_sends.Batches.put_outcome

    def later(*args: Any) -> None:
        put(*args)
        hours[0] += 23.95  # the second batch would begin less than five minutes before the end

    launch.plan["schedule"] = MONTHLY
    with monkeypatch.context() as changed:
        changed.setattr(ses_sends.Batches, "put_outcome", later)
        with pytest.raises(AirflowException, match="the send ledger of this attempt ends: a later attempt") as raised:
            launch.run(clock=lambda: NEWEST + timedelta(hours=hours[0]))
    assert not isinstance(raised.value, AirflowFailException)
    assert len(launch.account.mails) == 10
    assert launch.run(hours=50)["sent"] == 25
    assert launch.account.mailed == Counter(launch.names)


def test_a_killed_attempt_counts_until_the_end_of_its_send_ledger(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cohort_flywheel.destinations.ses.hook import SesV2Hook
    from tests.cohort_flywheel.destinations.ses.campaign.launches import Killed

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    launch.plan["schedule"] = MONTHLY
    with monkeypatch.context() as broken:
        broken.setattr(SesV2Hook, "send_email", kill)
        with pytest.raises(Killed):
            launch.run(hours=0)
    assert another(launch, "tomorrow", 3, 2, launch.names)["withdrawn"] == {"recently_mailed": 25}
    assert another(launch, "after", 4, 2, launch.names)["sent"] == 25
    counts = launch.run(hours=5 * DAY)
    assert (counts["sent"], counts["in_doubt"], counts["withdrawn"]) == (0, 10, {"recently_mailed": 15})
    assert launch.account.mailed == Counter(launch.names)
