"""The pages inside a real Airflow under FAB: who sees them, what they show, and what they do not hold."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.history import DAYS
from local.history_runs import COHORTS
from tests.airflow_up import DAG_ID, Up
from tests.e2e.test_runs import Leaks

from .conftest import FIGURES_ID, Runs

#: The first test waits for the first history of the day, which takes long on a busy machine.
pytestmark = [pytest.mark.airflow, pytest.mark.browser, pytest.mark.timeout(2_400)]


#: The cookies of each user who has logged in: FAB refuses a sixth login within 40 seconds.
COOKIES: dict[str, Any] = {}


def opened(page: Any, up: Up, user: str, path: str) -> Any:
    """The page at a path, after the login that it leads to the first time."""
    if user in COOKIES:
        page.context.add_cookies(COOKIES[user])
        page.goto(f"{up.url}{path}")
        return page
    page.goto(f"{up.url}{path}")
    page.locator("input[name=username]").fill(user)
    page.locator("input[name=password]").fill(user)
    page.locator("input[type=submit]").click()
    page.wait_for_url(f"{up.url}{path}")
    COOKIES[user] = page.context.cookies()
    return page


def framed(page: Any) -> Any:
    """The frame of a page of ours in Airflow's own page, once it is there."""
    frame = page.frame_locator("iframe[sandbox]")
    frame.locator("main[aria-busy=false]").wait_for()
    return frame


def picture(page: Any, folder: Path, name: str) -> None:
    """For the documents: SCREENSHOTS=docs/images."""
    page.set_viewport_size({"width": 1300, "height": 820})
    for each in [folder, *([Path(os.environ["SCREENSHOTS"])] if os.environ.get("SCREENSHOTS") else [])]:
        page.screenshot(path=each / f"{name}.png")


def cohorts(frame: Any) -> dict[str, list[str]]:
    rows = [row.locator("td").all_inner_texts() for row in frame.locator("tbody tr").all()]
    return {row[0].split("\n")[0]: row for row in rows}


def test_a_producer_has_the_entry_and_sees_every_cohort(up: Up, runs: Runs, page: Any, tmp_path: Path) -> None:
    opened(page, up, "pia", "/")
    page.goto(f"{up.url}/plugin/cohorts")
    frame = framed(page)
    found = cohorts(frame)
    assert set(found) >= {*COHORTS, "ea_reputation"}
    assert "failed" in found["ea_reputation"][5]
    assert found["ea_malice"][4] > found["ea_mischief"][4], "the newest day was run"
    picture(page, tmp_path, "cohorts")
    frame.get_by_role("link", name="ea_malice").click()
    frame.get_by_role("heading", name="ea_malice").wait_for()
    frame.locator(".chart[data-drawn=true]").nth(2).wait_for()
    assert f"of {DAYS + 1} days" in frame.locator("main").inner_text()
    picture(page, tmp_path, "cohort")


def test_a_producer_starts_a_dry_run_from_the_page(up: Up, runs: Runs, page: Any, tmp_path: Path) -> None:
    opened(page, up, "pia", "/plugin/cohorts")
    frame = framed(page)
    frame.get_by_role("link", name="ea_mischief").click()
    frame.get_by_role("button", name="Start a run with these").click()
    frame.get_by_role("button", name="Start the dry run").click()
    frame.get_by_text("Started: manual__", exact=False).wait_for()
    (run,) = [run for run in up.runs() if run["conf"].get("cohort") == "ea_mischief"]
    assert run["conf"]["dry_run"] is True
    assert run["triggering_user_name"] == "pia"
    up.end(run["dag_run_id"])


def test_the_tab_of_a_run_has_its_report(up: Up, runs: Runs, page: Any, tmp_path: Path) -> None:
    opened(page, up, "pia", f"/dags/{DAG_ID}/runs/{runs.imported}/plugin/cohort_report")
    frame = framed(page)
    frame.get_by_role("heading", name="Compared with the result before").wait_for()
    text = frame.locator("main").inner_text()
    report = up.report(runs.imported)
    assert "Report: imported" in text
    assert report["segment"]["url"] in text
    assert f"rows\t{report['segment']['rows']}" in text
    picture(page, tmp_path, "report")


def test_the_tab_of_a_failed_run_says_why_and_what_to_do(up: Up, runs: Runs, page: Any, tmp_path: Path) -> None:
    opened(page, up, "pia", f"/dags/{DAG_ID}/runs/{runs.failed}/plugin/cohort_report")
    text = framed(page).locator("main").inner_text()
    assert "plan failed" in text
    assert "CF-PLAN-03: threshold 50 is outside the range of cohort ea_reputation" in text
    assert "Cause: A param or cohort is unknown" in text
    assert "Do: Correct it." in text


def test_the_page_of_campaigns_has_the_launches(up: Up, runs: Runs, page: Any, tmp_path: Path) -> None:
    opened(page, up, "pia", "/plugin/campaigns")
    frame = framed(page)
    assert frame.locator("tbody tr").count() == 2
    frame.locator("tbody a").first.click()
    frame.get_by_role("heading", name="Earlier launches of the template").wait_for()
    picture(page, tmp_path, "campaign")


def test_the_effect_of_a_launch_is_in_the_report_of_a_run_and_on_the_pages(
    up: Up, runs: Runs, page: Any, tmp_path: Path
) -> None:
    """Of the launches of the history one is due; the scheduled run of engagement has measured it."""
    waiting, measured = up.report(runs.dry)["effect"]["launches"]
    assert (waiting["status"], measured["status"]) == ("waiting", "measured")
    against = measured["launch_holdout"]
    assert against["mailed"] > against["held_out"] > 0
    opened(page, up, "pia", f"/dags/{DAG_ID}/runs/{runs.dry}/plugin/cohort_report")
    frame = framed(page)
    assert frame.get_by_text(against["further"]["sentence"]).is_visible()
    page.goto(f"{up.url}/plugin/campaigns")
    frame = framed(page)
    frame.locator("tbody a").first.wait_for()
    assert frame.get_by_text(f"due on {waiting['due'][:10]}").count() == 1
    frame.locator("tbody a").nth(1).click()
    sizes = f"{against['mailed']:,} players mailed, against {against['held_out']:,} held out of this launch"
    frame.get_by_text(sizes).wait_for()
    assert frame.get_by_text("further beyond the threshold").count() == 2, "also against the global holdout"
    picture(page, tmp_path, "effect")


def test_a_viewer_has_no_entry_and_reads_the_page_at_its_address(up: Up, runs: Runs, page: Any, tmp_path: Path) -> None:
    vic = up.login("vic", "vic")
    assert vic.rest("GET", "/plugins").status_code == 403
    assert up.login("pia", "pia").rest("GET", "/plugins").status_code == 200
    opened(page, up, "vic", f"/dags/{DAG_ID}")
    page.goto(f"{up.url}/cohorts/")
    page.locator("main[aria-busy=false]").wait_for()
    assert set(cohorts(page)) >= set(COHORTS)


def test_without_a_login_the_page_has_no_data(up: Up, runs: Runs, page: Any) -> None:
    page.goto(f"{up.url}/cohorts/")
    page.get_by_text("You are not logged in to Airflow", exact=False).wait_for()
    with httpx.Client(base_url=up.url, trust_env=False, timeout=60) as client:
        assert client.get(f"/api/v2/dags/{FIGURES_ID}/dagRuns").status_code == 401
        for path in ("", "campaigns.html", "report.html?dag_id=d&run_id=r", "cohorts.js", "runbook.md"):
            assert client.get(f"/cohorts/{path}").status_code == 200


def test_a_result_emits_the_asset_of_its_cohort_once(up: Up, runs: Runs) -> None:
    events = up.get("/assets/events", limit=100)["asset_events"]
    found = [event for event in events if event["uri"] == "cohort-flywheel://segment/ea_malice"]
    assert [event["source_run_id"] for event in found] == [runs.imported]
    assert found[0]["extra"]["rows"] == up.report(runs.imported)["segment"]["rows"]
    assert [event["uri"] for event in events if event["source_run_id"] in (runs.dry, runs.failed)] == []


def test_no_xcom_and_no_page_holds_a_player(up: Up, runs: Runs, players: list[dict[str, str]]) -> None:
    leaks = Leaks(players)
    with closing(sqlite3.connect(f"file:{up.home / 'airflow.db'}?mode=ro", uri=True)) as database:
        keys, found = zip(*database.execute("SELECT key, value FROM xcom").fetchall(), strict=True)
        assert {"overview", "launches", "report", *(f"cohort_{name}" for name in COHORTS)} <= set(keys)
        assert leaks("\n".join(map(str, found))) == set()
        assert leaks(repr(database.execute("SELECT * FROM asset_event").fetchall())) == set()
    for key in up.keys(up.config.state_bucket, "results/"):
        assert leaks(json.dumps(json.loads(up.read(up.config.state_bucket, key)))) == set()
    with httpx.Client(base_url=up.url, trust_env=False, timeout=60) as client:
        files = ("cohorts.js", "cohort.js", "report.js", "campaigns.js", "effect.js")
        for path in ("", "campaigns.html", "report.html", *files):
            assert leaks(client.get(f"/cohorts/{path}").text) == set()
