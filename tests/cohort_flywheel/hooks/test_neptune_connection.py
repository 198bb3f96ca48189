"""The connection of the graph is read rightly, or refused with a sentence that names each wrong field."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.graph_serializers import SERIALIZERS
from cohort_flywheel.hooks.neptune import NeptuneGremlinHook
from cohort_flywheel.hooks.neptune_connection import read_neptune_connection

CLUSTER = "cohorts.cluster-ro-c1a2b3.eu-west-1.neptune.amazonaws.com"
NAME = "AIRFLOW_CONN_NEPTUNE_DEFAULT"


def url(monkeypatch: pytest.MonkeyPatch, connection: Any) -> str:
    text = connection if isinstance(connection, str) else json.dumps({"conn_type": "gremlin", **connection})
    monkeypatch.setenv(NAME, text)
    return NeptuneGremlinHook().url


def refusal(monkeypatch: pytest.MonkeyPatch, connection: Any) -> str:
    with pytest.raises(FlywheelError, match="the Airflow connection neptune_default has wrong fields: ") as raised:
        url(monkeypatch, connection)
    return str(raised.value)


@pytest.mark.parametrize(
    ("connection", "expected"),
    [
        ({"host": CLUSTER}, f"wss://{CLUSTER}:8182/gremlin"),
        ({"host": CLUSTER, "port": 443, "schema": "wss"}, f"wss://{CLUSTER}:443/gremlin"),
        ({"host": CLUSTER, "port": "8183", "schema": "WSS"}, f"wss://{CLUSTER}:8183/gremlin"),
        ({"host": "gremlin_server", "schema": "ws", "login": "", "password": ""}, "ws://gremlin_server:8182/gremlin"),
        ({"host": "127.0.0.1", "schema": ""}, "wss://127.0.0.1:8182/gremlin"),
        ({"host": "::1"}, "wss://[::1]:8182/gremlin"),
        ({"host": "[FD00::1]", "port": 1}, "wss://[fd00::1]:1/gremlin"),
        (f"gremlin://{CLUSTER}", f"wss://{CLUSTER}:8182/gremlin"),
        (f"gremlin://{CLUSTER}:8182/ws?iam=true&batch_size=64", f"ws://{CLUSTER}:8182/gremlin"),
        (f"wss://{CLUSTER}:8182/gremlin", f"wss://{CLUSTER}:8182/gremlin"),
        ("ws://localhost:8182", "ws://localhost:8182/gremlin"),
        ("ws://localhost:8182/gremlin?iam=false", "ws://localhost:8182/gremlin"),
    ],
)
def test_a_right_connection(connection: Any, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert url(monkeypatch, connection) == expected


@pytest.mark.parametrize(
    "host",
    [
        f"ws://{CLUSTER}/gremlin", f"wss://{CLUSTER}", f"https://{CLUSTER}:8182", f"{CLUSTER}:8182", f"{CLUSTER}/",
        f"{CLUSTER}/gremlin", f" {CLUSTER}", f"{CLUSTER} ", f"{CLUSTER}\n", "my cluster", f'"{CLUSTER}"', "a..b", "-a",
        f"{CLUSTER}.", "[::1]:8182", "fe80::1%eth0", "fe80::1::2", "<cluster endpoint>", "clüster", "x" * 64,
        f"{CLUSTER},{CLUSTER}", f"{CLUSTER}\u200b",
    ],
)  # fmt: skip
def test_a_host_with_a_scheme_port_or_path(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = refusal(monkeypatch, {"host": host})
    assert "wrong fields: host is " in text
    assert "write the cluster's endpoint alone; a port and a scheme (wss, or ws) belong in" in text


@pytest.mark.parametrize(
    ("connection", "sentence"),
    [
        ({}, "it has no host: write the cluster's endpoint"),
        ({"host": ""}, "it has no host"),
        ({"host": "a", "schema": "http"}, "schema is 'http': write wss or ws"),
        ({"host": "a", "schema": "HTTPS"}, "schema is 'https': write wss or ws"),
        ({"host": "a", "schema": "gremlin"}, "schema is 'gremlin': write wss or ws"),
        ({"host": "a", "schema": "wss://"}, "schema is 'wss://': write wss or ws"),
        ({"host": "a", "schema": " wss"}, "schema is ' wss': write wss or ws"),
        ({"host": "a", "port": -1}, "port is -1: write the port as a whole number from 1 to 65,535"),
        ({"host": "a", "port": 65536}, "port is 65536: write the port"),
        ("gremlin://a:0/wss", "port is 0: write the port"),
        ("gremlin://ws://a:8182/gremlin", "host is 'ws://a': write the cluster's endpoint alone"),
        ("wss://a:8182/gremlin/", "schema is 'gremlin/': write wss or ws"),
        ({"host": "a", "login": "me", "password": "secret"}, "login and password are not used: leave them empty"),
        ({"host": "a", "extra": "iam=true"}, "the extra is not a JSON object"),
        ({"host": "a", "extra": "[1]"}, "the extra is not a JSON object"),
        ({"host": "a", "extra": '"{\\"iam\\": true}"'}, "the extra is not a JSON object"),
        ({"host": "a", "extra": {"batch_sise": 5}}, "batch_sise is not known (did you mean batch_size?): correct it"),
        ({"host": "a", "extra": {"IAM": True}}, "IAM is not known"),
        ({"host": "a", "extra": {"port": 8182}}, "port is not known"),
        ({"host": "a", "extra": {"password": "secret"}}, "password is not known"),
        ({"host": "u:secret@a"}, "host is not as it must be: write the cluster's endpoint alone"),
        (
            {"host": "a", "schema": "ws", "extra": {"server_hostname": "b"}},
            "server_hostname is the name in a certificate, and schema ws has no certificate: write wss",
        ),
    ],
)
def test_a_wrong_field(connection: Any, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = refusal(monkeypatch, connection)
    assert sentence in text
    assert "secret" not in text


NUMBER, SECONDS = "write the number of results per frame as a whole number from 1 to 10,000", "write seconds above 0"


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("batch_size", [0, -1, 10_001, 1.5, 64.0, True, "many", "", "1e3", "1_000", [64], math.nan], NUMBER),
        ("evaluation_timeout_ms", [0, -5, 2**31, True, "1s", 0.5, "٣"], "write milliseconds as a whole number from 1"),
        (
            "read_timeout_seconds",
            [0, -1, 86_401, True, False, "180s", "", "nan", "inf", math.nan, math.inf, -math.inf, 10**400, [], "1e3"],
            SECONDS,
        ),
        ("iam", ["yes", "on", "", 2, 1.5, [], {}], "write true or false"),
        ("serializer", ["graphson", "graphson-3.0", "", 3, ["graphson-2.0"]], "write graphson-2.0 or graphbinary-1.0"),
        ("region_name", ["Ireland", "eu-west", "EU-WEST-1", "eu-west-1a", " eu-west-1", 1], "the code of a region"),
        ("signed_host", [f"wss://{CLUSTER}", f"{CLUSTER}:8182/x", "a:0", "a:65536"], "write the cluster's endpoint"),
        ("server_hostname", [f"{CLUSTER}:8182", f"https://{CLUSTER}", "a b", True], "write a host name alone"),
    ],
)  # fmt: skip
def test_a_wrong_extra(name: str, values: list[Any], sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in values:
        text = refusal(monkeypatch, {"host": "a", "extra": {name: value}})
        assert f"wrong fields: {name} is {repr(value)[:80]}" in text
        assert sentence in text


def test_extras_as_json_and_as_a_uri_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    right = {
        "iam": True, "region_name": "eu-west-1", "signed_host": f"{CLUSTER}:8182", "server_hostname": CLUSTER,
        "evaluation_timeout_ms": 120_000, "read_timeout_seconds": 90.5, "batch_size": 64,
        "serializer": "graphbinary-1.0", "loader_endpoint": f"{CLUSTER}:8182",
    }  # fmt: skip
    monkeypatch.setenv(NAME, json.dumps({"conn_type": "gremlin", "host": "a", "extra": right}))
    assert read_neptune_connection("neptune_default")[1].model_dump() == right
    words = "&".join(f"{name}={value}" for name, value in right.items())
    monkeypatch.setenv(NAME, f"gremlin://a/wss?{words}")
    assert read_neptune_connection("neptune_default")[1].model_dump() == right


def test_missing_or_null_fields_have_their_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = {
        "iam": False, "region_name": None, "signed_host": None, "server_hostname": None, "evaluation_timeout_ms": None,
        "read_timeout_seconds": 180.0, "batch_size": 2048, "serializer": "graphson-2.0",
        "loader_endpoint": None,
    }  # fmt: skip
    for extra in ({}, dict.fromkeys(defaults)):
        monkeypatch.setenv(NAME, json.dumps({"conn_type": "gremlin", "host": "a", "extra": extra}))
        assert read_neptune_connection("neptune_default")[1].model_dump() == defaults


@pytest.mark.parametrize(
    ("said", "meant"), [("false", False), ("true", True), (True, True), ("True", True), (1, True), ("0", False)]
)
def test_iam_in_a_connection_uri(said: Any, meant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, json.dumps({"conn_type": "gremlin", "host": "a", "extra": {"iam": said}}))
    assert read_neptune_connection("neptune_default")[1].iam is meant


def test_all_faults_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"batch_size": 0, "iam": "yes", "retries": 3}
    text = refusal(monkeypatch, {"host": f"ws://{CLUSTER}/gremlin", "schema": "http", "port": 99999, "extra": extra})
    for name in ("host is", "schema is", "port is", "batch_size is", "iam is", "retries is not known"):
        assert name in text


@pytest.mark.parametrize("text", ["", "{broken", '{"host": "a", "port": "http", "conn_type": "gremlin"}'])
def test_a_connection_that_airflow_does_not_find_or_cannot_read(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, text)
    with pytest.raises(
        FlywheelError, match="there is no Airflow connection neptune_default, or Airflow cannot read it"
    ):
        NeptuneGremlinHook()


def test_each_serializer_that_may_be_written_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(SERIALIZERS) == ["graphson-2.0", "graphbinary-1.0"]
    for name in SERIALIZERS:
        monkeypatch.setenv(NAME, json.dumps({"conn_type": "gremlin", "host": "a", "extra": {"serializer": name}}))
        assert NeptuneGremlinHook().extra.serializer == name
