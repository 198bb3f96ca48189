"""The benchmark of the validation with a few players: each stage reads the same rows. Nothing is timed."""

from __future__ import annotations

from tests.benchmarks import graph_load


def test_every_stage_reads_the_same_rows() -> None:
    found = graph_load.measured(100)
    assert found["rows"] > 2000
    made = graph_load.section([found])
    assert [row[1] for row in made["rows"]] == list(graph_load.STAGES.values())
    assert {len(row) for row in made["rows"]} == {len(made["header"])}
