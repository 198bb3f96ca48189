"""Adds the pages Cohorts and Campaigns to Airflow's navigation, and the tab Report to each run.

The pages are static files without data. Their script asks Airflow's REST API with the reader's own login. Airflow
imports this file in every process, so it imports no more than the plugin's base class.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Message, Receive, Scope, Send

PAGES = Path(__file__).with_name("pages")
#: In plugins.zip, where `make bundle` puts it; in a checkout.
RUNBOOKS = (Path(__file__).with_name("runbook.md"), Path(__file__).parents[3] / "docs" / "reference" / "runbook.md")
#: Scripts come from here only, and Airflow's own pages alone may frame these. Plotly sets styles of its own.
HEADERS = {
    b"content-security-policy": b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:;"
    b" object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"cache-control": b"no-cache",
}


async def pages(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the pages, as an ASGI application."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *HEADERS.items()]}
        await send(message)

    await _application()(scope, receive, send_with_headers)


@cache
def _application() -> Starlette:
    from starlette.applications import Starlette
    from starlette.responses import FileResponse, PlainTextResponse
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    async def plotly(request: Request) -> Response:
        """The script of the installed package; without the package the pages show their tables."""
        file = _plotly_script()
        return FileResponse(file, media_type="text/javascript") if file else PlainTextResponse("", status_code=404)

    async def runbook(request: Request) -> Response:
        file = next((path for path in RUNBOOKS if path.is_file()), None)
        return FileResponse(file, media_type="text/plain") if file else PlainTextResponse("", status_code=404)

    files = StaticFiles(directory=PAGES, html=True)
    return Starlette(routes=[Route("/plotly.js", plotly), Route("/runbook.md", runbook), Mount("/", files)])


def _plotly_script() -> Path | None:
    try:
        import plotly
    except ImportError:
        return None
    file = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
    return file if file.is_file() else None


class CohortFlywheelPagesPlugin(AirflowPlugin):
    """The pages; they are at /cohorts/ for a reader whose role does not show them."""

    name = "cohort_flywheel_pages"
    fastapi_apps = [  # noqa: RUF012 - as the base class has it
        {"app": pages, "url_prefix": "/cohorts", "name": "Cohort Flywheel"}
    ]
    external_views = [  # noqa: RUF012 - as the base class has it
        {"name": "Cohorts", "href": "cohorts/", "destination": "nav", "url_route": "cohorts"},
        {"name": "Campaigns", "href": "cohorts/campaigns.html", "destination": "nav", "url_route": "campaigns"},
        {
            "name": "Report",
            "href": "cohorts/report.html?dag_id={DAG_ID}&run_id={RUN_ID}",
            "destination": "dag_run",
            "url_route": "cohort_report",
        },
    ]
