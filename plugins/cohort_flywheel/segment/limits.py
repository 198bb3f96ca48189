"""Limits checked before the import, with a manual override."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cohort_flywheel.config.attribute_paths import AttributePath, path_text
from cohort_flywheel.config.cohorts import Consent
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.segment.contacts import DATA_FAULTS
from cohort_flywheel.segment.outputs import LimitResult, Previous, RecordSums

#: The address has a wrong name if none of so many records has it.
ENOUGH_FOR_ADDRESS = 100
#: The same for another attribute, which few players may have: of 100 records often none has what 1 % have.
ENOUGH_FOR_ATTRIBUTE = 1000


def evaluate_limits(
    limits: Mapping[str, int], *, members: int, rejects: Mapping[str, int], previous: Previous | None
) -> list[LimitResult]:
    """Return one result per limit.

    Without `previous`, or if it has no members, the change is not evaluated. It is a percentage of the smaller of the
    two numbers: half as many and twice as many are both a change of 100 %. Only `min_members` decides whether a cohort
    may be empty.
    """
    faults = sum(number for reason, number in rejects.items() if reason in DATA_FAULTS)
    rejected = 100 * faults / members if members else 0.0
    before = previous.members if previous else 0
    change = 100 * abs(members - before) / min(members, before) if members and before else None
    evaluated: list[tuple[str, float | None, bool, str]] = [
        ("min_members", members, members >= limits["min_members"], f"{members:,} members"),
        ("max_members", members, members <= limits["max_members"], f"{members:,} members"),
        (
            "max_change_percent",
            change,
            change is None or change <= limits["max_change_percent"],
            f"{members:,} members after {before:,} ({previous.what})" if previous else "nothing to compare with",
        ),
        (
            "max_reject_percent",
            rejected,
            rejected <= limits["max_reject_percent"],
            f"{faults:,} of {members:,} members rejected for data faults",
        ),
    ]
    return [
        LimitResult(
            limit=name,
            allowed=limits[name],
            found=None if found is None else round(found, 1),
            holds=holds,
            sentence=sentence,
        )
        for name, found, holds, sentence in evaluated
    ]


def describe_violations(results: Iterable[LimitResult]) -> str | None:
    """Describe the violated limits, as a part of a sentence; None if all hold."""
    broken = [result for result in results if not result.holds]
    return "; ".join(f"{each.limit} is {each.allowed:,}, and there are {each.sentence}" for each in broken) or None


def check_consent_attribute(consent: Consent | None, segment: RecordSums) -> None:
    """Raise FlywheelError if no record has a value in the consent attribute: the attribute is wrong.

    A user cannot override this check. Without records, or with `consent: none` (None), there is nothing to check.
    """
    if not consent or not segment.records:
        return
    name = path_text(consent.attribute)
    if segment.records_without.get(name, 0) == segment.records:
        raise FlywheelError(
            f"none of the {segment.records:,} records has a value in the consent attribute {name}, so nothing is"
            " imported: correct consent.attribute in cohorts.yaml (names are case-sensitive; a value is a text, a"
            " number or a boolean; one in a map is named by a list, as in [profile, emailConsent]), or write the"
            " players' answers into the contacts table; then clear plan with downstream",
            code=Code.NO_CONSENT_VALUES,
        )


def check_record_attributes(schema: DataSchema, attributes: Mapping[str, AttributePath], segment: RecordSums) -> None:
    """Raise FlywheelError if none of 100 records has the address, or none of 1,000 an attribute of the cohort."""
    named = [("schema.address", schema.address, ENOUGH_FOR_ADDRESS)]
    named += [(f"attributes.{column}", path, ENOUGH_FOR_ATTRIBUTE) for column, path in attributes.items()]
    for key, path, enough in named:
        if segment.records < enough:
            return
        name = path_text(path)
        if segment.records_without.get(name, 0) == segment.records:
            raise FlywheelError(
                f"none of the {segment.records:,} records has a value in the attribute {name}, so nothing is imported:"
                f" correct {key} in cohorts.yaml (names are case-sensitive; one in a map is named by a list, as in"
                " [profile, email]), then clear plan with downstream; if no player has one yet, trigger a new run with"
                " override_limits and override_reason",
                code=Code.NO_VALUES,
            )
