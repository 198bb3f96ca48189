"""The bundle: its bytes, its merge into another's plugins.zip, and a run in an Airflow home laid out as MWAA's."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local import bundle, seed
from local.config import CACHE, ROOT, Config, LocalError
from local.seed import Seeded
from local.servers import Servers, airflow_environment

#: What MWAA sets [src: python/mwaa/config in aws/amazon-mwaa-docker-images, 3.2.1], as far as it reaches a DAG's parse
#: or run; what is about its queue, its database, its logs and its web server stays out.
FORCED = {
    "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__MULTI_TEAM": "False",
    "AIRFLOW__CORE__EXECUTE_TASKS_NEW_PYTHON_INTERPRETER": "True",
    "AIRFLOW__CORE__SENSITIVE_VAR_CONN_NAMES": "proxy,proxies",
    "AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR": "True",
    "AIRFLOW__SCHEDULER__SCHEDULE_AFTER_TASK_EXECUTION": "False",
    "AIRFLOW__TRIGGERER__QUEUES_ENABLED": "False",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "AIRFLOW_CONN_AWS_DEFAULT": "aws://",
}
TASKS = {
    "plan", "extract", "enrich", "check_limits", "create_import_job", "wait_for_import_job", "verify_segment",
    "record_result", "report", "end",
}  # fmt: skip
#: Another team's, in the same plugins.zip and the same dags folder. `report` is a name of ours too, in our package.
THEIR_PLUGINS = {
    "their_plugin.py": """
from airflow.plugins_manager import AirflowPlugin
import their_tools

class TheirPlugin(AirflowPlugin):
    name = "their_plugin"
    macros = [their_tools.say]
""",
    "report.py": "MINE = 'theirs'\n",
    "their_tools/__init__.py": "def say():\n    return 'theirs'\n",
    "their_tools/include/notes.txt": "not ours\n",
}
THEIR_DAG = """
from airflow.sdk import DAG, task
import report
from their_tools import say

with DAG("their_dag", schedule=None):
    @task
    def asks_the_database():
        from airflow.utils.session import create_session
        from sqlalchemy import text
        with create_session() as session:
            session.execute(text("select 1"))

    @task
    def says():
        assert (say(), report.MINE) == ("theirs", "theirs")

    asks_the_database()
    says()
"""


CONSTRAINTS = ROOT / "constraints" / "airflow-3.2.1.txt"
#: What uv and pip say when they reached no index.
OFFLINE = ("Failed to fetch", "error sending request", "dns error", "Could not connect", "NewConnectionError")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "build"
    bundle.build(folder)
    return folder


def zip_of(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in files.items():
            file.writestr(name, text)
    return path


def entries(path: Path) -> dict[str, bytes]:
    return {name: entry.data for name, entry in bundle.unzipped(path.read_bytes(), path.name).items()}


# --- what it holds


def test_the_bundle_has_exactly_the_files_of_mwaa(built: Path) -> None:
    assert sorted(path.name for path in built.iterdir()) == ["dags", "plugins.zip", "requirements.txt"]
    assert [path.name for path in (built / "dags").iterdir()] == ["cohort_flywheel"]
    ours = {str(path.relative_to(built / "dags")) for path in (built / "dags").rglob("*") if path.is_file()}
    assert {"cohort_flywheel/.airflowignore", "cohort_flywheel/include/cohorts.yaml"} <= ours
    assert {f"cohort_flywheel/{path.name}" for path in (ROOT / "dags").glob("*.py")} <= ours
    assert not [name for name in ours if re.search("/(iam|cloudformation)/|pyc", name)]
    assert {name.partition("/")[0] for name in entries(built / "plugins.zip")} == {"cohort_flywheel"}


def test_no_folder_of_ours_in_dags_is_a_package_that_hides_the_one_in_plugins(built: Path) -> None:
    assert not list((built / "dags").rglob("__init__.py"))


def test_two_builds_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for name in ("dags", "docs", "include", "plugins", "constraints"):
        shutil.copytree(ROOT / name, copy / name)
    shutil.copy(ROOT / "requirements.txt", copy)
    for path in copy.rglob("*.py"):
        os.utime(path, (0, 0))
        path.chmod(0o700)
    (copy / "plugins/cohort_flywheel/.DS_Store").touch()  # a desktop's
    bundle.build(copy / "build", root=copy)
    for path in [path for path in built.rglob("*") if path.is_file()]:
        assert path.read_bytes() == (copy / "build" / path.relative_to(built)).read_bytes(), path.name
    infos = zipfile.ZipFile(built / "plugins.zip").infolist()
    assert [info.filename for info in infos] == sorted(info.filename for info in infos)
    assert {(info.date_time, info.external_attr, info.compress_type) for info in infos} == {
        ((1980, 1, 1, 0, 0, 0), 0o100644 << 16, zipfile.ZIP_STORED)
    }


def test_a_change_makes_the_bundle_stale(built: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for name in ("dags", "docs", "include", "plugins"):
        shutil.copytree(ROOT / name, copy / name)
    shutil.copy(ROOT / "requirements.txt", copy)
    assert bundle.stale(built, copy) is None
    for name, known_as in {
        "include/cohorts.yaml": "dags/cohort_flywheel/include/cohorts.yaml",
        "plugins/cohort_flywheel/runs/names.py": "cohort_flywheel/runs/names.py",
        "docs/reference/runbook.md": "cohort_flywheel/ui/runbook.md",
        "requirements.txt": "requirements.txt",
    }.items():
        before = (copy / name).read_text(encoding="utf-8")
        (copy / name).write_text(before + "\nedited\n", encoding="utf-8")
        assert bundle.stale(built, copy) == known_as
        (copy / name).write_text(before, encoding="utf-8")


def test_nothing_in_requirements_turns_the_images_own_constraints_off(built: Path) -> None:
    """MWAA looks for these signs in every line, comments too [src: mwaa/utils/user_requirements.py]."""
    text = bundle.WITH_WHEELS + (built / "requirements.txt").read_text(encoding="utf-8")
    assert not re.search(r"-c |--constraint ", text)


@pytest.mark.parametrize("syntax", ["glob", "regexp"])
def test_the_dag_parser_ignores_include(built: Path, syntax: str) -> None:
    from airflow._shared.module_loading import find_path_from_directory

    (built / "dags/cohort_flywheel/include/dag.py").write_text("from airflow.sdk import DAG\n", encoding="utf-8")
    try:
        found = {Path(path).name for path in find_path_from_directory(str(built / "dags"), ".airflowignore", syntax)}
    finally:
        (built / "dags/cohort_flywheel/include/dag.py").unlink()
    assert {path.name for path in (ROOT / "dags").glob("*.py")} <= found
    assert not {"dag.py", "cohorts.yaml"} & found


# --- into another's files


def test_a_merge_keeps_theirs_to_the_byte_and_adds_ours(built: Path, tmp_path: Path) -> None:
    theirs = zip_of(tmp_path / "theirs.zip", THEIR_PLUGINS)
    bundle.build(tmp_path / "build", into=theirs)
    merged = entries(tmp_path / "build/plugins.zip")
    assert merged == {**entries(theirs), **entries(built / "plugins.zip")}
    kept = {info.filename: info for info in zipfile.ZipFile(tmp_path / "build/plugins.zip").infolist()}
    for info in zipfile.ZipFile(theirs).infolist():
        assert (kept[info.filename].date_time, kept[info.filename].external_attr) == (
            info.date_time,
            info.external_attr,
        )


def test_an_earlier_version_of_ours_is_replaced_and_removed_files_are_deleted(built: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for name in ("dags", "include", "plugins"):
        shutil.copytree(ROOT / name, copy / name)
    shutil.copy(ROOT / "requirements.txt", copy)
    (copy / "plugins/cohort_flywheel/runs/names.py").write_text("OLD = True\n", encoding="utf-8")
    (copy / "plugins/cohort_flywheel/dropped.py").write_text("OLD = True\n", encoding="utf-8")
    theirs = zip_of(tmp_path / "theirs.zip", THEIR_PLUGINS)
    bundle.build(tmp_path / "old", into=theirs, root=copy)
    assert "cohort_flywheel/dropped.py" in entries(tmp_path / "old/plugins.zip")
    bundle.build(tmp_path / "new", into=tmp_path / "old/plugins.zip")
    assert entries(tmp_path / "new/plugins.zip") == {**entries(theirs), **entries(built / "plugins.zip")}


def test_a_name_of_ours_with_bytes_that_were_never_ours_is_refused(tmp_path: Path) -> None:
    theirs = zip_of(tmp_path / "theirs.zip", {**THEIR_PLUGINS, "cohort_flywheel/runs/names.py": "MINE = 1\n"})
    with pytest.raises(
        LocalError, match=r"theirs.zip has cohort_flywheel/runs/names.py, which is neither .* rename it there"
    ):
        bundle.build(tmp_path / "build", into=theirs)
    assert not (tmp_path / "build").exists()


def test_an_earlier_version_that_was_edited_there_is_refused(tmp_path: Path) -> None:
    bundle.build(tmp_path / "old")
    files = {name: data.decode() for name, data in entries(tmp_path / "old/plugins.zip").items()}
    theirs = zip_of(tmp_path / "theirs.zip", files | {"cohort_flywheel/runs/names.py": "EDITED = 1\n"})
    with pytest.raises(LocalError, match="neither this version of ours nor an earlier one"):
        bundle.build(tmp_path / "build", into=theirs)


@pytest.mark.parametrize("name", ["cohort_flywheel.py", "cohort_flywheel.cpython-312-x86_64-linux-gnu.so"])
def test_a_module_that_our_package_would_hide_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LocalError, match="would hide: rename it there"):
        bundle.build(tmp_path / "build", into=zip_of(tmp_path / "theirs.zip", {name: ""}))


def test_a_file_that_is_not_a_zip_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="cannot be read .*: name an existing file"):
        bundle.build(tmp_path / "build", into=tmp_path / "missing.zip")
    (tmp_path / "theirs.zip").write_text("no zip")
    with pytest.raises(LocalError, match="cannot be read as a zip file .*: name the environment's plugins.zip"):
        bundle.build(tmp_path / "build", into=tmp_path / "theirs.zip")
    with pytest.raises(LocalError, match="is not a manifest written by `make bundle`: remove it there"):
        bundle.build(tmp_path / "build", into=zip_of(tmp_path / "theirs.zip", {bundle.MANIFEST: "no json"}))


def test_an_identical_file_of_theirs_remains_theirs(tmp_path: Path) -> None:
    names = (ROOT / "plugins/cohort_flywheel/runs/names.py").read_text(encoding="utf-8")
    theirs = zip_of(tmp_path / "theirs.zip", {"cohort_flywheel/runs/names.py": names})
    bundle.build(tmp_path / "build", into=theirs)
    assert bundle.stale(tmp_path / "build") is None
    packed = bundle.unzipped((tmp_path / "build/plugins.zip").read_bytes(), "plugins.zip")
    assert list(bundle.theirs(packed)) == ["cohort_flywheel/runs/names.py"]


def test_their_requirements_stay_as_they_are_and_ours_that_they_lack_follow(tmp_path: Path) -> None:
    theirs = tmp_path / "requirements.txt"
    theirs.write_text("# theirs\nPyYAML==6.0.1\npandas\n", encoding="utf-8")
    bundle.build(tmp_path / "build", their_requirements=theirs)
    merged = tmp_path / "build/requirements.txt"
    before, _, behind = merged.read_text(encoding="utf-8").partition(f"\n{bundle.BEHIND}")
    assert before == theirs.read_text(encoding="utf-8")
    ours = {line for line in bundle.lines_of(ROOT / "requirements.txt") if bundle.distribution(line)}
    assert behind.endswith(bundle.END)
    assert set(behind.removesuffix(bundle.END).splitlines()) == ours - {"pyyaml"}
    again = bundle.merge_requirements(merged.read_text(encoding="utf-8"), "boto3\npandas\n")
    assert again == f"{before}\n{bundle.BEHIND}boto3\n{bundle.END}"  # ours of then is not theirs of now
    theirs.write_bytes(b"\xff")
    with pytest.raises(LocalError, match="requirements.txt is not UTF-8: save it as that"):
        bundle.build(tmp_path / "build", their_requirements=theirs)


OURS = "boto3\ngremlinpython\n"
APPENDED = "# the warehouse\nsnowflake-connector-python\nboto3==1.40.0\n"


def test_lines_after_our_requirements_are_theirs(built: Path) -> None:
    plain = (built / "requirements.txt").read_text(encoding="utf-8")
    merged = bundle.merge_requirements("pandas\n", OURS)
    for before, theirs in ((plain, ""), (merged, "pandas\n\n"), (bundle.WITH_WHEELS + merged, "pandas\n\n")):
        again = bundle.merge_requirements(before + APPENDED, OURS)
        assert again == f"{theirs}{APPENDED}\n{bundle.BEHIND}gremlinpython\n{bundle.END}"
        assert bundle.merge_requirements(again, OURS) == again
        assert lost(before + APPENDED, again) is None
        assert lost(before + APPENDED, before) == "snowflake-connector-python"


def test_lines_after_ours_are_theirs_in_a_file_without_an_end_line(built: Path) -> None:
    now = (built / "requirements.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    whole = bundle.BEHIND + "".join(line for line in now if line.strip() in bundle.BEFORE_END)  # as it was then
    for ours in (whole, bundle.BEHIND + "boto3\norjson\n"):
        assert lost(f"pandas\n\n{ours}", "pandas\n") is None
        appended = f"pandas\n\n{ours}{APPENDED}"
        again = bundle.merge_requirements(appended, OURS)
        assert again == (
            "pandas\n\nsnowflake-connector-python\nboto3==1.40.0\n\n" + f"{bundle.BEHIND}gremlinpython\n{bundle.END}"
        )
        assert lost(appended, again) is None
        assert lost(appended, bundle.merge_requirements("pandas\n", OURS)) == "snowflake-connector-python"


def test_an_older_pin_of_ours_never_stands_beside_the_new_line() -> None:
    pinned = f"pandas\n\n{bundle.BEHIND}boto3\ngremlinpython==3.7.3\n"
    merged = f"pandas\n\n{bundle.BEHIND}{OURS}{bundle.END}"
    assert bundle.merge_requirements(pinned + bundle.END, OURS) == merged
    # no version without an END wrote a pin, so it belongs to others, and replaces ours
    assert bundle.merge_requirements(pinned, OURS).splitlines().count("gremlinpython==3.7.3") == 1
    assert "gremlinpython\n" not in bundle.merge_requirements(pinned, OURS)


def lost(before: str, now: str) -> str | None:
    return bundle.lost("requirements.txt", before.encode(), now.encode())


# --- for a web server without internet


def test_the_wheels_are_in_plugins_zip_and_pip_is_told_to_look_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def wheels(requirements: str, airflow: str, root: Path) -> dict[str, bytes]:
        asked.append(airflow)
        assert "gremlinpython" in requirements
        return {"gremlinpython-3.8.1-py3-none-any.whl": b"a wheel"}

    monkeypatch.setattr(bundle, "wheels", wheels)
    bundle.build(tmp_path / "build", wheels_for="3.3.1")
    assert asked == ["3.3.1"]
    assert bundle.lines_of(tmp_path / "build/requirements.txt")[:2] == [
        "--find-links /usr/local/airflow/plugins",
        "--no-index",
    ]
    assert entries(tmp_path / "build/plugins.zip")["gremlinpython-3.8.1-py3-none-any.whl"] == b"a wheel"
    assert bundle.stale(tmp_path / "build") is None
    # the next bundle, merged into this one, drops the wheel of the one before
    bundle.build(tmp_path / "next", into=tmp_path / "build/plugins.zip")
    assert not [name for name in entries(tmp_path / "next/plugins.zip") if name.endswith(".whl")]


def test_an_airflow_version_without_constraints_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        LocalError, match=r"constraints/airflow-2.9.2.txt does not exist: set AIRFLOW_VERSION to 3.2.1 or 3.3.1"
    ):
        bundle.build(tmp_path / "build", wheels_for="2.9.2")


@pytest.mark.bundle_321
def test_pip_installs_from_plugins_zip_alone(tmp_path: Path, figure: Callable[[str], None]) -> None:
    try:
        bundle.build(tmp_path / "build", wheels_for="3.2.1")
    except LocalError as error:
        if any(sign in str(error) for sign in OFFLINE):
            pytest.skip("no package index can be reached")
        raise
    packed = tmp_path / "build/plugins.zip"
    zipfile.ZipFile(packed).extractall(tmp_path / "plugins")
    requirements = tmp_path / "build/requirements.txt"
    there = requirements.read_text(encoding="utf-8").replace(bundle.MWAA_PLUGINS, str(tmp_path / "plugins"))
    requirements.write_text(there, encoding="utf-8")
    python = bare_airflow(tmp_path / "venv")
    seconds = pip_install(python, requirements)
    imports = "import gremlin_python, aiobotocore, orjson, airflow.providers.amazon, importlib.metadata as m"
    command = [str(python), "-I", "-c", f"{imports}; print(m.version('apache-airflow'), m.version('gremlinpython'))"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == "3.2.1 3.8.1\n"
    number = len(list((tmp_path / "plugins").glob("*.whl")))
    figure(f"{number} wheels in a plugins.zip of {packed.stat().st_size / 1e6:.0f} MB, installed in {seconds:.0f} s")


# --- in an Airflow home as MWAA has it


def home_of(built: Path, home: Path) -> Path:
    """An Airflow home as MWAA's containers have it, with another team's files and without the repository."""
    shutil.copytree(built / "dags", home / "dags")
    zipfile.ZipFile(built / "plugins.zip").extractall(home / "plugins")
    (home / "dags/theirs").mkdir()
    (home / "dags/theirs/their_dag.py").write_text(THEIR_DAG, encoding="utf-8")
    return home


def run_in(home: Path, python: Path, environment: dict[str, str], runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What `mwaa_run` found, started in the home with nothing of ours on its path but what Airflow puts there."""
    script = Path(shutil.copy(Path(__file__).with_name("mwaa_run.py"), home))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS_", "PYTHON"))}
    command = [str(python), "-P", str(script), str(home / "found.json"), json.dumps(runs)]
    run = subprocess.run(
        command,
        cwd=home,
        env=kept | FORCED | {"AIRFLOW_HOME": str(home), "no_proxy": "127.0.0.1"} | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    (home / "run.log").write_text(run.stdout + run.stderr, encoding="utf-8")
    assert run.returncode == 0, (run.stdout + run.stderr)[-6000:]
    found: dict[str, Any] = json.loads((home / "found.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest, built: Path) -> Path:
    """The Python of .venv, or one with Airflow 3.2.1 and what the bundle's requirements.txt asks for, made once."""
    if request.param == "here":
        return Path(sys.executable)
    requirements = built / "requirements.txt"
    made_from = bundle.digest(CONSTRAINTS.read_bytes() + requirements.read_bytes())
    folder = CACHE / "bundle-3.2.1"
    stamp = folder / "made-from"
    if not stamp.exists() or stamp.read_text() != made_from:
        shutil.rmtree(folder, ignore_errors=True)
        seconds = pip_install(bare_airflow(folder), requirements)
        (folder / "seconds").write_text(f"{seconds:.0f}")
        stamp.write_text(made_from)
    return folder / "bin" / "python"


def bare_airflow(folder: Path) -> Path:
    """The Python of a new environment with Airflow 3.2.1 and nothing else, less than MWAA's image has."""
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "--quiet", "--seed", "--python", sys.executable, str(folder)], check=True, timeout=60)
    python = folder / "bin" / "python"
    install = [uv, "pip", "install", "--quiet", "--python", str(python), "--constraint", str(CONSTRAINTS)]
    subprocess.run([*install, "apache-airflow==3.2.1"], check=True, timeout=300)
    return python


def pip_install(python: Path, requirements: Path) -> float:
    """Install as MWAA does, within the nine minutes that it gives; how many seconds that took."""
    begin = time.monotonic()
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(requirements), "-c", str(CONSTRAINTS)], check=True, timeout=9 * 60)
    return time.monotonic() - begin


@pytest.mark.parametrize(
    "python",
    [pytest.param("here", marks=pytest.mark.nightly), pytest.param("3.2.1", marks=pytest.mark.bundle_321)],
    indirect=True,
)
def test_it_runs_where_mwaa_unpacks_it_beside_another_teams_plugin_and_dag(
    python: Path,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    servers: Servers,
    config: Config,
    seeded: Seeded,
    fresh_config: Config,
    fresh_seeded: Seeded,
    figure: Callable[[str], None],
) -> None:
    bundle.build(tmp_path / "build", into=zip_of(tmp_path / "theirs.zip", THEIR_PLUGINS))
    home = home_of(tmp_path / "build", tmp_path / "airflow")
    mine = dataclasses.replace(fresh_config, contacts_table=config.contacts_table)
    # the execution role's place is taken by credentials in the environment, the region's by an endpoint there
    environment = airflow_environment(servers, mine, *fresh_seeded) | {
        "AIRFLOW_CONN_AWS_DEFAULT": FORCED["AIRFLOW_CONN_AWS_DEFAULT"],
        "AWS_ACCESS_KEY_ID": config.access_key_id,
        "AWS_SECRET_ACCESS_KEY": config.secret_access_key,
        "AWS_DEFAULT_REGION": config.region,
        "AWS_ENDPOINT_URL": servers.aws_url,
        "AWS_ENDPOINT_URL_DYNAMODB": servers.dynamodb_url,
    }
    found = run_in(home, python, environment, {"cohort_to_segment": {"cohort": "ea_atrisk"}, "their_dag": {}})

    # it all loads, ours from where MWAA puts it, and none of it from here
    assert found["import_errors"] == {}
    assert found["plugin_errors"] == {}
    assert found["plugins"] == ["cohort_flywheel_pages", "their_plugin"]
    assert found["ours_by_the_loader"] == []
    ours = home / "dags/cohort_flywheel"
    assert {dag_id: Path(file).parent for dag_id, file in found["dags"].items()} == {
        "cohort_to_segment": ours,
        "cohort_what_if": ours,
        "cohort_cleanup": ours,
        "cohort_erasure": ours,
        "graph_load": ours,
        "cohort_figures": ours,
        "their_dag": home / "dags/theirs",
    }
    assert str(home / "plugins/cohort_flywheel/config/registry.py") in found["files"]
    outside = (sys.prefix, str(python.parents[1]), str(home))
    assert not [file for file in found["files"] if file.startswith(f"{ROOT}/") and not file.startswith(outside)]
    assert not {str(ROOT), str(ROOT / "plugins")} & set(found["path"])

    # theirs runs, but for what no task may do; ours comes through to a segment of the right size
    assert found["runs"]["their_dag"]["tasks"] == {"says": "success", "asks_the_database": "failed"}
    assert "the metadata database is not for tasks" in (home / "run.log").read_text(encoding="utf-8")
    assert found["runs"]["cohort_to_segment"]["state"] == "success", (home / "run.log").read_text()[-6000:]
    assert found["runs"]["cohort_to_segment"]["tasks"] == dict.fromkeys(TASKS, "success")
    assert found["without_database"] > len(TASKS)  # each task, and the trigger
    report = only_report(servers, mine)
    segment = seed.client("pinpoint", servers, config).get_segment(
        ApplicationId=fresh_seeded.application_id, SegmentId=report["imported"]["segment_id"]
    )["SegmentResponse"]
    assert segment["ImportDefinition"]["Size"] == report["segment"]["rows"] == 3
    if "3.2.1" in request.node.name:
        assert found["airflow"] == "3.2.1"
    seconds = found["seconds"]
    said = f"the bundle on Airflow {found['airflow']}: {seconds['ready']:.0f} s to load, {seconds['run']:.0f} s to run"
    installed = python.parents[1] / "seconds"
    figure(f"{said}; requirements.txt was installed in {installed.read_text()} s" if installed.exists() else said)


def only_report(servers: Servers, config: Config) -> dict[str, Any]:
    s3 = seed.client("s3", servers, config)
    (item,) = s3.list_objects_v2(Bucket=config.state_bucket, Prefix="reports/")["Contents"]
    found: dict[str, Any] = json.load(s3.get_object(Bucket=config.state_bucket, Key=item["Key"])["Body"])
    return found
