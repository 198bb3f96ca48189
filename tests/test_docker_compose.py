"""docker-compose.yaml, as `docker-compose config` reads it, against .env and against local/. No engine is needed."""

from __future__ import annotations

import ast
import json
import os
import re
import string
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from local import config, java, servers
from local.docker import init
from local.seed import Seeded

ROOT = config.ROOT
FILE = ROOT / "docker-compose.yaml"
AIRFLOW = ["api-server", "scheduler", "dag-processor", "triggerer", "worker"]

pytestmark = pytest.mark.skipif(
    not config.works("docker-compose"),
    reason="docker-compose is not here, or does not run (apt-get install docker-compose): its file was not read",
)


def read(**shell: str) -> dict[str, Any]:
    """What docker-compose makes of the file in a shell with these variables and none of .env's own."""
    bare = {name: value for name, value in os.environ.items() if name not in config.read_env_file()}
    command = ["docker-compose", "--file", str(FILE), "--project-directory", str(ROOT), "config"]
    run = subprocess.run(command, env=bare | shell, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert "is not set" not in run.stderr, run.stderr  # a variable that .env lacks is an empty string to compose
    answer: dict[str, Any] = yaml.safe_load(run.stdout.replace("$$", "$"))
    return answer


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return read()


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found


@pytest.fixture(scope="module")
def settings() -> config.Config:
    return config.load(environ={})


def test_it_has_airflow_as_mwaa_runs_it_and_the_three_servers(services: dict[str, Any]) -> None:
    assert set(services) == {*AIRFLOW, "init", "postgres", "redis", "gremlin-server", "dynamodb-local", "aws"}
    for name in AIRFLOW:
        environment = services[name]["environment"]
        assert environment["AIRFLOW__CORE__EXECUTOR"] == "CeleryExecutor"
        assert environment["AIRFLOW__CELERY__BROKER_URL"].startswith("redis://redis/")
        assert "@postgres/" in environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
        assert services[name]["command"] == ("celery worker" if name == "worker" else name)


def test_airflow_has_the_settings_that_mwaa_forces(services: dict[str, Any]) -> None:
    source = (ROOT / "tests" / "deploy" / "test_bundle.py").read_text(encoding="utf-8")
    written = source.partition("\nFORCED = ")[2].partition("\n}")[0] + "}"
    forced = {name: value for name, value in ast.literal_eval(written).items() if "AIRFLOW_CONN_" not in name}
    assert len(forced) > 5
    for name in [*AIRFLOW, "init"]:
        assert forced.items() <= services[name]["environment"].items()


def test_differences_from_mwaa_are_documented(services: dict[str, Any]) -> None:
    """What differs in the file has its row in the document."""
    deploy = (ROOT / "docs" / "get-started" / "deploy.md").read_text(encoding="utf-8")
    page = deploy.partition("## Docker Compose beside MWAA")[2]
    environment = services["worker"]["environment"]
    auth = environment["AIRFLOW__CORE__AUTH_MANAGER"].rpartition(".")[2]
    words = [auth, "Redis", services["postgres"]["image"].replace("postgres:", "PostgreSQL "), "/opt/airflow", "init"]
    assert [word for word in words if word not in page] == []


def test_everything_starts_when_what_it_needs_is_ready(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert "healthcheck" in service or name == "init", f"{name} has no healthcheck to wait for"
        for other, condition in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if other == "init" else "service_healthy"
            assert condition == {"condition": expected}, f"{name} needs {other}"
    for name in AIRFLOW:
        assert {"postgres", "redis", "init"} <= set(services[name]["depends_on"])
    assert {"postgres", "gremlin-server", "dynamodb-local", "aws"} == set(services["init"]["depends_on"])


def test_the_ports_are_those_of_env_and_open_on_this_machine_alone(
    services: dict[str, Any], settings: config.Config
) -> None:
    open_ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    ports = {
        "gremlin-server": settings.gremlin_port,
        "dynamodb-local": settings.dynamodb_port,
        "aws": settings.aws_port,
        "api-server": settings.airflow_port,
    }
    assert open_ports == {name: [f"127.0.0.1:{port}:{port}/tcp"] for name, port in ports.items()}
    for name, port in ports.items():
        assert f"127.0.0.1:{port}/" in " ".join(services[name]["healthcheck"]["test"])
    assert f"-port {settings.dynamodb_port}" in services["dynamodb-local"]["command"]
    assert f"--port {settings.aws_port}" in services["aws"]["command"]
    assert services["api-server"]["environment"]["AIRFLOW__API__PORT"] == str(settings.airflow_port)


def test_no_value_of_env_stands_in_the_file_itself() -> None:
    lines = [line.partition("#")[0] for line in FILE.read_text(encoding="utf-8").splitlines()]
    text = re.sub(r"\$\{[A-Z_]+\}", "", "\n".join(lines))
    for name, value in config.read_env_file().items():
        if name == "AWS_ACCESS_KEY_ID":  # an English word, which the file may use
            continue
        assert not re.search(rf"(?<![\w.-]){re.escape(value)}(?![\w.-])", text), f"write ${{{name}}}"
    assert not re.search(r":\d{2,5}:|(?i:password|secret|token)(?!_)\w*:\s*\S", text)


def test_every_variable_of_the_file_is_in_env() -> None:
    used = set(re.findall(r"\$\{(\w+)\}", FILE.read_text(encoding="utf-8")))
    assert used <= set(config.read_env_file())


def test_a_shells_own_variables_win_but_for_its_aws_keys(settings: config.Config) -> None:
    real = {"AWS_ACCESS_KEY_ID": "AKIAREALLYREAL", "AWS_SECRET_ACCESS_KEY": "really-secret"}
    found = read(**real, AIRFLOW_PORT="18080", GREMLIN_PORT="18182")["services"]
    assert not [value for value in real.values() if value in json.dumps(found)]
    for name in [*AIRFLOW, "init", "aws"]:
        environment = found[name]["environment"]
        assert environment["AWS_ACCESS_KEY_ID"] == settings.access_key_id
        assert environment["AWS_SECRET_ACCESS_KEY"] == settings.secret_access_key
    assert found["api-server"]["ports"] == ["127.0.0.1:18080:18080/tcp"]
    # the seeding container has the same settings as the servers
    seeding = config.load(environ=found["init"]["environment"])
    assert (seeding.gremlin_port, seeding.airflow_port) == (18182, 18080)


def test_airflow_gets_the_connections_and_variables_that_make_up_gives_it(
    services: dict[str, Any], settings: config.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded = Seeded("the-application", "the-role", "the-instance", "the-base")
    local = servers.airflow_environment(servers.configured_ports(settings), settings, *seeded)
    by_init = {f"AIRFLOW_VAR_{name.upper()}": value for name, value in init.variables(seeded).items()}
    for name in [*AIRFLOW, "init"]:
        found = {
            key: value
            for key, value in services[name]["environment"].items()
            if key.startswith(("AIRFLOW_CONN_", "AIRFLOW_VAR_"))
        }
        # The webhook destination refuses plain HTTP to another host, as the emulated receiver's container would be.
        assert set(found) | set(by_init) == set(local) - {"AIRFLOW_CONN_WEBHOOK_DEFAULT"}
        for key, value in (found | by_init).items():
            if key.startswith("AIRFLOW_VAR_"):
                assert value == local[key]
        graph, aws = (json.loads(found[f"AIRFLOW_CONN_{conn}_DEFAULT"]) for conn in ("NEPTUNE", "AWS"))
        extra = {"iam": False, "loader_endpoint": f"aws:{settings.aws_port}"}
        expected = json.loads(local["AIRFLOW_CONN_NEPTUNE_DEFAULT"])
        assert graph == expected | {"host": "gremlin-server", "extra": extra}
        expected = json.loads(local["AIRFLOW_CONN_AWS_DEFAULT"])
        del expected["login"], expected["password"]  # in the environment, where boto3 finds them
        expected["extra"]["endpoint_url"] = f"http://aws:{settings.aws_port}"
        expected["extra"]["service_config"]["dynamodb"]["endpoint_url"] = (
            f"http://dynamodb-local:{settings.dynamodb_port}"
        )
        assert aws == expected
        assert found["AIRFLOW_CONN_AWS_GRAPH_LOAD"] == found["AIRFLOW_CONN_AWS_DEFAULT"]

    for key, value in services["init"]["environment"].items():
        monkeypatch.setenv(key, str(value))
    seeding = init.Containers(settings.gremlin_port, settings.dynamodb_port, settings.aws_port)
    assert seeding.gremlin_url == f"ws://gremlin-server:{settings.gremlin_port}/gremlin"
    assert seeding.dynamodb_url == f"http://dynamodb-local:{settings.dynamodb_port}"
    assert seeding.aws_url == f"http://aws:{settings.aws_port}"


def test_the_images_are_the_versions_that_local_runs(services: dict[str, Any], settings: config.Config) -> None:
    for server, jars, image in (
        ("gremlin-server", settings.gremlin_jars, "tinkerpop/gremlin-server"),
        ("dynamodb-local", "dynamodb-local", "amazon/dynamodb-local"),
    ):
        assert services[server]["image"] == f"{image}:{java.SERVERS[jars][0].rpartition(':')[2]}"
    assert services["gremlin-server"]["environment"]["JAVA_OPTIONS"] == settings.gremlin_java_options
    assert services["dynamodb-local"]["command"].startswith(settings.dynamodb_java_options)
    for option in ("-inMemory", "-sharedDb", "-disableTelemetry"):
        assert option in services["dynamodb-local"]["command"].split()


def test_airflow_is_the_version_and_the_python_that_make_installs(services: dict[str, Any]) -> None:
    set_up = (ROOT / "local/setup.sh").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    dockerfile = ROOT / "local/docker/Dockerfile"
    for name in [*AIRFLOW, "init", "aws"]:
        build = services[name]["build"]
        assert Path(build["context"]) == ROOT
        assert ROOT / build["dockerfile"] == dockerfile
        version, python = build["args"]["AIRFLOW_VERSION"], build["args"]["PYTHON_VERSION"]
        assert f"AIRFLOW_VERSION:-{version}}}" in set_up
        assert f'python_version = "{python}"' in project
        constraints = (ROOT / f"constraints/airflow-{version}.txt").read_text(encoding="utf-8")
        assert f"Airflow {version}" in constraints
        assert f"Python {python}" in constraints
    # the build is sent no more than what it copies
    copied = _lines(dockerfile, "COPY ")[0].replace("${AIRFLOW_VERSION}", version).split()[1:-1]
    sent = [line[1:] for line in _lines(ROOT / ".dockerignore", "!")]
    assert all(any(file.startswith(each) for each in sent) and (ROOT / file).is_file() for file in copied)


def _lines(path: Path, start: str) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith(start)]


def test_dags_plugins_and_include_are_mounted_where_airflow_looks(services: dict[str, Any]) -> None:
    for name in AIRFLOW:
        mounts = services[name]["volumes"]
        for folder in ("dags", "plugins", "include"):
            assert f"{ROOT / folder}:/opt/airflow/{folder}:ro" in mounts
    for name in ("init", "aws"):  # these run modules of local/, which read .env beside it
        assert services[name]["working_dir"] == "/opt/cohort-flywheel"
        assert f"{ROOT / 'local'}:/opt/cohort-flywheel/local:ro" in services[name]["volumes"]
        assert f"{ROOT / '.env'}:/opt/cohort-flywheel/.env:ro" in services[name]["volumes"]


def test_gremlin_servers_configuration_is_local_confs(
    services: dict[str, Any], settings: config.Config, tmp_path: Path
) -> None:
    bash, flag, script = services["gremlin-server"]["entrypoint"]
    assert f"{ROOT / 'local/conf'}:/conf:ro" in services["gremlin-server"]["volumes"]
    fill_in, start = script.split(" && exec ")
    assert start == "/opt/gremlin-server/bin/gremlin-server.sh /tmp/gremlin-server.yaml"

    template = ROOT / "local/conf/gremlin-server.yaml"
    written = tmp_path / "gremlin-server.yaml"
    source, target = re.findall(r"/\w+/gremlin-server\.yaml", fill_in)
    fill_in = fill_in.replace(source, str(template)).replace(target, str(written))
    subprocess.run([bash, flag, fill_in], check=True, timeout=30)
    assert written.read_text(encoding="utf-8") == string.Template(template.read_text(encoding="utf-8")).substitute(
        host="0.0.0.0",  # noqa: S104 - within a container
        port=settings.gremlin_port,
        properties="/conf/tinkergraph.properties",
        script="/conf/traversal-source.groovy",
    )
    for name in ("tinkergraph.properties", "traversal-source.groovy"):
        assert (template.parent / name).is_file()
