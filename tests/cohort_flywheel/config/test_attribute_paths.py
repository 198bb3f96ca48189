"""Attributes of a record by name or path: what a run asks for, and what it reads from the answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cohort_flywheel.config.attribute_paths import COLUMNS, AttributePath, path_text, value_at, without_overlaps
from cohort_flywheel.config.data_schema import DataSchema

RECORD = {"email": "a@example.com", "profile": {"email": "b@example.com", "stats": {"level": 3}}, "tags": ["x"]}

#: Few names, so that many paths overlap.
paths: st.SearchStrategy[AttributePath] = st.one_of(
    st.sampled_from("abc"), st.lists(st.sampled_from("abc"), min_size=2, max_size=4).map(tuple)
)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("email", "a@example.com"),
        (("profile", "email"), "b@example.com"),
        (("profile", "stats", "level"), 3),
        (("profile", "stats"), {"level": 3}),
        ("Email", None),
        (("profile", "phone"), None),
        (("profile", "stats", "level", "x"), None),
        (("email", "x"), None),
        (("tags", "0"), None),
        (("none", "x"), None),
    ],
)
def test_the_value_of_a_path(path: AttributePath, value: object) -> None:
    assert value_at(RECORD, path) == value


@given(st.lists(paths))
def test_no_path_is_asked_for_below_another_and_each_is_covered(wanted: list[AttributePath]) -> None:
    asked = without_overlaps(wanted)
    assert len(set(asked)) == len(asked)
    for one in asked:
        assert not [other for other in asked if other != one and other[: len(one)] == one]
    for path in wanted:
        whole = (path,) if isinstance(path, str) else path
        assert [one for one in asked if whole[: len(one)] == one]


def test_a_path_is_read_from_the_json_of_a_plan() -> None:
    given_columns = {"Level": ["stats", "level"], "Guild": "guild", "Rank": ["rank"]}
    read: dict[str, Any] = COLUMNS.validate_python(given_columns)
    assert read == {"Level": ("stats", "level"), "Guild": "guild", "Rank": "rank"}
    assert COLUMNS.dump_python(read, mode="json") == {"Level": ["stats", "level"], "Guild": "guild", "Rank": "rank"}
    assert [path_text(path) for path in read.values()] == ["stats.level", "guild", "rank"]
    schema = DataSchema.model_validate({"address": ["profile", "email"]})
    assert DataSchema.model_validate_json(schema.model_dump_json()) == schema


@pytest.mark.parametrize("path", ["", "a.b", "a[0]", [], ["a", ""], ["a", 0], ["a", ["b"]], 3, None, {"a": "b"}, "a "])
def test_what_is_not_a_path(path: object) -> None:
    with pytest.raises(ValidationError):
        DataSchema.model_validate({"address": path})
