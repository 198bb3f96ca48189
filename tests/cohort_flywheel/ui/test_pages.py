"""The pages in chromium, in a frame like Airflow's, over canned answers of its REST API."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from cohort_flywheel.segment.contacts import REASONS
from cohort_flywheel.ui import plugin
from local.config import works
from tests.cohort_flywheel.ui.fake_airflow import (
    NEWEST,
    SCRIPT,
    FakeAirflow,
    Reader,
    campaign,
    cohort,
    compared,
    effect,
    launch,
    poisoned,
    report,
    rows,
    serving,
    task,
)

CHROMIUM = shutil.which("chromium") if works("chromium") else None
RUN = "dags/cohort_to_segment/dagRuns/manual__1"
REPORT = "report.html?dag_id=cohort_to_segment&run_id=manual__1"

pytestmark = pytest.mark.browser

#: What a page shows, drawn by Chromium: two minutes of CPU. `make test` keeps that no script in an answer runs.
nightly = pytest.mark.nightly


@pytest.fixture(scope="module")
def server() -> Iterator[FakeAirflow]:
    with serving(FakeAirflow()) as made:
        yield made


@pytest.fixture
def fake(server: FakeAirflow) -> FakeAirflow:
    """The same server, which has forgotten all."""
    url = server.url
    server.__init__()  # type: ignore[misc]  # the attributes of a new one, in the server that runs
    server.url = url
    return server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM:
        pytest.skip("chromium is missing: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@pytest.fixture
def reader(browser: Any, fake: FakeAirflow) -> Iterator[Reader]:
    made = Reader(browser, fake)
    yield made
    made.window.close()
    assert made.errors == []


# --- Cohorts


def test_the_overview_has_failed_and_late_cohorts_first_and_asks_three_times(fake: FakeAirflow, reader: Reader) -> None:
    late = cohort("ea_late")
    late["days"] = late["days"][:2]
    fake.counted([cohort("ea_atrisk"), late, cohort("ea_malice"), cohort("ea_new", days=0, limits=[])])
    failed = {"dag_id": "cohort_to_segment__ea_malice", "state": "failed", "conf": {}, "dag_run_id": "r",
              "end_date": (NEWEST + timedelta(hours=1)).isoformat()}  # fmt: skip
    fake.answers["dags/~/dagRuns/list"] = {"dag_runs": [failed]}
    frame = reader.open("")
    found = rows(frame, "4 of 4 cohorts")
    assert [row[0].split("\n")[0] for row in found] == ["ea_malice", "ea_late", "ea_new", "ea_atrisk"]
    assert [row[5] for row in found[1:]] == ["late: no result of the newest day"] * 2 + [
        "succeeded 2026-11-22 00:04 UTC"
    ]
    assert found[0][5] == "failed 2026-11-22 01:00 UTC"
    assert found[0][1:5] == ["42", "+1", "36", "2026-11-22"]
    assert len(fake.asked) == 3
    frame.get_by_label("Filter the cohorts").fill("late")
    assert [row[0].split("\n")[0] for row in rows(frame, "1 of 4 cohorts")] == ["ea_late"]
    frame.get_by_role("link", name="ea_late").click()
    frame.get_by_role("heading", name="ea_late").wait_for()
    assert len(fake.asked) == 4


@nightly
def test_a_cohort_has_its_days_thresholds_rejects_limits_and_overlap(fake: FakeAirflow, reader: Reader) -> None:
    fake.counted([cohort(), cohort("ea_malice")])
    frame = reader.open("#ea_atrisk")
    assert rows(frame, "days with a result")[0][:6] == ["2026-11-22", "42", "2", "1", "36", "2"]
    assert rows(frame, "by reason")[0][:3] == ["no consent", "5", "11.9 %"]
    assert rows(frame, "from each day on") == [
        ["2026-11-20", "3", "registry", "the change of cohorts.yaml"],
        ["2026-11-21", "2", "registry", "the change of cohorts.yaml"],
    ]
    assert rows(frame, "also members before") == [["1 day before", "30", "71.4 %"]]
    assert rows(frame, "another cohort") == [["ea_malice", "12", "28.6 %"]]
    assert rows(frame, "how close")[0] == ["at most so many members", "100", "42", "42.0 %", "holds", "42 members"]
    for each in frame.locator(".chart").all():
        assert each.get_attribute("aria-label")


@nightly
def test_the_threshold_moves_by_keyboard_and_says_how_many_players_it_gives(fake: FakeAirflow, reader: Reader) -> None:
    fake.counted([cohort()])
    frame = reader.open("#ea_atrisk")
    said = frame.locator("output")
    assert said.inner_text() == "above 2: 42 members (in force)"
    slider = frame.get_by_label("Threshold", exact=False).first
    slider.focus()
    slider.press("ArrowLeft")
    assert said.inner_text() == "above 1: 60 members (+18)"
    assert slider.get_attribute("aria-valuetext") == "above 1: 60 members (+18)"
    assert frame.locator("code").first.inner_text() == '{"cohort":"ea_atrisk","threshold":1,"dry_run":true}'


@nightly
@pytest.mark.parametrize("status", [200, 403])
def test_a_run_starts_after_a_confirmation_with_the_readers_rights(
    fake: FakeAirflow, reader: Reader, status: int
) -> None:
    fake.counted([cohort()])
    fake.answers["dags/cohort_to_segment__ea_atrisk/dagRuns"] = {"dag_run_id": "manual__2", "state": "queued"}
    frame = reader.open("#ea_atrisk")
    fake.posted.clear()
    frame.get_by_role("button", name="Start a run with these").click()
    assert fake.posted == []
    fake.status = status
    frame.get_by_role("button", name="Start the dry run").click()
    said = "Started: manual__2, queued" if status == 200 else "Your role may not start runs"
    frame.get_by_text(said, exact=False).wait_for()
    conf = {"cohort": "ea_atrisk", "threshold": 2, "dry_run": True}
    assert fake.posted == [("dags/cohort_to_segment__ea_atrisk/dagRuns", {"logical_date": None, "conf": conf})]


@nightly
def test_an_empty_installation_says_what_to_do(fake: FakeAirflow, reader: Reader) -> None:
    assert "No cohort was counted yet" in reader.text("")
    assert "No campaign was launched yet" in reader.text("campaigns.html")
    fake.counted([cohort(days=0, limits=[])])
    assert "This cohort has no verified segment yet" in reader.text("#ea_atrisk")
    fake.answers = {key: value for key, value in fake.answers.items() if "cohort_ea" not in key}
    assert "trigger the DAG cohort_figures" in reader.text("#ea_atrisk")


@nightly
@pytest.mark.parametrize(("status", "said"), [(401, "log in, then open"), (403, "Your role may not read this")])
@pytest.mark.parametrize("page", ["", "campaigns.html", REPORT])
def test_a_refusal_is_explained(fake: FakeAirflow, reader: Reader, page: str, status: int, said: str) -> None:
    fake.status = status
    assert said in reader.text(page)


@nightly
def test_200_cohorts_and_a_year_of_days(fake: FakeAirflow, reader: Reader, figure: Callable[[str], None]) -> None:
    fake.counted([cohort(f"cohort_{number:03}", days=365) for number in range(200)])
    seconds = []
    for page in ("", "#cohort_007"):
        fake.asked.clear()
        began = time.monotonic()
        reader.open(page)
        seconds.append(time.monotonic() - began)
        assert len(fake.asked) <= 4
    frame = reader.window.frame_locator("iframe")
    assert len(rows(frame, "31 of 365 days")) == 31
    frame.get_by_role("button", name="Show all 365 days").click()
    assert len(rows(frame, "365 of 365 days")) == 365
    figure(f"pages: 200 cohorts are there after {seconds[0]:.2f} s, a cohort with a year of days {seconds[1]:.2f} s")


# --- Report


def test_the_report_of_a_run(fake: FakeAirflow, reader: Reader) -> None:
    fake.counted([cohort()])
    fake.answers[f"{RUN}/taskInstances"] = {"task_instances": [task("plan", "success")]}
    fake.xcom("manual__1", "report", "report", report(), dag="cohort_to_segment")
    frame = reader.open(REPORT)
    steps = [(row[0], row[1]) for row in rows(frame, "From the graph")]
    assert steps == [
        ("vertices", "44"),
        ("members", "42"),
        ("contacts", "41"),
        ("rows", "36"),
        ("in the segment", "36"),
    ]
    assert rows(frame, "not a row")[0][:4] == ["opted_out", "5", "11.9 %", "no consent"]
    frame.get_by_role("heading", name="Compared with the result before").wait_for()
    assert rows(frame, "the result of 2026-11-21")[0] == ["members", "42", "41", "+1"]
    addresses = [row[1].split("\n")[0] for row in rows(frame, "Addresses")]
    assert addresses == [
        "s3://export/export/n.json", "s3://import/segments/n/", "s3://state/rejects/n/", "s3://state/reports/n/r.json",
    ]  # fmt: skip
    frame.get_by_role("button", name="Copy s3://import/segments/n/").click()
    frame.get_by_text(re.compile("^(copied|selected)$")).wait_for()


@nightly
def test_a_failed_run_has_the_sentence_and_the_text_of_the_runbook(fake: FakeAirflow, reader: Reader) -> None:
    failed = [task("plan", "success"), task("check_limits", "failed"), task("report", "success")]
    fake.answers[f"{RUN}/taskInstances"] = {"task_instances": failed}
    fake.xcom("manual__1", "report", "report", report(outcome="stopped by limits"), dag="cohort_to_segment")
    sentence = "CF-LIMITS-01: max_members is 9, and there are 42 members. Changes made: none."
    log = {"content": [{"event": "Task failed", "error_detail": [{"exc_value": sentence}]}, {"event": "::endgroup::"}]}
    fake.answers[f"{RUN}/taskInstances/check_limits/logs/1"] = log
    text = reader.text(REPORT)
    assert "check_limits failed" in text
    assert sentence in text
    assert re.search(r"Cause: \w", text)
    assert "The figures are right: trigger a new run" in text


@nightly
@pytest.mark.parametrize(
    ("suppressions", "said"),
    [
        ({"as_of": "2026-11-21T00:00:00+00:00", "in_time": False}, "It had those up to 2026-11-21 00:00 UTC."),
        ({"as_of": None, "in_time": False}, "It had those up to no as-of."),
        ({"as_of": "2026-11-22T00:00:00+00:00", "in_time": True}, ""),
        (None, ""),
    ],
)
def test_a_run_without_the_suppressions_of_its_as_of_says_so(
    fake: FakeAirflow, reader: Reader, suppressions: dict[str, Any] | None, said: str
) -> None:
    fake.answers[f"{RUN}/taskInstances"] = {"task_instances": [task("plan", "success")]}
    fake.xcom("manual__1", "report", "report", report(suppressions=suppressions), dag="cohort_to_segment")
    text = reader.text(REPORT)
    assert ("The suppression list did not have the events of this as-of" in text) == bool(said)
    assert said in text


@nightly
def test_a_run_that_has_not_ended_shows_its_tasks(fake: FakeAirflow, reader: Reader) -> None:
    fake.answers[f"{RUN}/taskInstances"] = {"task_instances": [task("plan", "running"), task("report", "none")]}
    text = reader.text(REPORT)
    assert "The report is written when the run ends" in text
    assert "plan\trunning" in text


# --- Campaigns


@nightly
def test_a_launch_with_its_mail_and_earlier_launches(fake: FakeAirflow, reader: Reader) -> None:
    earlier = launch(name="ea_atrisk_2_2026-11-01_00-00-00", reported="2026-11-01T09:00:00+00:00")
    fake.counted([cohort()], [launch(), earlier])
    message = {"subject": "Stay safe in chat", "text": "Hello Sam,\n\nbe careful."}
    fake.xcom("manual__1", "prepare_campaign", "return_value", {"message": message}, dag="cohort_to_segment")
    frame = reader.open("campaigns.html")
    assert rows(frame, "2 launches")[0] == [
        "2026-11-21 09:00 UTC", "ea_atrisk", "at_risk", "36", "33", "2", "0", "1",
        "approved by ann, 2026-11-21 08:00 UTC", "further: -10.0 points, lower",
    ]  # fmt: skip
    frame.get_by_role("link", name="2026-11-21 09:00 UTC").click()
    frame.get_by_text("Stay safe in chat").wait_for()
    assert frame.locator("pre").inner_text() == message["text"]
    assert ["withdrawn", "opted out: 2"] in rows(frame, "happened to the messages")
    assert len(rows(frame, "before this one")) == 1


@nightly
def test_a_launch_with_its_engagement(fake: FakeAirflow, reader: Reader) -> None:
    fake.counted([cohort()], [launch(), launch(name="uncounted", engagement=None)])
    frame = reader.open("campaigns.html#ea_atrisk_2_2026-11-21_00-00-00")
    assert rows(frame, "delivery state of each of 33 messages") == [
        ["delivered", "30", "90.9 %"],
        ["bounced", "3", "9.1 %"],
    ]
    assert rows(frame, "Opens, clicks") == [
        ["opened", "15", "50.0 %", "9", "2"],
        ["clicked", "6", "20.0 %", "4", "0"],
        ["unsubscribed", "1", "3.3 %", "", ""],
        ["clicked the link to unsubscribe", "2", "6.7 %", "", ""],
        ["complained", "0", "0.0 %", "", ""],
        ["sent without tracking of opens and clicks", "3", "10.0 %", "", ""],
    ]
    assert rows(frame, "Clicks by link") == [
        ["https://studio.example/play", "5"],
        ["https://studio.example/help", "1"],
        ["links that differ by player", "1"],
    ]
    assert rows(frame, "first click") == [["1 hour", "2", "33.3 %"], ["1 day", "6", "100.0 %"]]
    assert rows(frame, "Rates") == [["hard bounces", "9.1 %", "5.0 %"], ["complaints", "0.0 %", "0.1 %"]]
    assert frame.get_by_text("By the events the e-mail was sent to 1 of them.").is_visible()
    assert "No events were counted for this launch" in reader.text("campaigns.html#uncounted")


EFFECT = [
    ["further beyond the threshold", "12.0 % (216)", "22.0 % (44)", "-10.0 points", "-16.4 points to -4.6 points",
     "lower"],
    ["left the cohort", "10.0 % (180)", "10.0 % (20)", "0.0 points", "-5.0 points to +4.0 points",
     "not seen; 4.5 points could have been seen"],
    ["mean change of the score", "+0.1", "-0.05", "", "", "too few to tell; 0.25 could have been seen"],
]  # fmt: skip


@nightly
def test_a_launch_has_its_effect_with_its_interval_and_the_sizes_of_the_groups(
    fake: FakeAirflow, reader: Reader
) -> None:
    fake.counted([cohort()], [launch()])
    frame = reader.open("campaigns.html#ea_atrisk_2_2026-11-21_00-00-00")
    caption = "1,800 players mailed, against 200 held out of this launch: the effect of this e-mail"
    assert rows(frame, caption) == EFFECT
    assert frame.get_by_text("2 players were erased since").is_visible()


@nightly
@pytest.mark.parametrize(
    ("effect_of", "said", "cell"),
    [
        (effect(status="waiting", launch_holdout=None), "Due on 2026-11-28, 7 days after the launch.", "2026-11-28"),
        (effect(status="no snapshot", launch_holdout=None), "Due since 2026-11-28, and not measured", "not measured"),
        (None, "Not measured: the launch held out no players", ""),
    ],
    ids=["waiting", "no snapshot", "no holdout"],
)
def test_a_launch_without_an_effect_says_why(
    fake: FakeAirflow, reader: Reader, effect_of: dict[str, Any] | None, said: str, cell: str
) -> None:
    fake.counted([cohort()], [launch(effect=effect_of)])
    assert cell in rows(reader.open("campaigns.html"), "1 launches")[0][9]
    assert said in reader.text("campaigns.html#ea_atrisk_2_2026-11-21_00-00-00")


@nightly
def test_where_leaving_cannot_happen_the_page_says_so(fake: FakeAirflow, reader: Reader) -> None:
    found = compared()
    found["left"]["sentence"] = "no score has moved back: where scores only grow away from it, leaving cannot happen"
    fake.counted([cohort()], [launch(effect=effect(launch_holdout=found, global_holdout=compared()))])
    frame = reader.open("campaigns.html#ea_atrisk_2_2026-11-21_00-00-00")
    assert rows(frame, "held out of this launch")[1][5] == found["left"]["sentence"]
    assert rows(frame, "the effect of being mailed at all") == EFFECT


@nightly
def test_the_months_are_together(fake: FakeAirflow, reader: Reader) -> None:
    fake.counted([cohort()], [launch()])
    found = rows(reader.open("campaigns.html"), "of a template and month together")
    assert found[0] == ["2026-11", "at_risk", "2", "of the launch", "1,800", "200", EFFECT[0][0], *EFFECT[0][3:]]
    assert len(found) == 3


@nightly
def test_the_tab_of_a_launch_has_its_engagement_and_effect(fake: FakeAirflow, reader: Reader) -> None:
    earlier = effect(launch="earlier")
    reported = {"as_of": NEWEST.isoformat(), "engagement": {}, "launches": [earlier], "pooled": []}
    fake.counted([cohort()], [launch(run={"dag_id": "cohort_to_segment", "run_id": "other"}, effect=None), launch()])
    fake.answers[f"{RUN}/taskInstances"] = {"task_instances": [task("plan", "success")]}
    found = report(campaign=campaign(), effect=reported)
    fake.xcom("manual__1", "report", "report", found, dag="cohort_to_segment")
    frame = reader.open(REPORT)
    frame.get_by_role("heading", name="Effect", exact=True).wait_for()
    assert rows(frame, "held out of this launch") == EFFECT
    assert rows(frame, "delivery state of each of 33 messages")[0] == ["delivered", "30", "90.9 %"]
    assert rows(frame, "By the report of the DAG engagement") == [
        ["earlier", "1,800", "200", "further: -10.0 points, lower", "lower: a sentence"]
    ]


# --- all pages


@pytest.mark.parametrize("dates", [False, True], ids=["texts", "and dates"])
def test_no_script_in_an_answer_runs(fake: FakeAirflow, reader: Reader, dates: bool) -> None:
    fake.counted([cohort()], [launch()])
    fake.xcom("manual__1", "report", "report", report(campaign=campaign(), faults=["wrong"]), dag="cohort_to_segment")
    prepared = {"message": {"subject": "s", "text": "t"}}
    fake.xcom("manual__1", "prepare_campaign", "return_value", prepared, dag="cohort_to_segment")
    fake.answers[f"{RUN}/taskInstances"] = {"task_instances": [task("check_limits", "failed")]}
    fake.answers[f"{RUN}/taskInstances/check_limits/logs/1"] = {"content": ["CF-LIMITS-01: "]}
    fake.answers = {key: poisoned(value, dates=dates) for key, value in fake.answers.items()}
    fake.ignored = SCRIPT  # the names by which the pages ask for more have it too
    for page in ("", "campaigns.html", REPORT):
        frame = reader.open(page)
        if page != REPORT:
            frame.locator("tbody a").first.click()
            frame.locator("h2").first.wait_for()
        assert frame.locator("main").get_by_text("onerror", exact=False).count()
        assert frame.locator("main img, main script").count() == 0
        assert reader.window.evaluate("window.hacked") is None


@nightly
def test_without_plotly_the_tables_stand_and_with_it_the_charts_are_drawn(fake: FakeAirflow, reader: Reader) -> None:
    fake.counted([cohort()])
    frame = reader.open("#ea_atrisk")
    frame.locator(".chart[data-drawn=true]").nth(2).wait_for()
    reader.window.route("**/plotly.js", lambda route: route.fulfill(status=404))
    frame = reader.open("#ea_atrisk")
    assert len(rows(frame, "days with a result")) == 3
    assert frame.locator(".chart:visible").count() == 0


@nightly
def test_the_pages_follow_the_theme_and_fit_a_narrow_window(fake: FakeAirflow, reader: Reader) -> None:
    fake.counted([cohort()], [launch()])
    fake.answers[f"{RUN}/taskInstances"] = {"task_instances": [task("plan", "success")]}
    fake.xcom("manual__1", "report", "report", report(campaign=campaign()), dag="cohort_to_segment")
    fake.theme = "dark"
    reader.window.set_viewport_size({"width": 380, "height": 800})
    for page in ("", "#ea_atrisk", "campaigns.html", "campaigns.html#ea_atrisk_2_2026-11-21_00-00-00", REPORT):
        frame = reader.open(page)
        back = frame.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
        assert back == "rgb(16, 21, 28)"
        width = frame.locator("html").evaluate("html => [html.scrollWidth, html.clientWidth]")
        assert width[0] <= width[1], page


def test_the_pages_name_every_reason() -> None:
    text = (plugin.PAGES / "reasons.js").read_text(encoding="utf-8").partition("LIMITS")[0]
    assert re.findall(r"^  (\w+): \[", text, re.MULTILINE) == list(REASONS)
