"""Records of many players from a DynamoDB table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from airflow.sdk.exceptions import AirflowException
from boto3.dynamodb.types import TypeDeserializer
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

#: Limits of BatchGetItem and of a partition key [DynamoDB API reference; DynamoDB quotas].
MAX_BATCH_KEYS = 100
MAX_KEY_BYTES = 2048


class UnprocessedKeysError(AirflowException):
    """DynamoDB left keys unprocessed in successful answers until patience ended."""


class DynamoDBBatchGetHook(AwsBaseHook):
    """BatchGetItem by batches, asking again for what DynamoDB left.

    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["client_type"] = "dynamodb"
        super().__init__(*args, **kwargs)
        self._plain = TypeDeserializer().deserialize

    def get_items(
        self, table_name: str, key_attribute: str, keys: Sequence[str], projection: Sequence[str]
    ) -> Mapping[str, dict[str, Any]]:
        """Return the records found, by key; a missing one is absent. Needs 1 to 100 different keys.

        A key that DynamoDB cannot hold has no record. Raises UnprocessedKeysError when keys stay
        unprocessed: the SDK's own retries never see them, as they arrive in a successful answer.
        """
        names = {f"#a{n}": name for n, name in enumerate(dict.fromkeys([key_attribute, *projection]))}
        request: dict[str, Any] = {
            table_name: {
                "Keys": [{key_attribute: {"S": key}} for key in keys if 0 < len(key.encode()) <= MAX_KEY_BYTES],
                "ProjectionExpression": ", ".join(names),
                "ExpressionAttributeNames": names,
            }
        }
        found: dict[str, dict[str, Any]] = {}
        if not request[table_name]["Keys"]:
            return found
        for attempt in Retrying(
            retry=retry_if_exception_type(UnprocessedKeysError),
            wait=wait_random_exponential(multiplier=0.1, max=10),
            stop=stop_after_attempt(12),
            reraise=True,
        ):
            with attempt:
                answer = self.conn.batch_get_item(RequestItems=request)
                for item in answer["Responses"].get(table_name, ()):
                    record = {name: self._plain(value) for name, value in item.items()}
                    found[record[key_attribute]] = record
                request = answer.get("UnprocessedKeys") or {}
                if request:
                    left = len(request[table_name]["Keys"])
                    raise UnprocessedKeysError(
                        f"DynamoDB left {left} of {len(keys)} keys of table {table_name} unprocessed, twelve times:"
                        " raise its read capacity, or run when it is quieter."
                    )
        return found
