"""Airflow's own plugin loader, in both syntaxes of .airflowignore, with our package beside another team's plugin."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local.config import ROOT

PLUGIN = "from airflow.plugins_manager import AirflowPlugin\n\n\nclass Plugin(AirflowPlugin):\n    name = {name!r}\n"


def load(plugins: Path, tmp_path: Path, syntax: str) -> Any:
    ours = {
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins),
        "AIRFLOW__CORE__DAG_IGNORE_FILE_SYNTAX": syntax,
        "PYTHONPATH": str(plugins),
    }
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")} | ours
    result = tmp_path / "found.json"
    subprocess.run(
        [sys.executable, str(Path(__file__).with_name("plugin_probe.py")), str(result)],
        env=environ, cwd=tmp_path, check=True, timeout=120,
    )  # fmt: skip
    return json.loads(result.read_text(encoding="utf-8"))


@pytest.mark.parametrize("syntax", ["glob", pytest.param("regexp", marks=pytest.mark.nightly)])
def test_of_our_package_the_loader_imports_plugin_py_only(tmp_path: Path, syntax: str) -> None:
    """The other team's files have the stems of ours: a module of ours under its bare name would replace theirs."""
    plugins = tmp_path / "plugins"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "plugins" / "cohort_flywheel", plugins / "cohort_flywheel", ignore=ignored)
    assert (plugins / "cohort_flywheel" / "runs" / "names.py").is_file()
    (plugins / "names.py").write_text(PLUGIN.format(name="theirs"), encoding="utf-8")
    (plugins / "theirs").mkdir()
    for name in ("errors.py", "my_plugin.py", "cohort_flywheel_plugin.py"):
        (plugins / "theirs" / name).write_text(PLUGIN.format(name=f"theirs, {name}"), encoding="utf-8")

    found = load(plugins, tmp_path, syntax)

    assert found["errors"] == {}
    assert found["modules"] == {
        "plugin": "cohort_flywheel/ui/plugin.py",
        "names": "names.py",
        "errors": "theirs/errors.py",
        "my_plugin": "theirs/my_plugin.py",
        "cohort_flywheel_plugin": "theirs/cohort_flywheel_plugin.py",
    }
    theirs = ["theirs", "theirs, cohort_flywheel_plugin.py", "theirs, errors.py", "theirs, my_plugin.py"]
    found_names = [name for name in found["plugins"] if name.startswith(("cohort_flywheel", "theirs"))]
    assert found_names == ["cohort_flywheel_pages", *theirs]
