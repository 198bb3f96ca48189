"""The local servers, started once for all tests, and what tests need of Airflow without a database."""

from __future__ import annotations

import atexit
import dataclasses
import gc
import itertools
import json
import os
import shutil
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from xdist.scheduler import LoadScopeScheduling

from local import config as local_config
from local import seed
from local.config import Config
from local.seed import Seeded
from local.servers import Servers, airflow_environment, running
from tests.aws_session_cache import quick_tasks, wait_briefly

# before anything imports Airflow: it would make a home in the user's
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-of-tests-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)

_numbers = itertools.count(1)


class Together(LoadScopeScheduling):
    """A file's tests on one of xdist's workers, for the sake of its fixtures; those that share an Airflow likewise."""

    def _split_scope(self, nodeid: str) -> str:
        path = PurePosixPath(nodeid.partition("::")[0])
        return str(path.parent if path.parent.name in ("e2e", "approval", "backfill") else path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    return Together(config, log)


#: What takes longest: a real Airflow first.
_LONGEST = ("tests/e2e/", "tests/approval/", "tests/faults/", "tests/local/test_demo.py", "tests/deploy/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no worker is left alone with it."""
    items.sort(key=lambda item: [not item.nodeid.startswith(long) for long in _LONGEST])


def pytest_collection_finish() -> None:
    """What is imported and collected stays to the end: the garbage collector need not look at it again."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints the figures that tests recorded: `record_property("figure", …)`."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, figure in getattr(report, "user_properties", ()):
                if name == "figure" and report.when == "teardown":
                    terminalreporter.write_line(f"figure: {figure}")


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Has a sentence printed at the end of all tests, whichever process it comes from."""
    return lambda sentence: record_property("figure", sentence)


@pytest.fixture(scope="session", autouse=True)
def _quick_aws() -> Iterator[None]:
    with quick_tasks(), pytest.MonkeyPatch.context() as patch:
        wait_briefly(patch)
        yield


@pytest.fixture(scope="session")
def config() -> Config:
    """What the repository's `.env` says."""
    return local_config.load(environ={})


@pytest.fixture(scope="session")
def servers(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Gremlin Server, DynamoDB Local and the AWS endpoint; empty."""
    with running(run_dir=tmp_path_factory.mktemp("servers"), config=config) as started:
        yield started


@pytest.fixture(scope="session")
def seeded(servers: Servers, config: Config) -> Seeded:
    """The sample players in the graph, their contacts, and all that a run needs; not to be changed by a test."""
    return seed.seed(servers, config)


@pytest.fixture
def fresh_config(servers: Servers, config: Config) -> Config:
    """Three buckets, a contacts table, an application and a role that no other test knows, all empty.

    They stay until the servers end, as to delete them takes longer than to create them.
    """
    suffix = f"-{next(_numbers)}"
    names = ("export_bucket", "import_bucket", "state_bucket", "contacts_table", "application_name", "import_role_name")
    fresh = dataclasses.replace(config, **{name: getattr(config, name) + suffix for name in names})
    seed.make_buckets(servers, fresh)
    seed.make_contacts_table(servers, fresh)
    return fresh


@pytest.fixture
def fresh_seeded(servers: Servers, fresh_config: Config) -> Seeded:
    """The application and the role of `fresh_config`."""
    application_id = seed.make_application(servers, fresh_config)
    role_arn = seed.make_import_role(servers, fresh_config, application_id)
    return Seeded(application_id, role_arn, "none", "none")


@pytest.fixture
def airflow_env(servers: Any, config: Any, seeded: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The connections and variables of the seeded local servers, in the environment."""
    variables = airflow_environment(servers, config, *seeded)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return dict(variables)


TASK_IDS = [
    "plan", "extract", "enrich", "check_limits", "create_import_job", "wait_for_import_job", "verify_segment",
    "record_result", "report", "end",
]  # fmt: skip


class TaskInstance:
    """What a task may ask its Task SDK for: `xcoms` by task and key, the `states` of its run's tasks, other `runs`."""

    log_url = "http://localhost:8080/the-log"
    map_index = -1

    def __init__(self, task_id: str, dag_id: str, run_id: str) -> None:
        self.task_id, self.dag_id, self.run_id = task_id, dag_id, run_id
        self.id = uuid4()  # of this attempt
        self.xcoms: dict[tuple[str, str], Any] = {}
        self.states: dict[str, str] = {}
        self.runs: dict[tuple[str, str], str] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[self.task_id, key] = json.loads(json.dumps(value))  # as it comes back from the database

    def xcom_pull(self, task_ids: str, key: str = "return_value", map_indexes: int | None = None) -> Any:
        return self.xcoms.get((task_ids if map_indexes is None else f"{task_ids}_{map_indexes}", key))

    def get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, Any]:
        return {self.run_id: dict(self.states)} if (dag_id, run_ids) == (self.dag_id, [self.run_id]) else {}

    def get_dagrun_state(self, dag_id: str, run_id: str) -> str:
        """As the supervisor of a task answers; of a run that is not there, with the API server's own refusal."""
        from airflow.sdk.api.datamodels._generated import DagRunState
        from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
        from airflow.sdk.execution_time.comms import ErrorResponse

        if (dag_id, run_id) in self.runs:
            return DagRunState(self.runs[dag_id, run_id])  # its `str` is not its value
        message = f"Dag run with dag_id '{dag_id}' and run_id '{run_id}' was not found"
        answer = {"detail": {"reason": "not_found", "message": message}}
        detail = {"status_code": 404, "message": "Server returned error", "detail": answer}
        raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail=detail))


@pytest.fixture
def context() -> Any:
    """Makes the context of a run: `context(params, task_id=…, run_type=…, logical_date=…)`."""

    def make(params: dict[str, Any] | None = None, task_id: str = "task", **run: Any) -> Any:
        defaults = {
            "cohort": "ea_atrisk",
            "threshold": None,
            "source": "auto",
            "dry_run": False,
            "extract_only": False,
            "extract_uri": None,
            "override_limits": False,
            "override_reason": None,
            "campaign": None,
        }
        dag_run: dict[str, Any] = {
            "dag_id": "cohort_to_segment",
            "run_id": "manual__2026-11-22",
            "run_type": "manual",
            "conf": params or {},
            "logical_date": None,
            "data_interval_end": None,
            "run_after": datetime(2026, 11, 22, 15, 30, tzinfo=UTC),
            "start_date": datetime(2026, 11, 22, 15, 30, tzinfo=UTC),
            "triggering_user_name": "ana",
        }
        from airflow.sdk.api.datamodels._generated import DagRunType  # its `str` is not its value, as in a task
        from airflow.sdk.execution_time.context import OutletEventAccessors

        dag_run = dag_run | run
        dag_run["run_type"] = DagRunType(dag_run["run_type"])
        return {
            "params": defaults | (params or {}),
            "dag": SimpleNamespace(params=defaults, task_ids=TASK_IDS),
            "dag_run": SimpleNamespace(**dag_run),
            "ti": TaskInstance(task_id, dag_run["dag_id"], dag_run["run_id"]),
            "outlet_events": OutletEventAccessors(),
        }

    return make


@pytest.fixture
def aws(servers: Any, config: Any) -> Any:
    """Makes a client of the emulated AWS: `aws("s3")`."""
    import boto3

    return lambda service: boto3.client(
        service, endpoint_url=servers.aws_url, region_name=config.region,
        aws_access_key_id=config.access_key_id, aws_secret_access_key=config.secret_access_key,
    )  # fmt: skip


@pytest.fixture
def pinpoint(servers: Any, seeded: Any) -> Any:
    """Changes what the emulated Pinpoint does next, and gives its state: `pinpoint(fail_next_jobs=1)["jobs"]`."""

    def change(**settings: Any) -> Any:
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{servers.aws_url}/cohort-flywheel/pinpoint", data=json.dumps(settings).encode() if settings else None
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            state = json.load(answer)
        (app,) = [app for app in state["applications"] if app["id"] == seeded.application_id]
        return state | app

    change(reset=True)
    change(import_seconds=0.3)
    yield change
    change(reset=True)


@pytest.fixture
def segment_file(aws: Any, config: Any) -> Any:
    """Puts a segment file into the import bucket: `segment_file("name", rows)` gives its address."""
    header = "ChannelType,Address,User.UserId,User.UserAttributes.FirstName,User.UserAttributes.LastName,Id\n"

    def put(name: str, players: list[str]) -> str:
        rows = "".join(f"EMAIL,success+{p}@simulator.amazonses.com,{p},First,Last,id-{p}\n" for p in players)
        aws("s3").put_object(Bucket=config.import_bucket, Key=f"segments/{name}.csv", Body=(header + rows).encode())
        return f"s3://{config.import_bucket}/segments/{name}.csv"

    return put


@pytest.fixture
def graph_size(servers: Any) -> Any:
    """Counts the vertices of the graph: `graph_size()`."""
    from gremlin_python.driver.client import Client

    def count() -> int:
        client = Client(servers.gremlin_url, "g")
        try:
            return int(client.submit("g.V().count()").all().result()[0])
        finally:
            client.close()

    return count


@pytest.fixture
def dynamodb_client(servers: Any, config: Any) -> Any:
    return seed.client("dynamodb", servers, config)
