"""An answer with nothing but texts has the records that any answer has; every other one is left to the general way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.hooks.dynamodb_answers import read_records, read_texts

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
values = texts.map(lambda text: {"S": text})
items = st.builds(lambda key, rest: rest | {"playerId": key}, values, st.dictionaries(texts, values, max_size=4))
PLAIN = {"Responses": {"t": [{"playerId": {"S": "wayne96"}, "level": {"S": "1"}}]}, "UnprocessedKeys": {}}


@given(st.lists(items, max_size=4), st.booleans())
def test_texts_are_read_as_any_answer(found: list[Any], escaped: bool) -> None:
    answer: dict[str, Any] = {"Responses": {"t": found}, "UnprocessedKeys": {}}
    body = json.dumps(answer, ensure_ascii=escaped).encode()
    assert read_texts(body, "playerId") == read_records(answer, "playerId")


def test_fields_that_no_record_is_in_do_not_matter() -> None:
    for answer in (PLAIN, PLAIN | {"ConsumedCapacity": [{"CapacityUnits": 1}]}, {"Responses": PLAIN["Responses"]}):
        assert read_texts(json.dumps(answer).encode(), "playerId") == {"wayne96": {"playerId": "wayne96", "level": "1"}}
    assert read_texts(b'{"Responses": {}}', "playerId") == {}


@pytest.mark.parametrize(
    "other",
    [
        {"level": {"N": "1"}},
        {"level": {"BOOL": True}},
        {"level": {"NULL": True}},
        {"level": {"M": {"S": {"S": "1"}}}},
        {"level": {"L": [{"S": "1"}]}},
        {"level": {"SS": ["1"]}},
        {"level": {"S": None}},
        {"level": {"S": "1", "N": "1"}},
        {"level": "1"},
        {"level": {}},
    ],
)
def test_a_value_that_is_not_a_text_is_left_to_the_general_way(other: dict[str, Any]) -> None:
    item = {"playerId": {"S": "wayne96"}} | other
    assert read_texts(json.dumps({"Responses": {"t": [item]}}).encode(), "playerId") is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"Responses": {"t": [{"playerId": {"S": "\\ud800"}}]}}',
        b'{"Responses": {"t": [{"playerId": {"S": "\xff"}}]}}',
        b'{"Responses": {"t": [{"level": {"S": "1"}}]}}',
        b'{"Responses": {"t": [{"playerId": {"S": "wayne96"}}]}, "UnprocessedKeys": null}',
        b'{"Responses": {"t": []}, "UnprocessedKeys": {"t": {"Keys": [{"playerId": {"S": "wayne96"}}]}}}',
        b'{"Responses": {"t": [{"playerId": {"S": "wayne96"}}]}',
    ],
)
def test_another_answer_is_left_to_the_general_way(body: bytes) -> None:
    assert read_texts(body, "playerId") is None
