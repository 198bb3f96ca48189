"""The bulk load operator: one load of each file, what is refused, and jobs that do not end well."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred
from gremlin_python.process.graph_traversal import GraphTraversalSource

from cohort_flywheel.graph_load.hook import NeptuneLoaderHook
from tests.cohort_flywheel.graph_load.load_attempts import EDGES, PLAYERS, Attempts, Killed
from tests.local.neptune_loader_service import READS, Loader


def test_one_job_for_each_file_one_after_the_other(
    run: Attempts, files: list[str], loader: Loader, g: GraphTraversalSource
) -> None:
    result = run(files)
    assert [job["source"] for job in result["jobs"]] == files
    assert (result["records"], result["duplicates"]) == (7, 0)
    assert loader.loads() == [(files[0], "NEW", 6), (files[1], "NEW", 1)]
    assert (g.V().count().next(), g.E().count().next()) == (2, 1)


def test_a_cleared_task_loads_nothing_again_and_another_run_does(
    run: Attempts, files: list[str], loader: Loader
) -> None:
    first = run(files)
    assert run(files) == first
    assert len(loader.loads()) == 2
    assert run([*reversed(files)])["records"] == 7  # a cleared plan may find them in another order
    assert len(loader.loads()) == 2
    assert run(files, run_id="manual__2")["duplicates"] == 7
    assert len(loader.loads()) == 4


def test_a_request_has_these_members(run: Attempts, files: list[str], loader: Loader) -> None:
    run(files[:1], update_single_cardinality_properties=True, parallelism="low")
    (job,) = loader.jobs()
    assert job["request"] == {
        "source": files[0], "format": "csv", "region": "us-east-1", "iamRoleArn": loader.role_arn, "mode": "NEW",
        "failOnError": True, "parallelism": "LOW", "updateSingleCardinalityProperties": True, "queueRequest": True,
    }  # fmt: skip


# --- what is refused before anything is loaded


def test_a_source_that_begins_another_key_is_refused(run: Attempts, files: list[str], loader: Loader) -> None:
    loader.put("f/edges.csv.old", EDGES)
    with pytest.raises(AirflowFailException, match=r"^CF-LOAD-01: the loader takes .*edges\.csv for a prefix, and wou"):
        run(files)
    assert loader.loads() == []


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("s3://graph-files/f/none.csv", "s3://graph-files/f/none.csv does not exist: put the file there"),
        ("s3://graph-files/f/", "'s3://graph-files/f/' is not the address of a file: write s3://bucket/key"),
        ("f/players.csv", "'f/players.csv' is not the address of a file"),
        ({"uri": "s3://graph-files/f/players.csv", "etag": '"0"'}, "is gone or has changed since it was validated"),
        ({"uri": "s3://graph-files/f/gone.csv", "etag": '"0"'}, "is gone or has changed since it was validated"),
        ("s3://graph-files/f/edges.csv", "s3://graph-files/f/edges.csv is a source twice: remove one of the two"),
    ],
)
def test_a_source_that_cannot_be_loaded(
    source: Any, sentence: str, run: Attempts, files: list[str], loader: Loader
) -> None:
    with pytest.raises(AirflowFailException, match=sentence):
        run([files[1], source])
    assert loader.loads() == []


# --- jobs that do not end well


def test_a_failed_job_ends_the_load_and_its_messages_reach_no_log(
    run: Attempts, files: list[str], loader: Loader, state_bucket: str, capfd: pytest.CaptureFixture[str]
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
        item["Key"] for item in loader.s3.list_objects_v2(Bucket=state_bucket, Prefix="staged/graph_loads/")["Contents"]
    ]
    (errors,) = [key for key in keys if "errors" in key]
    body = loader.s3.get_object(Bucket=state_bucket, Key=errors)["Body"].read()
    assert "stranger" in json.loads(body)["errorMessage"]
    loader.put("f/wrong.csv", "~id,~label,~from,~to\ne2,knows,p1,p2\n")
    assert run([files[0], wrong, files[1]])["records"] == 8  # cleared, the corrected file is loaded
    assert [source for source, _, _ in loader.loads()] == [files[0], wrong, wrong, files[1]]


def test_a_job_that_fails_without_an_error_tells_the_status_of_its_file(
    run: Attempts, files: list[str], loader: Loader
) -> None:
    reads = json.loads(json.dumps(READS).replace("s3:Get*", "s3:List*"))
    arn = loader.role("ListsOnly", reads=reads)
    loader.attach(arn)
    with pytest.raises(
        AirflowFailException, match=r"ended as LOAD_FAILED \(LOAD_S3_ACCESS_DENIED_ERROR\), with 0 errors"
    ):
        run(files, iam_role_arn=arn)


@pytest.mark.parametrize("failure", ["LOAD_DATA_DEADLOCK", "LOAD_COMMITTED_W_WRITE_CONFLICTS"])
def test_a_job_that_a_later_try_resumes(failure: str, run: Attempts, files: list[str], loader: Loader) -> None:
    loader.control(fail_next_loads=1, failure=failure)
    with pytest.raises(AirflowException, match=rf"^CF-LOAD-07: .* ended as {failure}: a later try resumes it") as error:
        run(files)
    assert not isinstance(error.value, AirflowFailException)
    run(files)
    assert [mode for _, mode, _ in loader.loads()] == ["NEW", "RESUME", "NEW"]


def test_a_load_of_nothing_fails_in_mode_new(run: Attempts, loader: Loader) -> None:
    empty = loader.put("f/empty.csv", "~id,~label\n")
    with pytest.raises(AirflowFailException, match=r"^CF-LOAD-08: load job .* completed without a record"):
        run([empty])
    loader.put("f/empty.csv", PLAYERS)
    assert run([empty])["records"] == 6


def test_in_mode_auto_a_load_of_nothing_is_a_success(run: Attempts, files: list[str], loader: Loader) -> None:
    run(files, mode="AUTO")
    assert run(files, mode="AUTO", run_id="manual__2")["records"] == 0


def test_other_figures_than_expected_are_told(
    run: Attempts, files: list[str], loader: Loader, capfd: pytest.CaptureFixture[str]
) -> None:
    run([{"uri": files[0], "records": 5}, {"uri": files[1], "records": 1}])
    log = capfd.readouterr().out
    assert f"The loader has counted 6 records of {files[0]}, and the validation 5" in log
    assert log.count("The loader has counted") == 1


def test_a_job_that_the_loader_has_forgotten(run: Attempts, files: list[str], loader: Loader) -> None:
    loader.control(held="yes")
    with pytest.raises(AirflowFailException, match=r"^CF-LOAD-09: load job .* has not ended after 0 s"):
        run(files[:1], waiter_delay=0, waiter_max_attempts=1)
    loader.control(reset=True, graph="scratch", load_seconds=0)
    with pytest.raises(AirflowFailException, match=r"^CF-LOAD-06: the loader no longer knows load job"):
        run(files[:1])
    assert run(files[:1])["records"] == 6


# --- the end of a run


def test_a_job_is_cancelled_if_the_task_is_killed_before_it_waits(
    run: Attempts, files: list[str], loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader.control(held="yes")
    with pytest.raises(TaskDeferred):
        run(files, deferrable=True)
    run.operator.on_kill()
    assert [job["status"] for job in loader.jobs()] == ["LOAD_CANCELLED_BY_USER"]


def test_the_job_is_cancelled_with_the_task_and_started_again_when_it_is_cleared(
    run: Attempts, files: list[str], loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader.control(held="yes")

    def sleep(_seconds: float) -> None:
        run.operator.on_kill()  # as Airflow does before it kills the process
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("cohort_flywheel.graph_load.operators.time.sleep", sleep)
        with pytest.raises(Killed):
            run(files)
    assert [job["status"] for job in loader.jobs()] == ["LOAD_CANCELLED_BY_USER"]
    loader.control(held="no")
    run(files)
    # half of the file was loaded, and stays
    assert loader.loads() == [(files[0], "NEW", 3), (files[0], "NEW", 6), (files[1], "NEW", 1)]


def test_a_job_that_a_user_cancels_fails_the_task(
    run: Attempts, files: list[str], loader: Loader, monkeypatch: pytest.MonkeyPatch
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


def test_deferred_for_each_job(run: Attempts, files: list[str], loader: Loader) -> None:
    loader.control(held="yes")
    with pytest.raises(TaskDeferred) as deferred:
        run(files, deferrable=True)
    operator = run.operator
    where, arguments = deferred.value.trigger.serialize()
    assert where == "cohort_flywheel.graph_load.triggers.NeptuneBulkLoadTrigger"
    assert arguments["cancel_on_kill"]
    its = run.context()
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


def test_a_wait_that_airflow_ends_is_continued(run: Attempts, files: list[str], loader: Loader) -> None:
    loader.control(held="yes")
    with pytest.raises(TaskDeferred):
        run(files, deferrable=True)
    its = run.context()
    with pytest.raises(AirflowException, match=r"^CF-LOAD-09: the wait for a load job was interrupted"):
        run.operator.resume_execution("__fail__", {"error": "Trigger timeout"}, its)


def _end(loader: Loader, load_id: str) -> None:
    """Let the job end, and hold the next one."""
    loader.control(held="no")
    hook = NeptuneLoaderHook()
    while (job := hook.job(load_id)) and job.is_active:
        time.sleep(0.02)
    loader.control(held="yes")
