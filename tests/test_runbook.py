"""Each code of an error has one row in the runbook, and a failing task prints its code first."""

from __future__ import annotations

import ast
import pickle
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowTaskTimeout
from botocore.exceptions import ClientError, NoCredentialsError

from cohort_flywheel.common.failures import RetryableError, describe_failure
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.neptune import GraphUnavailableError
from cohort_flywheel.segment.limits_operator import StoppedByLimitError

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "plugins" / "cohort_flywheel"
RUNBOOK = (ROOT / "docs" / "reference" / "runbook.md").read_text(encoding="utf-8")
SOURCES = [*sorted(PACKAGE.rglob("*.py")), *sorted((ROOT / "dags").glob("*.py"))]
#: Airflow's own classes, which only common/failures.py raises: it adds the code.
AIRFLOWS = {"AirflowException", "AirflowFailException"}


@cache
def nodes() -> list[tuple[Path, ast.AST]]:
    """Every node of every file of the package."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}
    return [(path, node) for path, tree in trees.items() for node in ast.walk(tree)]


def is_code(node: ast.Attribute) -> bool:
    """Whether a node is a member of Code."""
    return getattr(node.value, "id", "") == "Code"


def coded_classes(base: str = "CodedError") -> set[str]:
    """The names of the subclasses of a base."""
    bases = {
        node.name: {getattr(each, "id", "") for each in node.bases}
        for _, node in nodes()
        if isinstance(node, ast.ClassDef)
    }
    found: set[str] = set()
    while more := {name for name, its in bases.items() if its & {base, *found}} - found:
        found |= more
    return found


def calls(names: set[str]) -> Iterator[tuple[str, ast.Call]]:
    """Each call of these classes: where, and the call."""
    for path, node in nodes():
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in names:
            yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_each_code_has_one_row_and_each_row_is_a_code() -> None:
    rows = Counter(re.findall(r"^\| (CF-\S+) \|", RUNBOOK, flags=re.MULTILINE))
    assert rows == Counter(code.value for code in Code)


def test_a_row_has_a_cause_and_a_remedy() -> None:
    rows = [line for line in RUNBOOK.splitlines() if line.startswith("| CF-")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    assert [row for row in cells if len(row) != 3 or not all(row)] == []


def test_a_row_says_whether_airflow_retries_the_task() -> None:
    """A `RetryableError`, and an Advice with `may_pass`, is retried; common/failures.py decides for these four."""
    retried = {Code.TIMEOUT, Code.AIRFLOW, Code.UNEXPECTED, Code.WORKER_FULL}
    for _, call in calls(coded_classes("RetryableError") | {"RetryableError", "Advice"}):
        may_pass = [each.value for each in call.keywords if each.arg == "may_pass"]
        if getattr(call.func, "id", "") != "Advice" or (may_pass and getattr(may_pass[0], "value", None)):
            retried |= {Code[each.attr] for each in ast.walk(call) if isinstance(each, ast.Attribute) and is_code(each)}
    rows = [line.split(" | ", 1) for line in RUNBOOK.splitlines() if line.startswith("| CF-")]
    assert {code.removeprefix("| ") for code, text in rows if "etried" in text} == retried


def test_a_code_is_an_area_and_a_number_without_a_gap() -> None:
    areas: dict[str, list[int]] = {}
    for code in Code:
        match = re.fullmatch(r"CF-([A-Z]+)-(\d\d)", code)
        assert match, code
        areas.setdefault(match[1], []).append(int(match[2]))
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in areas.values()), areas


def test_each_error_is_made_with_its_code() -> None:
    """The code is the second argument, of an Advice the first: a member, or a name that holds one."""
    places = list(calls(coded_classes() | {"Advice"}))
    assert len(places) > 200
    without = []
    for where, call in places:
        named = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
        position = 0 if getattr(call.func, "id", "") == "Advice" else 1
        code = next(iter([*named, *call.args[position : position + 1]]), None)
        if not isinstance(code, ast.Attribute | ast.Name):
            without.append(where)
    assert without == []


def test_an_error_of_airflow_s_class_is_raised_only_where_its_code_is_added() -> None:
    places = {where.partition(":")[0] for where, _ in calls(AIRFLOWS)}
    assert places == {"plugins/cohort_flywheel/common/failures.py"}


def test_each_code_is_used() -> None:
    used = {node.attr for _, node in nodes() if isinstance(node, ast.Attribute) and is_code(node)}
    assert used == {code.name for code in Code}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FlywheelError("no", Code.PARAM), Code.PARAM),
        (RetryableError("no", Code.BUSY), Code.BUSY),
        (GraphUnavailableError("no.", Code.GRAPH_BUSY), Code.GRAPH_BUSY),
        (StoppedByLimitError(f"{Code.OUTSIDE_LIMITS}: no"), Code.OUTSIDE_LIMITS),
        (ClientError({"Error": {"Code": "AccessDenied"}}, "PutObject"), Code.AWS_DENIED),
        (ClientError({"Error": {"Code": "KMS.DisabledException"}}, "PutObject"), Code.AWS_KMS),
        (ClientError({"Error": {"Code": "SlowDown"}}, "PutObject"), Code.AWS_LATER),
        (NoCredentialsError(), Code.AWS_CREDENTIALS),
        (AirflowTaskTimeout("no"), Code.TIMEOUT),
        (AirflowException("an error of a provider"), Code.AIRFLOW),
        (AirflowFailException("an error of a provider"), Code.AIRFLOW),
        (MemoryError(), Code.WORKER_FULL),
        (KeyError("no"), Code.UNEXPECTED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_failing_task_prints_one_code_and_prints_it_first(error: BaseException, code: Code, nested: bool) -> None:
    with pytest.raises(BaseException) as raised, describe_failure("Clearing is safe."):
        if nested:
            with describe_failure("Clearing is safe."):
                raise error
        raise error
    assert str(raised.value).startswith(f"{code}: ")
    assert len(re.findall(r"CF-[A-Z]+-\d\d", str(raised.value))) == 1


def test_an_error_keeps_its_code_when_it_is_copied() -> None:
    """Airflow and its executors may send an exception to another process."""
    found = pickle.loads(pickle.dumps(FlywheelError("the name is wrong", Code.PARAM)))  # noqa: S301 - made here
    assert (str(found), found.code) == ("CF-PLAN-03: the name is wrong", Code.PARAM)
