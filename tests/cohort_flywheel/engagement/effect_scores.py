"""The scores of two snapshots, for the outcomes of a launch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.engagement.effect_outcomes import OutcomeTables
from cohort_flywheel.segment.members import Vertex
from cohort_flywheel.segment.snapshot import Header
from tests.cohort_flywheel.engagement.event_days import NEWEST
from tests.cohort_flywheel.segment.snapshots import snapshot_file

Pairs = Iterable[tuple[str, float]]
When = Literal["then", "now"]


def score_files(folder: Path, direction: Direction, then: Pairs, now: Pairs) -> dict[When, Path]:
    """Write both snapshots into a folder; each also has a vertex without a playerId."""
    floor, other = (-100, 50) if direction == "above" else (100, -50)
    header = Header(cohort="c", as_of=NEWEST, property="p", direction=direction, floor=floor, read_at=NEWEST)
    both: tuple[tuple[When, Pairs], ...] = (("then", then), ("now", now))
    return {
        when: snapshot_file(
            folder, header, [Vertex(None, other), *(Vertex(*each) for each in scores)]
        ).rename(folder / f"{when}.parquet")
        for when, scores in both
    }  # fmt: skip


def add_scores(tables: OutcomeTables, folder: Path, direction: Direction, then: Pairs, now: Pairs) -> None:
    """Set the scores of both snapshots."""
    for when, path in score_files(folder, direction, then, now).items():
        assert tables.add_scores(when, path, direction) > 0
        path.unlink()
