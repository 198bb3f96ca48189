"""Gremlin over a WebSocket: Amazon Neptune, or a Gremlin Server."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from cohort_flywheel.common.collector import seldom_collecting
from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.graph_serializers import SERIALIZERS, GraphSONRows, GraphSONScores, ScoreColumns
from cohort_flywheel.hooks.neptune_connection import DEFAULT_CONN_NAME, read_neptune_connection
from cohort_flywheel.hooks.shared_session import SharedSessionHook

if TYPE_CHECKING:
    from gremlin_python.driver.client import Client
    from gremlin_python.driver.protocol import GremlinServerError
    from gremlin_python.process.traversal import Traversal

#: The error codes of Neptune that can be retried [Neptune user guide, "Graph engine query errors"].
RETRYABLE_CODES = frozenset({
    "CancelledByUserException", "ConcurrentModificationException", "ConstraintViolationException",
    "InternalFailureException", "MemoryLimitExceededException", "QueryLimitExceededException", "ThrottlingException",
    "TimeLimitExceededException", "TooManyRequestsException",
})  # fmt: skip
#: Gremlin Server's own codes for the same: too many requests, time-out [TinkerPop, ResponseStatusCode].
RETRYABLE_STATUSES = frozenset({429, 598})
_FRAMES_AHEAD = 4
#: OpenSSL's codes for a certificate of another name, or of another IP address.
_OTHER_NAME = (62, 64)
#: OpenSSL's names of an answer without TLS.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL")

#: Results of a traversal, of whatever type its last step gives.
type Batch = list[Any]


class GraphUnavailableError(RetryableError):
    """The graph cannot answer now; a retry may help."""


class NeptuneGremlinHook(BaseHook):
    """Run traversals as bytecode, each over its own signed connection.

    :param neptune_conn_id: the Airflow connection of the graph; `neptune_connection` has its fields and its extra.
    :param aws_conn_id: the Airflow connection whose credentials sign, where the extra has `iam`.
    """

    conn_name_attr = "neptune_conn_id"
    default_conn_name = DEFAULT_CONN_NAME
    conn_type = "gremlin"
    hook_name = "Amazon Neptune (Gremlin)"

    def __init__(self, neptune_conn_id: str = default_conn_name, aws_conn_id: str | None = "aws_default") -> None:
        super().__init__()
        self.neptune_conn_id = neptune_conn_id
        self.aws_conn_id = aws_conn_id
        endpoint, self.extra = read_neptune_connection(neptune_conn_id)
        self.url = endpoint.url
        self.has_tls = endpoint.scheme == "wss"
        self.request_options = {"batchSize": self.extra.batch_size}
        if self.extra.evaluation_timeout_ms is not None:
            self.request_options["evaluationTimeout"] = self.extra.evaluation_timeout_ms

    @contextmanager
    def client(self, serializer: object) -> Iterator[tuple[Client, threading.Semaphore]]:
        """Yield a client with one connection: a signature is valid for one, and a closed one does not recover.

        Release the semaphore for each batch taken: the connection reads at most `_FRAMES_AHEAD` frames ahead, because
        gremlinpython itself would read until the memory is full.
        """
        from gremlin_python.driver.aiohttp.transport import AiohttpTransport  # heavy: not for a DAG's parse
        from gremlin_python.driver.client import Client

        # its log quotes the server's error, which may quote the data; our errors replace it
        logging.getLogger("gremlinpython").setLevel(logging.CRITICAL)
        frames, abandoned = threading.Semaphore(_FRAMES_AHEAD), threading.Event()
        opened: list[AiohttpTransport] = []

        class Bounded(AiohttpTransport):
            def read(self) -> Any:
                frames.acquire()
                if abandoned.is_set():
                    raise RuntimeError("the rest is not read")
                return super().read()

        def transport() -> AiohttpTransport:
            seconds = self.extra.read_timeout_seconds
            # other arguments are passed to aiohttp's ws_connect
            tls = {"server_hostname": self.extra.server_hostname} if self.extra.server_hostname else {}
            opened.append(Bounded(read_timeout=seconds, write_timeout=seconds, **tls))
            return opened[-1]

        client = Client(
            self.url,
            "g",
            pool_size=1,
            headers=self._signed_headers(),
            transport_factory=transport,
            message_serializer=serializer,
        )
        try:
            yield client, frames
        finally:
            abandoned.set()
            frames.release()
            # the client does not close a connection that failed to open
            for close in (client.close, *(each.close for each in opened)):
                try:
                    close()
                except (RuntimeError, OSError) as error:  # the server has closed it; the read raises its error
                    self.log.debug("closing the connection: %s", type(error).__name__)

    def _signed_headers(self) -> dict[str, str] | None:
        if not self.extra.iam:
            return None
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        session = SharedSessionHook(aws_conn_id=self.aws_conn_id, region_name=self.extra.region_name).get_session()
        region, credentials = self.extra.region_name or session.region_name, session.get_credentials()
        if not region:
            raise FlywheelError(
                f"no region to sign for: write region_name into the extra of the connection {self.neptune_conn_id}, or"
                f" of {self.aws_conn_id}",
                code=Code.CONNECTION,
            )
        if not credentials:
            raise GraphUnavailableError(
                f"no credentials to sign with: the connection {self.aws_conn_id} has none, or the worker's role cannot"
                " be asked for them.",
                code=Code.GRAPH_ACCESS,
            )
        # Neptune computes the signature from the Host header that it receives
        request = AWSRequest("GET", self.url.replace("ws", "http", 1), headers={"Host": self._signed_host()})
        SigV4Auth(credentials, "neptune-db", region).add_auth(request)
        return dict(request.headers.items())

    def _signed_host(self) -> str:
        return self.extra.signed_host or self.url.split("/")[2].removesuffix(":443" if self.has_tls else ":80")

    def retrying(self) -> Retrying:
        """Return at most four attempts of a read, each from the start, with backoff and jitter."""
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

    def stream(self, traversal: Traversal) -> Iterator[Batch]:
        """Yield the results of a traversal as they arrive, in batches.

        Raises GraphUnavailableError if a retry may help, else FlywheelError.
        """
        return self._answers(traversal, SERIALIZERS[self.extra.serializer]())

    def stream_scores(
        self, traversal: Traversal, *, player_id: str, property: str, required: Sequence[str] = ()
    ) -> Iterator[ScoreColumns]:
        """Yield the rows of a traversal that ends with `value_map(player_id, property, *required)` as columns.

        Raises the errors of `stream`.
        """
        own = SERIALIZERS[self.extra.serializer]
        serializer = GraphSONScores(player_id, property, required) if own is GraphSONRows else own()
        with closing(self._answers(traversal, serializer)) as batches:
            for batch in batches:
                yield batch if isinstance(batch, ScoreColumns) else ScoreColumns([], [], {}, batch)

    def _answers(self, traversal: Traversal, serializer: object) -> Generator[Any]:
        """Yield the data of each frame, as the serializer gives it."""
        from aiohttp import ClientError
        from gremlin_python.driver.protocol import GremlinServerError

        try:
            with self.client(serializer) as (client, frames), seldom_collecting():
                results = client.submit(traversal.bytecode, request_options=self.request_options)
                # The library's own iterator polls for the next batch; a sentinel in the queue lets us block instead.
                # The wait ends: the transport's read_timeout ends the receiving thread, which puts the sentinel.
                arrived: queue.Queue[Batch | None] = results.stream
                results.done.add_done_callback(lambda _done: arrived.put(None))
                while (batch := arrived.get()) is not None:
                    frames.release()
                    yield batch
                results.done.result()
        except FlywheelError:  # it is a ValueError
            raise
        except GremlinServerError as error:
            raise self._explained(error) from None
        except TimeoutError:  # asyncio's is the same class
            raise GraphUnavailableError(
                f"the graph at {self.url} was silent for {self.extra.read_timeout_seconds:g} s: look at its load, or"
                f" raise read_timeout_seconds of the connection {self.neptune_conn_id}.",
                code=Code.GRAPH_BUSY,
            ) from None
        except (ClientError, OSError, RuntimeError) as error:
            # gremlinpython raises RuntimeError for a socket that the server closed
            raise self._unreachable(error) from None
        except ValueError:  # its text may quote the data
            raise FlywheelError(
                f"the graph at {self.url} gave an answer that is not {self.extra.serializer}: write"
                f" {' or '.join(SERIALIZERS)} as `serializer` into the extra of the connection {self.neptune_conn_id}",
                code=Code.GRAPH_SERVER,
            ) from None
        except Exception as error:
            if "403" in str(error):  # gremlinpython reports this status as a bare Exception
                raise self._refused() from None
            raise

    def _unreachable(self, error: Exception) -> Exception:
        """Return the error for a connection that failed to open or was interrupted, with its cause."""
        from aiohttp import ClientConnectorCertificateError, ClientConnectorSSLError, WSServerHandshakeError

        conn = self.neptune_conn_id
        if isinstance(error, ClientConnectorCertificateError):
            why = getattr(error.certificate_error, "verify_message", "") or type(error.certificate_error).__name__
            return FlywheelError(
                f"the certificate of the graph at {self.url} is refused ({why.rstrip('.')}): "
                + (
                    "if the host is a tunnel or a load balancer, write the name in the certificate as server_hostname"
                    f" into the extra of the connection {conn}"
                    if getattr(error.certificate_error, "verify_code", None) in _OTHER_NAME
                    else "have the workers trust its authority (SSL_CERT_FILE), or correct the host"
                ),
                code=Code.GRAPH_SERVER,
            )
        if isinstance(error, ClientConnectorSSLError) and getattr(error.os_error, "reason", "") in _NOT_TLS:
            return FlywheelError(
                f"the server at {self.url} answers without TLS: correct the port of the connection {conn}, or write ws"
                " as its schema if it is a Gremlin Server without TLS",
                code=Code.GRAPH_SERVER,
            )
        status = error.status if isinstance(error, WSServerHandshakeError) else None
        if status in (401, 403):
            return self._refused()
        if status is not None and status < 500 and status not in (408, 429):
            return FlywheelError(
                f"the server at {self.url} does not open a WebSocket (HTTP status {status}): look whether host, port"
                f" and schema of the connection {conn} are those of the graph",
                code=Code.GRAPH_SERVER,
            )
        what = type(error).__name__ if status is None else f"HTTP status {status}"
        return GraphUnavailableError(
            f"the graph at {self.url} cannot be reached, or closed the connection ({what}): look whether it runs,"
            " whether its security group admits this worker on that port"
            + (", and whether it speaks TLS, as Neptune does (schema wss)." if not self.has_tls else "."),
            code=Code.GRAPH_UNREACHABLE,
        )

    def _refused(self) -> FlywheelError:
        if not self.extra.iam:
            return FlywheelError(
                f"the graph at {self.url} refuses the connection {self.neptune_conn_id}, which does not sign: set"
                ' "iam": true in its extra, if the cluster has IAM authentication switched on',
                code=Code.GRAPH_ACCESS,
            )
        return FlywheelError(
            f"the graph at {self.url} refuses the signature of {self.neptune_conn_id}, made for the host"
            f" {self._signed_host()}: if that is a tunnel or a load balancer, write the cluster's endpoint with its"
            " port as signed_host into the extra; else grant the role neptune-db:connect and ReadDataViaQuery on the"
            " cluster, to write also WriteDataViaQuery and DeleteDataViaQuery, and check region_name",
            code=Code.GRAPH_ACCESS,
        )

    def _explained(self, error: GremlinServerError) -> Exception:
        """Return our error for the server's, without its text, which may quote the data."""
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
                " size and its query time-out.",
                code=Code.GRAPH_BUSY,
            )
        if code == "AccessDeniedException" or error.status_code == 401:
            return self._refused()
        return FlywheelError(
            f"the graph at {self.url} refuses the query ({what}): look the error up in its log; trying again"
            " does not help",
            code=Code.GRAPH_QUERY,
        )
