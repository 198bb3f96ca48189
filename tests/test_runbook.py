"""The runbook has every sentence that a run can fail with."""

from __future__ import annotations

import ast
import re
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


ALL = list(sentences())
RUNBOOK = " ".join(words((ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")))


def test_there_are_sentences() -> None:
    assert len(ALL) > 50


@pytest.mark.parametrize(("place", "parts"), ALL, ids=[place for place, _ in ALL])
def test_the_runbook_knows_each_sentence(place: str, parts: list[str]) -> None:
    """Three words in a row, of some part that has as many, or the whole of a text that has fewer."""
    runs = [tuple(ws[i : i + 3]) for ws in map(words, parts) for i in range(len(ws) - 2)]
    first = [" ".join(run) for run in runs][:4] or [" ".join(words(" ".join(parts)))]
    assert any(run in RUNBOOK for run in first), f"docs/runbook.md has none of {first}"
