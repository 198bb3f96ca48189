"""Write the engagement of players to the graph, as numbers that a cohort can be made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, BaseOperator
from airflow.sdk.exceptions import AirflowNotFoundException

from cohort_flywheel.common.duckdb import hide_values
from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.records import Json
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.engagement import events_store as store
from cohort_flywheel.engagement.engagement_outputs import EngagementPlan, GraphWritten
from cohort_flywheel.engagement.event_counts import LaunchCounts, count_launches
from cohort_flywheel.engagement.graph_store import LAUNCH_PROPERTY, EngagementGraph
from cohort_flywheel.engagement.graph_values import GraphPlan, GraphValues, campaign_id
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.governance.tombstones_store import read_tombstones
from cohort_flywheel.hooks.neptune import NeptuneGremlinHook
from cohort_flywheel.hooks.neptune_connection import read_neptune_connection
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.names import from_instant, is_instant

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import Context

    from cohort_flywheel.governance.erasure import Tombstones

#: The Airflow connections of the role that may write properties; no other DAG uses them.
WRITER_CONN_ID = "neptune_engagement"
WRITER_AWS_CONN_ID = "aws_neptune_engagement"
#: An instant at the end of a run name.
_INSTANT_LENGTH = len("2026-11-22_00-00-00")


def open_graph(plan: GraphPlan, neptune_conn_id: str, aws_conn_id: str | None) -> EngagementGraph:
    return EngagementGraph(
        NeptuneGremlinHook(neptune_conn_id, aws_conn_id),
        label=plan.vertex_label,
        player_id=plan.player_id,
        names=plan.names,
    )


def check_connections(neptune_conn_id: str, aws_conn_id: str | None) -> None:
    """Raise FlywheelError if a connection of the role that may write is missing, or leads to a reader endpoint.

    The AWS connection must be there only if the graph's signs: the amazon provider would take the worker's own role in
    its place.
    """
    endpoint, extra = read_neptune_connection(neptune_conn_id)
    if ".cluster-ro-" in endpoint.host:
        raise FlywheelError(
            f"the connection {neptune_conn_id} leads to the reader endpoint {endpoint.host}, and engagement.write_graph"
            " of cohorts.yaml needs the writer: write the cluster's endpoint as its host",
            code=Code.CONNECTION,
        )
    if not extra.iam or aws_conn_id is None:
        return
    try:
        BaseHook.get_connection(aws_conn_id)
    except AirflowNotFoundException:
        raise FlywheelError(
            f"there is no Airflow connection {aws_conn_id}, or Airflow cannot read it, and engagement.write_graph of"
            " cohorts.yaml needs it, with the role that may write to the graph: deploy"
            " include/cloudformation/engagement.yaml with NeptuneWriterEndpoint and NeptuneClusterResourceId, which"
            " creates both",
            code=Code.CONNECTION,
        ) from None


def check_foreign_names(graph: EngagementGraph, s3: S3Hook, bucket: str) -> None:
    """Raise FlywheelError if a vertex has a property of our names that this package has not written."""
    if foreign := graph.foreign_names(store.written_names(s3, bucket)):
        raise FlywheelError(
            f"players in the graph have the property {', '.join(foreign)}, which this package has not written: choose"
            " another name in engagement.graph_names of cohorts.yaml, and clear plan with downstream",
            code=Code.ENGAGEMENT_NAMES,
        )


class EngagementGraphOperator(TemporaryFolderMixin, BaseOperator):
    """Set the numbers of the players' vertices, and write the launches as campaigns with edges from their players.

    Only what differs is written, as absolute values, so that a later attempt continues where this one ended. No player
    is created. Erased players lose our properties and edges. A run whose as-of is not the newest writes nothing.
    Returns (each also as a separate XCom) the counts of GraphWritten.

    :param plan: the output of EngagementPlanOperator. (templated)
    :param neptune_conn_id: the Airflow connection of the graph, under the role that may write. (templated)
    :param neptune_aws_conn_id: the Airflow connection of that role. (templated)
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    :param aws_conn_id: the Airflow connection for S3.
    """

    template_fields = ("plan", "neptune_conn_id", "neptune_aws_conn_id")
    ui_color = "#b7d7f0"

    def __init__(
        self,
        *,
        plan: Json,
        neptune_conn_id: str = WRITER_CONN_ID,
        neptune_aws_conn_id: str | None = WRITER_AWS_CONN_ID,
        memory_mb: int | None = None,
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.plan = plan
        self.neptune_conn_id = neptune_conn_id
        self.neptune_aws_conn_id = neptune_aws_conn_id
        self.memory_mb = memory_mb
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it writes what still differs."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            plan, s3 = EngagementPlan.model_validate(self.plan), S3Hook(aws_conn_id=self.aws_conn_id)
            written = GraphWritten(skipped=True)
            if plan.graph and store.is_newest(s3, plan):
                graph = open_graph(plan.graph, self.neptune_conn_id, self.neptune_aws_conn_id)
                written = self._write(s3, plan, plan.graph, graph, folder, side_effects)
        self.log.info("%s", store.as_text(written.model_dump()))
        return written.model_dump(mode="json")

    def _write(
        self,
        s3: S3Hook,
        plan: EngagementPlan,
        graph_plan: GraphPlan,
        graph: EngagementGraph,
        folder: Path,
        side_effects: list[str],
    ) -> GraphWritten:
        bucket = plan.state_bucket
        tables = folder / "graph"
        tables.mkdir()
        events = store.fetch_parquet(s3, plan, tables, up_to_as_of=True)
        counts, erased = count_launches(tables, events, self.memory_mb), read_tombstones(s3, bucket)
        by_tag = {tag: name for tag, name in store.launches_by_tag(s3, bucket).items() if tag in counts}
        check_foreign_names(graph, s3, bucket)
        earlier = store.written_names(s3, bucket)
        if missing := set(graph_plan.names.all()) - set(earlier):
            store.put_written_names(s3, bucket, {*earlier, *missing})  # first: what is recorded may be written
        with (
            closing(GraphValues(tables, graph_plan.names, self.memory_mb)) as values,
            hide_values("compare the players' numbers"),
        ):
            for tag, name in by_tag.items():
                values.add_rows((tag, *row) for row in _rows(s3, bucket, name, erased))
            values.compute(events, plan.as_of)
            of_erased = self._add_vertices(graph, graph_plan, values, erased)
            graph.remove_from(of_erased, graph_plan.names.all())
            properties = gone = 0
            for write in values.writes():
                reached = graph.write(write)
                properties, gone = properties + reached, gone + len(write.vertex_ids) - reached
                side_effects[:] = [f"{properties:,} properties were written"]
            kept = {tag: name for tag, name in by_tag.items() if _is_kept(name, plan, graph_plan)}
            found = _campaigns(graph, values, kept, counts)
            edges, edges_removed = _edges(graph, graph_plan, values, kept)
            old = sorted(graph.campaigns().keys() - {campaign_id(tag) for tag in kept})
            for vertex_id in old:
                graph.remove_campaign(vertex_id)
            without_vertex = values.without_vertex()
        for name in set(earlier) - set(graph_plan.names.all()):
            graph.remove_name(name)
        store.put_written_names(s3, bucket, graph_plan.names.all())
        return GraphWritten(
            properties=properties, gone=gone, without_vertex=without_vertex, erased=len(of_erased), campaigns=found,
            campaigns_removed=len(old), edges=edges, edges_removed=edges_removed,
        )  # fmt: skip

    def _add_vertices(
        self, graph: EngagementGraph, plan: GraphPlan, values: GraphValues, erased: Tombstones | None
    ) -> list[str]:
        """Add the vertices with our properties and those of the players; return the ids of those of erased players."""
        found = set[str]()
        for vertices in graph.vertices_with_numbers():
            theirs = {each.id for each in vertices if erased and each.player_id and each.player_id in erased}
            values.add_vertices(each for each in vertices if each.id not in theirs)
            found |= theirs
        for players in values.players(plan.edges):
            values.add_vertices(graph.vertices_of(players))
        values.match()
        return sorted(found)


def _rows(s3: S3Hook, bucket: str, name: str, erased: Tombstones | None) -> Iterator[tuple[str, str]]:
    for row, player_id in store.rows_of_launch(s3, bucket, name):
        if erased is None or player_id not in erased:
            yield row, player_id


def _is_kept(name: str, plan: EngagementPlan, graph_plan: GraphPlan) -> bool:
    text = name[-_INSTANT_LENGTH:]
    return is_instant(text) and from_instant(text) > plan.as_of - timedelta(days=graph_plan.keep_days)


def _campaigns(
    graph: EngagementGraph, values: GraphValues, kept: Mapping[str, str], counts: Mapping[str, LaunchCounts]
) -> int:
    """Write the campaigns that differ; return how many."""
    there, engaged, number = graph.campaigns(), values.engaged(), 0
    for tag, name in sorted(kept.items()):
        launch, of_launch = counts[tag], engaged.get(tag, {})
        wanted: dict[str, str | int] = {
            "name": name, LAUNCH_PROPERTY: name, "eng_messages": launch.messages,
            "eng_delivered": launch.states.get("delivered", 0), "eng_bounced": launch.states.get("bounced", 0),
            "eng_complained": launch.complained, "eng_unsubscribed": launch.unsubscribed,
            "eng_opened": of_launch.get("Open", 0), "eng_clicked": of_launch.get("Click", 0),
        }  # fmt: skip
        if there.get(campaign_id(tag)) != wanted:
            graph.put_campaign(tag, wanted)
            number += 1
    return number


def _edges(graph: EngagementGraph, plan: GraphPlan, values: GraphValues, kept: Mapping[str, str]) -> tuple[int, int]:
    """Write and remove the edges that differ; return how many."""
    added = removed = 0
    for tag in sorted(kept):
        there, wanted = set(graph.edge_ids(campaign_id(tag))), set[str]()
        for edge in values.edges(tag, plan.edges):
            wanted.add(edge.id)
        added += graph.put_edges(each for each in values.edges(tag, plan.edges) if each.id not in there)
        old = sorted(there - wanted)
        graph.remove_edges(old)
        removed += len(old)
    return added, removed
