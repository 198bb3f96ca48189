"""The dangerous faults of the DAG `engagement`; and that the harness finds out what would change the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.sites import GRAPH, cases, dangerous

if TYPE_CHECKING:
    from tests.faults.harness import World

pytestmark = pytest.mark.nightly
DESTINATION = "engagement"


def test_every_task_has_call_sites_and_a_day_of_events_survives_the_dangerous_faults(
    world: World, survive: Any
) -> None:
    assert {world.task_of(site) for site in world.sites} == set(world.dag.task_ids)
    # plan asks for the names that this package has not written: here one is new
    assert {world.task_of(site) for site in world.sites if site.service == GRAPH} == {"plan", "write_graph"}
    survive(dangerous(cases(world.sites), world.at.DANGEROUS), "only the dangerous ones: make faults tries all")


def test_a_player_who_is_merged_is_detected(survived: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The player was deleted after the lookup: the attempt that follows creates the vertex."""
    from cohort_flywheel.engagement import graph_store
    from cohort_flywheel.engagement.graph_values import Write

    def merged(self: Any, write: Write) -> int:
        from gremlin_python.process.traversal import Cardinality, T

        for vertex_id in (*write.vertex_ids, "v-gone"):
            steps = graph_store._g().merge_v({T.id: vertex_id, T.label: self._label})
            self._run(steps.property(Cardinality.single, write.name, write.value).count())
        return len(write.vertex_ids)

    monkeypatch.setattr(graph_store.EngagementGraph, "write", merged)
    wrong = survived("write_graph: s3 PutObject #1 × killed after")
    assert any("vertices were created: ['v-gone']" in sentence for sentence in wrong), wrong


def test_edges_with_ids_that_differ_are_detected(survived: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from uuid import uuid4

    from cohort_flywheel.engagement import graph_values

    monkeypatch.setattr(graph_values, "edge_id", lambda *_: f"eng-edge-{uuid4().hex}")
    wrong = survived("write_graph: graph traversal #9 × killed after")
    assert any("the graph has other edges" in sentence for sentence in wrong), wrong
