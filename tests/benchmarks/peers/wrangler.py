"""AWS SDK for pandas, in an environment of its own: what a studio would otherwise write.

Its client of Neptune speaks wss only; WS_PROTOCOL is set to ws here, as the server of the benchmark has no TLS. It is
given the key's schema and the columns, which saves one DescribeTable per call and unused attributes, and one
session for all calls: without that, each call of `read_items` makes a session of its own, at over 1,700 µs a player.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MEMBERS = "wrangler/members.csv"
SEGMENT = "wrangler/segment.csv"
COLUMNS = {
    "email": "Address",
    "playerId": "User.UserId",
    "firstName": "User.UserAttributes.FirstName",
    "lastName": "User.UserAttributes.LastName",
}


def graph(job: dict[str, Any]) -> Iterator[Any]:
    import awswrangler as wr  # type: ignore[import-not-found]
    import awswrangler.neptune._client as client_module  # type: ignore[import-not-found]

    client_module.WS_PROTOCOL = "ws"
    yield
    client = wr.neptune.connect(job["gremlin_host"], job["gremlin_port"], iam_enabled=False)
    found = wr.neptune.execute_gremlin(
        client, f"g.V().hasLabel('player').has('{job['property']}', gt(2)).valueMap('playerId', '{job['property']}')"
    )
    bucket = job["buckets"]["export"]
    wr.s3.to_csv(found, f"s3://{bucket}/{MEMBERS}", index=False)
    yield {"members": {"bucket": bucket, "key": MEMBERS, "format": "csv"}}


def enrich(job: dict[str, Any]) -> Iterator[Any]:
    import awswrangler as wr
    import boto3
    import pandas as pd  # type: ignore[import-untyped]

    yield
    session = boto3.Session()
    source = f"s3://{job['buckets']['export']}/{MEMBERS}"
    members = wr.s3.read_csv(source, dtype={"playerId": str}, boto3_session=session)
    names = members["playerId"].tolist()
    found = pd.concat(
        [
            wr.dynamodb.read_items(
                table_name=job["table"],
                partition_values=names[start : start + 100],
                columns=list(COLUMNS),
                key_schema=[{"AttributeName": "playerId", "KeyType": "HASH"}],
                boto3_session=session,
            )
            for start in range(0, len(names), 100)
        ]
    )
    segment = found[list(COLUMNS)].rename(columns=COLUMNS)
    segment.insert(0, "ChannelType", "EMAIL")
    bucket = job["buckets"]["import"]
    wr.s3.to_csv(segment, f"s3://{bucket}/{SEGMENT}", index=False, boto3_session=session)
    yield {"rows": [{"bucket": bucket, "key": SEGMENT}]}
