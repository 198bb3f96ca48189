"""Imports go down only: the floors of the house, read from the files themselves."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOUSE = ROOT / "plugins" / "cohort_flywheel"
PACKAGE = HOUSE.name

#: Which floor a folder is; a module that lies in none of them is the domain, `plugin.py` aside.
FLOORS = {
    "layouts": 0,
    "hooks": 1,
    "operators": 2,
    "sensors": 2,
    "triggers": 2,
    "links": 2,
    "destinations": 2,
    "plugin": 2,
    "dags": 3,
}
#: Of each floor of the house, the floors that it may import.
MAY_IMPORT = {0: {0}, 1: {0}, 2: {0, 1, 2}, 3: {0, 2}}

#: What the domain is written with, beside the standard library.
LIBRARIES = {"croniter", "pydantic", "yaml", "email_validator", "orjson"}
#: No network, no clock and no dice.
NOT_IN_THE_DOMAIN = set(
    "asyncio ftplib http multiprocessing os random secrets smtplib socket ssl subprocess threading time urllib uuid"
    .split()
)  # fmt: skip
DOMAIN_IMPORTS = {PACKAGE} | LIBRARIES | (sys.stdlib_module_names - NOT_IN_THE_DOMAIN)
CLOCKS = {"now", "utcnow", "today"}

FILES = sorted(HOUSE.rglob("*.py")) + sorted((ROOT / "dags").rglob("*.py"))


def floor_of(module: str) -> int:
    """The floor of `cohort_flywheel.hooks.s3`, or of a DAG file's `dags.…`."""
    parts = module.split(".")
    place = parts[0] if parts[0] == "dags" else parts[1] if len(parts) > 1 else ""
    return FLOORS.get(place, 0)


def name_of(path: Path) -> str:
    relative = path.relative_to(HOUSE.parent if path.is_relative_to(HOUSE) else ROOT).with_suffix("")
    return ".".join(part for part in relative.parts if part != "__init__")


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


def faults(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """What a module of the house imports, or calls, that its floor must not."""
    floor = floor_of(module)
    found = []
    for imported in imports(source, module if is_package else module.rpartition(".")[0]):
        top = imported.split(".")[0]
        if top in ("local", "tests", "dags"):
            found.append(f"{module} imports {imported}, which stands beside the house or above it")
        elif top == PACKAGE and imported != PACKAGE and floor_of(imported) not in MAY_IMPORT[floor]:
            found.append(f"{module} (floor {floor}) imports {imported} (floor {floor_of(imported)})")
        elif floor == 0 and top not in DOMAIN_IMPORTS:
            found.append(f"{module} is the domain, and imports {imported}")
    if floor == 0:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and node.attr in CLOCKS:
                found.append(f"{module} is the domain, and asks the clock in line {node.lineno}")
    return found


@pytest.mark.parametrize("path", FILES, ids=[name_of(path) for path in FILES])
def test_imports_go_down_only(path: Path) -> None:
    assert faults(name_of(path), path.read_text(encoding="utf-8"), is_package=path.name == "__init__.py") == []


def test_every_folder_of_the_house_is_on_a_floor() -> None:
    folders = {path.parent.name for path in HOUSE.glob("*/*.py")}
    assert folders <= set(FLOORS)
    assert {name_of(path) for path in FILES} >= {"cohort_flywheel.cohorts", "cohort_flywheel.hooks.s3"}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cohort_flywheel.names", "import boto3"),
        ("cohort_flywheel.names", "from airflow.sdk import DAG"),
        ("cohort_flywheel.names", "def f():\n    import gremlin_python"),
        ("cohort_flywheel.names", "from cohort_flywheel.hooks import s3"),
        ("cohort_flywheel.names", "from cohort_flywheel import hooks"),
        ("cohort_flywheel.names", "from .hooks import s3"),
        ("cohort_flywheel.names", "from . import operators"),
        ("cohort_flywheel.names", "import uuid"),
        ("cohort_flywheel.names", "from datetime import datetime\nNOW = datetime.now()"),
        ("cohort_flywheel.layouts.pinpoint", "import botocore"),
        ("cohort_flywheel.layouts.pinpoint", "from ..destinations import pinpoint"),
        ("cohort_flywheel.hooks.s3", "from cohort_flywheel.operators.outside import outside"),
        ("cohort_flywheel.hooks.s3", "from cohort_flywheel.hooks.dynamodb import MAX_BATCH_KEYS"),
        ("cohort_flywheel.operators.plan", "import dags.cohort_to_segment"),
        ("cohort_flywheel.operators.plan", "from local import servers"),
        ("dags.cohort_to_segment", "from cohort_flywheel.hooks.s3 import lines"),
        ("dags.cohort_to_segment", "import tests"),
    ],
)
def test_an_import_that_goes_up_is_found(module: str, source: str) -> None:
    assert faults(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cohort_flywheel.names", "import hashlib\nfrom cohort_flywheel.errors import FlywheelError\nimport pydantic"),
        ("cohort_flywheel.hooks.s3", "import boto3\nfrom cohort_flywheel.errors import FlywheelError"),
        ("cohort_flywheel.destinations.pinpoint", "from cohort_flywheel.operators.pinpoint import X\nimport airflow"),
        ("dags.cohort_to_segment", "from airflow.sdk import DAG\nfrom cohort_flywheel.operators.plan import X"),
    ],
)
def test_an_import_that_goes_down_is_fine(module: str, source: str) -> None:
    assert faults(module, source) == []
