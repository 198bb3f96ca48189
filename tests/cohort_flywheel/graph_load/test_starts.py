"""A start of a load job whose answer was lost: one load of each file."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException
from gremlin_python.process.graph_traversal import GraphTraversalSource

from cohort_flywheel.graph_load.hook import NeptuneLoaderHook
from tests.cohort_flywheel.graph_load.load_attempts import PLAYERS, Attempts, Killed
from tests.local.neptune_loader_service import BUCKET, Loader, ended


@pytest.mark.parametrize("settings", [{}, {"lists_behind": 2}, {"resumed_job": "same", "lists_behind": 2}], ids=str)
@pytest.mark.parametrize("earlier", [False, True], ids=["first load", "loaded before"])
@pytest.mark.parametrize("lost", ["sent", "not sent"])
def test_a_start_whose_answer_was_lost(
    lost: str, earlier: bool, settings: dict[str, Any], run: Attempts, files: list[str], loader: Loader,
    g: GraphTraversalSource, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if earlier:
        run(files, run_id="manual__0")
        g.V().drop().iterate()
    before = len(loader.loads())

    def start(self: NeptuneLoaderHook, request: dict[str, Any]) -> str:
        if lost == "sent":
            real(self, request)
        raise Killed

    real = NeptuneLoaderHook.start
    with monkeypatch.context() as patch:
        patch.setattr(NeptuneLoaderHook, "start", start)
        with pytest.raises(Killed):
            run(files)
    loader.control(**settings or {"lists_behind": 0})
    result = run(files)
    loaded = [(source, records) for source, _, records in loader.loads()[before:] if records]
    assert sorted(loaded) == sorted([(files[0], 6), (files[1], 1)])
    assert result["records"] == 7
    assert (g.V().count().next(), g.E().count().next()) == (2, 1)


def test_a_job_that_was_started_is_adopted(run: Attempts, files: list[str], loader: Loader) -> None:
    loader.control(lose_next_answers=1)
    with pytest.raises(AirflowException, match="a load job of .* may have been started"):
        run(files)
    result = run(files)
    assert [job["adopted"] for job in result["jobs"]] == [True, False]
    assert len(loader.loads()) == 2


@pytest.mark.parametrize("held", ["no", "yes"], ids=["ended", "active"])
def test_a_job_of_an_earlier_version_of_the_file_does_not_count(
    held: str, run: Attempts, files: list[str], loader: Loader, g: GraphTraversalSource
) -> None:
    def source() -> dict[str, str]:
        return {"uri": files[0], "etag": loader.s3.head_object(Bucket=BUCKET, Key="f/players.csv")["ETag"]}

    loader.control(held=held, lose_next_answers=1)
    with pytest.raises(AirflowException, match="may have been started"):
        run([source()])
    if held == "no":
        ended(NeptuneLoaderHook(), loader.jobs()[0]["id"])
    loader.put("f/players.csv", f"{PLAYERS}p3,player,cyd,2\n")
    loader.control(held="no")
    result = run([source()])
    assert (result["records"], g.V().count().next()) == (9, 3)
    assert len(loader.jobs()) == 2


def test_a_queued_job_of_an_unknown_source_is_waited_for(
    run: Attempts, files: list[str], loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader.control(held="yes")
    other = NeptuneLoaderHook()
    source = loader.put("other.csv", PLAYERS.replace("p", "q"))
    other.start({"source": source, "format": "csv", "iamRoleArn": loader.role_arn, "s3BucketRegion": "us-east-1"})
    loader.control(lose_next_answers=1)
    with pytest.raises(AirflowException, match="may have been started"):
        run(files[:1])
    with pytest.raises(AirflowException, match=r"^CF-LOAD-05: a load job is queued whose source the loader does not"):
        run(files[:1])
    loader.control(queued_answer="full", held="no")
    assert run(files[:1])["jobs"][0]["adopted"]
    assert [source for source, _, _ in loader.loads()] == [source, files[0]]


def test_a_refused_start_is_repeated_as_it_was(run: Attempts, files: list[str], loader: Loader) -> None:
    refusal = {"code": "BadRequestException", "status": 400, "message": "queue size limit", "times": 1}
    loader.control(refuse=refusal | {"operations": ["StartLoaderJob"]})
    with pytest.raises(AirflowException, match=r"^CF-LOAD-05: .*Changes made: none"):
        run(files)
    run(files)
    assert loader.loads() == [(files[0], "NEW", 6), (files[1], "NEW", 1)]


def test_another_attempt_of_the_task_is_noticed(
    run: Attempts, files: list[str], loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = NeptuneLoaderHook.start, list[str]()

    def start(self: NeptuneLoaderHook, request: dict[str, Any]) -> str:
        calls.append(real(self, request))
        if len(calls) == 1:
            run(files[:1])  # which adopts it, and writes so
        return calls[0]

    monkeypatch.setattr(NeptuneLoaderHook, "start", start)
    with pytest.raises(AirflowException, match=r"^CF-LOCK-02: another attempt of this task has changed"):
        run(files[:1])
    assert len(loader.loads()) == 1
