"""A part of `make faults` with the destination webhook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.sites import cases, dangerous

if TYPE_CHECKING:
    from tests.faults.harness import World

DESTINATION = "webhook"
#: The webhook mails no player, and destinations/webhook/test_destination.py loses its answers in `make test`.
pytestmark = pytest.mark.nightly


def test_a_run_survives_the_dangerous_faults(world: World, survive: Any) -> None:
    every = cases(world.sites)
    survive(dangerous(every, world.at.DANGEROUS), f"the dangerous ones: make faults tries all {len(every)}")


def test_a_batch_without_a_constant_key_is_detected(survived: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from cohort_flywheel.destinations.webhook import layout

    numbers = iter(range(1000))
    monkeypatch.setattr(layout, "import_id", lambda content, upload, size: f"import{next(numbers)}-{id(content)}")
    wrong = survived("create_import_job: webhook POST batches #2 × killed before")
    assert any("batches were applied" in sentence for sentence in wrong), wrong
