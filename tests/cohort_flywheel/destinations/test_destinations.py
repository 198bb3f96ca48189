"""A destination is a folder, which the registry names, with a subclass of Destination."""

from __future__ import annotations

import inspect

import pytest

from cohort_flywheel.config.registry import read_registry
from cohort_flywheel.destinations import destination_names, get_destination
from cohort_flywheel.destinations.base import Destination
from cohort_flywheel.errors import FlywheelError
from local.config import ROOT

NAMES = destination_names()


def test_the_shipped_destination_exists() -> None:
    assert get_destination(read_registry(ROOT / "include" / "cohorts.yaml").destination).name == "pinpoint"


def test_a_name_without_a_folder_is_an_error() -> None:
    with pytest.raises(FlywheelError, match=f"unknown destination 'pinpont': write one of {', '.join(NAMES)}"):
        get_destination("pinpont")


@pytest.mark.parametrize("name", NAMES)
def test_a_destination_is_one_folder_with_all_methods_and_no_others(name: str) -> None:
    destination = get_destination(name)
    assert isinstance(destination, Destination)
    assert destination.name == name
    assert type(destination).__module__ == f"cohort_flywheel.destinations.{name}.destination"
    public = {each for each in vars(type(destination)) if not each.startswith("_")}
    assert public <= {*dir(Destination), *inspect.get_annotations(Destination)}, "not in the base class"


@pytest.mark.parametrize("name", NAMES)
def test_a_destination_has_all_steps_of_a_campaign_or_none_of_them(name: str) -> None:
    kind = type(get_destination(name))
    steps = ("prepare_campaign", "launch_campaign")
    overridden = {vars(kind).get(step) is not None for step in steps}
    assert overridden == {kind.campaign_settings is not None}


@pytest.mark.parametrize("name", NAMES)
def test_a_step_overrides_the_signature_of_the_base_class(name: str) -> None:
    """The DAG file calls all destinations with the same arguments."""
    for method, function in vars(type(get_destination(name))).items():
        if inspect.isfunction(function) and not method.startswith("_"):
            ours, base = inspect.signature(function), inspect.signature(getattr(Destination, method))
            assert list(ours.parameters) == list(base.parameters), method


def test_a_destination_without_an_abstract_method_cannot_be_made() -> None:
    class Incomplete(Destination):
        name = "incomplete"

    with pytest.raises(TypeError, match="create_import_job.*check|check.*create_import_job"):
        Incomplete()  # type: ignore[abstract]  # that it fails is the test
