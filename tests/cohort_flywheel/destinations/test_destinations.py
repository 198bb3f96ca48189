"""A destination is a module that the registry names."""

from __future__ import annotations

import pytest

from cohort_flywheel.config.registry import read_registry
from cohort_flywheel.destinations import destination
from cohort_flywheel.errors import FlywheelError
from local.config import ROOT


def test_the_shipped_destination_is_there() -> None:
    assert destination(read_registry(ROOT / "include" / "cohorts.yaml").destination).LAYOUT == "pinpoint"


def test_another_is_a_sentence() -> None:
    with pytest.raises(
        FlywheelError, match="there is no destination 'pinpont': write one of customer_profiles, pinpoint, ses"
    ):
        destination("pinpont")
