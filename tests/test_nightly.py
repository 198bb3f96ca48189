"""The nightly run goes on after a failure, and says what failed."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from tests import nightly
from tests.nightly import Part

ROOT = Path(__file__).parents[1]


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nightly, "LOGS", ROOT / ".local" / "nightly" / tmp_path.name)
    made = [
        Part("bad", "a part that fails", ["sh", "-c", "echo 3 failed; exit 1"]),
        Part("good", "a part that passes", ["sh", "-c", 'echo "$WORD of 2 passed"'], {"WORD": "2"}),
        Part("long", "a part of hours", ["sh", "-c", "echo never; exit 1"], unless_named=True),
    ]
    monkeypatch.setattr(nightly, "PARTS", made)


def test_a_failed_part_does_not_stop_the_others(parts: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert nightly.main([]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"\| bad +\| FAILED \| +\d+ s \| 3 failed \|", printed)
    assert re.search(r"\| good +\| passed \| +\d+ s \| 2 of 2 passed \|", printed)
    assert "never" not in printed
    assert "nightly: 1 passed, 1 failed" in printed


def test_parts_are_chosen_by_name(parts: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert nightly.main(["good"]) == 0
    assert nightly.main(["gone"]) == 2
    assert "Unknown part gone: the parts are bad, good, long." in capsys.readouterr().out


def test_each_marker_that_make_test_leaves_out_is_run_by_a_part() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (expression,) = re.findall(r'-m "([^"]+)"', makefile)
    left = set(expression.removeprefix("not ").split(" and not "))
    run = set(re.findall(r"-m (\w+) tests", makefile))
    run |= {word for part in nightly.PARTS for flag, word in itertools.pairwise(part.command) if flag == "-m"}
    assert left == {"bundle_321", "nightly"}
    assert left <= run


def test_each_target_that_the_ci_leaves_out_is_a_part() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    named = [line.partition(":")[0] for line in lines if "Left to" in line]
    left = {name for line in named for name in re.findall(r"[a-z0-9-]{5,}", line)} - {"nightly"}
    assert len(left) > 5
    assert left <= {part.name for part in nightly.PARTS}
