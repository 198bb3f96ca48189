"""Gremlin over a WebSocket: Amazon Neptune, or a Gremlin Server."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

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

_FRAMES_AHEAD = 8


class GraphUnavailableError(AirflowException):
    """The graph cannot answer now, and may later."""


class NeptuneGremlinHook(BaseHook):
    """Runs traversals, as bytecode, over one connection that is made anew, and signed anew, for each.

    The Airflow connection: host; port (8182); schema `wss` or `ws`; extra:
    `iam` (true: sign with SigV4 for neptune-db by `aws_conn_id`; false), `region_name`,
    `evaluation_timeout_ms` (a request's time limit; none: the cluster's own, which it may not exceed),
    `read_timeout_seconds` (the longest silence of the server, 180), `batch_size` (results a frame, 1,024).

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
        try:
            self.read_timeout = float(extra.get("read_timeout_seconds", 180))
            self.request_options: dict[str, int] = {"batchSize": int(extra.get("batch_size", 1024))}
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

        client = Client(self.url, "g", pool_size=1, headers=self._signed_headers(), transport_factory=transport)
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
            with self.client() as (client, frames):
                results = client.submit(traversal.bytecode, request_options=self.request_options)
                # The library's own iterator spins until the next batch is there; a sentinel lets us wait for it.
                # Every wait ends: the transport's read_timeout ends the receiving thread, which sets the sentinel.
                arrived: queue.Queue[list[Any] | None] = results.stream
                results.done.add_done_callback(lambda _done: arrived.put(None))
                while (batch := arrived.get()) is not None:
                    frames.release()
                    yield [result.object for result in batch for _ in range(result.bulk)]
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
