"""The limits before an import: each passes at its boundary, and is violated beyond it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.config.cohorts import Cohort, Consent
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.config.registry import read_registry
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.segment.contacts import DATA_FAULTS, REASONS
from cohort_flywheel.segment.limits import (
    check_consent_attribute,
    check_record_attributes,
    describe_violations,
    evaluate_limits,
)
from cohort_flywheel.segment.outputs import LimitResult, Previous, RecordSums

REGISTRY = Path(__file__).parents[3] / "include" / "cohorts.yaml"
LIMITS = {"min_members": 10, "max_members": 1_000, "max_change_percent": 50, "max_reject_percent": 30}
BEFORE = Previous(members=100, what="the segment of 2026-11-21")


def evaluate(members: int = 100, previous: int | None = 100, **rejects: int) -> list[LimitResult]:
    before = None if previous is None else previously(previous)
    return evaluate_limits(LIMITS, members=members, rejects=rejects, previous=before)


def previously(members: int) -> Previous:
    return BEFORE.model_copy(update={"members": members})


def broken(members: int = 100, previous: int | None = 100, **rejects: int) -> list[str]:
    return [verdict.limit for verdict in evaluate(members, previous, **rejects) if not verdict.holds]


def test_a_run_within_all_limits_passes() -> None:
    results = evaluate(110, no_record=11)
    assert describe_violations(results) is None
    assert [(v.limit, v.allowed, v.found, v.holds) for v in results] == [
        ("min_members", 10, 110, True),
        ("max_members", 1_000, 110, True),
        ("max_change_percent", 50, 10.0, True),
        ("max_reject_percent", 30, 10.0, True),
    ]


@pytest.mark.parametrize(
    ("limit", "at_the_edge", "beyond"),
    [
        ("min_members", {"members": 10, "previous": 10}, {"members": 9, "previous": 9}),
        ("max_members", {"members": 1_000, "previous": 1_000}, {"members": 1_001, "previous": 1_001}),
        ("max_change_percent", {"members": 150}, {"members": 151}),
        ("max_change_percent", {"members": 67}, {"members": 66}),  # from 66 to 100 is more than half as many again
        ("max_change_percent", {"members": 300, "previous": 200}, {"members": 301, "previous": 200}),
        ("max_reject_percent", {"no_record": 30}, {"no_record": 31}),
        ("max_reject_percent", dict.fromkeys(DATA_FAULTS, 6), dict.fromkeys(DATA_FAULTS, 7)),
    ],
)
def test_a_limit_passes_at_its_edge_and_refuses_beyond_it(
    limit: str, at_the_edge: dict[str, int], beyond: dict[str, int]
) -> None:
    assert broken(**at_the_edge) == []
    assert broken(**beyond) == [limit]


def test_the_limits_are_compared_before_rounding() -> None:
    """Figures are shown rounded, and compared before rounding."""
    (verdict,) = [v for v in evaluate_limits(
        LIMITS | {"max_members": 10**7}, members=1_500_001, rejects={}, previous=previously(1_000_000)
    ) if not v.holds]  # fmt: skip
    assert (verdict.limit, verdict.found) == ("max_change_percent", 50.0)


def test_a_limit_of_zero_is_a_limit() -> None:
    none = dict.fromkeys(LIMITS, 0)
    assert describe_violations(evaluate_limits(none, members=0, rejects={}, previous=None)) is None
    results = evaluate_limits(none, members=100, rejects={"bad_value": 1}, previous=previously(101))
    assert [v.limit for v in results if not v.holds] == [
        "max_members", "max_change_percent", "max_reject_percent",
    ]  # fmt: skip


@pytest.mark.parametrize("wish", ["opted_out", "do_not_contact"])
def test_opt_outs_do_not_count_as_data_faults(wish: str) -> None:
    assert broken(**{wish: 100}) == []
    assert broken(**{wish: 60, "bad_address": 30}) == []
    assert broken(**{wish: 60, "bad_address": 31}) == ["max_reject_percent"]


def test_every_reject_reason_is_a_data_fault_or_a_choice() -> None:
    of_earlier_mails = {"bounced", "complained", "unsubscribed"}
    holdouts = {"holdout", "launch_holdout"}
    assert set(REASONS) == {
        *DATA_FAULTS, *of_earlier_mails, *holdouts, "opted_out", "do_not_contact", "recently_mailed",
    }  # fmt: skip


@pytest.mark.parametrize("previous", [None, 0])
def test_the_change_is_not_evaluated_without_a_previous_result(previous: int | None) -> None:
    change = evaluate(1_000, previous)[2]
    assert (change.holds, change.found) == (True, None)
    said = "nothing to compare with" if previous is None else "1,000 members after 0 (the segment of 2026-11-21)"
    assert change.sentence == said


def test_min_members_decides_whether_a_cohort_may_be_empty() -> None:
    assert broken(0, previous=None) == ["min_members"]
    assert broken(0) == ["min_members"]
    assert [v.found for v in evaluate(0)] == [0, 0, None, 0.0]
    results = evaluate_limits(LIMITS | {"min_members": 0}, members=0, rejects={}, previous=BEFORE)
    assert describe_violations(results) is None


@pytest.mark.parametrize("cohort", read_registry(REGISTRY).cohorts.values(), ids=lambda cohort: cohort.name)
def test_a_graph_that_is_hardly_loaded_is_stopped_by_the_limits_as_shipped(cohort: Cohort) -> None:
    results = evaluate_limits(cohort.limits.model_dump(), members=5, rejects={}, previous=previously(350))
    assert describe_violations(results)


def test_the_description_has_the_figures_of_every_violated_limit() -> None:
    assert describe_violations(evaluate(1_001, no_record=500, opted_out=1)) == (
        "max_members is 1,000, and there are 1,001 members;"
        " max_change_percent is 50, and there are 1,001 members after 100 (the segment of 2026-11-21);"
        " max_reject_percent is 30, and there are 500 of 1,001 members rejected for data faults"
    )


def test_a_name_that_none_of_enough_records_has_is_wrong() -> None:
    names, attributes = DataSchema.model_validate({"address": ["profile", "email"]}), {"Level": ("stats", "level")}
    found = {"profile.email": 0, "stats.level": 999, "lastName": 1000}
    check_record_attributes(names, attributes, counted(1000, found))
    check_record_attributes(names, attributes, counted(999, found))
    check_record_attributes(names, attributes, counted(99, dict.fromkeys(found, 99)))
    check_record_attributes(names, attributes, counted(0, {}))
    with pytest.raises(
        FlywheelError,
        match="none of the 1,000 records .* stats.level, so .* correct attributes.Level in cohorts",
    ):
        check_record_attributes(names, attributes, counted(1000, found | {"stats.level": 1000}))
    with pytest.raises(FlywheelError, match="none of the 100 records .* profile.email, .* correct schema.address in"):
        check_record_attributes(names, {}, counted(100, found | {"profile.email": 100}))


CONSENT = Consent(attribute="emailConsent", opted_in=["yes"], opted_out=["no"], silence="opted_in")


def counted(records: int, without: dict[str, int]) -> RecordSums:
    return RecordSums(
        members=records, rows=records, rejects={}, bytes=9, sha256="ab", do_not_contact=0, records=records,
        records_without=without,
    )  # fmt: skip


def test_a_run_in_which_no_record_has_the_consent_attribute_is_stopped() -> None:
    for silence in ("opted_in", "opted_out"):
        with pytest.raises(
            FlywheelError,
            match=r"none of the 1,200 records has a value in the consent attribute emailConsent, so nothing is",
        ):
            consent = CONSENT.model_copy(update={"silence": silence})
            check_consent_attribute(consent, counted(1_200, {"emailConsent": 1_200, "lastName": 0}))


@pytest.mark.parametrize(
    ("consent", "records", "without"),
    [
        (CONSENT, 3, {"emailConsent": 2}),
        (CONSENT, 3, {"emailConsent": 0, "lastName": 3, "firstName": 3}),
        (CONSENT, 0, {"emailConsent": 0}),
        (CONSENT, 0, {}),
        (None, 3, {"emailConsent": 3}),
    ],
)
def test_one_answer_is_enough_and_without_records_or_consent_there_is_nothing_to_check(
    consent: Consent | None, records: int, without: dict[str, int]
) -> None:
    check_consent_attribute(consent, counted(records, without))


counts = st.integers(0, 10**6)


@given(counts, st.none() | counts, st.dictionaries(st.sampled_from(sorted(REASONS)), counts))
def test_any_figures_are_evaluated_and_an_unchanged_run_passes(
    members: int, previous: int | None, rejects: dict[str, int]
) -> None:
    results = evaluate(members, previous, **rejects)
    assert [v.limit for v in results] == list(LIMITS)
    assert (describe_violations(results) is None) == all(v.holds for v in results)
    if members == previous:
        assert results[2].holds
    assert results[0].holds == (members >= 10)
