"""The runbook has every sentence that a run can fail with."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "plugins" / "cohort_flywheel").rglob("*.py"))
#: Errors that a person reads as they stand; a ValueError of the registry's models is told with its line.
ERRORS = {"FlywheelError", "AirflowException", "GraphUnavailableError", "UnprocessedKeysError"}


def sentences() -> Iterator[tuple[str, list[str]]]:
    """Each raised text: where, and its constant parts."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ERRORS and node.args:
                text = node.args[0]
                values = text.values if isinstance(text, ast.JoinedStr) else [text]
                parts = [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]
                if parts:
                    yield f"{path.name}:{node.lineno}", parts


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def runs(text: str) -> list[str]:
    """Each three words in a row."""
    ws = words(text)
    return [" ".join(ws[i : i + 3]) for i in range(len(ws) - 2)]


ALL = list(sentences())
OFTEN = Counter(run for _, parts in ALL for run in {run for part in parts for run in runs(part)})
RUNBOOK = " ".join(words((ROOT / "docs" / "reference" / "runbook.md").read_text(encoding="utf-8")))


def test_sentences_are_found() -> None:
    assert len(ALL) > 50


@pytest.mark.parametrize(("place", "parts"), ALL, ids=[place for place, _ in ALL])
def test_the_runbook_knows_each_sentence(place: str, parts: list[str]) -> None:
    """Three words in a row of its beginning that no other sentence has, or two such; all of a text that has fewer."""
    first = [run for part in parts for run in runs(part)][:4] or [" ".join(words(" ".join(parts)))]
    told = [run for run in first if run in RUNBOOK]
    enough = len(told) > 1 or told == first or any(OFTEN[run] == 1 for run in told)
    assert enough, f"docs/reference/runbook.md has none of {first}, but {told}"
