"""What a result depends on: a change of code that the case ran is seen, and no other one."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.config import ROOT
from tests.faults import code
from tests.faults.results import Results, Survived

SOURCE = '''
"""A module."""

LIMIT = 3


class Store:
    """A store."""

    retries: int = 2

    def read(self, key: str = "a") -> str:
        """Read."""
        return key  # as it is


def outer(value: int) -> int:
    return [value + LIMIT for _ in range(3)][0]
'''


def changed(before: str, after: str) -> set[str]:
    names = (code.defined(SOURCE), code.defined(SOURCE.replace(before, after)))
    assert SOURCE.replace(before, after) != SOURCE
    return {name for name in names[0] | names[1] if names[0].get(name) != names[1].get(name)}


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ("return key", "return key + 'b'", {"Store.read"}),
        ("value + LIMIT", "value - LIMIT", {"outer"}),
        ("LIMIT = 3", "LIMIT = 4", {""}),
        ("retries: int = 2", "retries: int = 3", {""}),
        ('key: str = "a"', 'key: str = "b"', {"", "Store.read"}),
        ("def outer", "def other", {"outer", "other", "*"}),
        ("  # as it is", "  # a comment", set()),
        ('"""Read."""', '"""Read it."""', set()),
        ('"""A store."""', '"""Another."""', set()),
        ('"""A module."""', '"""A module of\ntwo lines."""', set()),
    ],
)
def test_a_digest_changes_with_the_definition(before: str, after: str, names: set[str]) -> None:
    assert changed(before, after) == names


def test_a_result_needs_the_modules_that_its_code_imports() -> None:
    needed = code.needed(["cohort_flywheel/destinations/pinpoint/operators.py:PinpointCreateImportJobOperator.execute"])
    assert {"cohort_flywheel/destinations/pinpoint/hook.py:", "cohort_flywheel/errors.py:*"} <= needed
    assert not any("/ses/" in name for name in needed)


RAN = {
    "pinpoint: plan": {"cohort_flywheel/runs/plan.py:a"},
    "ses: launch": {"cohort_flywheel/destinations/ses/campaign/ses_launch_operator.py:b"},
}


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("cohort_flywheel/runs/plan.py:a", {"pinpoint: plan"}),
        ("cohort_flywheel/runs/plan.py:only_a_fault_leads_here", {"pinpoint: plan"}),
        ("cohort_flywheel/destinations/ses/campaign/ses_launch_operator.py:", {"ses: launch"}),
        # imported by the launch, which has run nothing of it
        ("cohort_flywheel/destinations/ses/campaign/sends_store.py:Sends.outcome", {"ses: launch"}),
        ("cohort_flywheel/governance/cleanup_operator.py:CohortCleanupOperator.execute", set()),
    ],
)
def test_a_change_touches_the_tasks_that_ran_it_or_may_under_a_fault(name: str, tasks: set[str]) -> None:
    assert code.touched([name], RAN) == tasks


NAMES = ["cohort_flywheel/errors.py:CodedError.__init__"]
REJOINED = Survived(rejoined=True, stopped=True)


def test_a_result_is_kept_for_the_next_command(tmp_path: Path) -> None:
    results = Results(tmp_path / "survived.jsonl")
    results.add("ses: a", NAMES, REJOINED)
    results.add("ses: b", NAMES, Survived(rejoined=False, stopped=False))
    results.close()
    with (tmp_path / "survived.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"case": "ses: c", "se')  # stopped as it was written
    kept = Results(tmp_path / "survived.jsonl")
    known = [kept.get(f"ses: {name}") for name in "abc"]
    assert known == [REJOINED, Survived(rejoined=False, stopped=False), None]
    kept.add("ses: c", NAMES, REJOINED)
    kept.close()
    assert Results(tmp_path / "survived.jsonl").get("ses: c")


@pytest.mark.parametrize("part", ["CodedError.__init__", "", "*"])
def test_a_result_is_invalid_once_its_code_has_changed(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = Results(tmp_path / "survived.jsonl")
    results.add("ses: a", NAMES, REJOINED)
    results.close()
    now = dict(code.definitions()) | {f"cohort_flywheel/errors.py:{part}": "another"}
    monkeypatch.setattr(code, "definitions", lambda: now)
    assert Results(tmp_path / "survived.jsonl").get("ses: a") is None


def test_a_result_is_invalid_in_another_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results(tmp_path / "survived.jsonl")
    results.add("ses: a", NAMES, REJOINED)
    results.close()
    monkeypatch.setattr(code, "surroundings", lambda: "another boto3")
    assert Results(tmp_path / "survived.jsonl").get("ses: a") is None


@pytest.mark.nightly
def test_a_change_of_a_library_a_server_or_the_dag_changes_the_surroundings() -> None:
    patterns = " ".join(code.SURROUNDINGS)
    assert all(folder in patterns for folder in ("dags/", "include/", "local/conf/", "tests/faults/"))
    names = {str(path.relative_to(ROOT)) for path in code.servers()}
    assert {
        "local/aws.py",
        "local/sesv2/control_plane.py",
        "local/qconnect/urls.py",
        "local/sample.py",
        "local/servers.py",
    } <= names
    assert not {"local/bundle.py", "local/demo.py"} & names
    code.surroundings.cache_clear()
    before = code.surroundings()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "SURROUNDINGS", code.SURROUNDINGS[1:])
        code.surroundings.cache_clear()
        assert code.surroundings() != before
    code.surroundings.cache_clear()


@pytest.mark.parametrize(
    ("file", "before", "after", "changes"),
    [
        ("module.py", SOURCE, SOURCE.replace("# as it is", "# a comment"), False),
        ("module.py", SOURCE, SOURCE.replace('"""A store."""', '"""Another."""'), False),
        ("module.py", SOURCE, SOURCE.replace("LIMIT = 3", "LIMIT = 4"), True),
        ("cohorts.yaml", "opt_outs: none", "opt_outs: all", True),
    ],
)
def test_a_comment_does_not_change_the_surroundings(
    file: str, before: str, after: str, changes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "ROOT", tmp_path)
    monkeypatch.setattr(code, "SURROUNDINGS", ("*",))
    digests = set()
    for text in (before, after):
        (tmp_path / file).write_text(text, encoding="utf-8")
        code.surroundings.cache_clear()
        digests.add(code.surroundings())
    code.surroundings.cache_clear()
    assert (len(digests) == 2) is changes
