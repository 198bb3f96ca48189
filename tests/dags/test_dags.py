"""The DAGs that Airflow finds: which, with what, and what reading them costs. No server is needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DAILY, WHAT_IF = "cohort_to_segment", "cohort_what_if"
CLEANUP, ERASURE, FIGURES = "cohort_cleanup", "cohort_erasure", "cohort_figures"
GRAPH_LOAD = "graph_load"
TAGS = {"cohort-flywheel", "what-if", "cleanup", "figures", "graph-load"} | {
    p.parent.name for p in (ROOT / "plugins/cohort_flywheel/destinations").glob("*/destination.py")
}
TASKS = [
    "plan",
    "extract",
    "enrich",
    "check_limits",
    "create_import_job",
    "wait_for_import_job",
    "verify_segment",
    "record_result",
    "report",
    "end",
]
#: Of each kind of DAG its tasks and its params; those of the daily kind are one a cohort.
KINDS = {
    WHAT_IF: (["count_days"], ["cohort", "threshold", "from", "to"]),
    CLEANUP: (["clean_up"], ["cohort", "keep_days", "dry_run"]),
    ERASURE: (["erase"], ["dry_run"]),
    GRAPH_LOAD: (
        ["plan_load", "validate_files", "copy_files", "count_before", "load_files", "check_load"],
        ["load", "dry_run"],
    ),
    FIGURES: (["count_figures"], []),
    DAILY: (
        TASKS,
        "cohort threshold source dry_run extract_only extract_uri override_limits override_reason".split(),
    ),
}


#: What the daily kind has besides where its destination mails segments.
CAMPAIGNS = {
    "ses": ["prepare_campaign", "approve_campaign", "launch_campaign"],
    "customer_profiles": ["prepare_campaign", "approve_campaign", "launch_campaign", "follow_campaign"],
}


@pytest.fixture(scope="module")
def mailing(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The DAG files beside a registry that names a destination which mails."""
    folders = []
    for name in CAMPAIGNS:
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(ROOT / "dags", folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "include", folder / "include")
        text = (ROOT / "include" / "cohorts.yaml").read_text(encoding="utf-8")
        tuning = "tuning: {import_poll_seconds: 30, campaign_poll_seconds: 120, lookups_in_flight: 9, memory_mb: 77}"
        changed = text.replace("destination: pinpoint\n", f"destination: {name}\n{tuning}\n")
        (folder / "include" / "cohorts.yaml").write_text(changed, encoding="utf-8")
        folders.append(folder / "dags")
    return folders


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The DAG files beside a registry in which three more cohorts are daily, one of them written wrongly."""
    folder = tmp_path_factory.mktemp("edited")
    shutil.copytree(ROOT / "dags", folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    before, first, rest = (
        (ROOT / "include" / "cohorts.yaml").read_text(encoding="utf-8").partition("\n  ea_reputation:")
    )
    rest = rest.replace("daily: false", "daily: true", 3)
    assert rest.count("threshold: 6\n") == 1
    (folder / "include").mkdir()
    text = before + first + rest.replace("threshold: 6\n", "treshold: 6\n")
    (folder / "include" / "cohorts.yaml").write_text(text, encoding="utf-8")
    return folder / "dags"


#: Cohorts that cannot be used, each in its own way, and a default cohort that the file does not have.
UNUSABLE = """
  "a b": {}
  "a\\0b": {}
  ? [a]
  : {}
  ea_copy: &consent {daily: true}
  ea_huge: {threshold_range: {min: 0, max: 99999999999999999999}}
  ea_nested: {floor: [[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]}
  ea_day: {floor: 2026-02-30}
"""


@pytest.fixture(scope="module")
def unusable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The DAG files beside a registry in which one cohort alone is sound."""
    folder = tmp_path_factory.mktemp("unusable")
    shutil.copytree(ROOT / "dags", folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "include").mkdir()
    text = (ROOT / "include" / "cohorts.yaml").read_text(encoding="utf-8").partition("\n  ea_altruism:")[0]
    text = text.replace("direction: above", "direction: under").replace("daily: false", "daily: true")
    text = text.replace("default_cohort: ea_atrisk", "default_cohort: ea_at_risk")
    (folder / "include" / "cohorts.yaml").write_text(text + UNUSABLE, encoding="utf-8")
    return folder / "dags"


@pytest.fixture(scope="module")
def probed(edited: Path, mailing: list[Path], unusable: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the probe saw of dags/, of the edited copy and of those that mail, in a process with sockets blocked."""
    home = tmp_path_factory.mktemp("airflow")
    environ = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")} | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    }
    command = [sys.executable, str(Path(__file__).with_name("probe.py")), str(home / "found.json")]
    run = subprocess.run(
        [*command, str(ROOT / "dags"), str(edited), *map(str, mailing), str(unusable)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert run.returncode == 0, (run.stdout + run.stderr)[-3000:]
    return json.loads((home / "found.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def found(probed: Any) -> Any:
    """The same without those that mail."""
    return probed | {"folders": probed["folders"][:2]}


def test_the_dag_has_the_campaign_tasks_of_its_destination(probed: Any) -> None:
    for (name, tasks), folder in zip(CAMPAIGNS.items(), probed["folders"][2:-1], strict=True):
        assert folder["import_errors"] == {}
        dag = folder["dags"][DAILY]
        assert dag["tags"] == ["cohort-flywheel", name]
        assert sorted(dag["tasks"]) == sorted([*TASKS, *tasks])
        assert dag["tasks"][-1] in ("report", "end")
        assert list(dag["params"]) == [*KINDS[DAILY][1], "campaign"]
        assert dag["params"]["campaign"]["enum"] == [None, "none", "draft", "test", "launch"]
        assert dag["params"]["campaign"]["default"] is None
        for task in tasks:
            assert f"**{task}**" in dag["doc"]
        # a run that waits for an approval is active, and must leave room for the others
        assert dag["max_active_runs"] > 10


def test_the_dag_file_names_every_task_and_groups_import_and_campaign(probed: Any) -> None:
    """The ids of the tasks have no prefix of a group: they are the same as without groups."""
    text = (ROOT / "dags" / "cohort_to_segment.py").read_text(encoding="utf-8")
    import_tasks = ["create_import_job", "verify_segment", "wait_for_import_job"]
    for name, folder in zip(["pinpoint", "pinpoint", *CAMPAIGNS], probed["folders"][:-1], strict=True):
        dag = folder["dags"][DAILY]
        assert not [task for task in dag["tasks"] if task not in text]
        groups = {"import_segment": import_tasks}
        if name in CAMPAIGNS:
            groups["campaign"] = sorted(CAMPAIGNS[name])
        assert dag["groups"] == groups
        assert dag["edges"]["wait_for_import_job"] == ["verify_segment"]
        assert dag["edges"][CAMPAIGNS[name][-1] if name in CAMPAIGNS else "record_result"] == ["end", "report"]


def test_no_sensor_waits_longer_than_its_execution_timeout(probed: Any) -> None:
    """The default of the DAG is 6 hours, and a campaign may run for 24."""
    followed = 0
    for folder in probed["folders"]:
        for dag_id, dag in folder["dags"].items():
            if dag_id.startswith(DAILY):
                assert "wait_for_import_job" in dag["sensors"], dag_id
            followed += "follow_campaign" in dag["sensors"]
            for task, limits in dag["sensors"].items():
                assert 0 < limits["timeout"] <= limits["execution_timeout"], f"{dag_id}: {task}: {limits}"
    assert followed == 1


def test_sensors_poll_as_the_tuning_says_and_wait_as_long(probed: Any) -> None:
    shipped, _, *mailing, _ = probed["folders"]
    polls = [
        {task: (each["poke_interval"], each["timeout"]) for task, each in folder["dags"][DAILY]["sensors"].items()}
        for folder in (shipped, *mailing)
    ]
    imports = {"wait_for_import_job": (30, 7200)}
    assert polls == [{"wait_for_import_job": (5, 7200)}, imports, imports | {"follow_campaign": (120, 93_600)}]


def test_every_task_with_duckdb_has_the_memory_of_the_tuning(probed: Any) -> None:
    """The tasks of what-if and of the figures read the registry themselves."""
    shipped, _, ses, profiles, _ = probed["folders"]
    tasks = {DAILY: ["check_limits", "extract"], CLEANUP: ["clean_up"], ERASURE: ["erase"],
             GRAPH_LOAD: ["validate_files"]}  # fmt: skip
    for dag_id, names in tasks.items():
        assert shipped["dags"][dag_id]["memory_mb"] == dict.fromkeys(names)
        assert ses["dags"][dag_id]["memory_mb"] == dict.fromkeys(names, 77)
    of_profiles = dict.fromkeys([*tasks[DAILY], "create_import_job"], 77)
    assert profiles["dags"][DAILY]["memory_mb"] == of_profiles


def test_record_result_runs_one_at_a_time_in_each_dag(probed: Any) -> None:
    """Else two runs may create the Asset of a cohort at once, and Airflow fails the second."""
    dags = [dag for folder in probed["folders"] for dag_id, dag in folder["dags"].items() if dag_id.startswith(DAILY)]
    assert {tuple(dag["one_at_a_time"]) for dag in dags} == {("record_result",)}


def test_tasks_that_write_under_a_name_acquire_its_lock(probed: Any) -> None:
    """And a segment file that is written is imported only while it is the newest of its name."""
    for folder in probed["folders"]:
        for dag_id, dag in folder["dags"].items():
            if dag_id.startswith(DAILY):
                of_name = {"extract", "enrich", "launch_campaign"} & {*dag["tasks"]}
                wanted = dict.fromkeys(of_name, "acquire_run_lock")
                of_file = ["check_limits", "create_import_job", "record_result"]
                wanted |= dict.fromkeys(of_file, "acquire_run_lock_for_import")
                assert {task: name for task, name in dag["before"].items() if name} == wanted, dag_id


def test_the_dags_are_these_and_no_others(found: Any) -> None:
    shipped, _ = found["folders"]
    assert shipped["import_errors"] == {}
    assert list(shipped["dags"]) == [CLEANUP, ERASURE, FIGURES, DAILY, WHAT_IF, GRAPH_LOAD]


def test_the_process_of_a_task_builds_its_own_dag_only(probed: Any) -> None:
    """Of a file with a thousand DAGs, too."""
    assert probed["of_a_task"] == [CLEANUP, ERASURE, FIGURES, f"{DAILY}__ea_altruism", WHAT_IF, GRAPH_LOAD]


def test_a_valid_cohort_has_its_dag_whatever_is_wrong_in_others(probed: Any) -> None:
    folder = probed["folders"][-1]
    assert folder["import_errors"] == {}
    own = ["ea_atrisk", "ea_copy", "ea_day", "ea_huge", "ea_nested", "ea_reputation"]
    daily = [DAILY, *(f"{DAILY}__{name}" for name in own)]
    assert list(folder["dags"]) == [CLEANUP, ERASURE, FIGURES, *daily, WHAT_IF, GRAPH_LOAD]
    cohort = folder["dags"][DAILY]["params"]["cohort"]
    assert cohort["default"] == "ea_at_risk"
    assert "ea_reputation" in cohort["enum"]
    assert r"'a\x00b'" in cohort["enum"]
    assert folder["dags"][f"{DAILY}__ea_reputation"]["params"]["threshold"]["maximum"] == -50


def test_a_daily_cohort_has_a_dag_of_its_own_even_if_it_is_written_wrongly(found: Any) -> None:
    _, edited = found["folders"]
    assert edited["import_errors"] == {}
    assert list(edited["dags"]) == [
        CLEANUP,
        ERASURE,
        FIGURES,
        DAILY,
        "cohort_to_segment__ea_altruism",
        "cohort_to_segment__ea_duty",  # the one that is written wrongly
        "cohort_to_segment__ea_reputation",
        WHAT_IF,
        GRAPH_LOAD,
    ]
    for dag_id, dag in edited["dags"].items():
        _, own, cohort = dag_id.partition("__")
        if dag_id == FIGURES:
            continue
        if dag_id in (CLEANUP, ERASURE, GRAPH_LOAD):
            assert dag["params"]["dry_run"]["default"] is True
            continue
        assert dag["params"]["cohort"]["default"] == (cohort or "ea_atrisk")
        assert (dag["params"]["cohort"]["enum"] == [cohort]) is bool(own)


def kind(dag_id: str) -> tuple[list[str], list[str]]:
    return KINDS[dag_id.partition("__")[0]]


def test_every_dag_with_a_schedule_starts_paused_explains_itself_and_makes_no_run_of_the_past(found: Any) -> None:
    for folder in found["folders"]:
        for dag_id, dag in folder["dags"].items():
            # a run of a paused DAG waits for ever; a what-if has no schedule to hold back, and the figures only count
            assert dag["paused"] is (dag_id not in (WHAT_IF, FIGURES)), dag_id
            assert dag["catchup"] is False, dag_id
            assert set(dag["tags"]) <= TAGS, dag_id
            assert dag["tags"], dag_id
            tasks, _params = kind(dag_id)
            assert sorted(dag["tasks"]) == sorted(tasks), dag_id
            for task in tasks:
                assert f"**{task}**" in dag["doc"], f"{dag_id}'s page does not describe {task}"
            assert dag["doc"].strip().count("\n") < 24, "more than a screen"


def test_every_param_explains_itself_in_the_form(found: Any) -> None:
    for folder in found["folders"]:
        for dag_id, dag in folder["dags"].items():
            assert list(dag["params"]) == kind(dag_id)[1], dag_id
            for name, param in dag["params"].items():
                assert param.get("type"), f"{dag_id}: {name}"
                assert param.get("title"), f"{dag_id}: {name}"
                assert param.get("description") or param.get("description_md"), f"{dag_id}: {name}"


def test_the_form_has_the_direction_and_range_of_each_cohort(found: Any) -> None:
    shipped, edited = found["folders"]
    for dag_id in ("cohort_to_segment", WHAT_IF):
        assert shipped["dags"][dag_id]["params"]["threshold"]["type"] == ["null", "number"]
    lines = shipped["dags"]["cohort_to_segment"]["params"]["threshold"]["description_md"].splitlines()
    assert "| ea_atrisk | above | 2 | 0 … 100 |" in lines
    assert "| ea_reputation | below | -75 | -100 … -50 |" in lines
    own = edited["dags"]["cohort_to_segment__ea_reputation"]["params"]["threshold"]["description_md"]
    assert own.splitlines()[-1] == "| ea_reputation | below | -75 | -100 … -50 |"
    assert "ea_atrisk" not in own


def test_parsing_the_dags_needs_no_network_and_no_heavy_libraries(found: Any, figure: Callable[[str], None]) -> None:
    # the process had no sockets from its first line on, and every DAG came out of it
    assert [len(folder["dags"]) for folder in found["folders"]] == [6, 9]
    assert found["sockets_blocked"]
    heavy = {"gremlin_python", "pandas", "moto", "aiobotocore", "duckdb", "pyarrow"}
    assert heavy.isdisjoint(found["modules"])
    seconds = ", ".join(f"{folder['seconds']:.2f} s" for folder in found["folders"])
    figure(f"dags/ was parsed in {seconds} (with Airflow itself imported, and a second time)")


def test_the_plugin_loader_of_airflow_imports_the_plugin_only(found: Any) -> None:
    assert found["plugin_errors"] == {}
    assert found["loaded_as_plugins"] == ["plugin"]
