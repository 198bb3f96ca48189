"""The same rows from both serializers for any values, and by the types of the frame or by gremlinpython."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from gremlin_python.driver.client import Client
from gremlin_python.driver.protocol import GremlinServerError
from gremlin_python.driver.request import RequestMessage
from gremlin_python.driver.serializer import GraphSONSerializersV2d0
from gremlin_python.process.graph_traversal import GraphTraversalSource, __
from gremlin_python.process.traversal import T, TraversalStrategies
from gremlin_python.structure.graph import Graph
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.graph_serializers import SERIALIZERS, GraphSONRows
from cohort_flywheel.hooks.neptune import NeptuneGremlinHook

#: What the properties of a vertex may be; each is one statement of Groovy for a vertex of the scratch graph.
ODD = {
    "plain": ".property('playerId', 'p1').property('score', 3)",
    "no playerId": ".property('score', 3)",
    "two playerIds": ".property('playerId', 'p1').property('playerId', 'p2').property('score', 3)",
    "two scores": ".property('playerId', 'p1').property('score', 3).property('score', 1)",
    "a numeric playerId": ".property('playerId', 96).property('score', 3)",
    "no score": ".property('playerId', 'p1')",
    "a long": ".property('playerId', 'p1').property('score', 9007199254740993L)",
    "a byte and a short": ".property('playerId', 'p1').property('score', (byte) 3).property('score', (short) 300)",
    "a double": ".property('playerId', 'p1').property('score', 2.5d).property('score', -1e300d)",
    "a float": ".property('playerId', 'p1').property('score', 2.5f)",
    "a float whose text is not its value": ".property('score', 3.1f).property('score', -3.4028235E38f)",
    "floats that are no numbers": ".property('score', Float.NaN).property('score', Float.NEGATIVE_INFINITY)",
    "NaN": ".property('playerId', 'p1').property('score', Double.NaN)",
    "infinities": ".property('score', Double.POSITIVE_INFINITY).property('score', Double.NEGATIVE_INFINITY)",
    "a whole number without end": ".property('playerId', 'p1').property('score', 123456789012345678901234567890G)",
    "a decimal": ".property('playerId', 'p1').property('score', 2.5G)",
    "a whole decimal": ".property('playerId', 'p1').property('score', 3.00G).property('score', 900719925474099.0G)",
    "a large decimal": ".property('playerId', 'p1').property('score', new BigDecimal('1E+400'))",
    "text as a score": ".property('playerId', 'p1').property('score', '3')",
    "a truth": ".property('playerId', 'p1').property('score', 3).property('status', true)",
    "a date": ".property('playerId', 'p1').property('score', 3).property('status', new Date(1600000000000L))",
    "a list": ".property('playerId', 'p1').property('score', 3).property('status', [1, [2L, 'x']])",
    "a map": ".property('playerId', 'p1').property('score', 3).property('status', [a: 1, b: ['c']])",
    "text beyond ASCII": r""".property('playerId', '\u540d\u524d \ud83c\udfae "q" \\ \u0000\t').property('score', 3)""",
    "text like GraphSON": r""".property('playerId', '{"@type":"g:Int32","@value":1}').property('score', 3)""",
    "text like a big number": r""".property('playerId', '"gx:BigInteger"').property('score', 3)""",
}


def g() -> GraphTraversalSource:
    return GraphTraversalSource(Graph(), TraversalStrategies())


def connect(monkeypatch: pytest.MonkeyPatch, port: int, **extra: Any) -> NeptuneGremlinHook:
    connection = {"conn_type": "gremlin", "host": "127.0.0.1", "port": port, "schema": "ws", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_NEPTUNE_DEFAULT", json.dumps(connection))
    return NeptuneGremlinHook()


@pytest.fixture
def scratch(servers: Any) -> Iterator[Callable[[str], Any]]:
    """Runs Groovy on the empty scratch graph, and lets the hook read that graph in place of the other."""
    client = Client(servers.gremlin_url, "scratch")
    run: Callable[[str], Any] = lambda text: client.submit(text).all().result()  # noqa: E731 - one line
    run("scratch.V().drop().iterate(); 0")
    yield run
    run("scratch.V().drop().iterate(); 0")
    client.close()


@pytest.fixture
def on_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    from gremlin_python.driver import client

    class Scratch(Client):
        def __init__(self, url: str, source: str, **rest: Any) -> None:
            super().__init__(url, "scratch", **rest)

    monkeypatch.setattr(client, "Client", Scratch)


def same(one: Any, other: Any) -> bool:
    """Equal, a NaN being equal to a NaN; a boolean is not a number, but one of gremlinpython's own classes is."""
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


@pytest.mark.usefixtures("on_scratch")
def test_both_serializers_give_the_same_rows(
    scratch: Callable[[str], Any], servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, properties in ODD.items():
        scratch(f"scratch.addV('player').property('name', {name!r}){properties}.iterate(); 0")
    rows: dict[str, dict[str, Any]] = {}
    for serializer in SERIALIZERS:
        hook = connect(monkeypatch, servers.gremlin_port, serializer=serializer, batch_size=5)
        read = [row for b in hook.stream(g().V().has_label("player").value_map()) for row in b]
        rows[serializer] = {row["name"][0]: row for row in read}
    ours, theirs = rows["graphson-2.0"], rows["graphbinary-1.0"]
    assert set(ours) == set(theirs) == set(ODD)
    for name in ODD:
        assert same(ours[name], theirs[name]), (name, ours[name], theirs[name])
    assert ours["no playerId"] == {"name": ["no playerId"], "score": [3]}
    assert sorted(ours["two playerIds"]["playerId"]) == ["p1", "p2"]
    assert sorted(ours["two scores"]["score"]) == [1, 3]
    assert ours["a long"]["score"] == [9007199254740993]
    assert ours["a whole number without end"]["score"] == [123456789012345678901234567890]
    assert sorted(ours["infinities"]["score"]) == [-math.inf, math.inf]
    assert (ours["a decimal"]["score"], ours["a large decimal"]["score"]) == ([2.5], [math.inf])
    assert sorted(theirs["a whole decimal"]["score"]) == [3, 900719925474099]
    assert ours["a date"]["status"][0].replace(tzinfo=UTC) == datetime(2020, 9, 13, 12, 26, 40, tzinfo=UTC)


@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_bulk_batches_and_nothing_at_all(serializer: str, servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = connect(monkeypatch, servers.gremlin_port, serializer=serializer, batch_size=10)
    assert [row for b in hook.stream(g().inject(*["same"] * 50).barrier()) for row in b] == ["same"] * 50
    assert [len(b) for b in hook.stream(g().inject(*range(25)))] == [10, 10, 5]
    assert [row for b in hook.stream(g().V().has_label("missing")) for row in b] == []
    rows = [row for b in hook.stream(g().inject(1).project("a", "b").by(__.identity()).by(__.fold())) for row in b]
    assert rows == [{"a": 1, "b": [1]}]
    with pytest.raises(FlywheelError, match="refuses the query"):
        list(hook.stream(g().inject("text").math("_ + 1")))


@pytest.mark.usefixtures("on_scratch")
@pytest.mark.parametrize("serializer", SERIALIZERS)
def test_a_request_may_have_a_map_whose_keys_are_not_texts(
    serializer: str, scratch: Callable[[str], Any], servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GraphSON 2 has no such map."""
    hook = connect(monkeypatch, servers.gremlin_port, serializer=serializer)
    merged = g().merge_v({T.id: "c1", T.label: "campaign"}).property("score", 2.5)
    assert [row for b in hook.stream(merged.value_map()) for row in b] == [{"score": [2.5]}]
    scratch("scratch.V().property('score', 2.5G).iterate(); 0")
    found = [row for b in hook.stream(g().merge_v({T.id: "c1"}).values("score").order()) for row in b]
    assert found == [2.5, 2.5]
    with pytest.raises(FlywheelError, match="refuses the query"):
        list(hook.stream(g().inject("text").math("_ + 1").merge_v({T.id: "c2"})))


def test_the_serializer_prefix_has_the_length_that_gremlinpython_writes() -> None:
    """It writes 33 ("!") before the MIME type, whatever that is."""
    message = RequestMessage("traversal", "bytecode", {"gremlin": g().V().bytecode})
    sent = GraphSONRows().serialize_message("41d2e28a-20a4-4ab0-b379-d810dede3786", message)
    assert sent.startswith(b"!application/vnd.gremlin-v2.0+json{")
    assert len("application/vnd.gremlin-v2.0+json") == ord("!")


# --- frames that no server was asked for ------------------------------------------------------------------


def typed(kind: str, value: Any) -> dict[str, Any]:
    return {"@type": kind, "@value": value}


def frame(*results: Any, bulk: int = 1, code: int = 200, **status: Any) -> bytes:
    traversers = [typed("g:Traverser", {"bulk": typed("g:Int64", bulk), "value": each}) for each in results]
    return json.dumps(
        {
            "requestId": "41d2e28a-20a4-4ab0-b379-d810dede3786",
            "status": {"message": "", "code": code, "attributes": {}, **status},
            "result": {"data": traversers if results else None, "meta": {}},
        }
    ).encode()


def rows(message: bytes) -> Any:
    return GraphSONRows().deserialize_message(message)["result"]["data"]


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.text(st.characters()),  # halves of surrogate pairs too
        st.integers(-(2**31), 2**31 - 1).map(lambda n: typed("g:Int32", n)),
        st.integers(-(2**63), 2**63 - 1).map(lambda n: typed("g:Int64", n)),
        st.integers().map(lambda n: typed("gx:BigInteger", n)),
        st.floats(allow_nan=False, allow_infinity=False).map(lambda n: typed("g:Double", n)),
        st.sampled_from(["NaN", "Infinity", "-Infinity"]).map(lambda n: typed("g:Double", n)),
        st.uuids().map(lambda u: typed("g:UUID", str(u))),
        st.just(typed("g:T", "id")),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        # as `valueMap` has it: each frame is read as rows of lists, or by gremlinpython
        st.dictionaries(st.text(), st.lists(inner, max_size=3), max_size=3),
        st.dictionaries(st.text(), inner, max_size=3),
    ),
    max_leaves=12,
)


@given(st.lists(values, min_size=1, max_size=4), st.integers(1, 3))
def test_any_value_is_what_gremlinpython_reads(results: list[Any], bulk: int) -> None:
    message = frame(*results, bulk=bulk)
    theirs = GraphSONSerializersV2d0().deserialize_message(message)["result"]["data"]
    assert same(rows(message), [each.object for each in theirs for _ in range(each.bulk)])


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ({"playerId": ["p1"], "score": [typed("g:Int32", 3), typed("g:Double", 2.0)]}, True),
        ({"status": ["Active", True, None], "score": [typed("gx:BigInteger", 10**30)]}, True),
        ({"score": [typed("gx:Byte", 3), typed("gx:Int16", 300), typed("g:Int64", -(2**63))]}, True),
        ({}, True),
        ({"score": [typed("g:Double", "NaN")]}, False),
        ({"score": [typed("gx:BigDecimal", 2.5)]}, False),
        ({"playerId": [typed("g:UUID", "41d2e28a-20a4-4ab0-b379-d810dede3786")]}, False),
        ({"playerId": ["\ud800"]}, False),
        ({"playerId": "p1"}, False),
        (typed("g:Int64", 5), False),
        ("text", False),
    ],
)
def test_rows_of_lists_are_read_by_their_types_and_other_frames_by_gremlinpython(
    value: Any, read: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = rows(frame(value))
    theirs = GraphSONSerializersV2d0().deserialize_message(frame(value))["result"]["data"]
    assert same(expected, [each.object for each in theirs])
    asked: list[bytes] = []
    ours = GraphSONRows()

    def theirs_asked(message: bytes) -> Any:
        asked.append(message)
        return {"result": {"data": None}}

    monkeypatch.setattr(ours._theirs, "deserialize_message", theirs_asked)
    ours.deserialize_message(frame(value))
    assert asked == ([] if read else [frame(value)])


def test_the_exact_value_of_a_float_and_a_decimal_as_a_number() -> None:
    """gremlinpython reads a Float by its text, and a BigDecimal as a class of its own."""
    assert rows(frame({"score": [typed("g:Float", 3.1)]})) == [{"score": [3.0999999046325684]}]
    decimals = [typed("gx:BigDecimal", 2.5), typed("g:Float", 3.1), typed("g:Float", "-Infinity")]
    assert rows(frame({"score": decimals})) == [{"score": [2.5, 3.0999999046325684, -math.inf]}]


def test_an_answer_in_the_default_serializer_is_read(servers: Any) -> None:
    """A real server's, to a request whose MIME type it does not know."""
    answered: list[bytes] = []

    class Unknown(GraphSONRows):
        def serialize_message(self, request_id: str, request_message: Any) -> Any:
            return super().serialize_message(request_id, request_message).replace(b"-v2.0+json", b"-v9.9+json")

        def deserialize_message(self, message: Any) -> Any:
            answered.append(message)
            return super().deserialize_message(message)

    client = Client(servers.gremlin_url, "g", message_serializer=Unknown())
    try:
        with pytest.raises(GremlinServerError):
            client.submit(g().V().bytecode).all().result(30)
    finally:
        client.close()
    assert answered[0][:1] == b"\x81"
