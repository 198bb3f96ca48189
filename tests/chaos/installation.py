"""The installation: servers behind proxies, PostgreSQL, Redis, an Airflow with two Celery workers, its users."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped,unused-ignore]  # Airflow brings it

from local import airflow, config, sample, seed
from local.config import ROOT, Config
from local.servers import Servers, airflow_environment, control, running
from tests.airflow_up import ends_with_us, free_ports
from tests.benchmarks import environments
from tests.chaos import plan, registry
from tests.chaos.proxy import Proxy
from tests.postgresql import postgresql

DAG_ID = "cohort_to_segment"
EVENT_BUCKET, GRAPH_BUCKET = "chaos-events", "chaos-graph-files"
#: The DAGs that run by their schedule, and those that only a user starts.
SCHEDULED = (DAG_ID, "engagement")
DAGS = (*SCHEDULED, "cohort_what_if", "cohort_erasure", "graph_load", "cohort_figures")
#: Seconds after which Airflow takes a task for dead, and looks for one.
HEARTBEAT_SECONDS, ORPHAN_SECONDS, RETRY_SECONDS = 12, 30, 2
_PASSWORDS = "passwords.json"


@dataclasses.dataclass
class Installation:
    """The ways in: the servers themselves, the proxies before them, Airflow's address and processes.

    `supervisor` is the process that starts Airflow's processes, and the id of their session.
    """

    folder: Path
    config: Config
    servers: Servers
    proxies: dict[str, Proxy]
    server_pids: dict[str, int]
    url: str
    database_url: str
    supervisor: int

    def client(self, service: str) -> Any:
        return seed.client(service, self.servers, self.config)

    @property
    def registry(self) -> Path:
        return self.folder / "include" / "cohorts.yaml"

    @property
    def logs(self) -> Path:
        return self.folder / "airflow" / "logs"

    @property
    def buckets(self) -> dict[str, str]:
        """The names of the buckets by the checker's roles."""
        c = self.config
        return {"export": c.export_bucket, "import": c.import_bucket, "state": c.state_bucket, "events": EVENT_BUCKET}


@contextmanager
def installation(
    folder: Path, say: Callable[[str], None], mutate: Callable[[Path], None] | None = None
) -> Iterator[Installation]:
    """A new installation, with the sample in it, while the block runs.

    :param mutate: changes a copy of the package, which the installation then has.
    """
    settings = config.load(environ={})
    with ExitStack() as stack:
        say("starting Gremlin Server, DynamoDB Local, the AWS endpoint, PostgreSQL, Redis ...")
        servers = stack.enter_context(running(folder / "servers", config=settings))
        proxies = {
            "graph": Proxy(servers.gremlin_port),
            "table": Proxy(servers.dynamodb_port),
            "aws": Proxy(servers.aws_port),
        }
        for proxy in proxies.values():
            stack.callback(proxy.close)
        variables = _seeded(
            servers, settings, Servers(proxies["graph"].port, proxies["table"].port, proxies["aws"].port)
        )
        database = stack.enter_context(postgresql())
        port, redis_port = free_ports(2)
        registry.prepare(folder, RETRY_SECONDS)
        environ = _environment(folder, variables, port, redis_port, database, mutate)
        airflow.migrate(environ)
        supervisor = stack.enter_context(_supervised(folder, environ, redis_port))
        made = Installation(
            folder, settings, servers, proxies, _pids(servers), environ["AIRFLOW__API__BASE_URL"], database, supervisor
        )  # fmt: skip
        yield made


def _seeded(servers: Servers, settings: Config, behind: Servers) -> dict[str, str]:
    """Fill the servers; return Airflow's Variables and connections, with the addresses of the proxies."""
    found = seed.seed(servers, settings)
    seed.make_configuration_sets(servers, settings)
    s3, iam = seed.client("s3", servers, settings), seed.client("iam", servers, settings)
    for bucket in (EVENT_BUCKET, GRAPH_BUCKET):
        s3.create_bucket(Bucket=bucket)
    variables = airflow_environment(behind, settings, *found)
    trust = {"Effect": "Allow", "Principal": {"Service": "rds.amazonaws.com"}, "Action": "sts:AssumeRole"}
    reads = {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "arn:aws:s3:::*"}
    trust_policy, policy = (json.dumps({"Version": "2012-10-17", "Statement": [each]}) for each in (trust, reads))
    role = iam.create_role(RoleName="chaos-load", AssumeRolePolicyDocument=trust_policy)["Role"]["Arn"]
    iam.put_role_policy(RoleName="chaos-load", PolicyName="ReadS3", PolicyDocument=policy)
    # what overwrites an object that stays leaves a second version
    s3.put_bucket_versioning(Bucket=settings.state_bucket, VersioningConfiguration={"Status": "Enabled"})
    control(servers, "neptune-loader", {"attach": [role]}, "PUT")
    # by the action `lose_answers`, an import takes longer
    control(servers, "sesv2", {"max_send_rate": 20, "template_seconds": 0, "import_seconds": 3})
    prefix = "AIRFLOW_VAR_COHORT_FLYWHEEL_"
    return variables | {
        f"{prefix}EVENT_BUCKET": EVENT_BUCKET,
        f"{prefix}SES_CONFIGURATION_SET": config.CONFIGURATION_SET,
        f"{prefix}SES_UNTRACKED_CONFIGURATION_SET": config.UNTRACKED_SET,
        f"{prefix}GRAPH_LOAD_BUCKET": GRAPH_BUCKET,
        f"{prefix}GRAPH_LOAD_ROLE_ARN": role,
        "AIRFLOW_CONN_NEPTUNE_ENGAGEMENT": variables["AIRFLOW_CONN_NEPTUNE_DEFAULT"],
        "AIRFLOW_CONN_AWS_NEPTUNE_ENGAGEMENT": variables["AIRFLOW_CONN_AWS_DEFAULT"],
    }


def put_graph_files(made: Installation) -> None:
    """Put the files that the DAG graph_load loads."""
    folder = made.folder / "graph_files"
    sample.write(folder)
    for path in sorted(folder.glob("*.csv")):
        key = f"graph/cohort_modeler/{path.name}"
        made.client("s3").upload_file(str(path), GRAPH_BUCKET, key)


def _environment(
    folder: Path, variables: dict[str, str], port: int, redis_port: int, database: str,
    mutate: Callable[[Path], None] | None,
) -> dict[str, str]:  # fmt: skip
    """The environment of all processes of Airflow."""
    home, users = folder / "airflow", (plan.TRIGGERS, plan.APPROVER, plan.OTHER)
    home.mkdir()
    (home / _PASSWORDS).write_text(json.dumps({user: user for user in users}), encoding="utf-8")
    (folder / "tmp").mkdir()
    environ = airflow.environment(home, variables, port=port, dags=folder / "dags", database_url=database)
    del environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"]
    # a copy: the package may be edited while a run of hours goes on
    shutil.copytree(ROOT / "plugins", folder / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    environ["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(folder / "plugins")
    if mutate:
        mutate(folder / "plugins" / "cohort_flywheel")
    return environ | {
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:admin" for user in users),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / _PASSWORDS),
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{redis_port}/0",
        "AIRFLOW__CELERY__RESULT_BACKEND": database.replace("postgresql+", "db+postgresql+"),
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": "2",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_SECONDS),
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": str(ORPHAN_SECONDS),
        # what a killed worker had taken from the queue; by default a task fails the third time
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "20",
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
        "AIRFLOW__SCHEDULER__NUM_STUCK_IN_QUEUED_RETRIES": "20",
        # the registry's edits touch the DAG files, which are parsed at once
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "20",
        "PYTHONPATH": os.pathsep.join([str(environments.celery_path()), str(ROOT)]),
        # what a killed task leaves there is ours to remove
        "TMPDIR": str(folder / "tmp"),
    }


@contextmanager
def _supervised(folder: Path, environ: dict[str, str], redis_port: int) -> Iterator[int]:
    """Airflow's processes and Redis; the id of the process that starts them again."""
    redis = shutil.which("redis-server")
    if not redis:
        raise SystemExit("redis-server is missing: apt-get install redis-server")
    # the workers need not know of one another, and wait for one another at their start
    worker = [airflow.AIRFLOW, "celery", "worker", "--skip-serve-logs", "--without-mingle", "--without-gossip"]
    commands = {
        "redis": [redis, "--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
        "worker-a": [*worker, "--celery-hostname=a@%h"],
        "worker-b": [*worker, "--celery-hostname=b@%h"],
    } | {command[0]: [airflow.AIRFLOW, *command] for command in airflow.PROCESSES}
    file = folder / "processes" / "commands.json"
    file.parent.mkdir()
    file.write_text(json.dumps(commands), encoding="utf-8")
    started = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.supervisor", str(file)], cwd=ROOT, env=environ, start_new_session=True
    )
    end = ["sh", "-c", f"pkill -TERM -s {started.pid}; sleep 3; pkill -KILL -s {started.pid}; exit 0"]
    with ends_with_us(end, dict(os.environ)):
        yield started.pid
    started.wait(timeout=30)


def _pids(servers: Servers) -> dict[str, int]:
    """The processes that listen on the servers' ports."""
    ports = {servers.gremlin_port: "graph", servers.dynamodb_port: "table", servers.aws_port: "aws"}
    found = {}
    for process in psutil.process_iter():
        try:
            for each in process.net_connections(kind="tcp"):
                if each.status == psutil.CONN_LISTEN and each.laddr.port in ports:
                    found[ports[each.laddr.port]] = process.pid
        except psutil.Error:
            continue
    return found
