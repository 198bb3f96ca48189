"""The scores of two snapshots, for the outcomes of a launch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.engagement.effect_outcomes import OutcomeTables
from cohort_flywheel.segment.members import Vertex
from cohort_flywheel.segment.snapshot import Header
from tests.cohort_flywheel.engagement.event_days import NEWEST
from tests.cohort_flywheel.segment.snapshots import snapshot_file


def add_scores(
    tables: OutcomeTables, folder: Path, direction: Direction, then: Iterable[tuple[str, float]],
    now: Iterable[tuple[str, float]],
) -> None:  # fmt: skip
    """Set the scores of both snapshots, each of which also has a vertex without a playerId."""
    floor = -100 if direction == "above" else 100
    header = Header(cohort="c", as_of=NEWEST, property="p", direction=direction, floor=floor, read_at=NEWEST)
    both: tuple[tuple[Literal["then", "now"], Iterable[tuple[str, float]]], ...] = (("then", then), ("now", now))
    for when, scores in both:
        with TemporaryDirectory(dir=folder) as its:
            vertices = [Vertex(None, 50 if direction == "above" else -50), *(Vertex(*each) for each in scores)]
            assert tables.add_scores(when, snapshot_file(Path(its), header, vertices), direction) == len(vertices)
