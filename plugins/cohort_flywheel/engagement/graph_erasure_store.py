"""Take players out of what this package has written to the graph: their properties and edges, and nothing of others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import batched

from cohort_flywheel.engagement.graph_operator import check_connections, open_graph
from cohort_flywheel.engagement.graph_values import BATCH, GraphPlan
from cohort_flywheel.governance.cleanup import InventoryRow

_WHAT = "vertex with engagement"
_OFF = "engagement.write_graph is off: switch it on for one erasure, or remove it yourself"


class GraphErasure:
    """Find and remove our properties and edges of players.

    :param names: the names of the properties that were written, as the state bucket has them.
    :param plan: what is written to the graph; None: the graph is not asked.
    :param neptune_conn_id: the Airflow connection of the graph, under the role that may write.
    :param neptune_aws_conn_id: the Airflow connection of that role.
    """

    def __init__(
        self, names: Sequence[str], plan: GraphPlan | None, neptune_conn_id: str, neptune_aws_conn_id: str | None
    ) -> None:
        self._names, self._plan, self._conn_ids = names, plan, (neptune_conn_id, neptune_aws_conn_id)

    def check(self) -> None:
        """Raise FlywheelError if the connections that are needed are missing."""
        if self._plan and self._names:
            check_connections(*self._conn_ids)

    def erase(self, players: Collection[str], *, dry_run: bool) -> list[InventoryRow]:
        """Remove what the vertices of players have of ours, or only count these vertices.

        One row at most: the number of vertices, or with `why`, if the graph is not asked, that of the players.
        """
        if not self._names:
            return []
        place = ", ".join(self._names)
        if self._plan is None:
            return [InventoryRow(f"{_WHAT}, if any", place, len(players), why=_OFF)]
        graph, number = open_graph(self._plan, *self._conn_ids), 0
        for some in batched(sorted(players), BATCH):
            ids = graph.vertices_with_ours(some, self._names)
            number += len(ids)
            if not dry_run:
                graph.remove_from(ids, self._names)
        return [InventoryRow(_WHAT, place, number)] if number else []
