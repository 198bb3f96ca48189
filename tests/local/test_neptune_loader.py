"""The emulated bulk loader: what it loads, counts and refuses, met by the package's own client."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException
from botocore.exceptions import BotoCoreError, ClientError
from gremlin_python.process.graph_traversal import GraphTraversalSource

from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.graph_load.hook import NeptuneLoaderHook
from cohort_flywheel.graph_load.job import JobStatus
from local.config import Config
from local.neptune_loader.models import Loader as Model
from local.rest_json import shapes
from local.rest_json.errors import ServiceError
from local.servers import Servers
from tests.local.neptune_loader_service import READS, TRUST, Loader, scratch_graph
from tests.local.neptune_loader_service import loader as running_loader

PLAYERS = "~id,~label,playerId:String,ea_atrisk:Int\np1,player,ann,3\np2,player,,1\n"
EDGES = "~id,~label,~from,~to,n:Int\ne1,knows,p1,p2,7\n"


@pytest.fixture
def g(servers: Servers) -> Iterator[GraphTraversalSource]:
    with scratch_graph(servers) as source:
        yield source


@pytest.fixture
def loader(servers: Servers, config: Config, g: GraphTraversalSource) -> Iterator[Loader]:
    with running_loader(servers, config) as found:
        yield found


@pytest.fixture
def hook(airflow_env: dict[str, str]) -> NeptuneLoaderHook:
    """The package's client; each of its answers is held against botocore's model."""
    made = NeptuneLoaderHook()
    made.conn.meta.events.register("before-parse.neptunedata", hold_against_the_model)
    return made


def hold_against_the_model(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    found = json.loads(response_dict["body"] or "{}")
    if response_dict["status_code"] >= 400:
        modelled = {e.name: e for e in operation_model.error_shapes}.get(found["code"])
        if modelled:  # 405 and 403 are not in the model
            members = {name: found[name] for name in modelled.members}
            assert shapes.problems(members, modelled) == []
        return
    documents = {"payload"} if operation_model.name == "GetLoaderJobStatus" else set()
    expected = operation_model.output_shape
    assert set(found) >= set(expected.required_members)
    for name, value in found.items():
        if name not in documents:
            assert shapes.problems(value, expected.members[name]) == []


def request(loader: Loader, address: str, **changes: Any) -> dict[str, Any]:
    return {
        "source": address, "format": "csv", "iamRoleArn": loader.role_arn, "s3BucketRegion": "us-east-1", "mode": "NEW",
    } | changes  # fmt: skip


def ended(hook: NeptuneLoaderHook, load_id: str) -> JobStatus:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        job = hook.job(load_id)
        assert job
        if not job.is_active:
            return job
        time.sleep(0.02)
    raise AssertionError("the job did not end")


def load(hook: NeptuneLoaderHook, loader: Loader, source: str, **changes: Any) -> JobStatus:
    return ended(hook, hook.start(request(loader, source, **changes)))


def codes(hook: NeptuneLoaderHook, job: JobStatus) -> list[tuple[str, int]]:
    return [(error["errorCode"], error["recordNum"]) for error in hook.errors(job.load_id)]


# --- loads


def test_a_record_is_a_label_or_a_value(hook: NeptuneLoaderHook, loader: Loader, g: GraphTraversalSource) -> None:
    job = load(hook, loader, loader.put("a/players.csv", PLAYERS))
    assert (job.status, job.records, job.duplicates) == ("LOAD_COMPLETED", 5, 0)
    assert g.V("p1").value_map().next() == {"playerId": ["ann"], "ea_atrisk": [3]}
    job = load(hook, loader, loader.put("a/edges.csv", EDGES))
    assert (job.status, job.records) == ("LOAD_COMPLETED", 2)
    assert g.E("e1").value_map().next() == {"n": 7}
    again = load(hook, loader, loader.put("a/players.csv", PLAYERS))
    assert (again.records, again.duplicates) == (5, 5)


def test_compressed_files(hook: NeptuneLoaderHook, loader: Loader, g: GraphTraversalSource) -> None:
    assert load(hook, loader, loader.put("a/players.csv.gz", gzip.compress(PLAYERS.encode()))).records == 5
    assert g.V().count().next() == 2


def test_another_value_is_added_unless_it_is_single(
    hook: NeptuneLoaderHook, loader: Loader, g: GraphTraversalSource
) -> None:
    header = "~id,~label,ea_atrisk:Int,status:String(single)\n"
    load(hook, loader, loader.put("a.csv", f"{header}p1,player,3,Active\n"))
    other = loader.put("b.csv", f"{header}p1,player,1,Inactive\n")
    job = load(hook, loader, other)
    assert (job.status, job.insert_errors) == ("LOAD_FAILED", 1)
    assert codes(hook, job) == [("SINGLE_CARDINALITY_VIOLATION", 1)]
    job = load(hook, loader, other, updateSingleCardinalityProperties=True)
    assert job.status == "LOAD_COMPLETED"
    assert g.V("p1").value_map().next() == {"ea_atrisk": [3, 1], "status": ["Inactive"]}


def test_a_source_is_a_prefix_and_a_folder_has_its_vertices_first(
    hook: NeptuneLoaderHook, loader: Loader, g: GraphTraversalSource
) -> None:
    loader.put("f/a_edges.csv", EDGES)
    loader.put("f/players.csv", PLAYERS)
    loader.put("f/players_old.csv", PLAYERS.replace("p2", "old"))
    assert load(hook, loader, "s3://graph-files/f/players").status == "LOAD_COMPLETED"
    assert g.V().count().next() == 3
    g.V().drop().iterate()
    assert load(hook, loader, "s3://graph-files/f/").status == "LOAD_COMPLETED"
    assert (g.V().count().next(), g.E().count().next()) == (3, 1)
    g.V().drop().iterate()
    assert load(hook, loader, "s3://graph-files/f/", edgeOnlyLoad=True).status == "LOAD_FAILED"


@pytest.mark.parametrize(
    ("text", "code", "number"),
    [
        ("~id,~label,~from,~to\ne,knows,p1,nowhere\n", "FROM_OR_TO_VERTEX_ARE_MISSING", 1),
        ("~id,~label,~from,~to\ne1,knows,p2,p1\n", "ID_ASSIGNED_TO_MULTIPLE_EDGES", 1),
        ("~id,~label,~from,~to,n:Int\ne1,knows,p1,p2,8\n", "SINGLE_CARDINALITY_VIOLATION", 1),
        ("~id,~label,x:Int\nv,player,many\n", "PARSING_ERROR", 1),
        ("~id,~label,x:Int\nv,player\n", "PARSING_ERROR", 1),
        ("~id,x:Int\nv,1\n", "PARSING_ERROR", 0),
        ('~id,~label\nv,player\n,player\n', "PARSING_ERROR", 2),
    ],
)  # fmt: skip
def test_errors_of_a_file(
    text: str, code: str, number: int, hook: NeptuneLoaderHook, loader: Loader, g: GraphTraversalSource
) -> None:
    load(hook, loader, loader.put("players.csv", PLAYERS))
    load(hook, loader, loader.put("edges.csv", EDGES))
    job = load(hook, loader, loader.put("wrong.csv", text))
    assert (job.status, job.errors, job.failed) == ("LOAD_FAILED", 1, ["LOAD_FAILED"])
    assert codes(hook, job) == [(code, number)]


def test_without_fail_on_error_the_rest_is_loaded(
    hook: NeptuneLoaderHook, loader: Loader, g: GraphTraversalSource
) -> None:
    wrong = loader.put("wrong.csv", "~id,~label,x:Int\na,player,1\nb,player,many\nc,player,3\n")
    assert load(hook, loader, wrong).status == "LOAD_FAILED"
    assert g.V().id_().to_set() == {"a"}
    assert load(hook, loader, wrong, failOnError=False).status == "LOAD_FAILED"
    assert g.V().id_().to_set() == {"a", "c"}


def test_the_error_log_has_pages_and_its_messages_hold_ids(
    hook: NeptuneLoaderHook, loader: Loader, g: GraphTraversalSource
) -> None:
    rows = "".join(f"e{number},knows,nowhere,p1\n" for number in range(25))
    job = load(hook, loader, loader.put("wrong.csv", "~id,~label,~from,~to\n" + rows), failOnError=False)
    page = hook.conn.get_loader_job_status(loadId=job.load_id, errors=True, page=3)["payload"]["errors"]
    assert (page["startIndex"], page["endIndex"], len(page["errorLogs"])) == (21, 25, 5)
    assert "nowhere" in page["errorLogs"][0]["errorMessage"]
    assert len(list(hook.errors(job.load_id))) == 25


# --- modes


def test_auto_and_resume_load_nothing_twice_and_say_success(
    hook: NeptuneLoaderHook, loader: Loader, g: GraphTraversalSource
) -> None:
    source = loader.put("players.csv", PLAYERS)
    assert load(hook, loader, source, mode="AUTO").records == 5
    g.V().drop().iterate()
    for mode in ("AUTO", "RESUME"):
        job = load(hook, loader, source, mode=mode)
        assert (job.status, job.records) == ("LOAD_COMPLETED", 0)
        assert g.V().count().next() == 0
    assert load(hook, loader, source, mode="NEW").records == 5


def test_resume_loads_what_had_failed(hook: NeptuneLoaderHook, loader: Loader, g: GraphTraversalSource) -> None:
    source = loader.put("players.csv", PLAYERS)
    loader.control(fail_next_loads=1)
    assert load(hook, loader, source).status == "LOAD_FAILED"
    assert g.V().count().next() == 1  # half of it stays
    assert load(hook, loader, source, mode="RESUME").records == 5
    assert g.V().count().next() == 2


def test_resume_without_an_earlier_load(hook: NeptuneLoaderHook, loader: Loader, g: GraphTraversalSource) -> None:
    source = loader.put("players.csv", PLAYERS)
    with pytest.raises(FlywheelError, match="CF-LOAD-08: no earlier load of .* can be resumed"):
        hook.start(request(loader, source, mode="RESUME"))
    loader.control(resume_without_earlier="complete")
    assert load(hook, loader, source, mode="RESUME").records == 0


def test_a_resumed_job_may_keep_its_id(hook: NeptuneLoaderHook, loader: Loader) -> None:
    loader.control(resumed_job="same")
    source = loader.put("players.csv", PLAYERS)
    job = load(hook, loader, source)
    assert load(hook, loader, source, mode="RESUME").load_id == job.load_id


# --- one job at a time


def test_a_second_job_is_refused_or_queued(hook: NeptuneLoaderHook, loader: Loader, g: GraphTraversalSource) -> None:
    loader.control(held="yes")
    first, second = loader.put("players.csv", PLAYERS), loader.put("edges.csv", EDGES)
    running = hook.start(request(loader, first))
    with pytest.raises(RetryableError, match="CF-LOAD-05: another load job runs"):
        hook.start(request(loader, second))
    queued = hook.start(request(loader, second, queueRequest=True))
    job = hook.job(queued)
    assert job is not None
    assert (job.status, job.source, job.start_time) == ("LOAD_IN_QUEUE", None, None)
    loader.control(queued_answer="full")
    job = hook.job(queued)
    assert job is not None
    assert job.source == second
    assert hook.job_ids()[:2] == [queued, running]
    assert hook.conn.list_loader_jobs(includeQueuedLoads=False)["payload"]["loadIds"][0] == running
    loader.control(held="no")
    assert ended(hook, running).is_completed
    assert ended(hook, queued).is_completed


def test_sixty_four_jobs_may_be_queued(hook: NeptuneLoaderHook, loader: Loader) -> None:
    loader.control(held="yes")
    source = loader.put("players.csv", PLAYERS)
    for _ in range(65):
        hook.start(request(loader, source, queueRequest=True))
    with pytest.raises(RetryableError, match="the queue of the loader is full"):
        hook.start(request(loader, source, queueRequest=True))
    loader.control(reset=True)


def test_the_statuses_of_a_job_over_time(hook: NeptuneLoaderHook, loader: Loader, g: GraphTraversalSource) -> None:
    loader.control(load_seconds=1000, held="yes")
    load_id = hook.start(request(loader, loader.put("players.csv", PLAYERS)))
    seen: list[str] = []
    for ahead in (0, 500):
        loader.control(clock_ahead_seconds=ahead)
        job = hook.job(load_id)
        assert job
        seen.append(job.status)
    assert seen == ["LOAD_NOT_STARTED", "LOAD_IN_PROGRESS"]
    job = hook.job(load_id)
    assert job
    assert job.start_time is not None
    assert abs(job.start_time - time.time()) < 600


def test_a_job_is_cancelled_and_what_it_loaded_stays(
    hook: NeptuneLoaderHook, loader: Loader, g: GraphTraversalSource
) -> None:
    loader.control(load_seconds=1000, held="yes")
    load_id = hook.start(request(loader, loader.put("players.csv", PLAYERS)))
    queued = hook.start(request(loader, loader.put("edges.csv", EDGES), queueRequest=True))
    assert hook.cancel(queued)
    loader.control(clock_ahead_seconds=500)
    assert hook.cancel(load_id)
    for each in (load_id, queued):
        assert ended(hook, each).status == "LOAD_CANCELLED_BY_USER"
        assert not hook.cancel(each)
    assert g.V().count().next() == 1
    assert not hook.cancel("unknown")
    assert hook.job("unknown") is None


@pytest.mark.parametrize(
    "failure", ["LOAD_DATA_DEADLOCK", "LOAD_UNEXPECTED_ERROR", "LOAD_COMMITTED_W_WRITE_CONFLICTS", "LOAD_FAILED"]
)
def test_a_job_may_end_otherwise(failure: str, hook: NeptuneLoaderHook, loader: Loader) -> None:
    loader.control(fail_next_loads=1, failure=failure)
    job = load(hook, loader, loader.put("players.csv", PLAYERS))
    assert job.status == failure
    assert job.may_resume is (failure != "LOAD_FAILED")


# --- refusals

LISTS = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:List*", "Resource": "*"}]}
GETS = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}]}
PINPOINT = json.loads(json.dumps(TRUST).replace("rds", "pinpoint"))


@pytest.mark.parametrize(
    ("changes", "code", "sentence"),
    [
        ({"iamRoleArn": "arn:aws:iam::123456789012:role/none"}, Code.GRAPH_LOAD_ROLE, "Neptune cannot use the role"),
        ({"s3BucketRegion": "eu-west-1"}, Code.GRAPH_LOAD_ROLE, "is not in eu-west-1"),
        ({"source": "s3://graph-files-of-others/a"}, Code.GRAPH_LOAD_ROLE, "finds no bucket of"),
        ({"source": "s3://graph-files/nothing"}, Code.GRAPH_LOAD_FILES, "finds no file at"),
    ],
)
def test_a_request_is_refused(
    changes: dict[str, Any], code: Code, sentence: str, hook: NeptuneLoaderHook, loader: Loader
) -> None:
    source = loader.put("players.csv", PLAYERS)
    with pytest.raises(FlywheelError, match=sentence) as error:
        hook.start(request(loader, source, **changes))
    assert error.value.code is code


@pytest.mark.parametrize(
    ("name", "trust", "reads", "attached"),
    [
        ("NotAttached", TRUST, READS, False),
        ("NotTrusting", PINPOINT, READS, True),
        ("NotListing", TRUST, GETS, True),
    ],
)
def test_the_role_must_be_the_clusters_and_list_the_bucket(
    name: str, trust: Any, reads: Any, attached: bool, hook: NeptuneLoaderHook, loader: Loader
) -> None:
    arn = loader.role(name, trust, reads)
    if attached:
        loader.attach(arn)
    with pytest.raises(FlywheelError, match=r"CF-LOAD-03: .*role"):
        hook.start(request(loader, loader.put("players.csv", PLAYERS), iamRoleArn=arn))


def test_a_role_that_may_not_read_fails_the_job(hook: NeptuneLoaderHook, loader: Loader) -> None:
    arn = loader.role("NotReading", TRUST, LISTS)
    loader.attach(arn)
    job = load(hook, loader, loader.put("players.csv", PLAYERS), iamRoleArn=arn)
    assert (job.status, job.failed, job.may_resume) == ("LOAD_FAILED", ["LOAD_S3_ACCESS_DENIED_ERROR"], False)


def test_a_file_that_changes_fails_the_job(hook: NeptuneLoaderHook, loader: Loader) -> None:
    loader.control(held="yes")
    load_id = hook.start(request(loader, loader.put("players.csv", PLAYERS)))
    loader.put("players.csv", PLAYERS + "p3,player,,1\n")
    loader.control(held="no")
    assert ended(hook, load_id).failed == ["LOAD_DATA_FAILED_DUE_TO_FEED_MODIFIED_OR_DELETED"]


def test_a_read_replica_loads_and_cancels_nothing(hook: NeptuneLoaderHook, loader: Loader) -> None:
    loader.control(endpoint="reader")
    with pytest.raises(FlywheelError, match="CF-LOAD-04: the loader's endpoint is a read replica"):
        hook.start(request(loader, loader.put("players.csv", PLAYERS)))
    with pytest.raises(ClientError):
        hook.cancel("any")


def test_a_request_that_departs_from_its_shape(hook: NeptuneLoaderHook, loader: Loader) -> None:
    source = loader.put("players.csv", PLAYERS)
    for changes in (
        {"format": "turtle"},
        {"dependencies": ["a"]},
        {"source": "https://s3.amazonaws.com/graph-files/a"},
    ):
        with pytest.raises(ClientError) as error:
            hook.start(request(loader, source, **changes))
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    with pytest.raises(ClientError):
        hook.conn.list_loader_jobs(limit=101)


def test_with_iam_a_request_is_signed_for_neptune(
    hook: NeptuneLoaderHook, loader: Loader, airflow_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loader.control(iam="on")
    with pytest.raises(ClientError) as error:
        hook.job_ids()
    assert error.value.response["Error"]["Code"] == "AccessDeniedException"
    connection = json.loads(airflow_env["AIRFLOW_CONN_NEPTUNE_DEFAULT"])
    connection["extra"] |= {"iam": True}
    monkeypatch.setenv("AIRFLOW_CONN_NEPTUNE_DEFAULT", json.dumps(connection))
    assert NeptuneLoaderHook().job_ids() == []


# --- lost answers, lists that lag


def test_the_answer_to_a_start_is_lost_and_the_request_is_not_repeated(hook: NeptuneLoaderHook, loader: Loader) -> None:
    source = loader.put("players.csv", PLAYERS)
    for lose_by in ("drop", "error"):
        loader.control(lose_next_answers=1, lose_by=lose_by)
        lost: tuple[type[Exception], ...] = (BotoCoreError, ClientError, AirflowException)
        with pytest.raises(lost):
            hook.start(request(loader, source))
        ended(hook, hook.job_ids()[0])
    assert len(loader.jobs()) == 2


def test_a_new_job_may_not_be_listed_yet(hook: NeptuneLoaderHook, loader: Loader) -> None:
    load_id = load(hook, loader, loader.put("players.csv", PLAYERS)).load_id
    loader.control(lists_behind=1)
    assert [hook.job_ids(), hook.job_ids()] == [[], [load_id]]


def test_old_jobs_are_forgotten(hook: NeptuneLoaderHook, loader: Loader) -> None:
    loader.control(remembered=1)
    source = loader.put("players.csv", PLAYERS)
    first = load(hook, loader, source).load_id
    load(hook, loader, source)
    assert hook.job(first) is None


def test_a_server_without_a_graph_loads_nothing() -> None:
    with pytest.raises(ServiceError, match="This server has no graph"):
        Model().start({"format": "csv"})
