"""The emulated bulk loader: what it loads and counts, met by the package's own client."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator

import pytest
from gremlin_python.process.graph_traversal import GraphTraversalSource

from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.graph_load.hook import NeptuneLoaderHook
from cohort_flywheel.graph_load.job import JobStatus
from local.config import Config
from local.servers import Servers
from tests.local.neptune_loader_service import (
    EDGES,
    PLAYERS,
    Loader,
    ended,
    load,
    modelled_hook,
    request,
    scratch_graph,
)
from tests.local.neptune_loader_service import loader as running_loader


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
    return modelled_hook()


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
