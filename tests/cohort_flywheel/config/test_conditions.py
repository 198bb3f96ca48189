"""The conditions of `where`: which values meet them, and the same of a snapshot as of the graph."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cohort_flywheel.config.conditions import Condition


@pytest.mark.parametrize(
    ("values", "allowed", "holds"),
    [
        (["Active"], ["Active"], True),
        (["Active"], ["Inactive", "Active"], True),
        (["Inactive"], ["Active"], False),
        (["active"], ["Active"], False),
        (["Active", "Active"], ["Active"], True),
        (["Active", "Inactive"], ["Active"], False),  # a re-load left two: which one holds is unknown
        (["Active", "Inactive"], ["Active", "Inactive"], True),
        ([], ["Active"], False),
        ([True], [True], True),
        ([True], ["true"], True),
        (["True"], [True], False),
        ([False], [True], False),
        ([1], [True], False),
        ([2], [1, 2], True),
        (["2"], [2], True),
        ([2.0], [2], True),
        ([2], [2.0], True),
        ([0.75], [0.75], True),
        ([0.750001], [0.75], False),
        ([math.nan], [2], False),
        ([10**30], [2], False),
    ],
)
def test_all_values_must_be_allowed_ones(values: list[Any], allowed: list[Any], holds: bool) -> None:
    assert Condition.model_validate({"one_of": allowed}).test()(values) is holds
    if len(allowed) == 1:
        assert Condition.model_validate({"equals": allowed[0]}).test()(values) is holds


@pytest.mark.parametrize(
    ("condition", "values", "holds"),
    [
        ({"above": 2}, [3], True),
        ({"above": 2}, [2], False),
        ({"above": 2}, [2.0], False),
        ({"above": 2}, [2.000001], True),
        ({"above": 2}, [10**400], True),
        ({"above": 2}, [3, 1], False),
        ({"above": 2}, [3, 4], True),
        ({"above": 2}, [], False),
        ({"above": -1}, [True], False),
        ({"above": 2}, ["3"], False),
        ({"above": 2}, [3, None], False),
        ({"above": 2}, [math.inf], False),
        ({"below": 2}, [-math.inf], False),
        ({"below": 2}, [math.nan], False),
        ({"below": 0.75}, [0.75], False),
        ({"below": 0.75}, [0.5], True),
        ({"above": 0.25, "below": 0.75}, [0.5], True),
        ({"above": 0.25, "below": 0.75}, [0.25], False),
        ({"above": 0.25, "below": 0.75}, [0.75], False),
    ],
)
def test_all_values_must_be_numbers_strictly_beyond(condition: dict[str, Any], values: list[Any], holds: bool) -> None:
    assert Condition.model_validate(condition).test()(values) is holds


numbers = st.integers(-5, 5) | st.integers(-500_000, 500_000).map(lambda n: n / 100_000)
allowed_values = numbers | st.booleans() | st.text(min_size=1)
conditions = st.one_of(
    st.builds(lambda number: {"above": number}, numbers),
    st.builds(lambda number: {"below": number}, numbers),
    st.tuples(numbers, numbers)
    .filter(lambda both: both[0] < both[1])
    .map(lambda both: {"above": both[0], "below": both[1]}),
    st.builds(lambda value: {"equals": value}, allowed_values),
    st.builds(lambda found: {"one_of": found}, st.lists(allowed_values, min_size=1, max_size=4)),
)
graph_values = st.lists(
    numbers | st.booleans() | st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False), max_size=3
)


@given(conditions, graph_values)
def test_a_condition_and_values_mean_the_same_after_a_plan_and_a_snapshot(
    written: dict[str, Any], values: list[Any]
) -> None:
    condition = Condition.model_validate(written)
    planned = Condition.model_validate(json.loads(json.dumps(condition.model_dump(mode="json"))))
    assert planned == condition
    kept = json.loads(json.dumps(values))
    assert planned.test()(kept) is condition.test()(values)


@given(conditions, graph_values, graph_values)
def test_more_values_never_meet_more(written: dict[str, Any], values: list[Any], more: list[Any]) -> None:
    holds = Condition.model_validate(written).test()
    assert holds(values + more) is (bool(values + more) and all(holds([value]) for value in values + more))


@given(conditions, graph_values)
def test_only_numbers_between_are_above_and_below(written: dict[str, Any], values: list[Any]) -> None:
    if not written.keys() & {"above", "below"}:
        return
    numeric = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    between = all(written.get("above", -math.inf) < v < written.get("below", math.inf) for v in numeric)
    assert Condition.model_validate(written).test()(values) is (
        bool(values) and len(numeric) == len(values) and between
    )


@given(st.dictionaries(st.sampled_from(["above", "below", "equals", "one_of", "x"]), graph_values | allowed_values))
def test_any_mapping_is_a_condition_or_refused(written: dict[str, Any]) -> None:
    try:
        condition = Condition.model_validate(written)
    except ValidationError:
        return
    assert set(condition.to_mapping()) in ({"above"}, {"below"}, {"above", "below"}, {"equals"}, {"one_of"})
