"""A person removes entries of the suppression list, and of SES's account-level list."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowFailException

from cohort_flywheel.engagement.suppressions_operator import RemoveSuppressionsOperator
from cohort_flywheel.hooks.s3 import delete_version
from local.config import ROOT
from tests.cohort_flywheel.destinations.ses.ses_account import Account
from tests.cohort_flywheel.engagement.event_days import NEWEST, Events
from tests.cohort_flywheel.engagement.test_suppressions_operator import Listed, account, events, of
from tests.cohort_flywheel.memory_limits import MemoryLimits, tuned

__all__ = ["account", "events"]
P1 = "p1@example.com"


def listed(events: Events, *lines: str) -> None:
    body = "".join(f"{each}\n" for each in lines).encode()
    events.s3.put_object(Bucket=events.state, Key="engagement/remove.txt", Body=body)


def remove(
    events: Events,
    hours: float = 12,
    reason: str | None = "she wrote to us",
    run_id: str = "manual__removal",
    **params: Any,
) -> dict[str, Any]:
    """A removal by ana, so many hours after the newest as-of."""
    operator = RemoveSuppressionsOperator(
        task_id="remove", destination="ses", clock=lambda: NEWEST + timedelta(hours=hours)
    )
    its = events.context({"reason": reason, "dry_run": False} | params)
    its["dag_run"].run_id = run_id
    its["dag"].params = {"reason": None, "dry_run": True}
    return operator.execute(its)


def is_there(events: Events) -> bool:
    return "Contents" in events.s3.list_objects_v2(Bucket=events.state, Prefix="engagement/remove.txt")


def test_a_removal_lasts_until_a_later_event_and_no_replay_brings_it_back(events: Events, account: Account) -> None:
    account.client.put_suppressed_destination(EmailAddress=P1, Reason="COMPLAINT")
    events.put(5, of("Complaint", 1))
    events.run()
    listed(events, "p1", P1, "p9@example.com")
    found = remove(events, hours=10_000_000)  # later than the entry of the emulated SES, whose clock is the machine's
    assert found == {"lines": 3, "suppressed": {"complained": 2}, "at_destination": 1}
    assert Listed(events.state)(1) == (None, None)
    assert not is_there(events)
    assert account.client.list_suppressed_destinations()["SuppressedDestinationSummaries"] == []
    events.run()
    assert Listed(events.state)(1) == (None, None)
    text = events.kept["engagement/suppressions.csv"].decode()
    assert text.count("removed,ana: she wrote to us") == 15, "a line may be a playerId, and an address too"
    assert "example.com" not in text


def test_the_list_is_sorted_in_the_memory_of_the_tuning(
    events: Events, account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(events, "p1")
    limits = MemoryLimits(tmp_path / "limits", monkeypatch)
    with tuned():
        assert remove(events)["lines"] == 1
    assert limits.are_tuned()


def test_a_later_event_counts_and_an_earlier_one_that_is_read_later_does_not(events: Events) -> None:
    events.put(5, of("Complaint", 1))
    listed(events, "p1", P1)
    remove(events, hours=-1)
    events.run()  # its complaint is from before the removal
    assert Listed(events.state)(1) == (None, None)
    events.put(-2, of("Complaint", 1, timestamp="2026-11-22T01:00:00Z"), name="later")
    events.run(NEWEST + timedelta(days=1))
    assert Listed(events.state)(1) == ("complained", "complained")


def test_a_removal_whose_file_was_deleted_before_the_attempt_ended_is_done(
    events: Events, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        """A worker that is gone."""

    events.run()
    listed(events, "p1", P1)
    with monkeypatch.context() as broken:

        def deleted(*arguments: Any) -> None:
            delete_version(*arguments)
            raise KilledError

        broken.setattr("cohort_flywheel.hooks.s3.delete_version", deleted)
        with pytest.raises(KilledError):
            remove(events)
    assert remove(events)["lines"] == 2
    with pytest.raises(AirflowFailException, match=r"CF-STATE-02: there is no s3://.*/engagement/remove.txt"):
        remove(events, run_id="manual__another")


def test_a_dry_run_counts_and_changes_nothing(events: Events, account: Account, capfd: Any) -> None:
    account.client.put_suppressed_destination(EmailAddress=P1, Reason="BOUNCE")
    events.run()
    before = events.kept
    listed(events, P1, "p2")
    found = remove(events, reason=None, dry_run=True)
    assert found == {"lines": 2, "suppressed": {"bounced": 1}, "at_destination": 0}
    assert is_there(events)
    assert {key: body for key, body in events.kept.items() if "remove" not in key} == before
    assert account.client.get_suppressed_destination(EmailAddress=P1)
    assert "p1@" not in capfd.readouterr().out


def test_where_ses_refuses_the_removal_it_is_said(events: Events, account: Account) -> None:
    operations = {"operations": ["DeleteSuppressedDestination"]}
    account.control(refuse={"code": "AccessDeniedException", "status": 403} | operations)
    events.put(5, of("Bounce", 1))
    events.run()
    listed(events, P1)
    with pytest.raises(
        AirflowFailException,
        match=r"CF-SET-04: the entries were removed .* but ses refuses .*\(AccessDeniedException\).*ses:DeleteSupp",
    ) as raised:
        remove(events)
    assert P1 not in str(raised.value)
    assert (Listed(events.state)(1), is_there(events)) == ((None, None), True)
    account.control(refuse=None)
    remove(events)
    assert not is_there(events)


@pytest.mark.parametrize(
    ("lines", "reason", "sentence"),
    [
        (["p1"], " ", "CF-PLAN-03: the removal needs a reason"),
        ([], "r", "CF-ERASURE-01: engagement/remove.txt has no players"),
        (["p1, p2"], "r", "CF-ERASURE-01: line 1 of engagement/remove.txt is more than a playerId"),
        (None, "r", "CF-STATE-02: there .* s3://.*/engagement/remove.txt: put the file there"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_changed(
    events: Events, lines: list[str] | None, reason: str, sentence: str
) -> None:
    if lines is not None:
        listed(events, *lines)
    with pytest.raises(AirflowFailException, match=sentence):
        remove(events, reason=reason)
    assert "engagement/suppressions.csv" not in events.kept


@pytest.mark.parametrize("on", [False, True])
def test_the_dag_is_there_only_if_the_registry_switches_it_on(tmp_path: Path, on: bool) -> None:
    shutil.copytree(ROOT / "include", tmp_path / "include")
    (tmp_path / "dags").mkdir()
    shutil.copy(ROOT / "dags" / "suppression_removal.py", tmp_path / "dags")
    registry = tmp_path / "include" / "cohorts.yaml"
    text = registry.read_text(encoding="utf-8")
    registry.write_text(f"engagement: {{read_events: {str(on).lower()}}}\n{text}", encoding="utf-8")
    bag = DagBag(tmp_path / "dags")
    assert not bag.import_errors
    assert list(bag.dags) == (["suppression_removal"] if on else [])
    for dag in bag.dags.values():
        assert (dag.is_paused_upon_creation, dag.params["dry_run"], list(dag.params)) == (
            True, True, ["reason", "dry_run"],
        )  # fmt: skip
