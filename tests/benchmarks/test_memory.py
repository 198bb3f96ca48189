"""The benchmark of memory fails beyond its limit. `make bench-memory`, which measures, is of the nightly."""

from __future__ import annotations

import sys

import pytest

from tests.benchmarks import memory, results


@pytest.mark.parametrize(("peak", "status"), [(results.PEAK_MB, 0), (results.PEAK_MB + 1, 1)])
def test_a_peak_beyond_the_limit_fails(
    peak: float, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    peaks = {"graph": 200.0, "enrich": peak, "release": 100.0}
    monkeypatch.setattr(memory, "measured", lambda n: {"players": n, "peak_mb": peaks})
    monkeypatch.setattr(sys, "argv", ["memory", "--players", "1000", "10000"])
    assert memory.main() == status
    assert capsys.readouterr().out.splitlines()[2] == f"10,000 | 200 | {peak} | 100"
