"""Worlds of the DAGs that read the events of e-mails, and change the suppression list and the graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from local.config import Config
from local.seed import Seeded
from local.servers import Servers
from tests.faults.aws import Endpoint
from tests.faults.graph import SOURCE_VARIABLE
from tests.faults.harness import Checkpoint, World
from tests.faults.leftovers import Leftovers
from tests.faults.simulate import Run
from tests.faults.written_graph import GRAPHS, WrittenGraph, graphs, source_name


class EventsWorld(World):
    """A world whose runs have no report below `reports/`: what they leave below `engagement/` is compared as it is."""

    def _edited(self, registry: str) -> str:
        registry = super()._edited(registry)
        for before, after in self.at.REGISTRY.items():
            assert before in registry, before
            registry = registry.replace(before, after)
        return registry

    @property
    def dag_id(self) -> str:
        return self.destination

    @property
    def conf(self) -> dict[str, Any]:
        return dict(self.at.CONF)

    def _environment(self, servers: Servers) -> dict[str, str]:
        bucket = f"{self.config.state_bucket}-events"
        return super()._environment(servers) | {"AIRFLOW_VAR_COHORT_FLYWHEEL_EVENT_BUCKET": bucket}

    def _personal(self) -> set[str]:
        return set(self.at.PERSONAL)

    def _check_recorded(self, run: Run, left: Leftovers) -> None:
        self.at.check(run, left)

    def _sums(self, left: Leftovers, undisturbed: Leftovers) -> list[str]:
        return []


class GraphWorld(EventsWorld):
    """A world whose runs write to a graph, of which each process has one of its own."""

    def __init__(
        self, servers: Servers, config: Config, folder: Path, destination: str, endpoint: Endpoint, kept: Path
    ) -> None:
        self._graphs = folder / "graphs"
        self._graphs.mkdir(parents=True)
        self._graph = self._next_graph(servers)
        super().__init__(servers, config, folder, destination, endpoint, kept)

    def elsewhere(self, folder: Path) -> World:
        other = super().elsewhere(folder)
        assert isinstance(other, GraphWorld)
        other._graph = self._next_graph(self.servers)
        return other

    def _next_graph(self, servers: Servers) -> WrittenGraph:
        for number in range(GRAPHS):
            try:
                (self._graphs / str(number)).mkdir()
            except FileExistsError:
                continue
            return WrittenGraph(servers.gremlin_port, source_name(number))
        raise RuntimeError(f"there are more than {GRAPHS} processes: raise GRAPHS in tests/faults/written_graph.py")

    @property
    def graph(self) -> WrittenGraph:
        return self._graph

    def _environment(self, servers: Servers) -> dict[str, str]:
        found = super()._environment(servers)
        return found | {
            "AIRFLOW_CONN_NEPTUNE_ENGAGEMENT": found["AIRFLOW_CONN_NEPTUNE_DEFAULT"],
            SOURCE_VARIABLE: self._graph.source,
        }

    def _restore(self, servers: Servers, checkpoint: Checkpoint) -> None:
        self._graph.put(checkpoint.there["graph"])

    def _there(self, servers: Servers) -> dict[str, Any]:
        return super()._there(servers) | {"graph": self._graph.content()}

    def _made(self, servers: Servers) -> Seeded:
        self._seeded = super()._made(servers)
        with self._environ(servers):
            self.at.history(self, servers)
        return self._seeded

    def run_days_ago(self, servers: Servers, days: int) -> None:
        """Run the DAG of so many days ago, undisturbed."""
        run = Run(self.dag, {}, self.at.now(days), self.folder / "history.log")
        self._go(run, servers)
        assert not run.failed, f"{run.errors}; its log is {run.log}"


@contextmanager
def graph_world(
    servers: Servers, config: Config, folder: Path, destination: str, endpoint: Endpoint, kept: Path
) -> Iterator[World]:
    """A recorded world with a Gremlin Server of its own, while the block runs."""
    with graphs(config, folder / "server") as port:
        yield GraphWorld(replace(servers, gremlin_port=port), config, folder, destination, endpoint, kept)
