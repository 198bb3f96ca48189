"""The emulated bulk loader, the second graph, and a state bucket for the tests of graph loads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gremlin_python.process.graph_traversal import GraphTraversalSource

from local import graph_files, neptune_csv, seed
from local.config import Config
from local.servers import Servers
from tests.cohort_flywheel.graph_load.load_attempts import EDGES, PLAYERS, Attempts
from tests.local.neptune_loader_service import Loader, graph_digest, scratch_graph
from tests.local.neptune_loader_service import loader as running_loader

STATE_BUCKET = "graph-load-state"


@pytest.fixture
def g(servers: Servers) -> Iterator[GraphTraversalSource]:
    """An empty graph beside the seeded one."""
    with scratch_graph(servers) as source:
        yield source


@pytest.fixture
def loader(servers: Servers, config: Config, g: GraphTraversalSource) -> Iterator[Loader]:
    """The emulated loader, which loads into it."""
    with running_loader(servers, config) as found:
        yield found


@pytest.fixture
def state_bucket(servers: Servers, config: Config) -> Iterator[str]:
    """A bucket for records, empty at the end of each test."""
    s3 = seed.client("s3", servers, config)
    if STATE_BUCKET not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=STATE_BUCKET)
    yield STATE_BUCKET
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=STATE_BUCKET):
        for item in page.get("Contents", ()):
            s3.delete_object(Bucket=STATE_BUCKET, Key=item["Key"])


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The seven files of twenty players."""
    folder = tmp_path_factory.mktemp("small")
    graph_files.write(folder, 20)
    return folder


@pytest.fixture(scope="session")
def small_graph(servers: Servers, small_folder: Path) -> tuple[int, int, str]:
    """The digest of the graph that the tests' own loader makes of them."""
    with scratch_graph(servers) as source:
        neptune_csv.load_folder(small_folder, servers.gremlin_url, source="scratch")
        return graph_digest(source)


@pytest.fixture
def files(loader: Loader) -> list[str]:
    return [loader.put("f/players.csv", PLAYERS), loader.put("f/edges.csv", EDGES)]


@pytest.fixture
def run(airflow_env: dict[str, str], state_bucket: str, loader: Loader, context: Any) -> Attempts:
    """Attempts of a task that loads them."""
    return Attempts(context, loader.role_arn, state_bucket)
