"""What the emulated bulk loader refuses, and answers that are lost, met by the package's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException
from botocore.exceptions import BotoCoreError, ClientError
from gremlin_python.process.graph_traversal import GraphTraversalSource

from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.graph_load.hook import NeptuneLoaderHook
from local.config import Config
from local.neptune_loader.models import Loader as Model
from local.rest_json.errors import ServiceError
from local.servers import Servers
from tests.local.neptune_loader_service import (
    PLAYERS,
    READS,
    TRUST,
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
