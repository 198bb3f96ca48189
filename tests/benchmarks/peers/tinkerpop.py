"""Airflow's apache-tinkerpop provider, for the graph stage alone: it has nothing for the rest."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

KEY = "tinkerpop/members.json"


def graph(job: dict[str, Any]) -> Iterator[Any]:
    import boto3
    from airflow.providers.apache.tinkerpop.hooks.gremlin import GremlinHook  # type: ignore[import-not-found]

    # with the connection type `gremlin` it forms wss://host:port/, which neither Neptune nor this server answers
    connection = {"conn_type": "generic", "host": job["gremlin_host"], "port": job["gremlin_port"]}
    os.environ["AIRFLOW_CONN_GREMLIN_DEFAULT"] = json.dumps(connection)
    yield
    found = GremlinHook("gremlin_default").run(
        f"g.V().hasLabel('player').has('{job['property']}', gt(2)).valueMap('playerId', '{job['property']}')"
    )
    bucket = job["buckets"]["export"]
    boto3.client("s3").put_object(Bucket=bucket, Key=KEY, Body=json.dumps(found))
    yield {"members": {"bucket": bucket, "key": KEY, "format": "json"}}
