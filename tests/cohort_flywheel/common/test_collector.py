"""Garbage is collected seldom in the block, and as before after it."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from cohort_flywheel.common.collector import seldom_collecting

#: As it is before `quick_tasks` replaces it.
COUNT = gc.get_freeze_count


@pytest.fixture
def thawed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tests themselves freeze what is imported."""
    monkeypatch.setattr(gc, "get_freeze_count", COUNT)
    frozen = gc.get_freeze_count()
    gc.unfreeze()
    yield
    if frozen:
        gc.freeze()


@pytest.mark.usefixtures("thawed")
def test_new_objects_alone_are_collected_and_seldom() -> None:
    before = gc.get_threshold()
    with pytest.raises(ValueError, match="in the block"), seldom_collecting():
        assert gc.get_threshold() == (max(before[0], 50_000), *before[1:])
        assert gc.get_freeze_count() > 1_000
        with seldom_collecting():
            pass
        assert gc.get_freeze_count() > 1_000  # until the outer block ends
        raise ValueError("in the block")
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


@pytest.mark.usefixtures("thawed")
def test_what_was_frozen_before_stays_so() -> None:
    gc.freeze()
    with seldom_collecting():
        pass
    assert gc.get_freeze_count() > 1_000


@pytest.mark.usefixtures("thawed")
def test_a_function_is_decorated() -> None:
    @seldom_collecting()
    def frozen() -> int:
        return gc.get_freeze_count()

    assert [frozen() > 0, frozen() > 0, gc.get_freeze_count()] == [True, True, 0]
