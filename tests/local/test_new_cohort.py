"""`make new-cohort`: the entry that it proposes is valid, and its threshold selects some players."""

from __future__ import annotations

import io
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohort_flywheel.config.registry import parse_registry
from cohort_flywheel.segment.members import Vertex
from cohort_flywheel.segment.snapshot import Header
from local import __main__ as command
from local.config import LocalError
from local.new_cohort import REGISTRY, Scores, check, entry_text, histogram, members, number, propose
from tests.cohort_flywheel.segment.snapshots import snapshot_file

DAY = datetime(2026, 11, 22, tzinfo=UTC)
SHIPPED = REGISTRY.read_text(encoding="utf-8")


def snapshot(
    folder: Path, scores: dict[str, int], direction: Literal["above", "below"] = "above", floor: int = 0
) -> Path:
    header = Header(cohort="old", as_of=DAY, property="ea_calm", direction=direction, floor=floor, read_at=DAY)
    vertices = [Vertex(player, score) for player, score in scores.items()]
    further = [Vertex(None, 50 if direction == "above" else -50), Vertex("p0", floor + 1)]
    return snapshot_file(folder, header, [*vertices, *further])


def run(*arguments: str) -> int:
    return command.main(["new-cohort", *arguments])


def test_the_entry_of_a_snapshot_is_valid_and_its_figures_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = snapshot(tmp_path, {f"p{score}": score for score in range(1, 101)} | {"p0": 100})
    assert run("--name", "calm", "--description", 'Players who say: "calm".', "--snapshot", str(path)) == 0
    out, err = capsys.readouterr()
    cohort = parse_registry(SHIPPED + out, REGISTRY).cohort("calm")
    assert (cohort.property, cohort.direction, cohort.threshold) == ("ea_calm", "above", 96)
    assert (cohort.threshold_range.min, cohort.threshold_range.max, cohort.limits.max_members) == (0, 100, 10)
    assert cohort.description == 'Players who say: "calm".'
    assert "ea_calm: 101 players above 0" in err
    assert "above 96: 5 of 101 players" in err


def test_of_a_below_cohort_the_lowest_scores_are_selected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = snapshot(tmp_path, {f"p{score}": -score for score in range(60, 100)}, "below", -50)
    assert run("--name", "rude", "--description", "Rude.", "--snapshot", str(path)) == 0
    cohort = parse_registry(SHIPPED + capsys.readouterr().out, REGISTRY).cohort("rude")
    assert (cohort.threshold, cohort.threshold_range.min, cohort.threshold_range.max) == (-97, -99, -50)


def test_without_a_snapshot_it_asks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("calm\nPlayers who stay calm.\nea_calm\nabove\n3\n0\n9\n500\n"))
    assert run() == 0
    out, err = capsys.readouterr()
    cohort = parse_registry(SHIPPED + out, REGISTRY).cohort("calm")
    assert (cohort.threshold, cohort.threshold_range.max, cohort.limits.max_members) == (3, 9, 500)
    assert "Property of the players' vertices" in err


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ("", "The answer is missing: give NAME="),
        ("ea_atrisk\nx\nx\nabove\n1\n0\n9\n9\n", "has a cohort ea_atrisk already: choose another name."),
        ("calm\nx\nx\nabove\nmany\n", "'many' is not a number: start again."),
        ("calm\nx\nx\nabove\n10\n0\n9\n9\n", "threshold: 10 is outside threshold_range"),
        ("calm\nx\nx\nover\n1\n0\n9\n9\n", "direction: input should be 'above' or 'below'"),
    ],
)
def test_an_entry_with_a_fault_is_not_printed(
    answers: str, sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answers))
    assert run() == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err


def test_a_file_that_is_not_a_snapshot_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.json").write_text("[]", encoding="utf-8")
    for name, sentence in (("other.json", "is not a snapshot that this version reads"), ("none", "cannot be read")):
        assert run("--name", "calm", "--description", "x", "--snapshot", str(tmp_path / name)) == 1
        assert sentence in capsys.readouterr().err


#: A registry of one cohort, which is read faster than the shipped one.
SHORT = f"""\
default_cohort: old
schedule: "@daily"
destination: ses
cohorts:
{entry_text(propose("old", "x", Scores("ea_old", "above", 0, {3: 1})), "")}"""


@settings(deadline=None, database=None, derandomize=True, max_examples=50)
@given(
    st.lists(st.integers(1, 10_000) | st.floats(1e-4, 1000), min_size=1, max_size=60),
    st.sampled_from([1, -1]),
    st.floats(0, 100),
)
def test_any_scores_give_a_valid_entry_that_selects_a_player(scores: list[float], sign: int, percent: float) -> None:
    direction = "above" if sign == 1 else "below"
    found = Scores("ea_calm", direction, 0, Counter(sign * score for score in scores))
    entry = propose("calm", "Players who stay calm.", found, percent)
    check("calm", SHORT, entry_text(entry, SHORT))
    assert 1 <= members(found, entry.threshold) <= entry.max_members
    assert histogram(found).count("\n") in range(1, 13)


def test_a_registry_that_does_not_end_with_its_cohorts_is_refused() -> None:
    entry = entry_text(propose("calm", "x", Scores("ea_calm", "above", 0, {3: 1})), SHIPPED)
    with pytest.raises(LocalError, match="must end with its cohorts|not YAML|not a known key"):
        check("calm", SHIPPED + "tuning: {lookups_in_flight: 4}\n", entry)


@pytest.mark.parametrize(("value", "text"), [(3, "3"), (0.75, "0.75"), (2.0, "2"), (1e-6, "0.000001"), (-1.5, "-1.5")])
def test_a_number_has_no_exponent(value: float, text: str) -> None:
    assert number(value) == text
