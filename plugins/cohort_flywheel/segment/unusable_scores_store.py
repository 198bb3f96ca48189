"""Values of the score's property that are not numbers: how many, and a list of the vertices that a read found."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.governance.erasure import Tombstones
from cohort_flywheel.hooks.neptune import GraphUnavailableError, NeptuneGremlinHook
from cohort_flywheel.hooks.s3 import S3Hook, put_unless_equal
from cohort_flywheel.segment.members import is_score
from cohort_flywheel.segment.segment_file import digest

if TYPE_CHECKING:
    from gremlin_python.process.graph_traversal import GraphTraversal


def count_without_number(hook: NeptuneGremlinHook, *, property: str, label: str) -> int | None:
    """Count the vertices with the property but without a number in it; None if the graph does not answer.

    The query of a read does not find them: text, a boolean, a date and NaN are neither above nor below a threshold.
    The graph reads every vertex of the label for this.
    """
    from gremlin_python.process.graph_traversal import __
    from gremlin_python.process.traversal import P

    numbers = __.or_(__.has(property, P.lt(0)), __.has(property, P.gte(0)))
    try:
        counted = [n for batch in hook.stream(_labelled(label).has(property).not_(numbers).count()) for n in batch]
    except (GraphUnavailableError, FlywheelError) as error:  # the read itself has succeeded
        hook.log.warning("vertices whose %s is not a number: not counted (%s)", property, error)
        return None
    number = int(sum(counted))
    if number:
        hook.log.warning("%s vertices whose %s is not a number are in no other count", f"{number:,}", property)
    return number


def put_unusable_vertices(
    hook: NeptuneGremlinHook,
    s3: S3Hook,
    bucket: str,
    key: str,
    folder: Path,
    tombstones: Tombstones | None,
    *,
    property: str,
    direction: Direction,
    threshold: float,
    label: str,
    player_id: str,
) -> None:
    """Write the ids of the vertices beyond the threshold that have a value which is not a valid score.

    A row is the id of a vertex and a playerId, each without the playerId of an erased player.
    """
    from gremlin_python.process.graph_traversal import __
    from gremlin_python.process.traversal import P, T

    beyond = P.gt(threshold) if direction == "above" else P.lt(threshold)
    traversal = _labelled(label).has(property, beyond).project("id", "players", "scores").by(T.id)
    traversal = traversal.by(__.values(player_id).fold()).by(__.values(property).fold())
    path = folder / "unusable_vertices.csv"
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        rows = csv.writer(file, lineterminator="\r\n")
        rows.writerow(("vertexId", "playerId"))
        for batch in hook.stream(traversal):
            for found in batch:
                if not all(map(is_score, found["scores"])):
                    (vertex,) = _not_erased([found["id"]], tombstones)
                    rows.writerows((vertex, player) for player in _not_erased(found["players"] or [""], tombstones))
    put_unless_equal(s3, path, bucket, key, digest(path))


def _not_erased(values: Sequence[object], erased: Tombstones | None) -> Iterator[str]:
    """Yield the texts of ids; an empty one for that of an erased player."""
    for text in map(str, values):
        yield "" if erased and text in erased else text


def _labelled(label: str) -> GraphTraversal:
    from gremlin_python.process.graph_traversal import GraphTraversalSource  # heavy: not for a DAG's parse
    from gremlin_python.process.traversal import TraversalStrategies
    from gremlin_python.structure.graph import Graph

    return GraphTraversalSource(Graph(), TraversalStrategies()).V().has_label(label)
