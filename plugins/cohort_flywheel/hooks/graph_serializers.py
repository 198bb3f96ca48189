"""Message serializers for gremlinpython, which read the rows of an answer faster than its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ctypes import c_float
from decimal import Decimal
from functools import cache
from itertools import repeat
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import msgspec


class ScoreColumns(NamedTuple):
    """Rows of `valueMap`: as columns those with one playerId, a text, and one score, a number; the others as they are.

    No playerId has half of a surrogate pair, and no score is NaN. `properties` has the values of each other property of
    the query, a list for each row of the columns.
    """

    player_ids: list[str]
    scores: list[int | float]
    properties: dict[str, list[list[object]]]
    others: Sequence[Mapping[str, Sequence[object]]]


class GraphBinaryRows:
    """A `message_serializer` for gremlinpython: its GraphBinary, with each row repeated by its traverser's bulk."""

    def __init__(self) -> None:
        from gremlin_python.driver.serializer import GraphBinarySerializersV1  # heavy: not for a DAG's parse

        self._theirs = GraphBinarySerializersV1(reader=_graphbinary_reader())
        self.serialize_message = self._theirs.serialize_message

    def deserialize_message(self, message: bytes) -> Any:
        return _repeated(self._theirs.deserialize_message(message))


class GraphSONRows:
    """A `message_serializer` for gremlinpython: typed GraphSON 2, in which msgspec reads rows of lists by their types.

    In GraphSON 2 maps and lists are plain JSON. gremlinpython writes the request, and reads each frame that is not
    rows of texts, booleans and numbers. A request with a map whose keys are not texts, as merge_v takes, is GraphSON 3,
    and so is its answer. Each instance is for one connection with one request at a time: a server
    answers a request that it cannot read in its default serializer, GraphBinary, without the request's id [TinkerPop,
    WsGremlinBinaryRequestDecoder].
    """

    def __init__(self) -> None:
        self._theirs = _graphson_serializer(2)

    def serialize_message(self, request_id: str, request_message: object) -> bytes:
        self._request_id = request_id
        try:
            return self._theirs.serialize_message(request_id, request_message)
        except TypeError:
            self._theirs = _graphson_serializer(3)
            return self._theirs.serialize_message(request_id, request_message)

    def deserialize_message(self, message: bytes) -> Any:
        if message[:1] == _GRAPHBINARY:
            return GraphBinaryRows().deserialize_message(message) | {"requestId": self._request_id}
        try:
            id_, status, data = self._read(message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _repeated(self._theirs.deserialize_message(message))
        return {
            "requestId": id_,
            "status": {"code": status.code, "message": status.message, "attributes": {}},
            "result": {"data": data, "meta": {}},
        }

    def _read(self, message: bytes) -> tuple[str, _Status, object]:
        frame = _ROWS.decode(message)
        return frame.requestId, frame.status, _rows(frame.result.data)


class GraphSONScores(GraphSONRows):
    """The same for one query of `valueMap`, whose data is ScoreColumns where msgspec reads a frame, else rows."""

    def __init__(self, player_id: str, property: str, required: Sequence[str] = ()) -> None:
        super().__init__()
        self._names = (player_id, property, *required)
        self._decoder: msgspec.json.Decoder[Any] | None = None
        with suppress(ValueError):  # a name twice, or one that msgspec does not take
            self._decoder = _scores_decoder(self._names)

    def _read(self, message: bytes) -> tuple[str, _Status, object]:
        if self._decoder is None:
            return super()._read(message)
        frame = self._decoder.decode(message)
        return frame.requestId, frame.status, _columns(frame.result.data, self._names)


#: The serializers, by the value of the connection's extra `serializer`.
SERIALIZERS: dict[str, Callable[[], Any]] = {"graphson-2.0": GraphSONRows, "graphbinary-1.0": GraphBinaryRows}
_GRAPHBINARY = b"\x81"  # the first byte of an answer in GraphBinary: its version, with the highest bit set


def _repeated(answer: Any) -> Any:
    """Repeat each result by its bulk: the answer to bytecode has a traverser around each result."""
    traversers = answer["result"]["data"] or ()
    answer["result"]["data"] = [each.object for each in traversers for _ in range(each.bulk)]
    return answer


def plain_number(value: Decimal) -> int | float:
    """Return a BigDecimal as an int if it is whole, else as the nearest float."""
    # a number of more digits is beyond 64 bits, and may have a million of them
    is_whole = value.is_finite() and value.adjusted() < 20 and value == value.to_integral_value()
    return int(value) if is_whole else float(value)


def _float32(value: float) -> float:
    """The exact value of a Float, whose text is shorter: 3.1 is 3.0999999046325684, which the graph compares."""
    return c_float(value).value


# --- frames that msgspec reads. NaN and the infinities are texts in GraphSON 2, so their frames are gremlinpython's.


class _Typed(msgspec.Struct, gc=False, tag_field="@type", rename={"value": "@value"}):
    """`{"@type": …, "@value": …}`."""


class _Int32(_Typed, tag="g:Int32"):
    value: int


class _Int64(_Typed, tag="g:Int64"):
    value: int


class _Int16(_Typed, tag="gx:Int16"):
    value: int


class _Byte(_Typed, tag="gx:Byte"):
    value: int


class _BigInteger(_Typed, tag="gx:BigInteger"):
    value: int


class _Double(_Typed, tag="g:Double"):
    value: float


class _Float(_Typed, tag="g:Float"):
    value: float

    def __post_init__(self) -> None:
        self.value = _float32(self.value)


#: A type variable, because msgspec evaluates the annotations outside the class, where a type parameter is not known.
Row = TypeVar("Row")
type _Number = _Int32 | _Int64 | _Int16 | _Byte | _BigInteger | _Double | _Float
type _Value = str | bool | _Number | None


class _Bulk(_Typed, tag="g:Int64"):
    value: int


class _Status(msgspec.Struct):
    code: int
    message: str


class _Traversed(msgspec.Struct, Generic[Row], gc=False):  # noqa: UP046 - see Row
    bulk: _Bulk
    value: Row


class _Traverser(_Typed, Generic[Row], tag="g:Traverser"):  # noqa: UP046 - see Row
    value: _Traversed[Row]


class _Result(msgspec.Struct, Generic[Row]):  # noqa: UP046 - see Row
    data: list[_Traverser[Row]]


class _Frame(msgspec.Struct, Generic[Row]):  # noqa: UP046 - see Row
    requestId: str  # noqa: N815 - the name in the frame
    status: _Status
    result: _Result[Row]


_ROWS = msgspec.json.Decoder(_Frame[dict[str, list[_Value]]])


def _plain(value: _Value) -> object:
    return value if value is None or isinstance(value, (str, bool)) else value.value


def _rows(traversers: list[_Traverser[dict[str, list[_Value]]]]) -> list[object]:
    rows: list[object] = []
    for each in traversers:
        traversed = each.value
        row = {name: [_plain(value) for value in values] for name, values in traversed.value.items()}
        if traversed.bulk.value == 1:
            rows.append(row)
        else:
            rows += repeat(row, traversed.bulk.value)
    return rows


def _fields(names: Sequence[str]) -> list[str]:
    return [f"p{number}" for number in range(len(names))]


@cache
def _scores_decoder(names: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    """The decoder of frames whose rows have a playerId, a score, and other properties, by these names in the graph."""
    fields = _fields(names)
    kinds = [list[str], list[_Number], *[list[_Value]] * (len(names) - 2)]
    row = msgspec.defstruct(
        "_Row",
        [(field, kind, msgspec.field(default_factory=list)) for field, kind in zip(fields, kinds, strict=True)],
        rename=dict(zip(fields, names, strict=True)),
        gc=False,
    )
    return msgspec.json.Decoder(_Frame[row])  # type: ignore[valid-type]  # the type is made here


def _columns(traversers: list[_Traverser[Any]], names: Sequence[str]) -> ScoreColumns:
    found = [each.value for each in traversers]
    rows = [each.value for each in found if _is_regular(each)]
    fields = dict(zip(names, _fields(names), strict=True))
    properties = {
        name: [[_plain(value) for value in getattr(row, field)] for row in rows]
        for name, field in list(fields.items())[2:]
    }
    others: list[Mapping[str, Sequence[object]]] = []
    for each in found if len(rows) < len(found) else ():
        if not _is_regular(each):
            values = {name: getattr(each.value, field) for name, field in fields.items()}
            odd = {name: [_plain(value) for value in some] for name, some in values.items() if some}
            others += repeat(odd, each.bulk.value)
    return ScoreColumns([row.p0[0] for row in rows], [row.p1[0].value for row in rows], properties, others)


def _is_regular(row: _Traversed[Any]) -> bool:
    return len(row.value.p0) == len(row.value.p1) == row.bulk.value == 1


# --- gremlinpython's own readers, with a BigDecimal as a number of Python and the exact value of a Float


@cache
def _graphson_serializer(version: Literal[2, 3]) -> Any:
    from gremlin_python.driver.serializer import GraphSONMessageSerializer  # heavy: as above
    from gremlin_python.structure.io import graphsonV2d0, graphsonV3d0

    io: Any = {2: graphsonV2d0, 3: graphsonV3d0}[version]

    class PlainBigDecimal(io.BigDecimalIO):
        @classmethod
        def objectify(cls, v: object, _: object) -> int | float:
            return plain_number(Decimal(str(v)))

    class ExactFloat(io.FloatIO):
        @classmethod
        def objectify(cls, v: float | str, _: object) -> float:
            return _float32(float(v))

    reader = io.GraphSONReader({"gx:BigDecimal": PlainBigDecimal, "g:Float": ExactFloat})
    return GraphSONMessageSerializer(reader, io.GraphSONWriter(), f"application/vnd.gremlin-v{version}.0+json".encode())


@cache
def _graphbinary_reader() -> Any:
    from gremlin_python.structure.io.graphbinaryV1 import BigDecimalIO, GraphBinaryReader

    class PlainBigDecimal(BigDecimalIO):
        @classmethod
        def objectify(cls, buff: Any, reader: Any, nullable: bool = True) -> Any:
            found = super().objectify(buff, reader, nullable)
            return found if found is None else plain_number(found.value)

    return GraphBinaryReader({PlainBigDecimal.graphbinary_type: PlainBigDecimal})
