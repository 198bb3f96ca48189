"""A record under any names, at any depth, becomes the contact or reject that it is under the modeler's names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.config.attribute_paths import AttributePath, path_text, value_at, without_overlaps
from cohort_flywheel.config.cohorts import Consent
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.segment.contacts import Contact, RecordCounts, Reject, classify_member, player_forms, projection
from cohort_flywheel.segment.members import Member

MEMBER = Member("wayne96", 3)
#: Under the modeler's names: the address, the names, an attribute, and the consent.
FLAT = ("email", "firstName", "lastName", "favoriteRole", "level", "ok")
#: Few maps, so that many paths share one; each leaf has a name of its own.
folders = st.lists(st.sampled_from(["profile", "stats", "a b", "$x"]), max_size=2)
values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from(["", "yes", "no", "Wayne@example.com", "x@y", "Zoë"]),
    st.just({"in": "a map"}), st.just(["a list"]),
)  # fmt: skip


def put(record: dict[str, Any], path: AttributePath, value: object) -> None:
    *above, name = (path,) if isinstance(path, str) else path
    for each in above:
        record = record.setdefault(each, {})
    record[name] = value


def projected(record: Mapping[str, object], paths: Iterable[AttributePath]) -> dict[str, Any]:
    """What DynamoDB gives of a record."""
    found: dict[str, Any] = {}
    for path in without_overlaps(paths):
        if (value := value_at(record, path)) is not None:
            put(found, path, value)
    return found


def classified(paths: Sequence[AttributePath], given_values: Sequence[object]) -> tuple[Contact | Reject, RecordCounts]:
    address, first, last, role, level, ok = paths
    schema = DataSchema(address=address, first_name=first, last_name=last, favorite_role=role)
    consent = Consent(attribute=ok, opted_in=["yes", True], opted_out=["no"], silence="opted_in")
    whole: dict[str, Any] = {"of another": {"team": 1}}
    for path, value in zip(paths, given_values, strict=True):
        put(whole, path, value)
    wanted = projection({"Level": level}, consent, schema)
    record, counts = projected(whole, wanted), RecordCounts(wanted)
    counts.add([record])
    assert player_forms("wayne96", record, schema) == player_forms("wayne96", {"email": given_values[0]})
    outcome = classify_member(
        MEMBER, record, columns=schema.name_columns | {"Level": level}, score_column=None, consent=consent,
        do_not_contact=lambda _: False, schema=schema,
    )  # fmt: skip
    return outcome, counts


@given(st.lists(folders, min_size=6, max_size=6), st.lists(values, min_size=6, max_size=6))
def test_the_same_contact_or_reject_by_any_names(parents: list[list[str]], given_values: list[object]) -> None:
    paths: list[AttributePath] = [
        (*above, f"leaf {index}") if above else f"leaf {index}" for index, above in enumerate(parents)
    ]
    (outcome, counts), (expected, flat) = classified(paths, given_values), classified(FLAT, given_values)
    if isinstance(expected, Reject) and expected.column in FLAT:  # a reject names the attribute at fault
        expected = expected._replace(column=path_text(paths[FLAT.index(expected.column)]))
    assert outcome == expected
    assert list(counts.without.values()) == list(flat.without.values())
