"""The plan: all that later tasks need, and where a dry run writes."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from cohort_flywheel.cohorts import Cohort, Consent
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.plan import make_plan

COHORT = Cohort.model_validate(
    {
        "name": "grumpy",
        "description": "Players of ill repute.",
        "property": "ea_reputation",
        "direction": "below",
        "threshold": -75,
        "threshold_range": {"min": -100, "max": 0},
        "daily": False,
        "attributes": {"Level": "level"},
        "include_score": False,
        "consent": {"attribute": "ok", "opted_in": ["yes", True], "opted_out": ["no"], "silence": "opted_out"},
    }
)
AS_OF = datetime(2026, 11, 22, tzinfo=UTC)
SETTINGS = {"export_bucket": "exports", "import_bucket": "imports", "state_bucket": "state", "other": "x"}


def plan(
    threshold: float | None = None,
    dry_run: bool = False,
    cohort: Cohort = COHORT,
    settings: dict[str, str] = SETTINGS,
) -> dict[str, Any]:
    return make_plan(cohort, threshold=threshold, dry_run=dry_run, as_of=AS_OF, settings=settings)


def test_a_plan_freezes_the_cohort_and_every_name() -> None:
    name = "grumpy_-75_2026-11-22_00-00-00"
    assert plan() == {
        "name": name,
        "as_of": "2026-11-22T00:00:00+00:00",
        "cohort": "grumpy",
        "property": "ea_reputation",
        "direction": "below",
        "threshold": -75,
        "threshold_from": "registry",
        "dry_run": False,
        "attributes": {"Level": "level"},
        "score_column": None,
        "consent": {"attribute": "ok", "opted_in": ["yes", True], "opted_out": ["no"], "silence": "opted_out"},
        "extract_bucket": "exports",
        "extract_key": f"export/{name}.json",
        "segment_bucket": "imports",
        "segment_folder": "segments/",
        "state_bucket": "state",
        "rejects_key": f"rejects/{name}.csv",
        "report_folder": f"reports/{name}/",
        "do_not_contact_key": "do_not_contact.txt",
    }


def test_a_plan_goes_through_xcom_and_its_consent_comes_back() -> None:
    made = plan()
    assert json.loads(json.dumps(made)) == made
    assert Consent.model_validate(json.loads(json.dumps(made["consent"]))) == COHORT.consent


def test_the_threshold_of_a_person_wins_and_the_plan_says_so() -> None:
    made = plan(threshold=-80.0)
    assert (made["threshold"], made["threshold_from"]) == (-80, "param")
    assert type(made["threshold"]) is int
    assert made["name"] == "grumpy_-80_2026-11-22_00-00-00"


def test_a_threshold_of_zero_is_a_threshold() -> None:
    assert (plan(threshold=0)["threshold"], plan(threshold=0)["threshold_from"]) == (0, "param")


@pytest.mark.parametrize("threshold", [1, -101, -75.5, True])
def test_a_threshold_that_may_not_be_typed_is_refused(threshold: float) -> None:
    with pytest.raises(FlywheelError, match=r"^threshold "):
        plan(threshold=threshold)


def test_a_dry_run_writes_to_the_state_bucket_alone() -> None:
    made = plan(dry_run=True)
    assert {value for key, value in made.items() if key.endswith("_bucket")} == {"state"}
    assert made["dry_run"] is True


def test_a_dry_run_takes_no_real_runs_place() -> None:
    real, dry = plan(), plan(dry_run=True)
    for key in ("extract_key", "segment_folder", "rejects_key", "report_folder"):
        assert dry[key] == f"dry_run/{real[key]}"
    assert dry["do_not_contact_key"] == real["do_not_contact_key"], "the one list binds every run"


@pytest.mark.parametrize("pair", [("export", "import"), ("import", "state"), ("export", "state")])
def test_one_bucket_for_two_purposes_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(FlywheelError, match=r"export, import and state buckets must be three, not .*shared"):
        plan(settings=SETTINGS | {f"{role}_bucket": "shared" for role in pair})


def test_the_score_and_no_question_of_consent() -> None:
    made = plan(cohort=COHORT.model_copy(update={"include_score": True, "consent": "none"}))
    assert (made["score_column"], made["consent"]) == ("ea_reputation", None)
