"""The graph to S3, on a real Gremlin Server with the sample players."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from hypothesis import example, given
from hypothesis import strategies as st

from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.hooks.graph_serializers import ScoreColumns
from cohort_flywheel.segment.gremlin_to_s3_operator import GremlinToS3Operator, are_plain, rows_of
from cohort_flywheel.segment.members import Vertex, to_vertex
from tests.cohort_flywheel.memory_limits import MEMORY_MB, MemoryLimits


def query(config: Any, key: str, **arguments: Any) -> GremlinToS3Operator:
    defaults: dict[str, Any] = {"property": "ea_atrisk", "direction": "above", "threshold": 2}
    return GremlinToS3Operator(task_id="query", s3_bucket=config.export_bucket, s3_key=key, **(defaults | arguments))


def test_the_three_at_risk(airflow_env: Any, aws: Any, config: Any) -> None:
    output = query(config, "export/three.json").execute({})
    body = aws("s3").get_object(Bucket=config.export_bucket, Key="export/three.json")["Body"].read()
    assert json.loads(body) == [
        {"playerId": ["msmith"], "ea_atrisk": [3]},
        {"playerId": ["wayne96"], "ea_atrisk": [3]},
        {"playerId": ["xortiz"], "ea_atrisk": [3]},
    ]
    assert body.decode().splitlines()[1] == '{"playerId":["msmith"],"ea_atrisk":[3]},'  # a record a line
    assert output["bytes"] == len(body)
    assert output["put"]


@pytest.mark.parametrize(
    ("threshold", "members", "merged"),
    [(2, 3, 0), (1, 53, 0), (0, 348, 1)],
)
def test_the_documented_counts(threshold: int, members: int, merged: int, airflow_env: Any, config: Any) -> None:
    output = query(config, f"export/counts_{threshold}.json", threshold=threshold).execute({})
    assert (output["members"], output["merged"], output["vertices_without_playerId"]) == (members, merged, 0)
    assert output["vertices"] == members + merged


@pytest.mark.parametrize("threshold", [1.5, "1.5", " 1.5 "])
def test_a_threshold_with_decimals_is_not_cut(threshold: float | str, airflow_env: Any, config: Any) -> None:
    decimal, one, two = (
        query(config, "export/below.json", property="ea_mischief", direction="below", threshold=each).execute({})
        for each in (threshold, "1", 2)
    )
    assert one["members"] < decimal["members"] == two["members"]


@pytest.mark.parametrize("threshold", ["1e3", "two", "", 0.1234567, True])
def test_a_threshold_that_is_no_number_is_refused(threshold: float | str, config: Any) -> None:
    with pytest.raises(AirflowFailException, match="threshold .*: input should be a whole number, or one with at most"):
        query(config, "export/none.json", threshold=threshold).execute({})


def test_equal_bytes_are_not_put_again(airflow_env: Any, aws: Any, config: Any) -> None:
    """In the seeds' world whatever is put into this bucket starts a Lambda."""
    first = query(config, "export/again.json", threshold=1).execute({})
    written = aws("s3").head_object(Bucket=config.export_bucket, Key="export/again.json")["LastModified"]
    second = query(config, "export/again.json", threshold=1).execute({})
    assert (first["put"], second["put"]) == (True, False)
    assert first["sha256"] == second["sha256"]
    assert aws("s3").head_object(Bucket=config.export_bucket, Key="export/again.json")["LastModified"] == written


def test_an_empty_cohort_is_an_empty_list(airflow_env: Any, aws: Any, config: Any) -> None:
    output = query(config, "export/empty.json", threshold=99).execute({})
    assert output["vertices"] == output["members"] == 0
    body = aws("s3").get_object(Bucket=config.export_bucket, Key="export/empty.json")["Body"].read()
    assert json.loads(body) == []


def test_gremlin_in_a_property_is_only_a_property_name(airflow_env: Any, config: Any, graph_size: Any) -> None:
    before = graph_size()
    name = "ea_atrisk',gt(0)).drop().V().has('ea_atrisk"
    assert query(config, "export/injected.json", property=name).execute({})["vertices"] == 0
    assert graph_size() == before > 1_000


def test_a_text_score_is_not_a_member(airflow_env: Any, config: Any) -> None:
    assert query(config, "export/text.json", property="status", threshold=0).execute({})["members"] == 0


def test_an_unavailable_graph_is_an_error_and_nothing_is_written(
    airflow_env: Any, aws: Any, config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "AIRFLOW_CONN_NEPTUNE_DEFAULT", '{"conn_type": "gremlin", "host": "127.0.0.1", "port": 9, "schema": "ws"}'
    )
    with pytest.raises(
        AirflowException, match="cannot be reached.*Changes made: none. Clearing this task is safe"
    ) as raised:
        query(config, "export/down.json").execute({})
    assert not isinstance(raised.value, AirflowFailException)  # Airflow may try again
    assert "Contents" not in aws("s3").list_objects_v2(Bucket=config.export_bucket, Prefix="export/down.json")


def test_a_bucket_that_is_not_there_is_final(airflow_env: Any, config: Any) -> None:
    operator = query(config, "export/x.json")
    operator.s3_bucket = "no-such-bucket"
    with pytest.raises(AirflowFailException, match="does not exist"):
        operator.execute({})


def test_a_task_that_airflow_stops_leaves_no_file(config: Any) -> None:
    """Airflow calls on_kill and then kills: no `with` block ends."""
    operator = query(config, "export/killed.json")
    with operator.temporary_folder() as folder:
        (folder / "vertices.csv").write_text("wayne96")
        operator.on_kill()
        assert not folder.exists()


# --- vertices from columns -------------------------------------------------------------------------------

plain_rows = st.tuples(st.text(max_size=2), st.integers(2, 4) | st.just(2.5), st.lists(st.just("Active"), max_size=2))
any_rows = st.tuples(
    st.text(max_size=2), st.integers(-(2**70), 2**70) | st.floats(allow_nan=False), st.lists(st.none(), max_size=2)
)


@given(
    rows=st.lists(plain_rows, max_size=4) | st.lists(any_rows, max_size=4),
    names=st.sampled_from([(), ("status",), ("status", "region")]),
    direction=st.sampled_from(["above", "below"]),
    threshold=st.sampled_from([1, 2, 2.5, 5]),
)
@example(rows=[("p1", 3, []), ("", 3, [])], names=("status",), direction="above", threshold=2)
@example(rows=[("p1", 3, []), ("p2", 2, [])], names=(), direction="above", threshold=2)
@example(rows=[("p1", 3, []), ("p2", float("inf"), [])], names=(), direction="above", threshold=2)
@example(rows=[("p1", 3, ["a"]), ("p2", 2**63, [])], names=("status",), direction="above", threshold=2)
@example(rows=[("p1", 3, []), ("p2", 2**53 + 1, []), ("p3", 2.0**54, [])], names=(), direction="above", threshold=2)
def test_plain_columns_are_the_vertices_of_their_rows(
    rows: list[Any], names: tuple[str, ...], direction: Any, threshold: Any
) -> None:
    def read(row: Any) -> Vertex | None:
        try:
            return to_vertex(
                row, property="score", direction=direction, threshold=threshold, player_id="id", required=names
            )
        except FlywheelError:  # not a score, or not beyond the threshold
            return None

    as_rows = [{"id": [p], "score": [s], **dict.fromkeys(names, values)} for p, s, values in rows]
    lists = {name: [values for _, _, values in rows] for name in names}
    columns = ScoreColumns([p for p, _, _ in rows], [s for _, s, _ in rows], lists, [])
    assert list(rows_of(columns, "id", "score")) == as_rows
    vertices = [Vertex(p, s, dict.fromkeys(names, values)) for p, s, values in rows]
    assert are_plain(columns, direction, threshold) is (vertices == [*map(read, as_rows)])


def test_the_members_are_in_the_memory_that_is_given(
    airflow_env: Any, config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = MemoryLimits(tmp_path / "limits", monkeypatch)
    query(config, "export/limited.json", memory_mb=MEMORY_MB).execute({})
    assert limits.are_tuned()
