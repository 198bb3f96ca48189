"""BatchGetItem against DynamoDB Local."""

from __future__ import annotations

from decimal import Decimal
from http.client import HTTPConnection
from typing import Any

import pytest
from botocore.exceptions import ClientError

from cohort_flywheel.hooks import dynamodb, kept_connections
from cohort_flywheel.hooks.dynamodb import DynamoDBBatchGetHook, UnprocessedKeysError


@pytest.fixture
def table(dynamodb_client: Any, request: pytest.FixtureRequest) -> Any:
    name = "hook_test"
    dynamodb_client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "playerId", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "playerId", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for number in range(100):
        item = {"playerId": {"S": f"p{number}"}, "level": {"N": str(number)}, "size": {"S": "reserved word"}}
        dynamodb_client.put_item(TableName=name, Item=item)
    yield name
    dynamodb_client.delete_table(TableName=name)


def test_existing_records_are_found(airflow_env: Any, table: str) -> None:
    found = DynamoDBBatchGetHook().get_items(table, "playerId", ["p1", "unknown", "p2"], ["level", "size"])
    assert found == {
        "p1": {"playerId": "p1", "level": Decimal(1), "size": "reserved word"},
        "p2": {"playerId": "p2", "level": Decimal(2), "size": "reserved word"},
    }


def test_a_hundred_keys_and_only_the_requested_attributes(airflow_env: Any, table: str) -> None:
    found = DynamoDBBatchGetHook().get_items(table, "playerId", [f"p{n}" for n in range(100)], ["level"])
    assert len(found) == 100
    assert set(found["p7"]) == {"playerId", "level"}


def test_attributes_in_maps_are_asked_for_by_path_and_overlapping_ones_at_the_parent(
    airflow_env: Any, table: str, dynamodb_client: Any
) -> None:
    """DynamoDB refuses a projection with a path and one above it."""
    stats = {"M": {"level": {"N": "3"}, "size": {"S": "big"}, "a.b": {"BOOL": True}}}
    item = {"playerId": {"S": "nested"}, "profile": {"M": {"email": {"S": "a@example.com"}, "stats": stats}}}
    dynamodb_client.put_item(TableName=table, Item=item)
    hook = DynamoDBBatchGetHook()
    paths = [("profile", "email"), ("profile", "stats", "level"), ("profile", "none"), ("none", "x")]
    assert hook.get_items(table, "playerId", ["nested", "p1"], paths) == {
        "nested": {"playerId": "nested", "profile": {"email": "a@example.com", "stats": {"level": Decimal(3)}}},
        "p1": {"playerId": "p1"},
    }
    found = hook.get_items(table, "playerId", ["nested"], [("profile", "stats", "level"), ("profile", "stats"), "size"])
    assert found["nested"]["profile"] == {"stats": {"level": Decimal(3), "size": "big", "a.b": True}}


def test_a_key_that_dynamodb_cannot_hold_has_no_record(airflow_env: Any, table: str) -> None:
    """One key of over 2,048 bytes would have the whole batch refused."""
    assert set(DynamoDBBatchGetHook().get_items(table, "playerId", ["é" * 1025, "p3"], [])) == {"p3"}
    assert DynamoDBBatchGetHook().get_items(table, "playerId", ["x" * 2049], []) == {}


def test_unprocessed_keys_are_requested_again(airflow_env: Any, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """DynamoDB says so in a successful answer, so the SDK's own retries never see it."""
    hook = DynamoDBBatchGetHook()
    asked: list[int] = []
    real = hook.conn.batch_get_item

    def a_third_is_left(RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        keys = RequestItems[table]["Keys"]
        asked.append(len(keys))
        now, left = keys[: max(1, 2 * len(keys) // 3)], keys[max(1, 2 * len(keys) // 3) :]
        answer = real(RequestItems={table: RequestItems[table] | {"Keys": now}})
        answer["UnprocessedKeys"] = {table: RequestItems[table] | {"Keys": left}} if left else {}
        return dict(answer)

    monkeypatch.setattr(hook.conn, "batch_get_item", a_third_is_left)
    monkeypatch.setattr(dynamodb, "wait_random_exponential", lambda **_: lambda _state: 0)
    assert len(hook.get_items(table, "playerId", [f"p{n}" for n in range(30)], [])) == 30
    assert asked == [30, 10, 4, 2, 1]


def test_a_table_may_be_named_by_its_arn(airflow_env: Any, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key of an answer may be the table's name where the request has its ARN."""
    arn, hook = f"arn:aws:dynamodb:us-east-1:123456789012:table/{table}", DynamoDBBatchGetHook()
    asked: list[int] = []
    real = hook.conn.batch_get_item

    def half(RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        keys = RequestItems[arn]["Keys"]
        asked.append(len(keys))
        now, left = keys[: (len(keys) + 1) // 2], keys[(len(keys) + 1) // 2 :]
        answer = real(RequestItems={table: RequestItems[arn] | {"Keys": now}})
        return answer | ({"UnprocessedKeys": {table: RequestItems[arn] | {"Keys": left}}} if left else {})

    monkeypatch.setattr(hook.conn, "batch_get_item", half)
    monkeypatch.setattr(dynamodb, "wait_random_exponential", lambda **_: lambda _state: 0)
    found = hook.get_items(arn, "playerId", ["p1", "p2", "p3"], ["level"])
    assert {key: record["level"] for key, record in found.items()} == {"p1": 1, "p2": 2, "p3": 3}
    assert asked == [3, 1]


def test_a_try_that_made_progress_does_not_count(airflow_env: Any, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One key an answer, each after eleven answers without any: 30 keys take 360 tries, and are all found."""
    hook, asked = DynamoDBBatchGetHook(), 0
    real = hook.conn.batch_get_item

    def one_in_twelve(RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        nonlocal asked
        asked += 1
        keys = RequestItems[table]["Keys"]
        taken = 1 if asked % 12 == 0 else 0
        answer = real(RequestItems={table: RequestItems[table] | {"Keys": keys[:1]}})
        left = {"UnprocessedKeys": {table: RequestItems[table] | {"Keys": keys[taken:]}} if keys[taken:] else {}}
        return answer | left | ({} if taken else {"Responses": {}})

    monkeypatch.setattr(hook.conn, "batch_get_item", one_in_twelve)
    monkeypatch.setattr(dynamodb, "wait_random_exponential", lambda **_: lambda _state: 0)
    assert len(hook.get_items(table, "playerId", [f"p{n}" for n in range(30)], [])) == 30
    assert asked == 360


def test_keys_that_remain_unprocessed_are_an_error(
    airflow_env: Any, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook, asked = DynamoDBBatchGetHook(), []

    def none(RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        asked.append(len(RequestItems[table]["Keys"]))
        return {"Responses": {}, "UnprocessedKeys": RequestItems}

    monkeypatch.setattr(hook.conn, "batch_get_item", none)
    monkeypatch.setattr(dynamodb, "wait_random_exponential", lambda **_: lambda _state: 0)
    with pytest.raises(UnprocessedKeysError, match="left 2 of 2 keys of table hook_test unprocessed"):
        hook.get_items(table, "playerId", ["p1", "p2"], [])
    assert asked == [2] * 12


def test_many_batches_over_kept_connections(airflow_env: Any, table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answered: list[int] = []
    receive = kept_connections.receive

    def noted(connection: HTTPConnection) -> kept_connections.Answer:
        answer = receive(connection)
        answered.append(answer.status)
        return answer

    monkeypatch.setattr(kept_connections, "receive", noted)
    batches = [["p1", "unknown"], ["p2"], ["x" * 2049], [f"p{n}" for n in range(100)], ["p3"]]
    got = list(DynamoDBBatchGetHook().get_many(table, "playerId", batches, ["size", "level"], key=str))
    assert [batch for batch, _ in got] == batches
    assert [set(records) for _, records in got] == [{"p1"}, {"p2"}, set(), {f"p{n}" for n in range(100)}, {"p3"}]
    assert got[1][1] == {"p2": {"playerId": "p2", "level": Decimal(2), "size": "reserved word"}}
    assert answered == [200] * 3


def test_a_table_that_does_not_exist_is_named_by_botocore_s_error(airflow_env: Any) -> None:
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        list(DynamoDBBatchGetHook().get_many("no_table", "playerId", [["p1"], ["p2"]], [], key=str))
