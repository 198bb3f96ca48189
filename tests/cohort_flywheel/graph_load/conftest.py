"""The emulated bulk loader and the second graph for the tests of graph loads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gremlin_python.process.graph_traversal import GraphTraversalSource

from local.config import Config
from local.servers import Servers
from tests.local.neptune_loader_service import Loader, scratch_graph
from tests.local.neptune_loader_service import loader as running_loader


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
