"""requirements.txt holds what the house imports and no more, and MWAA can install it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = sorted((ROOT / "constraints").glob("airflow-*.txt"))
#: What uv says when it reached no index.
OFFLINE = ("Failed to fetch", "error sending request", "dns error", "Could not connect")


def requirements(name: str) -> dict[str, str]:
    """Each requirement of a file, as it is written, with the comment that stands right above it."""
    found, reason = {}, ""
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            reason = line.strip("# ")
        else:
            if line:
                found[line] = reason
            reason = ""
    return found


#: Packages that another requirement pins and documents as its own part.
PARTS = {"pydantic_core"}


def distribution(requirement: str) -> str:
    return re.split(r"[\[=<>~ ]", requirement)[0].lower()


def imported() -> set[str]:
    """The distributions, Airflow itself aside, that plugins/ and dags/ import anywhere in their files."""
    owners = packages_distributions()
    found = set()
    for file in [*ROOT.glob("plugins/**/*.py"), *ROOT.glob("dags/**/*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            for module in modules:
                top = module.partition(".")[0]
                if provider := re.match(r"airflow\.providers\.(common\.\w+|\w+)", module):
                    found.add(f"apache-airflow-providers-{provider[1].replace('.', '-')}")
                elif top not in {*sys.stdlib_module_names, "airflow", "cohort_flywheel", *PARTS}:
                    assert top in owners, f"{file.name} imports {top}, which is not installed"
                    found.add(owners[top][0].lower())
    return found


def test_everything_that_is_imported_is_required() -> None:
    assert imported() <= {distribution(requirement) for requirement in requirements("requirements.txt")}


def test_everything_that_is_required_is_imported() -> None:
    assert {distribution(requirement) for requirement in requirements("requirements.txt")} <= imported()


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_has_its_reason(file: str) -> None:
    for requirement, reason in requirements(file).items():
        assert reason, requirement


def test_mwaa_chooses_the_versions_and_we_choose_those_of_the_tools() -> None:
    theirs = {distribution(line) for path in CONSTRAINTS for line in path.read_text(encoding="utf-8").splitlines()}
    for requirement in requirements("requirements.txt"):
        if re.search("[=<>~]", requirement):  # pinned by us, as no set has it
            assert distribution(requirement) not in theirs
            assert requirement == f"{distribution(requirement)}=={version(distribution(requirement))}"
        else:
            assert distribution(requirement) in theirs
    for requirement in requirements("requirements-dev.txt"):
        if requirement in theirs:  # Airflow's own, which each set has in its version
            continue
        assert re.fullmatch(r"[\w.-]+(\[\w+\])?==[\w.]+", requirement), requirement
        assert version(distribution(requirement)) == requirement.partition("==")[2], "what runs here is not the pin"


@pytest.mark.parametrize("constraints", CONSTRAINTS, ids=lambda path: path.stem)
def test_constraints_are_versions_and_nothing_else(constraints: Path) -> None:
    lines = constraints.read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert line.startswith("# ") or re.fullmatch(r"[\w.-]+==[\w.!+-]+", line), line
        assert "://" not in line
    assert not [line for line in lines if line.startswith("uv==")], "requirements-dev.txt pins uv"


@pytest.mark.parametrize("constraints", CONSTRAINTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("files", [["requirements.txt"], ["requirements.txt", "requirements-dev.txt"]], ids=len)
def test_it_resolves_under_what_mwaa_installs_with(files: list[str], constraints: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        pytest.skip("uv is not installed beside this Python: run `make test`")
    compile_ = [str(uv), "pip", "compile", "--quiet", "--no-annotate", "--no-header", "--python-version", "3.12"]
    airflow = constraints.stem.removeprefix("airflow-")
    run = subprocess.run(
        [*compile_, "--constraint", str(constraints), *files, "-"],
        input=f"apache-airflow=={airflow}\n",
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if run.returncode and any(sign in run.stderr for sign in OFFLINE):
        pytest.skip("no package index can be reached, so nothing was resolved")
    assert run.returncode == 0, run.stderr
    resolved = {line.lower() for line in run.stdout.splitlines()}
    pinned = {line.lower() for line in constraints.read_text(encoding="utf-8").splitlines()}
    for requirement in requirements("requirements.txt"):
        at = {line for line in resolved if distribution(line) == distribution(requirement)}
        assert at, f"{requirement} was not resolved"
        assert at <= pinned | {requirement}, f"{at} is neither the version of MWAA's own set nor our pin"
    assert f"apache-airflow=={airflow}" in resolved
