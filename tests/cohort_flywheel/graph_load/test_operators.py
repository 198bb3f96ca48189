"""The bulk load operator: one load of each file, whatever happens in between."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred
from botocore.client import BaseClient
from gremlin_python.process.graph_traversal import GraphTraversalSource

from cohort_flywheel.graph_load.hook import NeptuneLoaderHook
from cohort_flywheel.graph_load.operators import NeptuneBulkLoadOperator
from local.config import Config
from tests.local.neptune_loader_service import Loader

PLAYERS = "~id,~label,playerId:String,ea_atrisk:Int\np1,player,ann,3\np2,player,bob,1\n"
EDGES = "~id,~label,~from,~to\ne1,knows,p1,p2\n"

Run = Callable[..., Any]


class Killed(BaseException):
    """What ends a process at once."""


@pytest.fixture
def files(loader: Loader) -> list[str]:
    return [loader.put("f/players.csv", PLAYERS), loader.put("f/edges.csv", EDGES)]


@pytest.fixture
def run(airflow_env: dict[str, str], fresh_config: Config, loader: Loader, context: Any) -> Run:
    """One attempt of a task: `run(files, mode="AUTO")`. All attempts are of one run."""

    def attempt(files: list[Any], *, run_id: str = "manual__1", **arguments: Any) -> Any:
        operator = NeptuneBulkLoadOperator(
            task_id="load_files", sources=files, iam_role_arn=loader.role_arn, state_bucket=fresh_config.state_bucket,
            **{"waiter_delay": 0, "deferrable": False} | arguments,
        )  # fmt: skip
        attempt.operator = operator  # type: ignore[attr-defined]  # the last one, for a test that kills it
        return operator.execute(context(dag_id="graph_load", task_id="load_files", run_id=run_id))

    return attempt


def loads(loader: Loader) -> list[tuple[str, str, int]]:
    """The jobs: source, mode, records."""
    return [(job["source"], job["request"].get("mode", "AUTO"), job["records"]) for job in loader.jobs()]


def test_one_job_for_each_file_one_after_the_other(
    run: Run, files: list[str], loader: Loader, g: GraphTraversalSource
) -> None:
    result = run(files)
    assert [job["source"] for job in result["jobs"]] == files
    assert (result["records"], result["duplicates"]) == (7, 0)
    assert loads(loader) == [(files[0], "NEW", 6), (files[1], "NEW", 1)]
    assert (g.V().count().next(), g.E().count().next()) == (2, 1)


def test_a_cleared_task_loads_nothing_again_and_another_run_does(run: Run, files: list[str], loader: Loader) -> None:
    first = run(files)
    assert run(files) == first
    assert len(loads(loader)) == 2
    assert run(files, run_id="manual__2")["duplicates"] == 7
    assert len(loads(loader)) == 4


def test_a_request_has_these_members(run: Run, files: list[str], loader: Loader) -> None:
    run(files[:1], update_single_cardinality_properties=True, parallelism="low")
    (job,) = loader.jobs()
    assert job["request"] == {
        "source": files[0], "format": "csv", "region": "us-east-1", "iamRoleArn": loader.role_arn, "mode": "NEW",
        "failOnError": True, "parallelism": "LOW", "updateSingleCardinalityProperties": True, "queueRequest": True,
    }  # fmt: skip


# --- killed anywhere


@pytest.mark.parametrize("settings", [{}, {"lists_behind": 2}, {"resumed_job": "same", "lists_behind": 2}], ids=str)
@pytest.mark.parametrize("earlier", [False, True], ids=["first load", "loaded before"])
@pytest.mark.parametrize("lost", ["sent", "not sent"])
def test_a_start_whose_answer_was_lost(
    lost: str, earlier: bool, settings: dict[str, Any], run: Run, files: list[str], loader: Loader,
    g: GraphTraversalSource, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if earlier:
        run(files, run_id="manual__0")
        g.V().drop().iterate()
    before = len(loads(loader))

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
    loaded = [(source, records) for source, _, records in loads(loader)[before:] if records]
    assert sorted(loaded) == sorted([(files[0], 6), (files[1], 1)])
    assert result["records"] == 7
    assert (g.V().count().next(), g.E().count().next()) == (2, 1)


@pytest.mark.parametrize("nth", range(1, 10))
def test_killed_after_any_write_there_is_one_load_of_each_file(
    nth: int, run: Run, files: list[str], loader: Loader, g: GraphTraversalSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each request that changes something; an attempt makes eight, and what it reads in between is the same."""
    real = BaseClient._make_api_call
    writes = list[str]()

    def call(self: Any, operation: str, parameters: Any) -> Any:
        answer = real(self, operation, parameters)
        if operation in ("PutObject", "StartLoaderJob"):
            writes.append(operation)
            if len(writes) == nth:
                raise Killed
        return answer

    with monkeypatch.context() as patch, suppress(Killed):
        patch.setattr(BaseClient, "_make_api_call", call)
        run(files)
    each = ["PutObject", "StartLoaderJob", "PutObject", "PutObject"]  # the intent, the job, its ID, its end
    assert writes == (each + each)[:nth]
    result = run(files)
    assert [(source, records) for source, _, records in loads(loader) if records] == [(files[0], 6), (files[1], 1)]
    assert result["records"] == 7


def test_a_job_that_was_started_is_adopted(run: Run, files: list[str], loader: Loader) -> None:
    loader.control(lose_next_answers=1)
    with pytest.raises(AirflowException, match="a load job of .* may have been started"):
        run(files)
    result = run(files)
    assert [job["adopted"] for job in result["jobs"]] == [True, False]
    assert len(loads(loader)) == 2


def test_a_queued_job_of_an_unknown_source_is_waited_for(
    run: Run, files: list[str], loader: Loader, monkeypatch: pytest.MonkeyPatch
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
    assert [source for source, _, _ in loads(loader)] == [source, files[0]]


def test_a_refused_start_is_repeated_as_it_was(run: Run, files: list[str], loader: Loader) -> None:
    refusal = {"code": "BadRequestException", "status": 400, "message": "queue size limit", "times": 1}
    loader.control(refuse=refusal | {"operations": ["StartLoaderJob"]})
    with pytest.raises(AirflowException, match=r"^CF-LOAD-05: .*Changes made: none"):
        run(files)
    run(files)
    assert loads(loader) == [(files[0], "NEW", 6), (files[1], "NEW", 1)]


def test_another_attempt_of_the_task_is_noticed(
    run: Run, files: list[str], loader: Loader, monkeypatch: pytest.MonkeyPatch
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
    assert len(loads(loader)) == 1


# --- what is refused before anything is loaded


def test_a_source_that_begins_another_key_is_refused(run: Run, files: list[str], loader: Loader) -> None:
    loader.put("f/edges.csv.old", EDGES)
    with pytest.raises(AirflowFailException, match=r"^CF-LOAD-01: the loader takes .*edges\.csv for a prefix, and wou"):
        run(files)
    assert loads(loader) == []


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("s3://graph-files/f/none.csv", "s3://graph-files/f/none.csv does not exist: put the file there"),
        ("s3://graph-files/f/", "'s3://graph-files/f/' is not the address of a file: write s3://bucket/key"),
        ("f/players.csv", "'f/players.csv' is not the address of a file"),
        ({"uri": "s3://graph-files/f/players.csv", "etag": '"0"'}, "has changed since it was validated"),
    ],
)
def test_a_source_that_cannot_be_loaded(source: Any, sentence: str, run: Run, files: list[str], loader: Loader) -> None:
    with pytest.raises(AirflowFailException, match=sentence):
        run([files[0], source])
    assert loads(loader) == []


# --- jobs that do not end well


def test_a_failed_job_ends_the_load_and_its_messages_reach_no_log(
    run: Run, files: list[str], loader: Loader, fresh_config: Config, capfd: pytest.CaptureFixture[str]
) -> None:
    wrong = loader.put("f/wrong.csv", "~id,~label,~from,~to\ne2,knows,p1,stranger\n")
    with pytest.raises(AirflowFailException) as error:
        run([files[0], wrong, files[1]])
    log = capfd.readouterr().out
    assert str(error.value).startswith("CF-LOAD-06: load job ")
    assert "ended as LOAD_FAILED, with 1 errors" in str(error.value)
    assert "FROM_OR_TO_VERTEX_ARE_MISSING: record 1 of s3://graph-files/f/wrong.csv" in log
    assert "stranger" not in log + str(error.value)
    keys = [
        item["Key"]
        for item in loader.s3.list_objects_v2(Bucket=fresh_config.state_bucket, Prefix="staged/graph_loads/")[
            "Contents"
        ]
    ]
    (errors,) = [key for key in keys if "errors" in key]
    body = loader.s3.get_object(Bucket=fresh_config.state_bucket, Key=errors)["Body"].read()
    assert "stranger" in json.loads(body)["errorMessage"]
    loader.put("f/wrong.csv", "~id,~label,~from,~to\ne2,knows,p1,p2\n")
    assert run([files[0], wrong, files[1]])["records"] == 8  # cleared, the corrected file is loaded
    assert [source for source, _, _ in loads(loader)] == [files[0], wrong, wrong, files[1]]


@pytest.mark.parametrize("failure", ["LOAD_DATA_DEADLOCK", "LOAD_COMMITTED_W_WRITE_CONFLICTS"])
def test_a_job_that_a_later_try_resumes(failure: str, run: Run, files: list[str], loader: Loader) -> None:
    loader.control(fail_next_loads=1, failure=failure)
    with pytest.raises(AirflowException, match=rf"^CF-LOAD-07: .* ended as {failure}: a later try resumes it") as error:
        run(files)
    assert not isinstance(error.value, AirflowFailException)
    run(files)
    assert [mode for _, mode, _ in loads(loader)] == ["NEW", "RESUME", "NEW"]


def test_a_load_of_nothing_fails_in_mode_new(run: Run, loader: Loader) -> None:
    empty = loader.put("f/empty.csv", "~id,~label\n")
    with pytest.raises(AirflowFailException, match=r"^CF-LOAD-08: load job .* completed without a record"):
        run([empty])
    loader.put("f/empty.csv", PLAYERS)
    assert run([empty])["records"] == 6


def test_in_mode_auto_a_load_of_nothing_is_a_success(run: Run, files: list[str], loader: Loader) -> None:
    run(files, mode="AUTO")
    assert run(files, mode="AUTO", run_id="manual__2")["records"] == 0


def test_other_figures_than_expected_are_told(
    run: Run, files: list[str], loader: Loader, capfd: pytest.CaptureFixture[str]
) -> None:
    run([{"uri": files[0], "records": 5}, {"uri": files[1], "records": 1}])
    log = capfd.readouterr().out
    assert f"The loader has counted 6 records of {files[0]}, and the validation 5" in log
    assert log.count("The loader has counted") == 1


def test_a_job_that_the_loader_has_forgotten(run: Run, files: list[str], loader: Loader) -> None:
    loader.control(held="yes")
    with pytest.raises(AirflowFailException, match=r"^CF-LOAD-09: load job .* has not ended after 0 s"):
        run(files[:1], waiter_max_attempts=1)
    loader.control(reset=True, graph="scratch", load_seconds=0)
    with pytest.raises(AirflowFailException, match=r"^CF-LOAD-06: the loader no longer knows load job"):
        run(files[:1])
    assert run(files[:1])["records"] == 6


# --- the end of a run


def test_the_job_is_cancelled_with_the_task_and_started_again_when_it_is_cleared(
    run: Run, files: list[str], loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader.control(held="yes")

    def sleep(_seconds: float) -> None:
        run.operator.on_kill()  # type: ignore[attr-defined]  # as Airflow does before it kills the process
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("cohort_flywheel.graph_load.operators.time.sleep", sleep)
        with pytest.raises(Killed):
            run(files)
    assert [job["status"] for job in loader.jobs()] == ["LOAD_CANCELLED_BY_USER"]
    loader.control(held="no")
    run(files)
    # half of the file was loaded, and stays
    assert loads(loader) == [(files[0], "NEW", 3), (files[0], "NEW", 6), (files[1], "NEW", 1)]


def test_a_job_that_a_user_cancels_fails_the_task(
    run: Run, files: list[str], loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader.control(held="yes")

    def sleep(_seconds: float) -> None:
        (job,) = loader.jobs()
        NeptuneLoaderHook().cancel(job["id"])

    with monkeypatch.context() as patch:
        patch.setattr("cohort_flywheel.graph_load.operators.time.sleep", sleep)
        with pytest.raises(
            AirflowFailException, match=r"^CF-LOAD-06: load job .* was cancelled; what it had loaded st"
        ):
            run(files)


def test_deferred_for_each_job(run: Run, files: list[str], loader: Loader, context: Any) -> None:
    loader.control(held="yes")
    with pytest.raises(TaskDeferred) as deferred:
        run(files, deferrable=True)
    operator = run.operator  # type: ignore[attr-defined]  # see the fixture
    where, arguments = deferred.value.trigger.serialize()
    assert where == "cohort_flywheel.graph_load.triggers.NeptuneBulkLoadTrigger"
    assert arguments["cancel_on_kill"]
    its = context(dag_id="graph_load", task_id="load_files", run_id="manual__1")
    with pytest.raises(
        AirflowException, match=r"^CF-LOAD-09: the wait for load job .* broke off: a later try waits on"
    ):
        operator.execute_complete(its, {"status": "error", "message": "?", "load_id": arguments["load_id"]})
    with pytest.raises(AirflowFailException, match=r"^CF-LOAD-09: load job .* has not ended after"):
        message = "Waiter error: max attempts reached"
        operator.execute_complete(its, {"status": "error", "message": message, "load_id": arguments["load_id"]})
    _end(loader, arguments["load_id"])
    with pytest.raises(TaskDeferred) as second:
        operator.execute_complete(its, {"status": "success", "load_id": arguments["load_id"]})
    second_id = second.value.trigger.serialize()[1]["load_id"]
    assert second_id != arguments["load_id"]
    _end(loader, second_id)
    assert operator.execute_complete(its, {"status": "success", "load_id": second_id})["records"] == 7


def test_a_wait_that_airflow_ends_is_continued(run: Run, files: list[str], loader: Loader, context: Any) -> None:
    loader.control(held="yes")
    with pytest.raises(TaskDeferred):
        run(files, deferrable=True)
    its = context(dag_id="graph_load", task_id="load_files", run_id="manual__1")
    with pytest.raises(AirflowException, match=r"^CF-LOAD-09: the wait for a load job was interrupted"):
        run.operator.resume_execution("__fail__", {"error": "Trigger timeout"}, its)  # type: ignore[attr-defined]  # see the fixture


def _end(loader: Loader, load_id: str) -> None:
    """Let the job end, and hold the next one."""
    loader.control(held="no")
    hook = NeptuneLoaderHook()
    while (job := hook.job(load_id)) and job.is_active:
        time.sleep(0.02)
    loader.control(held="yes")
