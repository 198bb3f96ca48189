"""The emulated bulk loader for tests: files in a bucket, a role of the cluster, an empty graph, and its settings."""

from __future__ import annotations

import hashlib
import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gremlin_python.driver.driver_remote_connection import DriverRemoteConnection
from gremlin_python.process.anonymous_traversal import traversal
from gremlin_python.process.graph_traversal import GraphTraversalSource, __
from gremlin_python.process.traversal import T

from cohort_flywheel.graph_load.hook import NeptuneLoaderHook
from cohort_flywheel.graph_load.job import JobStatus
from local import seed
from local.config import Config
from local.rest_json import shapes
from local.servers import Servers

BUCKET = "graph-files"
ROLE = "NeptuneLoadFromS3"
PLAYERS = "~id,~label,playerId:String,ea_atrisk:Int\np1,player,ann,3\np2,player,,1\n"
EDGES = "~id,~label,~from,~to,n:Int\ne1,knows,p1,p2,7\n"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "rds.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}
READS = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "arn:aws:s3:::*"}],
}


class Loader:
    """The loader of the servers, which loads into the second graph, `scratch`."""

    def __init__(self, servers: Servers, config: Config) -> None:
        self.servers = servers
        self.s3, self.iam = seed.client("s3", servers, config), seed.client("iam", servers, config)
        if BUCKET not in [bucket["Name"] for bucket in self.s3.list_buckets()["Buckets"]]:
            self.s3.create_bucket(Bucket=BUCKET)
        self.role_arn = self.role(ROLE)
        self.attach(self.role_arn)

    def role(self, name: str, trust: dict[str, Any] = TRUST, reads: dict[str, Any] = READS) -> str:
        """The ARN of a role, made or changed."""
        try:
            self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
        except self.iam.exceptions.EntityAlreadyExistsException:
            self.iam.update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
        self.iam.put_role_policy(RoleName=name, PolicyName="ReadS3", PolicyDocument=json.dumps(reads))
        return str(self.iam.get_role(RoleName=name)["Role"]["Arn"])

    def attach(self, *arns: str) -> None:
        """Add roles to the cluster."""
        self._ask("PUT", {"attach": arns})

    def control(self, **settings: Any) -> Any:
        """Change what the loader does next; gives its state."""
        return self._ask("POST", settings) if settings else self._ask("GET")

    def jobs(self) -> list[dict[str, Any]]:
        return list(self.control()["jobs"])

    def loads(self) -> list[tuple[str, str, int]]:
        """The jobs: source, mode, records."""
        return [(job["source"], job["request"].get("mode", "AUTO"), job["records"]) for job in self.jobs()]

    def put(self, key: str, text: str | bytes, bucket: str = BUCKET) -> str:
        """Put a file; gives its address."""
        self.s3.put_object(Bucket=bucket, Key=key, Body=text.encode() if isinstance(text, str) else text)
        return f"s3://{bucket}/{key}"

    def _ask(self, method: str, body: Any = None) -> Any:
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.servers.aws_url}/cohort-flywheel/neptune-loader", data=data, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - as above
            return json.load(answer)


@contextmanager
def scratch_graph(servers: Servers) -> Iterator[GraphTraversalSource]:
    """The second graph, empty before and after."""
    connection = DriverRemoteConnection(servers.gremlin_url, "scratch")
    g = traversal().with_(connection)
    g.V().drop().to_list()
    yield g
    g.V().drop().to_list()
    connection.close()


@contextmanager
def loader(servers: Servers, config: Config) -> Iterator[Loader]:
    """The loader with its settings reset, no files, and jobs that end at once."""
    found = Loader(servers, config)
    found.control(reset=True, graph="scratch", load_seconds=0)
    yield found
    found.control(reset=True)
    for page in found.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for item in page.get("Contents", ()):
            found.s3.delete_object(Bucket=BUCKET, Key=item["Key"])


def graph_digest(g: GraphTraversalSource) -> tuple[int, int, str]:
    """How many vertices and edges there are, and a digest over all of them with their properties."""
    vertices = g.V().project("id", "label", "values").by(T.id).by(T.label).by(__.value_map()).to_list()
    edges = (
        g.E().project("id", "label", "out", "in", "values").by(T.id).by(T.label).by(__.out_v().id_())
        .by(__.in_v().id_()).by(__.value_map()).to_list()
    )  # fmt: skip
    rows = sorted(json.dumps(_plain(each), sort_keys=True, default=str) for each in [*vertices, *edges])
    return len(vertices), len(edges), hashlib.sha256("\n".join(rows).encode()).hexdigest()


def _plain(element: dict[str, Any]) -> dict[str, Any]:
    """The values of a property in an order of their own: a set has none."""
    values = {
        name: sorted(map(str, found)) if isinstance(found, list) else str(found)
        for name, found in element["values"].items()
    }
    return element | {"values": values}


# --- the package's client


def modelled_hook() -> NeptuneLoaderHook:
    """The package's client; each of its answers is held against botocore's model."""
    made = NeptuneLoaderHook()
    made.conn.meta.events.register("before-parse.neptunedata", hold_against_the_model)
    return made


def hold_against_the_model(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    found = json.loads(response_dict["body"] or "{}")
    if response_dict["status_code"] >= 400:
        modelled = {e.name: e for e in operation_model.error_shapes}.get(found["code"])
        if modelled:  # 405 and 403 are not in the model
            members = {name: found[name] for name in modelled.members}
            assert shapes.problems(members, modelled) == []
        return
    documents = {"payload"} if operation_model.name == "GetLoaderJobStatus" else set()
    expected = operation_model.output_shape
    assert set(found) >= set(expected.required_members)
    for name, value in found.items():
        if name not in documents:
            assert shapes.problems(value, expected.members[name]) == []


def request(loader: Loader, address: str, **changes: Any) -> dict[str, Any]:
    return {
        "source": address, "format": "csv", "iamRoleArn": loader.role_arn, "s3BucketRegion": "us-east-1", "mode": "NEW",
    } | changes  # fmt: skip


def ended(hook: NeptuneLoaderHook, load_id: str) -> JobStatus:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        job = hook.job(load_id)
        assert job
        if not job.is_active:
            return job
        time.sleep(0.02)
    raise AssertionError("the job did not end")


def load(hook: NeptuneLoaderHook, loader: Loader, source: str, **changes: Any) -> JobStatus:
    return ended(hook, hook.start(request(loader, source, **changes)))
