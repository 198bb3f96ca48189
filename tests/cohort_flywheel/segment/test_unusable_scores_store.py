"""Scores that are not numbers are counted, listed, and never in a log."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError, ReadTimeoutError

from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.governance.erasure import kind_of
from cohort_flywheel.governance.tombstones_store import put_tombstones
from cohort_flywheel.hooks.neptune import GraphUnavailableError, NeptuneGremlinHook
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.segment.gremlin_to_s3_operator import GremlinToS3Operator
from tests.cohort_flywheel.hooks.test_graphson import on_scratch, scratch

__all__ = ["on_scratch", "scratch"]

Scratch = Callable[[str], Any]
Extracted = Callable[..., dict[str, Any]]
pytestmark = pytest.mark.usefixtures("on_scratch")


def add(scratch: Scratch, *vertices: str) -> None:
    scratch("; ".join(f"scratch.addV('player'){steps}.iterate()" for steps in vertices) + "; 0")


def vertex(player: str, *scores: str, id: str = "") -> str:
    steps = f".property(T.id, '{id}')" if id else ""
    steps += f".property('playerId', '{player}')" if player else ""
    return steps + "".join(f".property('ea_atrisk', {score})" for score in scores)


@pytest.fixture
def mixed(scratch: Scratch) -> None:
    """35 scores as text, 5 as numbers, and other values that are not numbers."""
    add(scratch, *(vertex(f"text-{n}", "'3'") for n in range(35)), *(vertex(f"number-{n}", "3") for n in range(5)))
    add(scratch, vertex("truth", "true"), vertex("date", "new Date(0L)"), vertex("nan", "Double.NaN"), vertex("none"))
    add(scratch, vertex("low", "-1"), vertex("both", "'x'", "-1"))


def test_scores_that_the_query_cannot_compare_are_counted(mixed: None, planned: Any, extracted: Extracted) -> None:
    facts = extracted(planned())
    assert (facts["vertices_read"], facts["members"], facts["vertices_without_number"]) == (5, 5, 38)
    again = extracted(planned(source="snapshot"))
    assert (again["vertices_read"], again["vertices_without_number"]) == (5, None)


def test_a_count_without_an_answer_in_time_fails_nothing(
    mixed: None, planned: Any, extracted: Extracted, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = NeptuneGremlinHook.stream

    def late(hook: NeptuneGremlinHook, traversal: Any) -> Iterator[list[Any]]:
        if traversal.bytecode.step_instructions[-1][0] == "count":
            raise GraphUnavailableError("the graph was silent.", code=Code.GRAPH_BUSY)
        yield from stream(hook, traversal)

    monkeypatch.setattr(NeptuneGremlinHook, "stream", late)
    facts = extracted(planned())
    assert (facts["members"], facts["vertices_without_number"]) == (5, None)


def test_an_operator_of_any_dag_counts_them_too(mixed: None, planned: Any) -> None:
    plan = planned()
    output = GremlinToS3Operator(
        task_id="query", property="ea_atrisk", direction="above", threshold=2, s3_bucket=plan["export_bucket"],
        s3_key="export/any.json",
    ).execute({})  # fmt: skip
    assert (output["members"], output["vertices_without_number"]) == (5, 38)


@pytest.fixture
def unusable(scratch: Scratch) -> None:
    add(
        scratch, vertex("Ann-1", "3"), vertex("Bob-2", "3", "'x'", id="v-bob"), vertex("", "3", "'x'", id="v-none"),
        vertex("Cyd-3", "Double.POSITIVE_INFINITY", id="v-cyd"), vertex("Dee-4", "3", "Double.NaN", id="v-dee"),
        vertex("Eve-5", "2.5G"), vertex("Fay-6", "1" + "0" * 30 + "G", id="v-fay"), vertex("Gus-7", "'x'"),
    )  # fmt: skip


def test_vertices_with_an_unusable_score_are_listed_in_the_state_bucket_only(
    unusable: None, planned: Any, extracted: Extracted, aws: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = planned()
    put_tombstones(S3Hook(), plan["state_bucket"], ["Dee-4", "v-none"])
    key = f"rejects/{plan['name']}/unusable_vertices.csv"
    with pytest.raises(AirflowFailException) as raised:
        extracted(plan)
    text = str(raised.value)
    assert text.startswith("CF-GRAPH-06: property ea_atrisk of 5 of 7 vertices is not a finite number")
    place = f"s3://{plan['state_bucket']}/{key}"
    assert f"the ids of the vertices are in {place}. Changes made: a list of these vertices was put." in text
    listed = aws("s3").get_object(Bucket=plan["state_bucket"], Key=key)["Body"].read().decode()
    header, *rows = csv.reader(io.StringIO(listed, newline=""))
    assert header == ["vertexId", "playerId"]
    assert sorted(rows) == [["", ""], ["v-bob", "Bob-2"], ["v-cyd", "Cyd-3"], ["v-dee", ""], ["v-fay", "Fay-6"]]
    said = text + "".join(capfd.readouterr())
    assert not [each for each in ("Bob-2", "Cyd-3", "Dee-4", "v-bob", "v-none") if each in said]
    assert "Contents" not in aws("s3").list_objects_v2(Bucket=plan["export_bucket"])
    assert kind_of(plan["state_bucket"], key) == "file of rows"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (GraphUnavailableError("the graph was silent.", code=Code.GRAPH_BUSY), "the graph was silent"),
        (FlywheelError("the graph refuses the query", code=Code.GRAPH_QUERY), "the graph refuses the query"),
        (
            ClientError({"Error": {"Code": "AccessDenied", "Message": "Bob-2"}}, "PutObject"),
            "AWS answered PutObject with AccessDenied: grant",
        ),
        (ReadTimeoutError(endpoint_url="https://s3.amazonaws.com/Bob-2"), "s3.amazonaws.com did not answer in time"),
        (S3UploadFailedError("Bob-2"), "a transfer to or from S3 broke off"),
    ],
)
def test_a_list_that_cannot_be_written_does_not_hide_the_number(
    error: Exception, why: str, unusable: None, planned: Any, extracted: Extracted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("cohort_flywheel.segment.extract_operator.put_unusable_vertices", failing)
    text = rf"CF-GRAPH-06: .*of 5 of 7 vertices .*; their ids could not be listed: {why}.*\. Changes made: none"
    with pytest.raises(AirflowFailException, match=text) as raised:
        extracted(planned())
    assert "Bob-2" not in str(raised.value)


def test_an_operator_of_any_dag_says_how_many(unusable: None, planned: Any) -> None:
    operator = GremlinToS3Operator(
        task_id="query", property="ea_atrisk", direction="above", threshold=2,
        s3_bucket=planned()["export_bucket"], s3_key="export/any.json",
    )  # fmt: skip
    with pytest.raises(AirflowFailException, match="CF-GRAPH-06: property ea_atrisk of 5 of 7 vertices"):
        operator.execute({})


def test_a_decimal_is_a_number(scratch: Scratch, planned: Any, extracted: Extracted, aws: Any) -> None:
    add(scratch, vertex("half", "2.5G"), vertex("whole", "3.00G"))
    facts = extracted(planned())
    body = aws("s3").get_object(Bucket=facts["s3_bucket"], Key=facts["s3_key"])["Body"].read().decode()
    assert body == '[\n{"playerId":["half"],"ea_atrisk":[2.5]},\n{"playerId":["whole"],"ea_atrisk":[3]}\n]\n'
