"""The leavers of a segment are the recorded players without a row."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import example, given, settings
from hypothesis import strategies as st

from cohort_flywheel.destinations.leavers import SegmentPlayers

players = st.lists(st.sampled_from(["ann", "Ann", "bob", 'c"y,d', "dan\r", "\n", "é", "\U0001f600", "\uffff"]))


@settings(max_examples=settings().max_examples // 4)  # a database takes some 20 ms to open
@example([], [])
@given(players, players)
def test_they_are_the_differences_of_two_sets(recorded: list[str], rows: list[str]) -> None:
    with TemporaryDirectory() as folder, closing(SegmentPlayers(Path(folder))) as found:
        found.add_recorded(iter(recorded))
        found.add_rows(iter(rows))
        assert list(found.leavers()) == sorted({*recorded} - {*rows})
        assert list(found.all()) == sorted({*recorded, *rows})
        assert not list(Path(folder).glob("*.csv"))
