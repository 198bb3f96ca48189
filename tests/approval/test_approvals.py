"""A launch is answered by real users of a real Airflow, in its UI and by REST."""

from __future__ import annotations

import os
import re
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cohort_flywheel.config.cohorts import CAMPAIGN_MODES
from tests.airflow_up import DAG_ID, Up, wait_until
from tests.e2e.test_runs import Leaks, segment_rows

from .conftest import ROLES, Runs, answer, asks, clear, question, task

pytestmark = pytest.mark.airflow


def mailed(up: Up) -> Counter[str]:
    """How often each address was mailed, by what SES accepted."""
    return Counter(mail["to"][0] for account in up.emulated("sesv2")["accounts"] for mail in account["mails"])


def opened(page: Any, up: Up, user: str, path: str) -> Any:
    """The page at a path, after the login that it leads to."""
    page.goto(f"{up.url}{path}")
    page.locator("input[name=username]").fill(user)
    page.locator("input[name=password]").fill(user)
    page.locator("input[type=submit]").click()
    page.wait_for_url(f"{up.url}{path}")
    return page


def actions(run_id: str) -> str:
    """Where the UI has the question of a run."""
    return f"/dags/{DAG_ID}/runs/{run_id}/tasks/approve_campaign/required_actions"


def has_answered(up: Up, run_id: str, page: Any) -> None:
    wait_until(lambda: question(up, run_id)["response_received"], "the answer is there", up, seconds=60)
    page.goto("about:blank")  # drawing the page over and over takes the run's time


def picture(page: Any, folder: Path, name: str) -> None:
    """For the documents: SCREENSHOTS=docs/images."""
    page.get_by_text("record_result").first.wait_for()  # the tasks of a group are folded
    for each in [folder, *([Path(os.environ["SCREENSHOTS"])] if os.environ.get("SCREENSHOTS") else [])]:
        page.screenshot(path=each / f"{name}.png")


def nothing_was_sent(up: Up, run_id: str) -> dict[str, Any]:
    """Its report, which says so, as does the state bucket: no launch has begun."""
    report = up.report(run_id)
    name = question(up, run_id)["subject"].split()[1]
    assert report["campaign"]["launched"] is None
    for folder in ("sends/at_risk/", "launches/"):
        assert up.keys(up.config.state_bucket, folder + name) == []
    return report


def is_recent(answer: dict[str, Any]) -> bool:
    return timedelta(0) <= datetime.now(UTC) - datetime.fromisoformat(answer["at"]) < timedelta(minutes=10)


@pytest.mark.browser
def test_an_approval_in_the_ui_mails_each_player_once(up: Up, runs: Runs, page: Any, tmp_path: Path) -> None:
    opened(page, up, "ann", actions(runs.approved)).get_by_role("button", name="Approve").wait_for()
    text = page.locator("body").inner_text()
    rows = up.report(runs.approved)["segment"]["rows"]  # the report of the run so far
    assert re.search(rf"May ea_atrisk_1_.* be launched, to {rows} players\?", text)
    assert "Studio <play@studio.example>" in text
    assert "Hello Sam,\n" in text
    assert "Subject: Stay safe in chat: personal data and scams" in text
    assert "ann may approve it until " in text
    picture(page, tmp_path, "approval")
    page.get_by_role("button", name="Approve").click()
    has_answered(up, runs.approved, page)

    up.end(runs.approved)
    report = up.report(runs.approved)
    answered = report["campaign"]["answer"]
    assert (report["outcome"], report["campaign"]["launched"]["sent"]) == ("launched", rows)
    assert (answered["approved"], answered["by"], is_recent(answered)) == (True, "ann", True)
    assert mailed(up) == Counter(row["emailAddress"] for row in segment_rows(up, report))
    assert max(mailed(up).values()) == 1


def test_an_approval_of_an_outdated_mail_sends_nothing_and_a_new_run_asks_again(
    up: Up, users: dict[str, Up], runs: Runs, retried_run: str
) -> None:
    said = "approved another segment or mail than the one that is prepared now, .*: trigger a new run"
    assert re.search(said, up.last_line(runs.changed, "approve_campaign"))
    assert nothing_was_sent(up, runs.changed)["outcome"] == "failed"

    clear(users["ana"], runs.changed, "approve_campaign", downstream=True)
    asks(up, runs.changed)
    assert "Stay safe in chat" in question(up, runs.changed)["body"], "as Airflow has shown it first"
    answer(users["ann"], runs.changed, "Approve")
    up.end(runs.changed, "failed")
    assert re.search(said, up.last_line(runs.changed, "approve_campaign"))
    assert nothing_was_sent(up, runs.changed)["outcome"] == "failed"

    asks(up, retried_run)
    assert "A safety note for you, Sam" in question(up, retried_run)["body"]


# --- one run, which each of these tests has ask again


@pytest.fixture
def contested(up: Up, users: dict[str, Up], runs: Runs) -> str:
    """A run that ana has triggered, and that waits for an answer."""
    if up.run(runs.contested)["state"] == "failed":
        clear(users["ana"], runs.contested, "approve_campaign", downstream=True)
    asks(up, runs.contested)
    return runs.contested


@pytest.mark.parametrize("user", ["bob", "ana"])
def test_an_approval_by_another_user_or_by_the_triggering_user_fails_the_task(
    up: Up, users: dict[str, Up], contested: str, user: str
) -> None:
    answer(users[user], contested, "Approve")
    up.end(contested, "failed")
    said = up.last_line(contested, "approve_campaign")
    assert re.search(f"{user} has approved, but is not an approver of this run: ann may; clear this", said)
    report = nothing_was_sent(up, contested)
    assert report["outcome"] == "failed"
    assert (report["campaign"]["answer"]["approved"], report["campaign"]["answer"]["by"]) == (False, user)


@pytest.mark.parametrize("written", [False, True], ids=["no answer", "an answer written by hand"])
def test_marking_the_task_as_success_is_not_an_approval(
    up: Up, users: dict[str, Up], contested: str, written: bool
) -> None:
    """An answer written as an XCom by a user with the role Op does not count either."""
    if written:
        digest = question(up, contested)["params"]["shown"]["value"]
        yes = {"approved": True, "by": "ann", "at": f"{datetime.now(UTC)}", "timed_out": False, "digest": digest}
        xcoms = f"{task(contested, 'approve_campaign')}/xcomEntries"
        done = users["bob"].rest("POST", xcoms, {"key": "answer", "value": yes})
        assert done.status_code == 201, done.text
    marked = up.rest("PATCH", task(contested, "approve_campaign"), {"new_state": "success"})
    assert marked.status_code == 200, marked.text
    up.end(contested, "failed")
    assert up.tasks(contested)["approve_campaign"] == "success"
    assert "no recorded approval of exactly this segment and mail" in up.last_line(contested, "launch_campaign")
    report = nothing_was_sent(up, contested)
    assert (report["outcome"], report["campaign"]["answer"]) == ("failed", None)


@pytest.mark.browser
def test_the_form_explains_an_empty_campaign(up: Up, runs: Runs, page: Any, tmp_path: Path) -> None:
    opened(page, up, "bob", f"/dags/{DAG_ID}")
    page.get_by_role("button", name="Trigger").first.click()
    form = page.locator("[role=dialog][data-state=open]").filter(has_text="Trigger Dag")
    form.locator("#element_campaign input[role=combobox]").click()
    page.get_by_role("option", name="launch").wait_for()
    page.screenshot(path=tmp_path / "form.png")
    assert page.get_by_role("option").all_inner_texts() == ["as set in the registry", "none", "draft", "test", "launch"]


# --- the ends in which nothing is sent


@pytest.mark.browser
def test_a_rejection_in_the_ui_ends_the_run_successfully(up: Up, retried_run: str, page: Any, tmp_path: Path) -> None:
    asks(up, retried_run)
    opened(page, up, "ann", actions(retried_run)).get_by_role("button", name="Reject").wait_for()
    assert "Subject: A safety note for you, Sam" in page.locator("body").inner_text()
    page.get_by_role("button", name="Reject").click()
    has_answered(up, retried_run, page)

    up.end(retried_run)
    report = nothing_was_sent(up, retried_run)
    answered = report["campaign"]["answer"]
    assert (report["outcome"], up.tasks(retried_run)["launch_campaign"]) == ("not approved", "skipped")
    assert (answered["approved"], answered["by"], answered["timed_out"]) == (False, "ann", False)
    assert is_recent(answered)
    page.goto(f"{up.url}{actions(retried_run)}")
    page.get_by_text(re.compile(r"Response received .* from ann")).wait_for()
    picture(page, tmp_path, "approval-refused")


def test_a_run_without_an_answer_in_time_succeeds(up: Up, runs: Runs) -> None:
    run = up.end(runs.unanswered)
    report = nothing_was_sent(up, runs.unanswered)
    answered = report["campaign"]["answer"]
    assert (report["outcome"], up.tasks(runs.unanswered)["launch_campaign"]) == ("not approved in time", "skipped")
    assert (answered["approved"], answered["by"], answered["timed_out"]) == (False, None, True)
    assert run["start_date"] < answered["at"] < run["end_date"]


@pytest.mark.browser
def test_the_ui_shows_a_missing_answer(up: Up, runs: Runs, page: Any, tmp_path: Path) -> None:
    up.end(runs.unanswered)
    opened(page, up, "ann", actions(runs.unanswered)).get_by_text("Response received").wait_for()
    assert "from ann" not in page.locator("body").inner_text()
    picture(page, tmp_path, "approval-timed-out")


@pytest.mark.browser
def test_the_form_lists_the_campaign_modes(up: Up, runs: Runs, page: Any, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 1400, "height": 2100})
    opened(page, up, "ann", f"/dags/{DAG_ID}").get_by_role("button", name="Trigger").first.click()
    form = page.locator("[role=dialog][data-state=open]").filter(has_text="Trigger Dag")
    form.locator("#element_campaign").wait_for()
    text = form.inner_text()
    assert [meaning for meaning in CAMPAIGN_MODES.values() if meaning not in text] == []
    picture(page, tmp_path, "trigger-form")


def test_no_player_is_in_a_log_or_in_the_metadata_database(
    up: Up, runs: Runs, retried_run: str, players: list[dict[str, str]]
) -> None:
    """The question that a person was asked among it."""
    leaks, rows, read = Leaks(players), {}, 0
    for file in [*(up.home / "logs").rglob("*"), up.run_dir / "airflow.log"]:
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            assert leaks(text) == set(), file
            read += len(text)
    with closing(sqlite3.connect(f"file:{up.home / 'airflow.db'}?mode=ro", uri=True)) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            found = [repr(row) for row in database.execute(f'SELECT * FROM "{table}"')]  # noqa: S608 - our own tables
            rows[table] = len(found)
            assert leaks("\n".join(found)) == set(), table
    assert read > 100_000
    assert rows["ab_user"] == len(ROLES)
    assert rows["hitl_detail"] == len(up.runs())
    assert rows["xcom"] > 20 * len(up.runs())


def test_nothing_was_sent_but_what_was_approved(up: Up, runs: Runs) -> None:
    """After everything above."""
    launched = up.report(runs.approved)["campaign"]["launched"]
    assert mailed(up).total() == (launched["sent"] if launched else 0)
