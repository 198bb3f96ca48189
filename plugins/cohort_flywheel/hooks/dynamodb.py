"""Read the records of many players from a DynamoDB table."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from http.client import HTTPConnection
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.signers import RequestSigner
from botocore.utils import get_environ_proxies
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from cohort_flywheel.common.collector import seldom_collecting
from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.config.attribute_paths import AttributePath, without_overlaps
from cohort_flywheel.errors import Code
from cohort_flywheel.hooks.dynamodb_answers import Records, read_records, read_texts, unprocessed
from cohort_flywheel.hooks.kept_connections import KeptConnections, SentRequest
from cohort_flywheel.hooks.shared_session import SharedSessionHook

#: Limits of BatchGetItem and of a partition key [DynamoDB API reference; DynamoDB quotas].
MAX_BATCH_KEYS = 100
MAX_KEY_BYTES = 2048
#: The number of requests of `get_many` that are under way at once.
IN_FLIGHT = 4


class UnprocessedKeysError(RetryableError):
    """DynamoDB left keys unprocessed in successful answers, and processed none of them in the last attempts."""


class DynamoDBBatchGetHook(SharedSessionHook):
    """Call BatchGetItem in batches, and request unprocessed keys again.

    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["client_type"] = "dynamodb"
        super().__init__(*args, **kwargs)
        self._sent: SentRequest | None = None
        self._ca_bundle: str | None = None

    def get_session(self, region_name: str | None = None, deferrable: bool = False) -> Any:
        """Return the session, and note which certificates its clients trust."""
        session = super().get_session(region_name=region_name, deferrable=deferrable)
        if not deferrable:  # boto3 has no other access to its botocore session
            self._ca_bundle = session._session.get_config_variable("ca_bundle")
        return session

    def get_client_type(
        self, region_name: str | None = None, config: Config | None = None, deferrable: bool = False
    ) -> Any:
        """Return a client without parameter validation of `get_items`; the connection's own settings win."""
        ours = Config(parameter_validation=False)
        client = super().get_client_type(region_name, ours.merge(config or self.config), deferrable)
        if not deferrable:
            client.meta.events.register("before-sign.dynamodb.BatchGetItem", self._note_request)
        return client

    def _note_request(
        self,
        request: AWSRequest,
        signing_name: str,
        region_name: str,
        signature_version: str,
        request_signer: RequestSigner,
        **_: object,
    ) -> None:
        """Note a request of botocore, for others like it; its address and region may depend on the credentials."""
        config, its = self.conn.meta.config, request.context.get("signing", {})
        proxies = config.proxies or get_environ_proxies(request.url)
        is_direct = not (
            proxies.get(urlsplit(request.url).scheme) or config.client_cert or config.tcp_keepalive
            or self.verify is False or signature_version != "v4"
        )  # fmt: skip
        names = ("X-Amz-Target", "Content-Type", "User-Agent")
        headers = {name: request.headers[name] for name in names if name in request.headers}
        signing_name, region_name = its.get("signing_name", signing_name), its.get("region", region_name)
        self._sent = SentRequest(request.url, headers, signing_name, region_name, request_signer) if is_direct else None

    def get_items(
        self,
        table_name: str,
        key_attribute: str,
        keys: Sequence[str],
        projection: Sequence[AttributePath],
        *,
        answered: AwsStructure | None = None,
    ) -> Records:
        """Return the records found, by key; a missing one is absent. Takes 1 to 100 different keys.

        `answered` is the answer to a first request, if there was one. A key that DynamoDB cannot hold has no record.
        Raises UnprocessedKeysError after twelve answers in a row without a record: the SDK's own retries do not see
        unprocessed keys, as they arrive in a successful answer.
        """
        request = _request(table_name, key_attribute, keys, _expression(key_attribute, projection))
        found: dict[str, dict[str, object]] = {}
        if not request[table_name]["Keys"]:
            return found
        left = len(request[table_name]["Keys"])
        for attempt in Retrying(
            retry=retry_if_exception_type(UnprocessedKeysError),
            wait=wait_random_exponential(multiplier=0.1, max=10),
            stop=stop_after_attempt(12),
            reraise=True,
        ):
            with attempt:
                answer, answered = answered or self.conn.batch_get_item(RequestItems=request), None
                found |= read_records(answer, key_attribute)
                if asked_again := unprocessed(answer):
                    request = {table_name: asked_again}
                    before, left = left, len(request[table_name]["Keys"])
                    if left < before:  # an attempt that made progress does not count
                        attempt.retry_state.attempt_number = 0
                    raise UnprocessedKeysError(
                        f"DynamoDB left {left} of {len(keys)} keys of table {table_name} unprocessed, twelve times in"
                        " a row: raise its read capacity, or run when it is quieter.",
                        code=Code.TABLE_CAPACITY,
                    )
        return found

    def get_many[T](
        self,
        table_name: str,
        key_attribute: str,
        batches: Iterable[Sequence[T]],
        projection: Sequence[AttributePath],
        *,
        key: Callable[[T], str],
        in_flight: int = IN_FLIGHT,
    ) -> Iterator[tuple[Sequence[T], Records]]:
        """Yield each batch with its records, in order, while the requests of the next ones are under way.

        botocore makes the first request, and all of them with `in_flight` 1, through a proxy, or with a client
        certificate; the others are written to kept connections, and what these cannot answer botocore is asked again.
        After the first error no further request starts.
        """
        lookups = _Lookups(self, table_name, key_attribute, projection, ahead=in_flight > 1)
        waiting: deque[tuple[Sequence[T], _Asked]] = deque()
        try:
            with seldom_collecting():
                for batch in batches:
                    answered = None
                    if len(waiting) == in_flight:
                        before, asked = waiting.popleft()
                        answered = before, lookups.read(asked)
                    waiting.append((batch, lookups.ask([key(each) for each in batch])))
                    if answered:
                        yield answered
                while waiting:
                    before, asked = waiting.popleft()
                    yield before, lookups.read(asked)
        finally:
            for _, asked in waiting:
                if asked.connection:
                    asked.connection.close()
            lookups.close()

    def kept_connections(self) -> KeptConnections | None:
        """Return connections like that of the last request; None before the first, or if botocore makes all of them."""
        if not self._sent:
            return None
        verify = self.verify or self._ca_bundle or os.environ.get("REQUESTS_CA_BUNDLE") or True  # as botocore does
        config = self.conn.meta.config
        return KeptConnections(self._sent, verify, config.connect_timeout, config.read_timeout)


class _Asked(NamedTuple):
    """A batch of keys: its records, or the connection on which they arrive, or neither: botocore is to be asked."""

    keys: Sequence[str]
    records: Records | None = None
    connection: HTTPConnection | None = None


class _Lookups:
    """The requests of one `get_many`."""

    def __init__(
        self,
        hook: DynamoDBBatchGetHook,
        table_name: str,
        key_attribute: str,
        projection: Sequence[AttributePath],
        *,
        ahead: bool,
    ) -> None:
        self._hook, self._ahead = hook, ahead
        self._table_name, self._key_attribute, self._projection = table_name, key_attribute, projection
        self._expression = _expression(key_attribute, projection)
        self._connections: KeptConnections | None = None
        self._has_begun = False

    def ask(self, keys: Sequence[str]) -> _Asked:
        if not self._ahead:
            return _Asked(keys)
        if not self._has_begun:
            self._has_begun, records = True, self._get_items(keys)
            self._connections = self._hook.kept_connections()
            return _Asked(keys, records)
        request = _request(self._table_name, self._key_attribute, keys, self._expression)
        if not request[self._table_name]["Keys"] or not self._connections or not self._connections.is_usable:
            return _Asked(keys)
        return _Asked(keys, connection=self._connections.write(orjson.dumps({"RequestItems": request})))

    def read(self, asked: _Asked) -> Records:
        if asked.records is not None:
            return asked.records
        body = self._connections.read(asked.connection) if self._connections and asked.connection else None
        found: dict[str, dict[str, object]] | None = None
        if body is not None and (texts := read_texts(body, self._key_attribute)) is not None:
            return texts if texts.keys() <= set(asked.keys) else self._get_items(asked.keys)  # not of another request
        if body is not None:
            # another form than that of the answer's model: botocore reads it again, or explains
            with suppress(ValueError, KeyError, TypeError, AttributeError):
                answer = orjson.loads(body)
                left = [key[self._key_attribute]["S"] for key in unprocessed(answer).get("Keys", ())]
                found = read_records(answer, self._key_attribute)
        # outside of the block above, whose errors quote the data
        if found is None or not found.keys() <= set(asked.keys):
            return self._get_items(asked.keys)
        return self._get_items(asked.keys, answer) if left else found

    def close(self) -> None:
        if self._connections:
            self._connections.close()

    def _get_items(self, keys: Sequence[str], answered: AwsStructure | None = None) -> Records:
        return self._hook.get_items(self._table_name, self._key_attribute, keys, self._projection, answered=answered)


def _expression(key_attribute: str, projection: Sequence[AttributePath]) -> AwsStructure:
    """Return the part of a request that says which attributes it reads."""
    paths = without_overlaps([key_attribute, *projection])
    aliases = {name: f"#a{n}" for n, name in enumerate(dict.fromkeys(name for path in paths for name in path))}
    return {
        "ProjectionExpression": ", ".join(".".join(aliases[name] for name in path) for path in paths),
        "ExpressionAttributeNames": {alias: name for name, alias in aliases.items()},
    }


def _request(table_name: str, key_attribute: str, keys: Sequence[str], expression: AwsStructure) -> AwsStructure:
    """Return `RequestItems`, with the keys that DynamoDB can hold."""
    usable = [{key_attribute: {"S": key}} for key in keys if 0 < len(key.encode()) <= MAX_KEY_BYTES]
    return {table_name: {"Keys": usable, **expression}}
