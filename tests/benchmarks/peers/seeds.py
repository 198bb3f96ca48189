"""The two Lambdas of the posts, reimplemented from the posts' description, with a loop over chunks of 100 keys.

ApiCohortGet and S3TriggerCohortIngest, up to the import job. What the posts' text has lost (they are cut in places) is
as in AWS's own example of a Lambda for Neptune, from which those lines come: GraphSON 2 and a pool of one connection.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

EXPORT = "export/ea_atrisk_2_2026-11-22_00-00-00.json"
CSV = "d4c1b3a0-seeds.csv"


def graph(job: dict[str, Any]) -> Iterator[Any]:
    """ApiCohortGet."""
    import boto3
    from gremlin_python.driver import serializer
    from gremlin_python.driver.driver_remote_connection import DriverRemoteConnection
    from gremlin_python.process.anonymous_traversal import traversal
    from gremlin_python.process.traversal import P

    yield
    connection = DriverRemoteConnection(
        job["gremlin_url"], "g", pool_size=1, message_serializer=serializer.GraphSONSerializersV2d0()
    )
    cohort, threshold = job["property"], 2
    g = traversal().with_remote(connection)
    result = g.V().has_label("player").has(cohort, P.gt(threshold)).value_map("playerId", cohort).to_list()
    bucket = job["buckets"]["export"]
    boto3.client("s3").put_object(Bucket=bucket, Key=EXPORT, Body=json.dumps(result))
    connection.close()
    yield {"members": {"bucket": bucket, "key": EXPORT, "format": "json"}}


def enrich(job: dict[str, Any]) -> Iterator[Any]:
    """S3TriggerCohortIngest."""
    import boto3

    yield
    s3 = boto3.resource("s3")
    content = s3.Object(job["buckets"]["export"], EXPORT).get()["Body"].read().decode("utf-8")
    json_content = json.loads(content)
    record_json = json.loads(json.dumps(json_content))  # theirs
    names = [record["playerId"][0] for record in record_json if "playerId" in record]
    users = query_dynamo(boto3.resource("dynamodb"), job["table"], names)
    csvlist = "ChannelType,Address,User.UserId,User.UserAttributes.FirstName,User.UserAttributes.LastName\n"
    for user in users:
        csvlist += "EMAIL," + user["email"] + "," + user["playerId"] + "," + user["firstName"] + "," + user["lastName"]
        csvlist += "\n"
    bucket = job["buckets"]["import"]
    s3.Object(bucket, CSV).put(Body=csvlist)
    yield {"rows": [{"bucket": bucket, "key": CSV}]}


def query_dynamo(dynamodb: Any, table: str, names: list[str]) -> list[dict[str, Any]]:
    """Theirs, and the loop."""
    users: list[dict[str, Any]] = []
    for start in range(0, len(names), 100):
        keys = {table: {"Keys": [{"playerId": name} for name in names[start : start + 100]]}}
        users += dynamodb.batch_get_item(RequestItems=keys)["Responses"][table]
    return users
