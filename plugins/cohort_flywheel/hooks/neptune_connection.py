"""The Airflow connection of the graph: its fields and its extra, checked before anything is called."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from typing import Annotated

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from pydantic import BaseModel, BeforeValidator, TypeAdapter, ValidationError

from cohort_flywheel.config.setting_types import (
    HostAndPort,
    HostName,
    RegionName,
    Switch,
    missing,
    one_of,
    problems,
    seconds,
    whole_number,
)
from cohort_flywheel.errors import Code, FlywheelError

#: The Airflow connection of the graph.
DEFAULT_CONN_NAME = "neptune_default"

_host_name = TypeAdapter(HostName)


def _host(value: object) -> str:
    """A name or an IP address; of IPv6 with or without its brackets."""
    try:
        if isinstance(value, str) and ":" in value and "%" not in value:  # no zone
            return f"[{ipaddress.IPv6Address(value.removeprefix('[').removesuffix(']'))}]"
        return _host_name.validate_python(value)
    except ValueError:
        raise ValueError(
            "write the cluster's endpoint alone; a port and a scheme (wss, or ws) belong in the fields port and schema,"
            " and /gremlin in neither"
        ) from None


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class NeptuneEndpoint(BaseModel, frozen=True):
    """The fields of the connection. `scheme` is its field schema."""

    host: Annotated[str, BeforeValidator(_host)]
    port: Annotated[int, whole_number(1, 65_535, "the port")] = 8182
    scheme: Annotated[str, one_of("wss", "ws"), BeforeValidator(_lower)] = "wss"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}/gremlin"


class NeptuneExtra(BaseModel, frozen=True, extra="forbid"):
    """The extra of the connection; docs/reference/settings.md describes each field."""

    iam: Switch = False
    region_name: RegionName | None = None
    signed_host: HostAndPort | None = None
    server_hostname: HostName | None = None
    evaluation_timeout_ms: Annotated[int, whole_number(1, 2_147_483_647, "milliseconds")] | None = None
    read_timeout_seconds: Annotated[float, seconds(86_400)] = 180
    batch_size: Annotated[int, whole_number(1, 10_000, "the number of results per frame")] = 2048
    serializer: Annotated[str, one_of("graphson-2.0", "graphbinary-1.0")] = "graphson-2.0"
    loader_endpoint: HostAndPort | None = None


def read_neptune_connection(conn_id: str) -> tuple[NeptuneEndpoint, NeptuneExtra]:
    """Return the fields and extra of the Airflow connection; raise FlywheelError that names every wrong one."""
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise FlywheelError(
            f"there is no Airflow connection {conn_id}, or Airflow cannot read it: create it, with the cluster's"
            ' endpoint as its host, as JSON: {"conn_type": "gremlin", "host": "<cluster endpoint>", "port": 8182,'
            ' "schema": "wss", "extra": {"iam": true}}',
            code=Code.CONNECTION,
        ) from None
    scheme = connection.schema
    # given as a URI, as in wss://<cluster endpoint>:8182/gremlin, the type is the scheme, and the schema the path
    if connection.conn_type in ("ws", "wss") and scheme in (None, "", "gremlin"):
        scheme = connection.conn_type
    fields = {"host": connection.host or None, "port": connection.port, "scheme": scheme or None}
    wrong: list[str] = []
    if connection.login or connection.password:
        wrong.append('login and password are not used: leave them empty; with "iam": true in the extra it is signed')
    endpoint = _validated(NeptuneEndpoint, fields, wrong)
    extra = _validated(NeptuneExtra, _extra(connection.extra, wrong), wrong)
    if endpoint and extra and extra.server_hostname and endpoint.scheme == "ws":
        wrong.append("server_hostname is the name in a certificate, and schema ws has no certificate: write wss")
    if wrong or not endpoint or not extra:
        raise FlywheelError(
            f"the Airflow connection {conn_id} has wrong fields: {'; '.join(wrong)}", code=Code.CONNECTION
        )
    return endpoint, extra


def _extra(text: str | None, wrong: list[str]) -> dict[str, object]:
    """Return the extra as a dict. Airflow itself treats an extra that is not JSON as empty."""
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        wrong.append('the extra is not a JSON object: write one, as in {"iam": true}')
        return {}
    return found


def _validated[Model: BaseModel](model: type[Model], values: Mapping[str, object], wrong: list[str]) -> Model | None:
    try:
        return model.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        wrong += [f"it has no {name}: write the cluster's endpoint" for name in missing(error)]
        wrong += problems(error, model, lambda name: "schema" if name == "scheme" else name)
        return None
