"""The dangerous faults of a removal from the suppression list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.sites import cases, dangerous

if TYPE_CHECKING:
    from tests.faults.harness import World

pytestmark = pytest.mark.nightly
DESTINATION = "suppression_removal"


def test_a_removal_survives_the_dangerous_faults(world: World, survive: Any) -> None:
    survive(dangerous(cases(world.sites), world.at.DANGEROUS), "only the dangerous ones: make faults tries all")


def test_a_removal_that_forgets_ses_is_detected(survived: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from cohort_flywheel.engagement.suppressions_operator import RemoveSuppressionsOperator

    monkeypatch.setattr(RemoveSuppressionsOperator, "_remove_there", lambda *_: 0)
    wrong = survived("remove: s3 PutObject #2 × killed after")
    assert any("SES's own list has other addresses" in sentence for sentence in wrong), wrong
