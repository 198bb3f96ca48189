"""The model against what was measured, and the document against the model."""

from __future__ import annotations

from typing import Any

import pytest

from cohort_flywheel.segment import extract_file
from tests.benchmarks import model, results

#: What the model may miss the run of a million by, on the wall and in CPU: runs of one machine differ by a tenth.
TOLERANCE = 0.25
FOUND = results.read(results.FOLDER)


def made_up(cost: dict[int, float]) -> dict[str, Any]:
    """Results in which every stage of ours took so many seconds."""
    figures = {n: dict.fromkeys(results.FIGURES, seconds) for n, seconds in cost.items()}
    return {
        "date": "2026-11-23T00:00:00", "machine": {"cores": 2, "cpu": "made up"},
        "sizes": {
            str(n): {
                "players": n, "segment_bytes": 150 * n,
                "medians": {"ours": dict.fromkeys(("graph", "enrich", "release"), figures[n])},
            }
            for n in cost
        },
    }  # fmt: skip


def test_the_line_goes_through_both_sizes_and_beyond() -> None:
    fitted = model.fit(made_up({10_000: 2.0, 100_000: 11.0}))
    assert fitted.seconds(100_000) == pytest.approx(33)
    assert fitted.seconds(1_000_000) == pytest.approx(3 * 101)


def test_no_stage_begins_with_less_than_nothing() -> None:
    fitted = model.fit(made_up({10_000: 1.0, 100_000: 100.0}))
    assert fitted.graph == model.Line(0, 100 / 100_000)


def test_more_at_once_take_less_and_never_less_than_the_stream() -> None:
    fitted = model.fit(made_up({10_000: 2.0, 100_000: 11.0}))
    hours = [fitted.hours(10_000_000, workers) for workers in (1, 2, 10, 10_000)]
    assert hours == sorted(hours, reverse=True)
    assert hours[-1] > (fitted.graph.at(10_000_000) + fitted.release.at(10_000_000)) / 3600


def test_the_shards_are_those_of_the_house() -> None:
    assert (model.SHARD_MEMBERS, model.MAX_SHARDS) == (extract_file.SHARD_MEMBERS, extract_file.MAX_SHARDS)
    fitted = model.fit(made_up({10_000: 2.0, 100_000: 11.0}))
    for players in (1, 250_000, 250_001, 1_000_000_000):
        assert fitted.shards(players) == -(-players // extract_file.shard_size(players))


@pytest.mark.parametrize("figure", ["wall_s", "cpu_s"])
def test_it_says_what_the_run_of_a_million_took(figure: str) -> None:
    sizes = model.measured_sizes(FOUND)
    if 1_000_000 not in sizes or len(sizes) < 3:
        pytest.skip("results.json has no run of a million players beside two smaller ones: `make bench-full` makes it")
    smaller = [n for n in sizes if n < 1_000_000]
    said = model.fit(FOUND, (smaller[-2], smaller[-1]), figure).seconds(1_000_000)
    assert said == pytest.approx(results.total(FOUND["sizes"]["1000000"], "ours", figure), rel=TOLERANCE)


def test_the_document_has_the_tables_of_these_results() -> None:
    if len(model.measured_sizes(FOUND)) < 2:
        pytest.skip("results.json has fewer than two sizes: `make bench` makes it")
    text = model.DOCUMENT.read_text(encoding="utf-8")
    assert text == model.document(text, FOUND), "run `python -m tests.benchmarks.model`"


def test_the_page_has_the_figures_of_these_results() -> None:
    if not FOUND:
        pytest.skip("results.json is missing: `make bench` writes it")
    assert (results.FOLDER / "RESULTS.md").read_text(encoding="utf-8") == results.markdown(FOUND)
