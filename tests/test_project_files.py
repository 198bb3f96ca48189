"""The files by which others join the project exist, parse, and name what is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"


def test_the_changelog_begins_with_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert versions[0] == version
    assert versions[-1] == "1.0.0"


def test_the_workflow_calls_the_same_check_as_a_submission() -> None:
    workflow = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["check"]["steps"]
    assert any(str(step.get("run", "")).endswith("bash .ci/run") for step in steps)


@pytest.mark.parametrize("path", sorted(GITHUB.rglob("*.yml")), ids=lambda path: path.name)
def test_each_file_of_github_parses(path: Path) -> None:
    assert yaml.safe_load(path.read_text(encoding="utf-8"))


def test_code_owners_name_paths_that_exist() -> None:
    lines = (GITHUB / "CODEOWNERS").read_text(encoding="utf-8").splitlines()
    paths = [line.split()[0] for line in lines if line and not line.startswith("#")]
    assert [path for path in paths if path != "*" and not (ROOT / path.lstrip("/")).exists()] == []


@pytest.mark.parametrize("file", ["SECURITY.md", "CHANGELOG.md", "CONTRIBUTING.md"])
def test_links_of_the_project_files_lead_somewhere(file: str) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / file).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []
