"""Scores as columns: every row of the graph is in the columns, or as it is beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.hooks.graph_serializers import SERIALIZERS, GraphSONScores, ScoreColumns
from tests.cohort_flywheel.hooks.test_graphson import ODD, connect, frame, g, on_scratch, rows, same, scratch, typed

__all__ = ["on_scratch", "scratch"]  # fixtures

one_value = st.one_of(
    st.integers(-(2**31), 2**31 - 1).map(lambda n: typed("g:Int32", n)),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda n: typed("g:Double", n)),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda n: typed("g:Float", n)),
)
player_rows = st.fixed_dictionaries(
    {},
    optional={
        "playerId": st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=2),
        "score": st.lists(one_value, max_size=2),
        "status": st.lists(st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=3), one_value)),
    },
)


def columns(message: bytes) -> ScoreColumns:
    found = GraphSONScores("playerId", "score", ["status"]).deserialize_message(message)["result"]["data"]
    assert isinstance(found, ScoreColumns)
    return found


def as_rows(found: ScoreColumns) -> list[dict[str, Any]]:
    """The rows of the columns, then the others; an absent property is an empty list."""
    names = ("playerId", "score", "status")
    regular = zip(found.player_ids, found.scores, found.properties["status"], strict=True)
    columns_of = [{"playerId": [player], "score": [score], "status": status} for player, score, status in regular]
    return columns_of + [{name: row.get(name, []) for name in names} for row in found.others]


@given(st.lists(player_rows, min_size=1, max_size=5), st.integers(1, 3))
def test_columns_and_the_other_rows_have_every_row(results: list[Any], bulk: int) -> None:
    message = frame(*results, bulk=bulk)
    found = columns(message)
    expected = [{name: row.get(name, []) for name in ("playerId", "score", "status")} for row in rows(message)]
    regular = [len(row["playerId"]) == len(row["score"]) == bulk == 1 for row in expected]
    in_order = sorted(zip(regular, expected, strict=True), key=lambda each: not each[0])  # stable
    assert same(as_rows(found), [row for _, row in in_order])
    assert len(found.player_ids) == sum(regular)


@pytest.mark.parametrize(
    "odd",
    [
        {"playerId": ["p2"], "score": [typed("g:Double", "NaN")]},
        {"playerId": ["p2"], "score": ["3"]},
        {"playerId": ["p2"], "score": [True]},
        {"playerId": [typed("g:Int32", 96)], "score": [typed("g:Int32", 3)]},
        {"playerId": ["\ud800"], "score": [typed("g:Int32", 3)]},
        {"playerId": ["p2"], "score": [typed("g:Int32", 3)], "status": [typed("g:Date", 1600000000000)]},
    ],
)
def test_a_frame_with_an_odd_row_is_gremlinpython_s_rows(odd: dict[str, Any]) -> None:
    plain = {"playerId": ["p1"], "score": [typed("g:Int32", 3)], "status": ["Active"]}
    found = GraphSONScores("playerId", "score", ["status"]).deserialize_message(frame(plain, odd))["result"]["data"]
    assert same(found, rows(frame(plain, odd)))


@pytest.mark.parametrize("name", ["skóre", "a score", "p0", ""])
def test_any_name_of_a_property(name: str) -> None:
    """As gremlinpython's frames have it, and with the escapes of JSON."""
    found = GraphSONScores("playerId", name).deserialize_message
    row = {"playerId": ["p1"], name: [typed("g:Int32", 3)]}
    for message in (frame(row), frame(row).decode("unicode_escape").encode()):
        assert found(message)["result"]["data"] == ScoreColumns(["p1"], [3], {}, [])


@pytest.mark.parametrize("names", [["score", "score"], ["playerId"], ['a "score"']])
def test_names_that_have_no_columns_are_read_as_rows(names: list[str]) -> None:
    row = {"playerId": ["p1"], "score": [typed("g:Int32", 3)], 'a "score"': ["x"]}
    found = GraphSONScores("playerId", "score", names).deserialize_message(frame(row))["result"]["data"]
    assert found == rows(frame(row)) == [{"playerId": ["p1"], "score": [3], 'a "score"': ["x"]}]


@pytest.mark.usefixtures("on_scratch")
@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_a_stream_of_columns_has_the_rows_of_the_graph(
    serializer: str, scratch: Callable[[str], Any], servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, properties in ODD.items():
        scratch(f"scratch.addV('player').property('name', {name!r}){properties}.iterate(); 0")
    hook = connect(monkeypatch, servers.gremlin_port, serializer=serializer, batch_size=3)
    names = ("playerId", "score", "name")
    query = g().V().has_label("player").value_map(*names)
    batches = list(hook.stream_scores(query, player_id="playerId", property="score", required=["name"]))
    found: dict[str, Any] = {}
    for batch in batches:
        for player, score, (text,) in zip(
            batch.player_ids, batch.scores, batch.properties.get("name", ()), strict=True
        ):
            found[str(text)] = {"playerId": [player], "score": [score], "name": [text]}
        found |= {str(row["name"][0]): row for row in batch.others}
    expected = {row["name"][0]: row for batch in hook.stream(query) for row in batch}
    assert same(found, expected)
    assert bool([1 for batch in batches if batch.player_ids]) is (serializer == "graphson-2.0")
