"""The work of reading a registry grows with its cohorts, and not faster."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from cohort_flywheel.config.registry import Registry, parse_registry
from local.config import ROOT

HEAD, _, REST = (ROOT / "include" / "cohorts.yaml").read_text(encoding="utf-8").partition("  ea_reputation:\n")
#: A cohort of the shipped file, whose consent is an alias.
SHIPPED = REST.partition("\n\n")[0]
SHAPES = {
    "valid": SHIPPED,
    "wrong value": SHIPPED.replace("threshold: -75", "threshold: x"),
    "unknown key": SHIPPED.replace("threshold: -75", "threshhold: -75"),
    "key twice": f"{SHIPPED}\n    daily: true",
    "merged": "    <<: *shipped\n    description: other players",
}


def registry_of(shape: str, number: int) -> Registry:
    head = HEAD.replace("  ea_atrisk:\n", "  ea_atrisk: &shipped\n")
    cohorts = "".join(f"  cohort_{each}:\n{SHAPES[shape]}\n" for each in range(number))
    return parse_registry(head + cohorts, Path("cohorts.yaml"))


def calls(shape: str, number: int) -> int:
    """How many functions of Python are called to read so many cohorts."""
    called, before = 0, sys.getprofile()

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal called
        called += event == "call"

    sys.setprofile(count)
    try:
        registry = registry_of(shape, number)
    finally:
        sys.setprofile(before)
    assert len(registry.names) == number + 1
    assert len(registry.broken) == (0 if shape in ("valid", "merged") else number)
    return called


@pytest.mark.parametrize("shape", SHAPES)
def test_twice_the_cohorts_are_twice_the_work(shape: str) -> None:
    calls(shape, 1)  # what is done once in a process
    few, some, many = (calls(shape, number) for number in (20, 40, 80))
    assert many - some == pytest.approx(2 * (some - few), rel=0.02)


def test_the_time_for_a_thousand_is_printed(figure: Callable[[str], None]) -> None:
    begun = time.process_time()
    registry = registry_of("valid", 1_000)
    figure(f"reading a registry of {len(registry.cohorts):,} cohorts took {time.process_time() - begun:.2f} s of CPU")
