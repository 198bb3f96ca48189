"""Message serializers for gremlinpython, which read the rows of an answer faster than its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from ctypes import c_float
from decimal import Decimal
from functools import cache
from itertools import repeat
from typing import Any

import orjson

from cohort_flywheel.common.records import Json


class GraphBinaryRows:
    """A `message_serializer` for gremlinpython: its GraphBinary, with each row repeated by its traverser's bulk."""

    def __init__(self) -> None:
        from gremlin_python.driver.serializer import GraphBinarySerializersV1  # heavy: not for a DAG's parse

        self._theirs = GraphBinarySerializersV1(reader=_graphbinary_reader())
        self.serialize_message = self._theirs.serialize_message

    def deserialize_message(self, message: bytes) -> Any:
        answer = self._theirs.deserialize_message(message)
        traversers = answer["result"]["data"] or ()
        answer["result"]["data"] = [each.object for each in traversers for _ in range(each.bulk)]
        return answer


class GraphSONRows:
    """A `message_serializer` for gremlinpython: typed GraphSON 3, with rows read by orjson and the functions below.

    gremlinpython writes the request and reads the rest. Each instance is for one connection with one request at a
    time: a server answers a request that it cannot read in its default serializer, GraphBinary, without the request's
    id [TinkerPop, WsGremlinBinaryRequestDecoder].
    """

    def __init__(self) -> None:
        from gremlin_python.driver.serializer import GraphSONSerializersV3d0  # heavy: as above

        self._theirs = GraphSONSerializersV3d0()

    def serialize_message(self, request_id: str, request_message: object) -> bytes:
        self._request_id = request_id
        return self._theirs.serialize_message(request_id, request_message)

    def deserialize_message(self, message: bytes) -> Any:
        if message[:1] == _GRAPHBINARY:
            return GraphBinaryRows().deserialize_message(message) | {"requestId": self._request_id}
        answer = _loads(message)
        data = answer["result"].pop("data")
        answer = _gremlinpython().to_object(answer)
        answer["result"]["data"] = _rows(data["@value"]) if data else []
        return answer


#: The serializers, by the value of the connection's extra `serializer`.
SERIALIZERS: dict[str, Callable[[], Any]] = {"graphson-3.0": GraphSONRows, "graphbinary-1.0": GraphBinaryRows}
_GRAPHBINARY = b"\x81"  # the first byte of an answer in GraphBinary: its version, with the highest bit set


def _loads(message: bytes) -> Any:
    """Parse JSON; json reads what orjson refuses (half of a surrogate pair) or rounds (a number beyond 64 bits)."""
    if b'"gx:Big' in message:
        return json.loads(message)
    try:
        return orjson.loads(message)
    except orjson.JSONDecodeError:
        return json.loads(message)


def _rows(traversers: Sequence[Json]) -> list[object]:
    """Repeat each result by its bulk: the answer to bytecode has a g:Traverser around each result."""
    rows: list[object] = []
    for each in traversers:
        traverser = each["@value"]
        row, bulk = _to_python(traverser["value"]), traverser["bulk"]["@value"]
        rows += (row,) if bulk == 1 else repeat(row, bulk)
    return rows


def _to_python(value: object) -> object:
    """Convert a value of GraphSON 3 to Python: `{"@type": …, "@value": …}`, or a plain JSON value."""
    if type(value) is not dict:
        return value
    read = _READERS.get(value["@type"])
    return read(value["@value"]) if read else _gremlinpython().to_object(value)


def _list(values: list[object]) -> list[object]:
    return [_to_python(each) if type(each) is dict else each for each in values]


def _map(flat: list[object]) -> dict[object, object]:
    """Convert a map, which is a list of a key, its value, the next key, …, because keys can have any type."""
    each = iter(flat)
    try:
        return {key: _to_python(value) for key, value in zip(each, each, strict=True)}
    except TypeError:  # a key that is not text is a dict here
        return _gremlinpython().to_object({"@type": "g:Map", "@value": flat})


def _float32(value: Any) -> float:
    """The exact value of a Float, whose text is shorter: 3.1 is 3.0999999046325684, which the graph compares."""
    return c_float(float(value)).value


def plain_number(value: Decimal) -> int | float:
    """Return a BigDecimal as an int if it is whole, else as the nearest float."""
    # a number of more digits is beyond 64 bits, and may have a million of them
    is_whole = value.is_finite() and value.adjusted() < 20 and value == value.to_integral_value()
    return int(value) if is_whole else float(value)


#: The types in a row of `valueMap`; float() also reads "NaN", "Infinity" and "-Infinity" [TinkerPop, GraphSON 3].
_READERS: dict[str, Callable[[Any], Any]] = {
    "g:Int32": int, "g:Int64": int, "gx:Int16": int, "gx:Byte": int, "gx:BigInteger": int, "g:Double": float,
    "g:Float": _float32, "g:List": _list, "g:Map": _map,
    "gx:BigDecimal": lambda value: plain_number(Decimal(str(value))),
}  # fmt: skip


@cache
def _gremlinpython() -> Any:
    """gremlinpython's own reader, for rare types."""
    from gremlin_python.structure.io.graphsonV3d0 import GraphSONReader

    return GraphSONReader()


@cache
def _graphbinary_reader() -> Any:
    """gremlinpython's own reader, with a BigDecimal as a number of Python."""
    from gremlin_python.structure.io.graphbinaryV1 import BigDecimalIO, GraphBinaryReader

    class PlainBigDecimal(BigDecimalIO):
        @classmethod
        def objectify(cls, buff: Any, reader: Any, nullable: bool = True) -> Any:
            found = super().objectify(buff, reader, nullable)
            return found if found is None else plain_number(found.value)

    return GraphBinaryReader({PlainBigDecimal.graphbinary_type: PlainBigDecimal})
