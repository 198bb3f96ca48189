"""The players beyond a threshold, from the graph to a file in S3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.sdk import BaseOperator

from cohort_flywheel.hooks.neptune import NeptuneGremlinHook
from cohort_flywheel.hooks.s3 import put_unless_equal
from cohort_flywheel.membership import Members, write_extract
from cohort_flywheel.operators.outside import outside
from cohort_flywheel.operators.progress import Progress
from cohort_flywheel.operators.temporary import TemporaryFolderMixin
from cohort_flywheel.segment_file import digest

if TYPE_CHECKING:
    from airflow.sdk import Context
    from gremlin_python.process.traversal import Traversal


class GremlinToS3Operator(TemporaryFolderMixin, BaseOperator):
    """Write the vertices whose property lies beyond a threshold to S3, one playerId a line, sorted.

    The file is the Cohort Modeler's extract, `[{"playerId": ["wayne96"], "ea_atrisk": [3]}, …]`. The query is
    bytecode; the property reaches it as an argument of a step, never as text. Nothing holds the result in
    memory. Returns (each also an XCom of its own) `s3_bucket`, `s3_key`, `bytes`, `sha256`, `put` (false: the
    same bytes were there), and the counts `vertices = members + merged + vertices_without_playerId`.

    :param property: the numeric property that is compared. (templated)
    :param direction: `above` (score > threshold) or `below` (score < threshold). (templated)
    :param threshold: a whole number. (templated)
    :param s3_bucket: where the file goes. (templated)
    :param s3_key: its key. (templated)
    :param vertex_label: the label of the vertices. (templated)
    :param neptune_conn_id: the Airflow connection of the graph. (templated)
    :param aws_conn_id: the Airflow connection for S3 and for signing. (templated)
    """

    template_fields = (
        "property", "direction", "threshold", "s3_bucket", "s3_key", "vertex_label", "neptune_conn_id", "aws_conn_id",
    )  # fmt: skip
    ui_color = "#b7d7f0"

    def __init__(
        self,
        *,
        property: Any,
        direction: Any,
        threshold: Any,
        s3_bucket: Any,
        s3_key: Any,
        vertex_label: str = "player",
        neptune_conn_id: str = NeptuneGremlinHook.default_conn_name,
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.property, self.direction, self.threshold = property, direction, threshold
        self.s3_bucket, self.s3_key, self.vertex_label = s3_bucket, s3_key, vertex_label
        self.neptune_conn_id, self.aws_conn_id = neptune_conn_id, aws_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        place = f"s3://{self.s3_bucket}/{self.s3_key}"
        clearing = "Clearing this task is safe: it reads the graph again and puts the file under the same name."
        with outside(clearing) as done, self.temporary_folder() as folder:
            path = folder / "extract.json"
            threshold = int(self.threshold)
            with Members(folder, property=self.property, direction=self.direction, threshold=threshold) as members:
                self._read(members)
                with path.open("wb") as file:
                    write_extract(members, self.property, file)
                counts = members.counts()
            sha256, size = digest(path), path.stat().st_size
            put = put_unless_equal(S3Hook(aws_conn_id=self.aws_conn_id), path, self.s3_bucket, self.s3_key, sha256)
            done.append(f"the extract was put at {place}" if put else f"the same extract was at {place} already")
        self.log.info("%s: %s", done[0], ", ".join(f"{name} {number:,}" for name, number in counts.items()))
        where = {"s3_bucket": self.s3_bucket, "s3_key": self.s3_key}
        return where | {"bytes": size, "sha256": sha256, "put": put} | counts

    def _read(self, members: Members) -> None:
        hook = NeptuneGremlinHook(self.neptune_conn_id, self.aws_conn_id)
        traversal = self._traversal()
        for attempt in hook.retrying():
            with attempt:
                members.clear()
                progress = Progress(self.log, "vertices read")
                for batch in hook.stream(traversal):
                    members.add((row.get("playerId", []), row.get(self.property, [])) for row in batch)
                    progress.add(len(batch))

    def _traversal(self) -> Traversal:
        """`valueMap` gives every value of a property, as Neptune's set cardinality may hold several."""
        from gremlin_python.process.graph_traversal import (
            GraphTraversalSource,
        )  # heavy: not for a DAG's parse
        from gremlin_python.process.traversal import P, TraversalStrategies
        from gremlin_python.structure.graph import Graph

        threshold = int(self.threshold)
        beyond = P.gt(threshold) if self.direction == "above" else P.lt(threshold)
        g = GraphTraversalSource(Graph(), TraversalStrategies())
        return g.V().has_label(self.vertex_label).has(self.property, beyond).value_map("playerId", self.property)
