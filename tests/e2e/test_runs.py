"""The daily DAG in a real Airflow: started by the schedule, REST, the command line and the UI's own form."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from local import sample
from local.config import works
from tests.airflow_up import DAG_ID, Up, wait_until

from .conftest import Started

pytestmark = pytest.mark.airflow

CHROMIUM = shutil.which("chromium") if works("chromium") else None
TASKS = {
    "plan",
    "extract",
    "enrich",
    "check_limits",
    "create_import_job",
    "wait_for_import_job",
    "verify_segment",
    "record_result",
    "report",
    "end",
}


def segment(up: Up, report: dict[str, Any]) -> dict[str, Any]:
    """The segment of a report, as Pinpoint itself returns it."""
    found: dict[str, Any] = up.client("pinpoint").get_segment(
        ApplicationId=up.application_id, SegmentId=report["imported"]["segment_id"]
    )["SegmentResponse"]
    return found


def segment_rows(up: Up, report: dict[str, Any]) -> list[dict[str, str]]:
    bucket = report["segment"]["url"].removeprefix("s3://").partition("/")[0]
    parts = [up.read(bucket, part["s3_key"]) for part in report["segment"]["parts"]]
    return [row for part in parts for row in csv.DictReader(io.StringIO(part))]


def as_of(report: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(report["plan"]["as_of"])


def test_the_schedule_makes_the_newest_complete_day(up: Up, started: Started) -> None:
    wait_until(lambda: bool(up.runs(run_type="scheduled")), "the DAG, once switched on, has a scheduled run", up)
    (run,) = up.runs(run_type="scheduled")
    run = up.end(run["dag_run_id"])
    report = up.report(run["dag_run_id"])
    assert datetime.fromisoformat(run["data_interval_end"]) == as_of(report)
    assert (as_of(report).hour, as_of(report).minute) == (0, 0)
    assert timedelta(0) <= datetime.fromisoformat(run["start_date"]) - as_of(report) < timedelta(days=1)
    assert report["plan"]["cohort"] == "ea_atrisk"
    assert report["plan"]["threshold_from"] == "registry"
    assert (report["extract"]["members"], report["segment"]["rows"]) == (3, 3)
    assert segment(up, report)["ImportDefinition"]["Size"] == 3
    assert "deferred" in up.events(run["dag_run_id"], "wait_for_import_job")


def test_rest_with_params_and_no_logical_date(up: Up, started: Started) -> None:
    run = up.end(started.rest)
    assert (run["logical_date"], run["data_interval_end"]) == (None, None)
    assert up.tasks(started.rest) == dict.fromkeys(TASKS, "success")
    assert "deferred" in up.events(started.rest, "wait_for_import_job")
    report = up.report(started.rest)
    assert report["outcome"] == "imported"
    assert report["faults"] == []
    assert report["plan"] | {"as_of": None} == {
        "cohort": "ea_atrisk",
        "property": "ea_atrisk",
        "direction": "above",
        "threshold": 1,
        "threshold_from": "param",
        "as_of": None,
        "dry_run": False,
        "source": "auto",
        "extract_only": False,
        "extract_uri": None,
        "where": {},
        "limits": {"min_members": 0, "max_members": 100000, "max_change_percent": 300, "max_reject_percent": 30},
        "holdout_percent": 0,
        "campaign": "none",
    }
    midnight = datetime.fromisoformat(run["run_after"]).replace(hour=0, minute=0, second=0, microsecond=0)
    assert as_of(report) == midnight
    assert report["extract"]["members"] == 53
    rejects = sum(report["segment"]["rejects"].values())
    assert rejects > 0
    assert report["segment"]["rows"] + rejects == 53
    assert segment(up, report)["ImportDefinition"]["Size"] == report["segment"]["rows"]
    name = f"ea_atrisk_1_{midnight:%Y-%m-%d_%H-%M-%S}"
    extract = json.loads(up.read(up.config.export_bucket, f"export/{name}.json"))
    assert len(extract) == 53
    assert {"playerId": ["wayne96"], "ea_atrisk": [3]} in extract
    rejects_file = up.read(up.config.state_bucket, report["segment"]["rejects_key"] + "0000.csv").splitlines()
    assert len(rejects_file) == rejects + 1


def test_rest_with_a_past_logical_date_means_that_day(up: Up, started: Started) -> None:
    up.end(started.past)
    report = up.report(started.past)
    assert as_of(report) == started.past_date.replace(hour=0)
    assert report["outcome"] == "dry run"
    # the graph as it is now, which its names say
    assert (report["plan"]["source"], report["extract"]["source"]) == ("live", "graph")
    assert report["extract"]["read_at"] > started.past_date.isoformat()
    assert report["extract"]["url"].endswith("_live.json")


def test_rest_with_a_date_after_an_as_of_and_no_interval_means_that_as_of(up: Up, started: Started) -> None:
    """Override the limits for a past day, as docs/how-to/backfill.md describes."""
    day = started.past_date.replace(hour=0, minute=0) - timedelta(days=4)
    date = (day + timedelta(minutes=1)).isoformat()
    run_id = up.trigger({"cohort": "ea_altruism", "source": "live", "dry_run": True}, logical_date=date)
    up.end(run_id)
    assert as_of(up.report(run_id)) == day


def test_rest_with_a_past_logical_date_and_no_snapshot_of_that_day_is_refused(up: Up, started: Started) -> None:
    day = started.past_date.replace(hour=0)
    sentence = f"cohort ea_altruism has no snapshot of {day:%Y-%m-%d} 00:00 UTC .*source=live"
    refused(up, started.past_without_snapshot, sentence)


def refused(up: Up, run_id: str, sentence: str, dag_id: str = DAG_ID) -> None:
    """The run failed in its plan with the sentence, and nothing but the report ran after it."""
    up.end(run_id, "failed", dag_id)
    assert re.search(sentence, up.last_line(run_id, "plan", dag_id))
    assert "Changes made: none" in up.last_line(run_id, "plan", dag_id)
    states = up.tasks(run_id, dag_id)
    assert (states.pop("plan"), states.pop("report")) == ("failed", "success")
    assert set(states.values()) == {"upstream_failed"}
    assert up.report(run_id, dag_id)["outcome"] == "failed"


def test_rest_with_an_instant_of_the_schedule_is_refused(up: Up, started: Started) -> None:
    refused(up, started.on_schedule, "takes the place of that day's scheduled run: delete this run")


def test_the_command_line_needs_no_date(up: Up, started: Started) -> None:
    run = up.end(started.cli)
    assert run["logical_date"] is None
    assert up.report(started.cli)["outcome"] == "dry run"


def test_a_dry_run_writes_to_the_state_bucket_only_and_imports_nothing(up: Up, started: Started) -> None:
    up.end(started.cli)
    states = up.tasks(started.cli)
    assert {task for task, state in states.items() if state == "skipped"} == {
        "create_import_job",
        "wait_for_import_job",
        "verify_segment",
        "record_result",
        "end",
    }
    for bucket in (up.config.export_bucket, up.config.import_bucket):
        assert [key for key in up.keys(bucket) if "ea_malice" in key] == []
    report = up.report(started.cli)
    assert report["extract"]["members"] == sample.count_beyond(sample.players(), "ea_malice", 1)[1]
    assert len(segment_rows(up, report)) == report["segment"]["rows"] > 0
    assert (
        len([key for key in up.keys(up.config.state_bucket) if "ea_malice_1" in key]) == 5
    )  # the report and the last run of the name being two
    jobs = up.client("pinpoint").get_import_jobs(ApplicationId=up.application_id)["ImportJobsResponse"]["Item"]
    assert [job for job in jobs if "ea_malice" in str(job["Definition"])] == []


def test_the_command_line_with_a_date_is_refused(up: Up, started: Started) -> None:
    refused(up, started.cli_with_date, r"2026-10-01 05:00:00 UTC means the as-of 2026-10-01 00:00:00 UTC, but Airflow")


def test_a_misspelt_param_is_refused_by_the_plan(up: Up, started: Started) -> None:
    refused(up, started.misspelt, "no param dry_rum: the params are cohort, threshold, source, dry_run, extract_only")


@pytest.mark.parametrize("conf", [{"cohort": "ea_atrsk"}, {"threshold": "abc"}, {"source": "now"}, {"dry_run": "no"}])
def test_a_value_that_no_param_takes_is_refused_by_airflow(up: Up, started: Started, conf: dict[str, Any]) -> None:
    answer = up.rest("POST", f"/dags/{DAG_ID}/dagRuns", {"logical_date": None, "conf": conf})
    assert 400 <= answer.status_code < 500
    assert next(iter(conf)) in answer.json()["detail"]


def test_an_empty_cohort_is_a_success(up: Up, started: Started) -> None:
    up.end(started.empty)
    assert up.tasks(started.empty)["create_import_job"] == "skipped"
    report = up.report(started.empty)
    assert report["outcome"] == "empty cohort"
    assert (report["extract"]["members"], report["segment"]["rows"], report["segment"]["rejects"]) == (0, 0, {})
    assert report["imported"] is None
    jobs = up.client("pinpoint").get_import_jobs(ApplicationId=up.application_id)["ImportJobsResponse"]["Item"]
    assert [job for job in jobs if "ea_atrisk_90" in str(job["Definition"])] == []


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    """A page of Debian's chromium, tall enough for the whole form."""
    if not CHROMIUM:
        pytest.skip("chromium is missing: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        try:
            made = browser.new_page(viewport={"width": 1400, "height": 1250})
            made.set_default_timeout(60_000)
            yield made
        finally:
            browser.close()


@pytest.mark.nightly
@pytest.mark.browser
def test_the_form_of_the_ui_explains_itself_and_starts_a_run(
    up: Up, started: Started, page: Any, tmp_path: Path
) -> None:
    pictures = [tmp_path, *([Path(os.environ["SCREENSHOTS"])] if os.environ.get("SCREENSHOTS") else [])]

    def picture(name: str) -> None:
        for folder in pictures:
            folder.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=folder / f"{name}.png")

    before = {run["dag_run_id"] for run in up.runs()}
    page.goto(f"{up.url}/dags/{DAG_ID}")
    page.get_by_role("button", name="Trigger").first.click()
    form = page.locator("[role=dialog][data-state=open]").filter(has_text="Trigger Dag")
    form.locator("#element_cohort").wait_for()
    text = form.inner_text()
    assert "Players who shared personal data" in text  # what each cohort is
    assert "a member is strictly beyond it" in text
    assert re.search(r"ea_reputation\s+below\s+-75\s+-100 … -50", text)
    assert "Off: import the segment" in text

    form.locator("#element_cohort input[role=combobox]").click()
    page.get_by_role("option", name="ea_malice").click()
    form.locator("#element_cohort input[role=combobox]").click()
    page.get_by_role("option", name="ea_atrisk").click()
    form.locator("input[name=element_threshold]").fill("0")
    form.locator("input[name=element_threshold]").blur()
    picture("form")
    form.get_by_role("button", name="Trigger", exact=True).click()

    def new_runs() -> list[str]:
        return [run["dag_run_id"] for run in up.runs() if run["dag_run_id"] not in before]

    wait_until(lambda: bool(new_runs()), "the form has made a run", up, seconds=60)
    (run_id,) = new_runs()
    page.goto("about:blank")  # drawing the page over and over takes the run's time
    run = up.end(run_id)
    assert (run["triggered_by"], run["conf"]["cohort"], run["conf"]["threshold"]) == ("ui", "ea_atrisk", 0)
    assert "deferred" in up.events(run_id, "wait_for_import_job")
    report = up.report(run_id)
    assert (report["outcome"], report["extract"]["members"]) == ("imported", 348)
    assert segment(up, report)["ImportDefinition"]["Size"] == report["segment"]["rows"]

    page.goto(f"{up.url}/dags/{DAG_ID}/runs/{run_id}")
    page.get_by_text("record_result").first.wait_for()  # the tasks of a group are folded
    page.get_by_text("Success").first.wait_for()
    picture("run")


def test_a_run_with_a_failed_task_fails_and_is_reported(up: Up, started: Started) -> None:
    wait_until(lambda: not up.runs(state="running") and not up.runs(state="queued"), "no other run is there", up)
    up.pinpoint(fail_next_jobs=1)
    run_id = up.trigger({"cohort": "ea_reputation"})
    up.end(run_id, "failed")
    states = up.tasks(run_id)
    assert states["wait_for_import_job"] == "failed"
    assert states["verify_segment"] == "upstream_failed"
    assert states["report"] == "success"
    said = up.last_line(run_id, "wait_for_import_job")
    assert re.search(r"import job \w+ FAILED: \d+ rows of \d+, 1 pieces of 1 .*clear enrich with downstream", said)
    assert "Changes made: " in said
    assert "Clearing this task is safe" in said
    assert "@" not in said
    assert up.events(run_id, "wait_for_import_job").count("failed") >= 1
    attempts = up.get(f"/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/wait_for_import_job")["try_number"]
    assert attempts == 1  # another try cannot help
    report = up.report(run_id)
    assert report["outcome"] == "failed"
    assert report["imported"] is None
    assert report["tasks"]["wait_for_import_job"] == "failed"


def test_an_opted_out_player_is_unchanged_and_excluded_once_listed(up: Up, started: Started) -> None:
    up.end(started.rest)
    first = up.report(started.rest)
    ours, theirs = segment_rows(up, first)[:2]
    pinpoint, app = up.client("pinpoint"), up.application_id

    def opt_out(endpoint_id: str, row: dict[str, str]) -> None:
        user = {"UserId": row["User.UserId"]}
        request = {"ChannelType": "EMAIL", "Address": row["Address"], "OptOut": "ALL", "User": user}
        pinpoint.update_endpoint(ApplicationId=app, EndpointId=endpoint_id, EndpointRequest=request)

    def opt_outs() -> list[str]:
        ids = (ours["Id"], "made-by-the-chain-of-the-posts")
        endpoints = [pinpoint.get_endpoint(ApplicationId=app, EndpointId=each)["EndpointResponse"] for each in ids]
        return [endpoint["OptOut"] for endpoint in endpoints]

    opt_out(ours["Id"], ours)
    opt_out("made-by-the-chain-of-the-posts", theirs)
    listed = {"Bucket": up.config.state_bucket, "Key": "do_not_contact.txt"}
    up.client("s3").put_object(**listed, Body=f"unknown@example.com\n{theirs['Address']}\n".encode())
    try:
        run_id = up.trigger({"cohort": "ea_atrisk", "threshold": 1})
        up.end(run_id)
    finally:
        up.client("s3").put_object(**listed, Body=b"")
    second = up.report(run_id)
    rows = segment_rows(up, second)
    assert second["segment"]["do_not_contact"] == 2
    assert second["segment"]["rejects"] == first["segment"]["rejects"] | {"do_not_contact": 1}
    assert len(rows) == first["segment"]["rows"] - 1
    assert theirs["Address"] not in {row["Address"] for row in rows}
    assert theirs["User.UserId"] not in {row["User.UserId"] for row in rows}
    # the player of our own endpoint is in the file, and so was imported a second time
    assert ours["Id"] in {row["Id"] for row in rows}
    assert second["imported"]["job_id"] != first["imported"]["job_id"]
    assert opt_outs() == ["ALL", "ALL"]
    # the same segment, updated
    assert second["imported"]["segment_id"] == first["imported"]["segment_id"]
    assert segment(up, second)["ImportDefinition"]["Size"] == len(rows)


def test_a_cohort_that_is_written_wrongly_fails_alone_with_its_line(up: Up, started: Started) -> None:
    right = up.registry.read_text(encoding="utf-8")
    before, _, rest = right.partition("\n  ea_duty:")
    wrong = rest.replace("threshold: 6\n", "treshold: 6\n", 1).replace("daily: false", "daily: true", 1)
    line = 1 + (before + "\n  ea_duty:" + wrong).splitlines().index("    treshold: 6")
    own = f"{DAG_ID}__ea_duty"
    up.registry.write_text(before + "\n  ea_duty:" + wrong, encoding="utf-8")
    (up.dags / "cohort_to_segment.py").touch()  # so that Airflow need not wait for its next look at the file
    try:
        wait_until(lambda: up.rest("GET", f"/dags/{own}").status_code == 200, "its DAG is in the list", up, 120)
        assert up.get(f"/dags/{own}")["is_paused"]
        assert up.get("/importErrors")["import_errors"] == []
        up.unpause(own)
        healthy = up.trigger({"cohort": "ea_mischief", "dry_run": True})
        wait_until(lambda: bool(up.runs(own)), "it has its scheduled run", up)
        refused(up, up.runs(own)[0]["dag_run_id"], rf"cohort ea_duty in cohorts\.yaml, line {line}: treshold", own)
        up.end(healthy)
    finally:
        up.registry.write_text(right, encoding="utf-8")
        (up.dags / "cohort_to_segment.py").touch()


# --- at the end, of all that ran before


@pytest.fixture(scope="module")
def players(up: Up) -> list[dict[str, str]]:
    """Every record of the sample's contacts: all members of all cohorts are among them or have no record."""
    pages = up.client("dynamodb").get_paginator("scan").paginate(TableName=up.config.contacts_table)
    found = [{name: value["S"] for name, value in item.items()} for page in pages for item in page["Items"]]
    assert len(found) > 900
    return found


class Leaks:
    """Finds what identifies a player.

    Why it cannot miss: it looks for every address and every playerId of the sample anywhere in a text, in whatever
    word or URL it may stand, after undoing JSON's escapes; only long hexadecimal digests are taken out, as `ada12` is
    in one by chance. A playerId of less than six letters (`dito` is in `editor`), and a first or last name of five or
    more, counts where it is a word of its own. What leaks one player's line leaks the others' of its cohort.
    """

    def __init__(self, players: list[dict[str, str]]) -> None:
        ids = {player["playerId"] for player in players}
        addresses = {player["email"] for player in players if player.get("email")}
        names = {player[part] for player in players for part in ("firstName", "lastName") if part in player}
        short = {player_id for player_id in ids if len(player_id) < 6}
        self._anywhere = re.compile("|".join(map(re.escape, sorted((ids - short) | addresses, key=len, reverse=True))))
        self._words = short | {word for name in names for word in re.findall(r"\w+", name) if len(word) >= 5}

    def __call__(self, text: str) -> set[str]:
        text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
        text = re.sub(r"\\+[nrt]", " ", text)
        text = re.sub(r"\b[0-9a-f]{16,}\b|\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "", text)
        return set(self._anywhere.findall(text)) | (self._words & set(re.findall(r"\w+", text)))


def test_the_leak_check_finds_a_leak(players: list[dict[str, str]]) -> None:
    leaks = Leaks(players)
    assert leaks(json.dumps({"event": "rows:\nwayne96\tok"})) == {"wayne96"}
    assert leaks("GET /v1/apps/x/users/xwayne96x") == {"wayne96"}
    assert leaks(json.dumps({"row": {"Address": "success+msmith@simulator.amazonses.com"}}))
    assert leaks("Johnson, please")
    assert leaks(json.dumps("Ñúñez Łukasiewicz")) == {"Ñúñez", "Łukasiewicz"}
    assert leaks("https://x/dito?y") == {"dito"}
    assert leaks("editor.js; segment 160214e3c1e6ac178b7ec624f21f1654 has 3 endpoints") == set()


def test_no_player_is_in_a_log(up: Up, started: Started, players: list[dict[str, str]]) -> None:
    leaks, bytes_read, runs = Leaks(players), 0, set()
    for file in [*(up.home / "logs").rglob("*"), up.run_dir / "airflow.log"]:
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            assert leaks(text) == set(), file
            bytes_read += len(text)
            runs |= {part for part in file.parts if part.startswith("run_id=")}
    assert {f"run_id={run['dag_run_id']}" for run in up.runs()} <= runs
    assert bytes_read > 100_000


def test_no_player_is_in_an_xcom_a_rendered_field_or_the_metadata_database(
    up: Up, started: Started, players: list[dict[str, str]]
) -> None:
    leaks, rows = Leaks(players), {}
    engine = sqlalchemy.create_engine(up.database_url or f"sqlite:///file:{up.home / 'airflow.db'}?mode=ro&uri=true")
    with engine.connect() as database:
        for table in sqlalchemy.inspect(engine).get_table_names():
            found = [
                # the blobs (a compressed DAG) are read as bytes: what hides in them does not come from a player
                repr([bytes(value) if isinstance(value, memoryview) else value for value in row])
                for row in database.execute(sqlalchemy.text(f'SELECT * FROM "{table}"'))  # noqa: S608 - Airflow's own tables
            ]
            rows[table] = len(found)
            assert leaks("\n".join(found)) == set(), table
    engine.dispose()
    runs = len(up.runs())
    assert rows["xcom"] > 20 * runs
    assert rows["rendered_task_instance_fields"] > runs
