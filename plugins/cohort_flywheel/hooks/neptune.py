"""Gremlin over a WebSocket: Amazon Neptune, or a Gremlin Server."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import repeat
from typing import TYPE_CHECKING, Any

import orjson
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from cohort_flywheel.common.collector import seldom_collecting
from cohort_flywheel.errors import FlywheelError

if TYPE_CHECKING:
    from gremlin_python.driver.client import Client
    from gremlin_python.process.traversal import Traversal

#: What Neptune says is OK to retry [Neptune user guide, "Graph engine query errors"].
RETRYABLE_CODES = frozenset(
    {
        "CancelledByUserException",
        "ConcurrentModificationException",
        "ConstraintViolationException",
        "InternalFailureException",
        "MemoryLimitExceededException",
        "QueryLimitExceededException",
        "ThrottlingException",
        "TimeLimitExceededException",
        "TooManyRequestsException",
    }
)
#: Gremlin Server's own codes for the same: too many requests, time-out [TinkerPop, ResponseStatusCode].
RETRYABLE_STATUSES = frozenset({429, 598})

_FRAMES_AHEAD = 4


class GraphUnavailableError(AirflowException):
    """The graph cannot answer now, and may later."""


class NeptuneGremlinHook(BaseHook):
    """Runs traversals, as bytecode, over one connection that is made anew, and signed anew, for each.

    The Airflow connection: host; port (8182); schema `wss` or `ws`; extra:
    `iam` (true: sign with SigV4 for neptune-db by `aws_conn_id`; false), `region_name`,
    `evaluation_timeout_ms` (a request's time limit; none: the cluster's own, which it may not exceed),
    `read_timeout_seconds` (the longest silence of the server, 180), `batch_size` (results a frame, 2,048),
    `serializer` (of the answers: `graphson-3.0`; `graphbinary-1.0` gives the same rows at four times the cost).

    :param neptune_conn_id: the Airflow connection of the graph.
    :param aws_conn_id: the Airflow connection whose credentials sign, where `iam` is true.
    """

    conn_name_attr = "neptune_conn_id"
    default_conn_name = "neptune_default"
    conn_type = "gremlin"
    hook_name = "Amazon Neptune (Gremlin)"

    def __init__(self, neptune_conn_id: str = default_conn_name, aws_conn_id: str | None = "aws_default") -> None:
        super().__init__()
        self.neptune_conn_id, self.aws_conn_id = neptune_conn_id, aws_conn_id
        connection = self.get_connection(neptune_conn_id)
        if not connection.host:
            raise FlywheelError(
                f"the Airflow connection {neptune_conn_id} has no host: set it to the cluster's endpoint"
            )
        self.url = f"{connection.schema or 'wss'}://{connection.host}:{connection.port or 8182}/gremlin"
        extra = connection.extra_dejson
        # a connection given as a URI has text in its extra
        self.iam = str(extra.get("iam", False)).lower() in ("true", "1")
        self.region_name = extra.get("region_name")
        self.serializer = extra.get("serializer", "graphson-3.0")
        if self.serializer not in SERIALIZERS:
            raise FlywheelError(
                f"the extra of the Airflow connection {neptune_conn_id} names a serializer that is not known: write"
                f" {' or '.join(SERIALIZERS)}, or leave it out"
            )
        try:
            self.read_timeout = float(extra.get("read_timeout_seconds", 180))
            self.request_options: dict[str, int] = {"batchSize": int(extra.get("batch_size", 2048))}
            if "evaluation_timeout_ms" in extra:
                self.request_options["evaluationTimeout"] = int(extra["evaluation_timeout_ms"])
        except (TypeError, ValueError):
            raise FlywheelError(
                f"the extra of the Airflow connection {neptune_conn_id} has a word where a number belongs: correct"
                " read_timeout_seconds, batch_size or evaluation_timeout_ms"
            ) from None

    @contextmanager
    def client(self) -> Iterator[tuple[Client, threading.Semaphore]]:
        """A client with one connection: a signature is good for one, and one that the server closed never recovers.

        The semaphore is to be released for each batch that was taken: the connection reads `_FRAMES_AHEAD` frames
        ahead and no more, as gremlinpython would read on until the memory is full.
        """
        from gremlin_python.driver.aiohttp.transport import AiohttpTransport  # heavy: not for a DAG's parse
        from gremlin_python.driver.client import Client

        # its log quotes the server's error, which may quote the data; we say what went wrong
        logging.getLogger("gremlinpython").setLevel(logging.CRITICAL)
        frames, abandoned = threading.Semaphore(_FRAMES_AHEAD), threading.Event()
        opened: list[AiohttpTransport] = []

        class Bounded(AiohttpTransport):
            def read(self) -> Any:
                frames.acquire()
                if abandoned.is_set():
                    raise RuntimeError("nobody takes the rest")
                return super().read()

        def transport() -> AiohttpTransport:
            opened.append(Bounded(read_timeout=self.read_timeout, write_timeout=self.read_timeout))
            return opened[-1]

        client = Client(
            self.url,
            "g",
            pool_size=1,
            headers=self._signed_headers(),
            transport_factory=transport,
            message_serializer=SERIALIZERS[self.serializer](),
        )
        try:
            yield client, frames
        finally:
            abandoned.set()
            frames.release()
            # the client leaves a connection open that failed as it was made
            for close in (client.close, *(each.close for each in opened)):
                try:
                    close()
                except (RuntimeError, OSError) as error:  # the server was faster; what it did is told by the read
                    self.log.debug("closing the connection: %s", type(error).__name__)

    def _signed_headers(self) -> dict[str, str] | None:
        if not self.iam:
            return None
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        session = AwsBaseHook(aws_conn_id=self.aws_conn_id, region_name=self.region_name).get_session()
        request = AWSRequest("GET", self.url.replace("ws", "http", 1))
        SigV4Auth(session.get_credentials(), "neptune-db", self.region_name or session.region_name).add_auth(request)
        return dict(request.headers.items())

    def retrying(self) -> Retrying:
        """Attempts of a read that begins again from the start, with backoff and jitter, four at most."""
        return Retrying(
            retry=retry_if_exception_type(GraphUnavailableError),
            wait=wait_random_exponential(multiplier=1, max=20),
            stop=stop_after_attempt(4),
            before_sleep=lambda state: self.log.warning(
                "%s Trying again from the start (attempt %d of 4).",
                state.outcome and state.outcome.exception(),
                state.attempt_number + 1,
            ),
            reraise=True,
        )

    def stream(self, traversal: Traversal) -> Iterator[list[Any]]:
        """Yield the results of a traversal as they arrive, a batch at a time.

        Raises GraphUnavailableError where trying again may help, FlywheelError where it cannot.
        """
        from aiohttp import ClientError
        from gremlin_python.driver.protocol import GremlinServerError

        try:
            with self.client() as (client, frames), seldom_collecting():
                results = client.submit(traversal.bytecode, request_options=self.request_options)
                # The library's own iterator spins until the next batch is there; a sentinel lets us wait for it.
                # Every wait ends: the transport's read_timeout ends the receiving thread, which sets the sentinel.
                arrived: queue.Queue[list[Any] | None] = results.stream
                results.done.add_done_callback(lambda _done: arrived.put(None))
                while (batch := arrived.get()) is not None:
                    frames.release()
                    yield batch
                results.done.result()
        except GremlinServerError as error:
            raise self._explained(error) from None
        except TimeoutError:  # asyncio's is the same class
            raise GraphUnavailableError(
                f"the graph at {self.url} was silent for {self.read_timeout:g} s: look at its load, or raise"
                f" read_timeout_seconds of the connection {self.neptune_conn_id}."
            ) from None
        except (ClientError, OSError, RuntimeError) as error:
            # RuntimeError: how gremlinpython reports a socket that the server closed
            if getattr(error, "status", None) in (401, 403):
                raise self._refused() from None
            raise GraphUnavailableError(
                f"the graph at {self.url} cannot be reached, or closed the connection ({type(error).__name__}):"
                " look whether it runs, and whether its security group admits this worker on that port."
            ) from None
        except ValueError:  # its text may quote the answer
            raise FlywheelError(
                f"the graph at {self.url} gave an answer that is no {self.serializer}: write"
                f" {' or '.join(SERIALIZERS)} as `serializer` into the extra of the connection {self.neptune_conn_id}"
            ) from None
        except Exception as error:
            if "403" in str(error):  # a bare Exception is how gremlinpython reports this status
                raise self._refused() from None
            raise

    def _refused(self) -> FlywheelError:
        hint = (
            "grant the role neptune-db:connect and ReadDataViaQuery on the cluster, and check region_name"
            if self.iam
            else 'set "iam": true in the extra of the connection, if the cluster has IAM authentication switched on'
        )
        return FlywheelError(f"the graph at {self.url} refuses the signature of {self.neptune_conn_id}: {hint}")

    def _explained(self, error: Any) -> Exception:
        """Turn the server's error into ours. Its text stays out: it may quote the data."""
        try:
            answer = json.loads(error.status_message)
            code, request_id = answer.get("code", ""), answer.get("requestId", "")
        except (ValueError, AttributeError):
            code, request_id = "", ""
        what = f"{code or 'status'} {error.status_code}{f', requestId {request_id}' if request_id else ''}"
        disconnected = "disconnected" in str(error.status_message)
        if code in RETRYABLE_CODES or error.status_code in RETRYABLE_STATUSES or disconnected:
            return GraphUnavailableError(
                f"the graph at {self.url} could not finish the query ({what}): look at its load, its instance"
                " size and its query time-out."
            )
        if code == "AccessDeniedException" or error.status_code == 401:
            return self._refused()
        return FlywheelError(
            f"the graph at {self.url} refuses the query ({what}): look the error up in its log; trying again"
            " does not help"
        )


class GraphBinaryRows:
    """A `message_serializer` for gremlinpython: its GraphBinary, with a row as often as its traverser's bulk says."""

    def __init__(self) -> None:
        from gremlin_python.driver.serializer import GraphBinarySerializersV1  # heavy: not for a DAG's parse

        self._theirs = GraphBinarySerializersV1()
        self.serialize_message = self._theirs.serialize_message

    def deserialize_message(self, message: bytes) -> Any:
        answer = self._theirs.deserialize_message(message)
        traversers = answer["result"]["data"] or ()
        answer["result"]["data"] = [each.object for each in traversers for _ in range(each.bulk)]
        return answer


class GraphSONRows:
    """A `message_serializer` for gremlinpython: typed GraphSON 3, whose rows orjson and the functions below read.

    gremlinpython writes the request and reads the rest. One of these serves one connection, with one request at a
    time: a server answers a request that it cannot read in its default serializer, GraphBinary, and without the
    request's id, which it could not read either [TinkerPop, WsGremlinBinaryRequestDecoder].
    """

    def __init__(self) -> None:
        from gremlin_python.driver.serializer import GraphSONSerializersV3d0  # heavy: as above

        self._theirs = GraphSONSerializersV3d0()

    def serialize_message(self, request_id: str, request_message: Any) -> Any:
        self._asked = request_id
        return self._theirs.serialize_message(request_id, request_message)

    def deserialize_message(self, message: bytes) -> Any:
        if message[:1] == _GRAPHBINARY:
            return GraphBinaryRows().deserialize_message(message) | {"requestId": self._asked}
        answer = _loads(message)
        data = answer["result"].pop("data")
        answer = _gremlinpython().to_object(answer)
        answer["result"]["data"] = _rows(data["@value"]) if data else []
        return answer


#: By the values of a connection's extra `serializer`.
SERIALIZERS: dict[str, Callable[[], Any]] = {"graphson-3.0": GraphSONRows, "graphbinary-1.0": GraphBinaryRows}
_GRAPHBINARY = b"\x81"  # how an answer in GraphBinary begins: its version, with the highest bit set


def _loads(message: bytes) -> Any:
    """Where orjson refuses (half of a surrogate pair) or rounds (a whole number beyond 64 bits), json does not."""
    if b'"gx:Big' in message:
        return json.loads(message)
    try:
        return orjson.loads(message)
    except orjson.JSONDecodeError:
        return json.loads(message)


def _rows(traversers: list[Any]) -> list[Any]:
    """Each result as often as its bulk says: bytecode is answered with a g:Traverser around each result."""
    rows: list[Any] = []
    for each in traversers:
        traverser = each["@value"]
        row, bulk = _plain(traverser["value"]), traverser["bulk"]["@value"]
        rows += (row,) if bulk == 1 else repeat(row, bulk)
    return rows


def _plain(value: Any) -> Any:
    """A value of GraphSON 3 as Python: `{"@type": …, "@value": …}`, or what JSON has a type of its own for."""
    if type(value) is not dict:
        return value
    read = _READERS.get(value["@type"])
    return read(value["@value"]) if read else _gremlinpython().to_object(value)


def _list(values: list[Any]) -> list[Any]:
    return [_plain(each) if type(each) is dict else each for each in values]


def _map(flat: list[Any]) -> dict[Any, Any]:
    """A map is a list of a key, its value, the next key, …, as a key may be anything."""
    each = iter(flat)
    try:
        return {key: _plain(value) for key, value in zip(each, each, strict=True)}
    except TypeError:  # a key that is no text is a dict here
        return _gremlinpython().to_object({"@type": "g:Map", "@value": flat})


#: What a row of `valueMap` is made of; float() also reads "NaN", "Infinity" and "-Infinity" [TinkerPop, GraphSON 3].
_READERS: dict[str, Callable[[Any], Any]] = {
    "g:Int32": int, "g:Int64": int, "gx:Int16": int, "gx:Byte": int, "gx:BigInteger": int, "g:Double": float,
    "g:Float": float, "g:List": _list, "g:Map": _map,
}  # fmt: skip


@cache
def _gremlinpython() -> Any:
    """Its own reader, for what is rare."""
    from gremlin_python.structure.io.graphsonV3d0 import GraphSONReader

    return GraphSONReader()
