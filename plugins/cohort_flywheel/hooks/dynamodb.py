"""Read the records of many players from a DynamoDB table."""

from __future__ import annotations

from base64 import b64decode
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Any, TypeVar

import orjson
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from boto3.dynamodb.types import TypeDeserializer
from botocore.config import Config
from botocore.model import Shape
from botocore.parsers import JSONParser, ResponseParserFactory
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from cohort_flywheel.common.collector import seldom_collecting
from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.config.attribute_paths import AttributePath, without_overlaps
from cohort_flywheel.errors import Code

T = TypeVar("T")

#: Limits of BatchGetItem and of a partition key [DynamoDB API reference; DynamoDB quotas].
MAX_BATCH_KEYS = 100
MAX_KEY_BYTES = 2048
#: The number of concurrent requests of `get_many`.
IN_FLIGHT = 4

Records = Mapping[str, dict[str, object]]


class UnprocessedKeysError(RetryableError):
    """DynamoDB left keys unprocessed in successful answers, and processed none of them in the last attempts."""


class DynamoDBBatchGetHook(AwsBaseHook):
    """Call BatchGetItem in batches, and request unprocessed keys again.

    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["client_type"] = "dynamodb"
        super().__init__(*args, **kwargs)

    def get_session(self, region_name: str | None = None, deferrable: bool = False) -> Any:
        """Return a new session whose clients read the answers of BatchGetItem with orjson."""
        session = super().get_session(region_name=region_name, deferrable=deferrable)
        if not deferrable:
            # boto3 has no other access to its botocore session; the component is botocore's own extension point
            session._session.register_component("response_parser_factory", BatchGetParserFactory())
        return session

    def get_client_type(
        self, region_name: str | None = None, config: Config | None = None, deferrable: bool = False
    ) -> Any:
        """Return a client without parameter validation of `get_items`; the connection's own settings win."""
        ours = Config(parameter_validation=False, max_pool_connections=50)
        client = super().get_client_type(region_name, ours.merge(config or self.config), deferrable)
        if not deferrable:
            client.meta.events.register("provide-client-params.dynamodb.BatchGetItem", _set_body_aside)
            client.meta.events.register("before-call.dynamodb.BatchGetItem", _write_body)
        return client

    def get_items(
        self, table_name: str, key_attribute: str, keys: Sequence[str], projection: Sequence[AttributePath]
    ) -> Records:
        """Return the records found, by key; a missing one is absent. Takes 1 to 100 different keys.

        A key that DynamoDB cannot hold has no record. Raises UnprocessedKeysError after twelve answers in a row
        without a record: the SDK's own retries do not see unprocessed keys, as they arrive in a successful answer.
        """
        paths = without_overlaps([key_attribute, *projection])
        aliases = {name: f"#a{n}" for n, name in enumerate(dict.fromkeys(name for path in paths for name in path))}
        request: AwsStructure = {
            table_name: {
                "Keys": [{key_attribute: {"S": key}} for key in keys if 0 < len(key.encode()) <= MAX_KEY_BYTES],
                "ProjectionExpression": ", ".join(".".join(aliases[name] for name in path) for path in paths),
                "ExpressionAttributeNames": {alias: name for name, alias in aliases.items()},
            }
        }
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
                answer = self.conn.batch_get_item(RequestItems=request)
                # of the one table: its key may be its name where the request has its ARN
                for item in chain.from_iterable(answer["Responses"].values()):
                    record = {name: value["S"] if "S" in value else _deserialize(value) for name, value in item.items()}
                    found[str(record[key_attribute])] = record
                unprocessed = list((answer.get("UnprocessedKeys") or {}).values())
                if unprocessed:
                    request = {table_name: unprocessed[0]}
                    before, left = left, len(request[table_name]["Keys"])
                    if left < before:  # an attempt that made progress does not count
                        attempt.retry_state.attempt_number = 0
                    raise UnprocessedKeysError(
                        f"DynamoDB left {left} of {len(keys)} keys of table {table_name} unprocessed, twelve times in"
                        " a row: raise its read capacity, or run when it is quieter.",
                        code=Code.TABLE_CAPACITY,
                    )
        return found

    def get_many(
        self,
        table_name: str,
        key_attribute: str,
        batches: Iterable[Sequence[T]],
        projection: Sequence[AttributePath],
        *,
        key: Callable[[T], str],
        in_flight: int = IN_FLIGHT,
    ) -> Iterator[tuple[Sequence[T], Records]]:
        """Yield each batch with its records, in order, while the next `in_flight` requests run.

        Takes a batch only when its request can start. After the first error no further request starts.
        """
        self.conn  # noqa: B018 - created here, because threads may not read Airflow's connection
        waiting: deque[tuple[Sequence[T], Future[Records]]] = deque()
        pool = ThreadPoolExecutor(in_flight, thread_name_prefix="get_many")
        try:
            with seldom_collecting():
                for batch in batches:
                    keys = [key(each) for each in batch]
                    waiting.append((batch, pool.submit(self.get_items, table_name, key_attribute, keys, projection)))
                    if len(waiting) > in_flight:
                        yield _first(waiting)
                while waiting:
                    yield _first(waiting)
        finally:
            pool.shutdown(cancel_futures=True)


def _set_body_aside(params: AwsStructure, context: dict[str, object], **_: object) -> AwsStructure:
    """Pass only the table names to botocore: its serializer takes as long for 100 keys as the rest of the call.

    The body of `get_items` is sent as it is. The endpoint, the signature, the retries and the errors are botocore's.
    """
    context["batch_get_body"] = orjson.dumps(params)
    return {"RequestItems": {table: {} for table in params["RequestItems"]}}


def _write_body(params: dict[str, object], context: Mapping[str, object], **_: object) -> None:
    params["body"] = context["batch_get_body"]


class BatchGetParserFactory(ResponseParserFactory):
    """Create botocore's parsers, and BatchGetParser for DynamoDB's protocol."""

    def create_parser(self, protocol_name: str) -> Any:
        return BatchGetParser() if protocol_name == "json" else super().create_parser(protocol_name)


class BatchGetParser(JSONParser):
    """Parse the records of BatchGetItem with orjson, without botocore's conversion of each value.

    A parser does not check DynamoDB's checksum (`x-amz-crc32`): botocore's retries do, in both modes [botocore,
    retryhandler.CRC32Checker and retries.special.RetryDDBChecksumError].
    """

    def parse(self, response: AwsStructure, shape: Shape | None) -> AwsStructure:
        if response["status_code"] == 200 and shape is not None and shape.name == "BatchGetItemOutput":
            try:
                body = orjson.loads(response["body"])
            except orjson.JSONDecodeError:
                return super().parse(response, shape)  # its wrong checksum makes botocore retry
            return super().parse({**response, "body": b"{}"}, shape) | body  # the metadata, then the records
        return super().parse(response, shape)


class _WireDeserializer(TypeDeserializer):
    """boto3's deserializer, for binary values that are still base64 text."""

    def _deserialize_b(self, value: object) -> object:
        return super()._deserialize_b(b64decode(value) if isinstance(value, str) else value)


_deserialize = _WireDeserializer().deserialize


def _first[T](waiting: deque[tuple[Sequence[T], Future[Records]]]) -> tuple[Sequence[T], Records]:
    batch, future = waiting.popleft()
    return batch, future.result()
