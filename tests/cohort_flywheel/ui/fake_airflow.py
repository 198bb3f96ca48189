"""An Airflow of canned answers around the real pages, and the figures that it answers with."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from cohort_flywheel.segment.contacts import REASONS
from cohort_flywheel.ui.figures import CohortFigures, Launches, Overview
from cohort_flywheel.ui.plugin import pages

NEWEST = datetime(2026, 11, 22, tzinfo=UTC)
SCRIPT = '<img src=x onerror="window.top.hacked=1"><script>window.top.hacked=1</script>'
#: As Airflow's UI frames a plugin's page [src: 3.3.1, 3.2.1].
FRAME = """<!doctype html><html class="{theme}"><base href="/">
<iframe sandbox="allow-scripts allow-same-origin allow-forms" src="{page}" style="width:100%;height:95vh"></iframe>"""


class FakeAirflow:
    """Answers by path, or with 404; what was asked is in `asked`."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        self.posted: list[tuple[str, Any]] = []
        self.status = 200
        self.theme = "light"
        self.ignored = ""
        self.url = ""

    async def api(self, request: Request) -> Response:
        path = unquote(request.url.path).removeprefix("/api/v2/")
        path = path.replace(self.ignored, "") if self.ignored else path
        self.asked.append(path)
        if request.method == "POST":
            self.posted.append((path, json.loads(await request.body())))
        if self.status != 200:
            return JSONResponse({"detail": "refused"}, status_code=self.status)
        found = self.answers.get(path)
        return JSONResponse({"detail": "not found"}, 404) if found is None else JSONResponse(found)

    async def frame(self, request: Request) -> Response:
        return HTMLResponse(FRAME.format(theme=self.theme, page=request.query_params["page"]))

    def xcom(self, run: str, task: str, key: str, value: Any, dag: str = "cohort_figures") -> None:
        self.answers[f"dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/{key}"] = {"value": value}

    def counted(self, cohorts: list[dict[str, Any]], launches: list[dict[str, Any]] | None = None) -> None:
        """Have a run of cohort_figures with these figures; an overview is made of them."""
        self.answers["dags/cohort_figures/dagRuns"] = {"dag_runs": [{"dag_run_id": "f1"}]}
        self.answers["dags/~/dagRuns/list"] = {"dag_runs": []}
        entries = []
        for each in cohorts:
            CohortFigures.model_validate(each)
            self.xcom("f1", "count_figures", f"cohort_{each['cohort']}", each)
            days = each["days"]
            entries.append({
                "cohort": each["cohort"], "description": each["description"], "direction": each["direction"],
                "threshold": each["threshold"], "dag_id": f"cohort_to_segment__{each['cohort']}",
                "day": days[-1] if days else None, "before": days[-2]["members"] if len(days) > 1 else None,
                "counted": NEWEST.isoformat(), "figures_run": "f1",
            })  # fmt: skip
        self.overview = {
            "version": 1, "destination": "ses", "schedule": "0 0 * * *", "counted": NEWEST.isoformat(),
            "newest_as_of": NEWEST.isoformat(), "next_as_of": (NEWEST + timedelta(days=1)).isoformat(),
            "dag_ids": ["cohort_to_segment"], "cohorts": entries, "unreadable": [],
        }  # fmt: skip
        Overview.model_validate(self.overview)
        self.xcom("f1", "count_figures", "overview", self.overview)
        found = {"version": 1, "launches": launches or [], "pooled": [pooled()] if launches else []}
        Launches.model_validate(found)
        self.xcom("f1", "count_figures", "launches", found)


@contextmanager
def serving(fake: FakeAirflow) -> Iterator[FakeAirflow]:
    routes = [
        Mount("/cohorts", pages),
        Route("/api/v2/{path:path}", fake.api, methods=["GET", "POST"]),
        Route("/frame", fake.frame),
    ]
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=0, log_level="warning"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    end = time.monotonic() + 60
    while not server.started and time.monotonic() < end:
        time.sleep(0.05)
    (listening,) = server.servers[0].sockets
    fake.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        yield fake
    finally:
        server.should_exit = True
        thread.join(timeout=60)


class Reader:
    """A window with the frame of one page; `errors` are those of its scripts."""

    def __init__(self, browser: Any, fake: FakeAirflow) -> None:
        self.window = browser.new_page(viewport={"width": 1300, "height": 900})
        self.window.set_default_timeout(60_000)
        self.window.clock.set_fixed_time(NEWEST + timedelta(hours=4))
        self.errors: list[str] = []
        self.window.on("pageerror", lambda error: self.errors.append(str(error)))
        self._fake = fake

    def open(self, name: str) -> Any:
        """The frame, once the page is there."""
        address, _, place = name.partition("#")
        page = f"cohorts/{address}".replace("?", "%3F").replace("&", "%26") + (f"%23{place}" if place else "")
        self.window.goto(f"{self._fake.url}/frame?page={page}")
        frame = self.window.frame_locator("iframe")
        frame.locator("main[aria-busy=false]").wait_for()
        return frame

    def text(self, name: str) -> str:
        return str(self.open(name).locator("main").inner_text())


def rows(frame: Any, caption: str) -> list[list[str]]:
    """The cells of a table, by a word of its caption."""
    found = frame.locator("table", has=frame.locator("caption", has_text=caption)).locator("tbody tr")
    return [each.locator("td").all_inner_texts() for each in found.all()]


def cohort(name: str = "ea_atrisk", days: int = 3, **changed: Any) -> dict[str, Any]:
    """The figures of a cohort: 40 members of the first day, one more each day, 5 of them without consent."""
    run = {"dag_id": "cohort_to_segment", "run_id": "manual__1"}
    found = [
        {
            "as_of": (NEWEST - timedelta(days=days - 1 - number)).isoformat(), "threshold": 2 if number else 3,
            "threshold_from": "registry", "members": 40 + number, "rows": 34 + number,
            "rejects": {"opted_out": 5, "no_address": 1}, "joined": 2 if number else None,
            "left": 1 if number else None, "started_by": None, "run": run,
            "recorded": (NEWEST - timedelta(days=days - 1 - number, minutes=-4)).isoformat(),
        }
        for number in range(days)
    ]  # fmt: skip
    limit = {"limit": "max_members", "allowed": 100, "found": 42, "holds": True, "sentence": "42 members"}
    return {
        "version": 1, "cohort": name, "description": "Players at risk.", "property": name, "direction": "above",
        "threshold": 2, "lowest_threshold": 0, "highest_threshold": 100, "days": found, "limits": [limit],
        "thresholds": {
            "as_of": NEWEST.isoformat(), "thresholds": [0, 1, 2, 3, 4], "members": [90, 60, 39 + days, 7, 0],
        },
        "stayed": [{"days": 1, "members": 30}], "overlaps": [{"cohort": "ea_malice", "members": 12}],
    } | changed  # fmt: skip


def report(**changed: Any) -> dict[str, Any]:
    """The XCom of the report of a run that imported."""
    limit = {"limit": "max_change_percent", "allowed": 300, "found": 5, "holds": True, "sentence": "42 after 40"}
    return {
        "version": 5, "outcome": "imported", "tasks": {"plan": "success"}, "faults": [],
        "run": {"dag_id": "cohort_to_segment", "run_id": "manual__1", "run_type": "manual", "started": None,
                "reported": NEWEST.isoformat(), "triggered_by": "ana"},
        "plan": {"cohort": "ea_atrisk", "property": "ea_atrisk", "direction": "above", "threshold": 2,
                 "threshold_from": "registry", "as_of": NEWEST.isoformat(), "dry_run": False},
        "extract": {"url": "s3://export/export/n.json", "vertices": 44, "members": 42, "merged": 2, "source": "graph",
                    "vertices_without_playerId": 0, "snapshot": "pending", "read_at": NEWEST.isoformat()},
        "segment": {"url": "s3://import/segments/n/", "members": 42, "rows": 36, "rejects_key": "rejects/n/",
                    "rejects": {"opted_out": 5, "no_record": 1}},
        "limits": {"limits": [limit], "previous": None, "override": None},
        "imported": {"segment_size": 36, "segment_id": "s1"}, "campaign": None,
        "report_url": "s3://state/reports/n/r.json",
    } | changed  # fmt: skip


def launch(**changed: Any) -> dict[str, Any]:
    return {
        "name": "ea_atrisk_2_2026-11-21_00-00-00", "cohort": "ea_atrisk", "threshold": 2, "template": "at_risk",
        "as_of": "2026-11-21T00:00:00+00:00", "sender": "Studio <play@studio.example>", "rows": 36,
        "outcome": "launched", "reported": "2026-11-21T09:00:00+00:00",
        "answer": {"approved": True, "by": "ann", "at": "2026-11-21T08:00:00+00:00", "timed_out": False,
                   "digest": "d"},
        "launched": {"rows": 36, "sent": 33, "withdrawn": {"opted_out": 2}, "in_doubt": 1, "refused": {}, "batches": 1,
                     "in_doubt_list": "s3://state/launches/n/in_doubt.txt"},
        "run": {"dag_id": "cohort_to_segment", "run_id": "manual__1"},
        "engagement": {"as_of": "2026-11-22T00:00:00+00:00", "counts": {
            "messages": 33, "states": {"delivered": 30, "bounced": 3}, "bounces": {"Permanent:General": 3},
            "complained": 0, "unsubscribed": 1, "unsubscribe_clicked": 2, "opened": 15,
            "opened_unlikely_bot": 9, "opened_no_flag": 2, "clicked": 6, "clicked_unlikely_bot": 4,
            "clicked_no_flag": 0, "in_doubt": 1, "in_doubt_sent": 1, "untracked": 3, "clicks": {
                "links": {"https://studio.example/play": 5, "https://studio.example/help": 1}, "other_links": 1,
                "times": {"1 hour": 2, "1 day": 4},
            },
        }},
        "effect": effect(),
    } | changed  # fmt: skip


def share(mailed: int, held_out: int, verdict: str, **numbers: float) -> dict[str, Any]:
    found = dict.fromkeys(("difference", "low", "high", "detectable")) | numbers
    return {"mailed": mailed, "held_out": held_out, "verdict": verdict, "sentence": f"{verdict}: a sentence"} | found


def compared() -> dict[str, Any]:
    """1,800 mailed against 200 held out: fewer went further, as many left, and of the means too few to tell."""
    mean = share(0, 0, "too few to tell", detectable=0.25) | {"mailed": 0.1, "held_out": -0.05, "clipped_at": 0}
    return {
        "mailed": 1_800, "held_out": 200, "erased": 2, "change": mean,
        "further": share(216, 44, "lower", difference=-0.1, low=-0.164, high=-0.046, detectable=0.05),
        "left": share(180, 20, "not seen", difference=0.0, low=-0.05, high=0.04, detectable=0.045),
    }  # fmt: skip


def effect(**changed: Any) -> dict[str, Any]:
    return {
        "launch": "ea_atrisk_2_2026-11-21_00-00-00", "cohort": "ea_atrisk", "template": "at_risk",
        "as_of": "2026-11-21T00:00:00+00:00", "property": "ea_atrisk", "direction": "above", "threshold": 2,
        "effect_days": 7, "due": "2026-11-28T00:00:00+00:00", "holdout_percent": 10, "global_holdout_percent": 0,
        "status": "measured", "measured_at": "2026-11-29T00:00:00+00:00", "launch_holdout": compared(),
    } | changed  # fmt: skip


def pooled() -> dict[str, Any]:
    kept = ("template", "property", "direction", "effect_days", "holdout_percent", "global_holdout_percent")
    about = {"month": "2026-11", "launches": ["a", "b"], "repeated": 7, "launch_holdout": compared()}
    return {name: value for name, value in effect().items() if name in kept} | about


def campaign() -> dict[str, Any]:
    """The campaign of a report."""
    found = launch()
    about = {"mode": "launch", "template": "at_risk", "from": found["sender"], "rows": 3}
    return about | {name: found[name] for name in ("answer", "launched")}


def task(name: str, state: str) -> dict[str, Any]:
    return {"task_id": name, "state": state, "try_number": 1, "map_index": -1}


def poisoned(value: Any, *, dates: bool) -> Any:
    """The same with a script in every text and in the reasons; in instants only with `dates`."""
    if isinstance(value, dict):
        return {
            f"{key}{SCRIPT}" if key in REASONS or "://" in key else key: poisoned(each, dates=dates)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [poisoned(each, dates=dates) for each in value]
    if not isinstance(value, str) or (re.fullmatch(r"\d{4}-\d\d-\d\dT.*", value) and not dates):
        return value
    return f"{value}{SCRIPT}"
