"""Only files with a listed name may import Airflow or AWS; every other file of the package is pure code."""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE_FOLDER = ROOT / "plugins" / "cohort_flywheel"
PACKAGE = PACKAGE_FOLDER.name

#: The files that may import Airflow, AWS or the network, by name or by path within the package.
IMPURE_FILES = (
    "operators.py", "*_operator.py", "sensors.py", "triggers.py", "hook.py", "*_hook.py", "destination.py",
    "*_store.py", "variables.py", "failures.py", "schedule.py", "notifications.py", "plugin.py", "hooks/*.py",
    "destinations/__init__.py", "destinations/base.py",
)  # fmt: skip
#: Files that need the named modules alone: a monotonic clock, the type of a task's context, random numbers with a fixed
#: seed, and urllib.parse.
EXCEPTIONS = {
    "common/progress.py": {"time"}, "config/params.py": {"airflow"}, "engagement/effect_intervals.py": {"random"},
    "segment/list_entries.py": {"urllib"},
}  # fmt: skip

#: What pure code is written with, beside the standard library.
LIBRARIES = {"croniter", "pydantic", "pydantic_core", "yaml", "email_validator", "msgspec", "orjson", "duckdb"}
#: No network, no clock and no random numbers.
IMPURE_STDLIB = set(
    "asyncio ftplib http multiprocessing os random secrets smtplib socket ssl subprocess threading time urllib uuid"
    .split()
)  # fmt: skip
PURE_IMPORTS = LIBRARIES | (sys.stdlib_module_names - IMPURE_STDLIB)
CLOCKS = {"now", "utcnow", "today"}

#: Module stems that each feature folder may have.
SHARED_STEMS = {"__init__", "operators", "sensors", "triggers", "hook", "layout", "destination"}

FILES = sorted(PACKAGE_FOLDER.rglob("*.py")) + sorted((ROOT / "dags").rglob("*.py"))


def relative(path: Path) -> str:
    """The path of a file within the package, or `dags/<file>`."""
    return path.relative_to(PACKAGE_FOLDER if path.is_relative_to(PACKAGE_FOLDER) else ROOT).as_posix()


def is_pure(file: str) -> bool:
    """Whether a file must be pure code: `file` is its path within the package, or `dags/<file>`."""
    name = file.rpartition("/")[2]
    return not file.startswith("dags/") and not any(fnmatch(file if "/" in p else name, p) for p in IMPURE_FILES)


def module_file(module: str) -> str | None:
    """The path within the package of `cohort_flywheel.runs.names`, or None if the module does not exist."""
    path = PACKAGE_FOLDER.joinpath(*module.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return relative(candidate)
    return None


def imports(source: str, package: str) -> Iterator[str]:
    """Every module that a source imports, at its top and inside its functions; `from a import b` gives a and a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def violations(file: str, source: str) -> list[str]:
    """What a file imports, or calls, that its name does not allow."""
    pure = is_pure(file)
    package = ".".join([PACKAGE, *file.split("/")[:-1]])
    allowed = PURE_IMPORTS | EXCEPTIONS.get(file, set())
    found = []
    for imported in imports(source, package):
        top = imported.split(".")[0]
        if top in ("local", "tests", "dags"):
            found.append(f"{file} imports {imported}, which is outside the package")
        elif top == PACKAGE:
            target = module_file(imported)
            if pure and target and not is_pure(target):
                found.append(f"{file} is pure code and imports {imported}, which is not")
            if file.startswith("dags/") and target and target.startswith("hooks/"):
                found.append(f"{file} imports {imported}: a DAG file names tasks, not clients")
        elif pure and top not in allowed:
            found.append(f"{file} is pure code and imports {imported}")
    if pure:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and node.attr in CLOCKS:
                found.append(f"{file} is pure code and reads the clock in line {node.lineno}")
    return found


@pytest.mark.parametrize("path", FILES, ids=[relative(path) for path in FILES])
def test_a_file_imports_what_its_name_allows(path: Path) -> None:
    assert violations(relative(path), path.read_text(encoding="utf-8")) == []


def test_a_destination_imports_another_only_where_it_is_listed() -> None:
    """A destination is removed with its folder, if no other imports it."""
    folders = [path.parent for path in (PACKAGE_FOLDER / "destinations").glob("*/destination.py")]
    found = {
        (folder.name, other.name)
        for folder in folders
        for path in folder.rglob("*.py")
        for imported in imports(path.read_text(encoding="utf-8"), "")
        for other in folders
        if other != folder and imported.startswith(f"{PACKAGE}.destinations.{other.name}.")
    }
    # it has the segment file of SES, and mails samples by SES
    assert found == {("customer_profiles", "ses")}


def test_no_module_stem_is_used_twice() -> None:
    stems = Counter(path.stem for path in FILES if path.is_relative_to(PACKAGE_FOLDER))
    assert [stem for stem, number in stems.items() if number > 1 and stem not in SHARED_STEMS] == []


def test_the_files_of_the_package_are_found() -> None:
    assert {relative(path) for path in FILES} >= {"runs/names.py", "hooks/s3.py", "dags/cohort_to_segment.py"}
    assert set(EXCEPTIONS) <= {relative(path) for path in FILES}


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("runs/names.py", "import boto3"),
        ("runs/names.py", "from airflow.sdk import DAG"),
        ("runs/names.py", "def f():\n    import gremlin_python"),
        ("runs/names.py", "from cohort_flywheel.hooks import s3"),
        ("runs/names.py", "from ..hooks import s3"),
        ("runs/names.py", "from . import state_store"),
        ("runs/names.py", "import uuid"),
        ("runs/names.py", "from datetime import datetime\nNOW = datetime.now()"),
        ("destinations/pinpoint/layout.py", "import botocore"),
        ("destinations/pinpoint/layout.py", "from . import destination"),
        ("common/progress.py", "import boto3"),
        ("runs/plan_operator.py", "import dags.cohort_to_segment"),
        ("runs/plan_operator.py", "from local import servers"),
        ("dags/cohort_to_segment.py", "from cohort_flywheel.hooks.s3 import lines"),
        ("dags/cohort_to_segment.py", "import tests"),
    ],
)
def test_a_violation_is_found(file: str, source: str) -> None:
    assert violations(file, source)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("runs/names.py", "import hashlib\nfrom cohort_flywheel.errors import FlywheelError\nimport pydantic"),
        ("hooks/s3.py", "import boto3\nfrom cohort_flywheel.errors import FlywheelError"),
        ("destinations/pinpoint/destination.py", "from cohort_flywheel.destinations.pinpoint import operators"),
        ("dags/cohort_to_segment.py", "from airflow.sdk import DAG\nfrom cohort_flywheel.runs import plan_operator"),
    ],
)
def test_an_allowed_import_is_no_violation(file: str, source: str) -> None:
    assert violations(file, source) == []
