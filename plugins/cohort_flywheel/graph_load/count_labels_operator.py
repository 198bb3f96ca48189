"""How many vertices and edges of each label the graph has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.records import Json
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.neptune import GraphUnavailableError, NeptuneGremlinHook
from cohort_flywheel.hooks.neptune_connection import DEFAULT_CONN_NAME

if TYPE_CHECKING:
    from airflow.sdk import Context


class GraphCountLabelsOperator(BaseOperator):
    """Count the vertices and edges by label. The counts are information: a graph that cannot count does not fail.

    Returns `vertices` and `edges`, each label to its number, or None where the graph did not answer.

    :param neptune_conn_id: the Airflow connection of the graph.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    ui_color = "#b7d7f0"

    def __init__(
        self, *, neptune_conn_id: str = DEFAULT_CONN_NAME, aws_conn_id: str | None = "aws_default", **kwargs: Any
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.neptune_conn_id = neptune_conn_id
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Json:
        with describe_failure("Clearing this task is safe: it only reads."):
            return count_labels(NeptuneGremlinHook(self.neptune_conn_id, self.aws_conn_id))


def count_labels(hook: NeptuneGremlinHook) -> dict[str, dict[str, int] | None]:
    """The number of vertices and of edges by label; None where the graph does not answer."""
    from gremlin_python.process.graph_traversal import GraphTraversalSource  # heavy: not for a DAG's parse
    from gremlin_python.process.traversal import T, TraversalStrategies
    from gremlin_python.structure.graph import Graph

    g = GraphTraversalSource(Graph(), TraversalStrategies())
    found: dict[str, dict[str, int] | None] = {}
    for kind, elements in (("vertices", g.V()), ("edges", g.E())):
        try:
            (counts,) = [row for batch in hook.stream(elements.group_count().by(T.label)) for row in batch]
            found[kind] = {str(label): int(number) for label, number in sorted(counts.items())}
        except (GraphUnavailableError, FlywheelError) as error:
            hook.log.warning("The %s are not counted: %s", kind, error)
            found[kind] = None
    return found
