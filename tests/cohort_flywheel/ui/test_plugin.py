"""The plugin of Airflow: what it adds, what it serves, and how little of it other processes import."""

from __future__ import annotations

import builtins
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from cohort_flywheel.ui import plugin


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(Starlette(routes=[Mount("/cohorts", plugin.pages)])) as made:
        yield made


@pytest.mark.parametrize("path", ["", "campaigns.html", "report.html?dag_id=d&run_id=r", "page.js", "style.css"])
def test_the_pages_are_static_files_that_run_scripts_of_their_own_only(client: TestClient, path: str) -> None:
    answer = client.get(f"/cohorts/{path}")
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "onclick=" not in answer.text
    assert "<script>" not in answer.text


@pytest.mark.parametrize("path", ["missing.html", "../plugin.py", "%2e%2e/cohort_flywheel_plugin.py"])
def test_no_other_file_is_served(client: TestClient, path: str) -> None:
    assert client.get(f"/cohorts/{path}").status_code == 404


def test_plotly_comes_from_the_installed_package(client: TestClient) -> None:
    answer = client.get("/cohorts/plotly.js")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert len(answer.content) > 1_000_000


def test_without_the_package_there_is_no_chart(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "plotly":
            raise ImportError
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    assert client.get("/cohorts/plotly.js").status_code == 404


def test_the_runbook_is_served_where_there_is_one(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "| CF-PLAN-01 |" in client.get("/cohorts/runbook.md").text
    monkeypatch.setattr(plugin, "RUNBOOKS", (tmp_path / "missing.md",))
    assert client.get("/cohorts/runbook.md").status_code == 404


def test_other_processes_import_no_more_than_the_base_class() -> None:
    """Airflow imports each plugin in every process, also for a task."""
    code = (
        "import sys, runpy; from airflow.plugins_manager import AirflowPlugin; before = set(sys.modules);"
        f" runpy.run_path({str(Path(plugin.__file__))!r}); print(sorted(set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_each_view_has_a_page_of_its_own() -> None:
    views = plugin.CohortFlywheelPagesPlugin.external_views
    assert [view["destination"] for view in views] == ["nav", "nav", "dag_run"]
    assert len({view["url_route"] for view in views}) == 3
    for view in views:
        name = view["href"].partition("?")[0].removeprefix("cohorts/") or "index.html"
        assert (plugin.PAGES / name).is_file()
