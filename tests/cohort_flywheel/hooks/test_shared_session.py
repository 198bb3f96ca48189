"""Hooks of one connection have one session, which no other connection, environment or thread has."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from botocore.exceptions import DataNotFoundError
from botocore.loaders import JSONFileLoader, Loader

from cohort_flywheel.hooks.dynamodb import DynamoDBBatchGetHook
from cohort_flywheel.hooks.s3 import S3Hook


def connection(**extra: str) -> str:
    return json.dumps(
        {"conn_type": "aws", "login": "id", "password": "key", "extra": {"region_name": "eu-west-1"} | extra}
    )


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", connection())
    monkeypatch.setenv("AIRFLOW_CONN_AWS_OTHER", connection())


def session(aws_conn_id: str = "aws_default", **arguments: Any) -> Any:
    return S3Hook(aws_conn_id=aws_conn_id).get_session(**arguments)


def test_the_hooks_of_a_connection_have_one_session() -> None:
    found = session()
    assert session() is found is DynamoDBBatchGetHook(aws_conn_id="aws_default").get_session()
    assert session(region_name="eu-west-1") is found
    assert found.region_name == "eu-west-1"


@pytest.mark.parametrize(
    "arguments", [{"aws_conn_id": "aws_other"}, {"region_name": "us-east-1"}, {"deferrable": True}]
)
def test_another_connection_or_region_has_another(arguments: dict[str, Any]) -> None:
    assert session(**arguments) is not session()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AIRFLOW_CONN_AWS_DEFAULT", connection(aws_session_token="token")),
        ("AIRFLOW_CONN_AWS_DEFAULT", connection().replace('"key"', '"another"')),
        ("AWS_CONFIG_FILE", "another"),
    ],
)
def test_a_change_of_the_connection_or_the_environment_is_seen(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    before = session()
    monkeypatch.setenv(name, value)
    assert session() is not before


def test_each_thread_has_its_own() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(session).result() is not session()


def test_clients_have_the_name_of_their_hook() -> None:
    assert "Caller/S3Hook" in S3Hook().get_conn().meta.config.user_agent_extra


def test_clients_have_the_version_of_the_provider() -> None:
    """As the provider itself finds it."""
    agent = S3Hook().get_conn().meta.config.user_agent_extra
    assert f"AmPP/{AwsBaseHook._get_provider_version()} " in agent
    assert re.search(r"AmPP/[\d.]+ ", agent)


@pytest.mark.parametrize(
    "path",
    [
        ("endpoints",),
        ("s3", "2006-03-01", "service-2"),
        ("dynamodb", "2012-08-10", "endpoint-rule-set-1"),
        ("s3", "2006-03-01", "paginators-1"),
        ("s3", "2006-03-01", "missing"),
    ],
)
def test_models_are_read_as_botocore_reads_them(path: tuple[str, ...]) -> None:
    loader = session()._session.get_component("data_loader")
    file = str(Path(loader.BUILTIN_DATA_PATH, *path))
    found, theirs = loader.file_loader.load_file(file), JSONFileLoader().load_file(file)
    assert found == theirs
    assert json.dumps(found) == json.dumps(theirs)  # in the same order
    assert (found is None) is (path[-1] == "missing")


def test_a_service_or_a_model_that_is_missing_is_so_for_our_sessions_too() -> None:
    loader = session()._session.get_component("data_loader")
    assert set(Loader().list_available_services("service-2")) <= set(loader.list_available_services("service-2"))
    assert loader.load_service_model("sqs", "paginators-1") == Loader().load_service_model("sqs", "paginators-1")
    for service, kind in (("wayne96", "service-2"), ("s3", "wayne96")):
        with pytest.raises(DataNotFoundError):
            loader.load_service_model(service, kind)


def test_models_of_a_data_path_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a one has no endpoint-rule-set-1: botocore makes its client without."""
    metadata = {"apiVersion": "2026-11-22", "endpointPrefix": "wayne96", "protocol": "json", "jsonVersion": "1.1",
                "serviceFullName": "Wayne", "serviceId": "wayne96", "signatureVersion": "v4",
                "targetPrefix": "Wayne"}  # fmt: skip
    content = {"metadata": metadata, "operations": {}, "shapes": {}}
    model = tmp_path / "wayne96" / "2026-11-22" / "service-2.json"
    model.parent.mkdir(parents=True)
    model.write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    loader = session()._session.get_component("data_loader")
    assert loader.load_service_model("wayne96", "service-2") == content
    client = session().client("wayne96", region_name="eu-west-1")
    assert client.meta.endpoint_url == "https://wayne96.eu-west-1.amazonaws.com"
    assert "wayne96" in session().get_available_services()
