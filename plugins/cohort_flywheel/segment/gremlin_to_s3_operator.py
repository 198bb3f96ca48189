"""Write the players beyond a threshold from the graph to a file in S3."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.sdk import BaseOperator
from pydantic import ValidationError

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.progress import Progress
from cohort_flywheel.common.records import Json
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.config.conditions import Condition
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.config.decimals import MAX_INT, Number, parse_number, read_number
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.graph_serializers import ScoreColumns
from cohort_flywheel.hooks.neptune import NeptuneGremlinHook
from cohort_flywheel.hooks.s3 import S3Hook, put_unless_equal
from cohort_flywheel.segment.extract_file import extract_records, shard_size, write_extract
from cohort_flywheel.segment.members import (
    GraphRow,
    Members,
    UnusableScoreError,
    is_beyond,
    is_score,
    to_vertex,
)
from cohort_flywheel.segment.outputs import ExtractFile, GremlinExtract, Shard
from cohort_flywheel.segment.segment_file import digest
from cohort_flywheel.segment.unusable_scores_store import count_without_number

if TYPE_CHECKING:
    from airflow.sdk import Context
    from gremlin_python.process.traversal import Traversal

#: The Cohort Modeler's names.
_MODELERS = DataSchema()


class GremlinToS3Operator(TemporaryFolderMixin, BaseOperator):
    """Write the vertices with a property beyond a threshold to S3, one playerId per line, sorted.

    The file has the format of the Cohort Modeler's extract, `[{"playerId": ["wayne96"], "ea_atrisk": [3]}, …]`. The
    query is bytecode; the property is an argument of a step, never text. The result is not held in memory. Returns
    (each also as a separate XCom) `s3_bucket`, `s3_key`, `bytes`, `sha256`, `put` (false: the object had the same
    bytes), the counts `vertices = members + merged + vertices_without_playerId`, `shards`, and
    `vertices_without_number`, which the query does not find, as their property is not a number (None: not counted).

    :param property: the numeric property to compare. (templated)
    :param direction: `above` (score > threshold) or `below` (score < threshold). (templated)
    :param threshold: a whole number, or one with at most six decimals. (templated)
    :param s3_bucket: the bucket of the file. (templated)
    :param s3_key: the key of the file. (templated)
    :param where: a condition by property, as in cohorts.yaml; other vertices are excluded. (templated)
    :param vertex_label: the label of the vertices. (templated)
    :param player_id: their property with the player's id; the file has it as playerId. (templated)
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    :param neptune_conn_id: the Airflow connection of the graph. (templated)
    :param aws_conn_id: the Airflow connection for S3 and for signing. (templated)
    """

    template_fields = (
        "property", "direction", "threshold", "s3_bucket", "s3_key", "where", "vertex_label", "player_id",
        "neptune_conn_id", "aws_conn_id",
    )  # fmt: skip
    ui_color = "#b7d7f0"

    def __init__(
        self,
        *,
        property: str,
        direction: Direction,
        threshold: float | str,
        s3_bucket: str,
        s3_key: str,
        where: Mapping[str, Json] | None = None,
        vertex_label: str = _MODELERS.vertex_label,
        player_id: str = _MODELERS.player_id,
        memory_mb: int | None = None,
        neptune_conn_id: str = NeptuneGremlinHook.default_conn_name,
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.property = property
        self.direction = direction
        self.threshold = threshold
        self.s3_bucket = s3_bucket
        self.s3_key = s3_key
        self.where = where
        self.vertex_label = vertex_label
        self.player_id = player_id
        self.memory_mb = memory_mb
        self.neptune_conn_id = neptune_conn_id
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it reads the graph again and puts the file under the same name."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            threshold, where = _threshold(self.threshold), _conditions(self.where or {})
            with Members(
                folder, direction=self.direction, threshold=threshold, where=where, memory_mb=self.memory_mb
            ) as members:
                hook = NeptuneGremlinHook(self.neptune_conn_id, self.aws_conn_id)
                read_graph(
                    hook,
                    members,
                    property=self.property,
                    direction=self.direction,
                    threshold=threshold,
                    required=list(where),
                    label=self.vertex_label,
                    player_id=self.player_id,
                )
                unusable = count_without_number(hook, property=self.property, label=self.vertex_label)
                s3 = S3Hook(aws_conn_id=self.aws_conn_id)
                file, shards = put_extract(
                    s3, members, self.property, folder, self.s3_bucket, self.s3_key, side_effects
                )
        return GremlinExtract(**file.model_dump(), shards=shards, vertices_without_number=unusable).model_dump(
            mode="json"
        )


class VerticesRead(NamedTuple):
    """The number of vertices that were read, and of those with a usable id."""

    number: int
    with_id: int


def _threshold(value: float | str) -> Number:
    try:
        return parse_number(value.strip()) if isinstance(value, str) else read_number(value)
    except ValueError as error:
        raise FlywheelError(f"threshold {value!r}: {error}", code=Code.PARAM) from None


def _conditions(where: Mapping[str, Json]) -> dict[str, Condition]:
    try:
        return {name: Condition.model_validate(condition) for name, condition in where.items()}
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False, include_input=False)
        raise FlywheelError(f"where: {first['msg']}", code=Code.PARAM) from None


def read_graph(
    hook: NeptuneGremlinHook,
    members: Members,
    *,
    property: str,
    direction: Direction,
    threshold: Number,
    required: list[str],
    label: str,
    player_id: str,
) -> VerticesRead:
    """Add every vertex beyond the threshold to the members, and count them.

    An interrupted read begins again from the start. Raises UnusableScoreError, at the end of the read, with the number
    of vertices that have an unusable score.
    """
    traversal = _traversal(label, player_id, property, direction, threshold, required)
    read = partial(
        to_vertex, property=property, direction=direction, threshold=threshold, required=required, player_id=player_id
    )
    for attempt in hook.retrying():
        with attempt:
            members.clear()
            number = with_id = unusable = 0
            progress = Progress(hook.log, "vertices read")
            for batch in hook.stream_scores(traversal, player_id=player_id, property=property, required=required):
                odd: Iterable[GraphRow] = batch.others
                if are_plain(batch, direction, threshold):
                    members.add_columns(batch.player_ids, batch.scores, batch.properties)
                    with_id += len(batch.player_ids)
                else:
                    odd = chain(rows_of(batch, player_id, property), batch.others)
                vertices = []
                for row in odd:
                    try:
                        vertices.append(read(row))
                    except UnusableScoreError:
                        unusable += 1
                members.add(vertices)
                rows = len(batch.player_ids) + len(batch.others)
                number += rows
                with_id += sum(vertex.player_id is not None for vertex in vertices)
                progress.add(rows)
            if unusable:
                raise UnusableScoreError(
                    f"property {property} of {unusable:,} of {number:,} vertices is not a finite number, or has another"
                    " value beside it: correct the graph, or name a numeric property in the registry",
                    code=Code.GRAPH_PROPERTY,
                )
    return VerticesRead(number, with_id)


def are_plain(columns: ScoreColumns, direction: Direction, threshold: Number) -> bool:
    """Whether `to_vertex` would find a playerId in each row of some columns, and refuse none."""
    if not columns.player_ids:
        return True
    least, most = min(columns.scores), max(columns.scores)
    # a larger int is no score, and may be between two floats that are scores: look at each
    checked = (least, most) if least >= -MAX_INT and most <= MAX_INT else columns.scores
    return "" not in columns.player_ids and all(
        is_score(each) and is_beyond(each, direction, threshold) for each in checked
    )


def rows_of(columns: ScoreColumns, player_id: str, property: str) -> Iterator[GraphRow]:
    """The rows of some columns, as `valueMap` gives them."""
    names, lists = columns.properties.keys(), columns.properties.values()
    for one, score, *values in zip(columns.player_ids, columns.scores, *lists, strict=True):
        yield {player_id: [one], property: [score], **dict(zip(names, values, strict=True))}


def put_extract(
    s3: S3Hook,
    members: Members,
    property: str,
    folder: Path,
    bucket: str,
    key: str,
    side_effects: list[str],
    shard_members: int | None = None,
) -> tuple[ExtractFile, list[Shard]]:
    """Write the extract and upload it unless the object has the same bytes; return its place, counts and shards."""
    path, counts = folder / "extract.json", members.counts()
    with path.open("wb") as file:
        shards = write_extract(extract_records(members, property), file, shard_size(counts.members, shard_members))
    sha256 = digest(path)
    put = put_unless_equal(s3, path, bucket, key, sha256)
    place = f"s3://{bucket}/{key}"
    side_effects.append(f"the extract was put at {place}" if put else f"the same extract was at {place} already")
    numbers = counts.model_dump()
    s3.log.info("%s: %s", side_effects[-1], ", ".join(f"{name} {number:,}" for name, number in numbers.items()))
    extract = ExtractFile(s3_bucket=bucket, s3_key=key, bytes=path.stat().st_size, sha256=sha256, put=put, **numbers)
    return extract, [shard.model_copy(update={"of": sha256}) for shard in shards]


def _traversal(
    label: str, player_id: str, property: str, direction: Direction, threshold: Number, required: list[str]
) -> Traversal:
    """Return the traversal; `valueMap` returns every value of a property, because Neptune has set cardinality."""
    from gremlin_python.process.graph_traversal import GraphTraversalSource  # heavy: not for a DAG's parse
    from gremlin_python.process.traversal import P, TraversalStrategies
    from gremlin_python.structure.graph import Graph

    beyond = P.gt(threshold) if direction == "above" else P.lt(threshold)
    g = GraphTraversalSource(Graph(), TraversalStrategies())
    return g.V().has_label(label).has(property, beyond).value_map(player_id, property, *required)
