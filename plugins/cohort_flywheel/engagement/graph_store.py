"""The engagement in the graph: our properties of players, the campaigns, and the edges between them.

Players are looked up and never created: `mergeV` would bring back one that was deleted or erased. Only campaigns are
merged. Each request ends with a count, which tells how many vertices it reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import batched
from typing import TYPE_CHECKING, Any

from cohort_flywheel.engagement.graph_values import (
    BATCH,
    EDGE_LABELS,
    Edge,
    GraphNames,
    OurVertex,
    Write,
    campaign_id,
)
from cohort_flywheel.hooks.neptune import NeptuneGremlinHook

if TYPE_CHECKING:
    from gremlin_python.process.graph_traversal import GraphTraversal, GraphTraversalSource
    from gremlin_python.process.traversal import Traversal

#: The label of a launch's vertex, which is the modeler's too, and the property that only our campaigns have.
CAMPAIGN_LABEL = "campaign"
LAUNCH_PROPERTY = "eng_launch"
#: An edge is four records: two ends, a label and an id.
_EDGE_BATCH = BATCH // 4


class EngagementGraph:
    """Reads and writes of our own properties, campaigns and edges; nothing else of the graph is changed.

    :param hook: the graph, under a role that may write.
    :param label: the label of the players' vertices.
    :param player_id: their property with the player's id.
    :param names: the names of our properties.
    """

    def __init__(self, hook: NeptuneGremlinHook, *, label: str, player_id: str, names: GraphNames) -> None:
        self._hook, self._label, self._player_id, self._names = hook, label, player_id, names

    # --- reads

    def foreign_names(self, ours: Iterable[str]) -> list[str]:
        """Return the names that a player's vertex has, without those that we wrote: `ours`."""
        wanted = [name for name in self._names.all() if name not in set(ours)]
        return [name for name in wanted if self._run(_g().V().has_label(self._label).has(name).limit(1).count()) != [0]]

    def vertices_with_numbers(self) -> Iterator[list[OurVertex]]:
        """Yield the players' vertices that have one of our properties."""
        from gremlin_python.process.graph_traversal import __

        has_any = [__.has(name) for name in self._names.all()]
        yield from self._vertices(_g().V().has_label(self._label).or_(*has_any))

    def vertices_of(self, players: Sequence[str]) -> list[OurVertex]:
        """Return the vertices of players; a player may have several, or none."""
        from gremlin_python.process.traversal import P

        start = _g().V().has_label(self._label).has(self._player_id, P.within(list(players)))
        return [each for batch in self._vertices(start) for each in batch]

    def vertices_with_ours(self, players: Sequence[str], names: Sequence[str]) -> list[str]:
        """Return the ids of players' vertices that have one of these properties or one of our edges, sorted."""
        from gremlin_python.process.graph_traversal import __
        from gremlin_python.process.traversal import P

        has_any = [__.out_e(*EDGE_LABELS.values()), *(__.has(name) for name in names)]
        steps = _g().V().has_label(self._label).has(self._player_id, P.within(list(players))).or_(*has_any)
        return sorted(map(str, self._run(steps.id_())))

    def _vertices(self, start: GraphTraversal) -> Iterator[list[OurVertex]]:
        from gremlin_python.process.graph_traversal import __

        names = (self._player_id, *self._names.all())
        steps = start.project("id", *names).by(__.id_())
        for name in names:
            steps = steps.by(__.values(name).fold())
        # a read that is interrupted begins again, and yields some vertices twice: GraphValues counts them once
        for attempt in self._hook.retrying():
            with attempt:
                for batch in self._hook.stream(steps):
                    yield [self._vertex(row) for row in batch]

    def _vertex(self, row: Mapping[str, Any]) -> OurVertex:
        ids = row[self._player_id]
        player = ids[0] if len(ids) == 1 and isinstance(ids[0], str) else None
        clicks, opens, day = (_number(row[name]) for name in self._names.all())
        return OurVertex(str(row["id"]), player, (clicks, opens, day))

    def campaigns(self) -> dict[str, dict[str, object]]:
        """Return the properties of our campaigns by the ids of their vertices."""
        from gremlin_python.process.graph_traversal import __

        steps = _g().V().has_label(CAMPAIGN_LABEL).has(LAUNCH_PROPERTY)
        found = self._run(steps.project("id", "values").by(__.id_()).by(__.value_map()))
        return {
            str(row["id"]): {name: values[0] if len(values) == 1 else values for name, values in row["values"].items()}
            for row in found
        }

    def edge_ids(self, campaign: str) -> list[str]:
        """Return the ids of our edges of a campaign, sorted."""
        return sorted(map(str, self._run(_g().V(campaign).in_e(*EDGE_LABELS.values()).id_())))

    # --- writes

    def write(self, write: Write) -> int:
        """Set a property of some vertices to a value, in place of any other; return how many there are."""
        from gremlin_python.process.traversal import Cardinality

        steps = _g().V(*write.vertex_ids).has_label(self._label)
        return self._count(steps.property(Cardinality.single, write.name, write.value).count())

    def put_campaign(self, launch_tag: str, properties: Mapping[str, str | int]) -> None:
        """Create the vertex of a launch, or set the properties of the existing one."""
        from gremlin_python.process.traversal import Cardinality, T

        steps = _g().merge_v({T.id: campaign_id(launch_tag), T.label: CAMPAIGN_LABEL})
        for name, value in properties.items():
            steps = steps.property(Cardinality.single, name, value)
        self._count(steps.count())

    def put_edges(self, edges: Iterable[Edge]) -> int:
        """Create edges whose ends exist; return how many there are. An edge with its id stays as it is."""
        from gremlin_python.process.traversal import Direction, T

        number = 0
        for some in batched(edges, _EDGE_BATCH):
            # a missing end would fail the whole request
            there = set(map(str, self._run(_g().V(*{each.vertex_id for each in some}).id_())))
            maps = [
                {T.id: e.id, T.label: e.label, Direction.OUT: e.vertex_id, Direction.IN: e.campaign_id}
                for e in some
                if e.vertex_id in there
            ]
            if maps:
                number += self._count(_g().inject(*maps).merge_e().count())
        return number

    def remove_edges(self, ids: Iterable[str]) -> None:
        """Remove edges by their ids."""
        for some in batched(ids, BATCH):
            self._run(_g().E(*some).drop())

    def remove_campaign(self, vertex_id: str) -> None:
        """Remove a campaign with its edges, the edges first: each request stays small."""
        self.remove_edges(self.edge_ids(vertex_id))
        self._run(_g().V(vertex_id).has_label(CAMPAIGN_LABEL).has(LAUNCH_PROPERTY).drop())

    def remove_from(self, vertex_ids: Iterable[str], names: Sequence[str]) -> None:
        """Remove our properties, which have these names, and our edges of players' vertices."""
        for some in batched(vertex_ids, BATCH // 4):
            self._run(_g().V(*some).out_e(*EDGE_LABELS.values()).drop())
            self._run(_g().V(*some).has_label(self._label).properties(*names).drop())

    def remove_name(self, name: str) -> None:
        """Remove a property that has another name now from all players."""
        some = _g().V().has_label(self._label).has(name).limit(BATCH)
        while self._run(_g().V().has_label(self._label).has(name).limit(1).count()) != [0]:
            self._run(some.clone().properties(name).drop())

    # --- requests

    def _count(self, traversal: Traversal) -> int:
        (number,) = self._run(traversal)
        return int(number)

    def _run(self, traversal: Traversal) -> list[Any]:
        """Run a traversal, again from the start after an error that can pass: each write is absolute."""
        for attempt in self._hook.retrying():
            with attempt:
                found = [each for batch in self._hook.stream(traversal) for each in batch]
        return found


def _g() -> GraphTraversalSource:
    from gremlin_python.process.graph_traversal import GraphTraversalSource  # heavy: not for a DAG's parse
    from gremlin_python.process.traversal import TraversalStrategies
    from gremlin_python.structure.graph import Graph

    return GraphTraversalSource(Graph(), TraversalStrategies())


def _number(values: Sequence[object]) -> int | None:
    return values[0] if len(values) == 1 and isinstance(values[0], int) and not isinstance(values[0], bool) else None
