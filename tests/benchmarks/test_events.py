"""The benchmark of the events with a few of them: each stage reads the same records. Nothing is timed."""

from __future__ import annotations

from tests.benchmarks import events


def test_every_stage_reads_the_same_records() -> None:
    found = events.measured(10_000)
    assert found["objects"] == 3
    assert found["read_events"]["outcome"]["repeated"] > 100
    assert found["count_launches"]["outcome"]["messages"] > 2_000
    made = events.section([found])
    assert [row[1] for row in made["rows"]] == list(events.STAGES.values())
    assert {len(row) for row in made["rows"]} == {len(made["header"])}
