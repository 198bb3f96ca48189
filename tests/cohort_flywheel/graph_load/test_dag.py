"""Whole runs of the DAG graph_load: the graph that it makes is that of the tests' own loader."""

from __future__ import annotations

import importlib
import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, suppress
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from gremlin_python.driver.client import Client
from gremlin_python.process.graph_traversal import GraphTraversalSource
from gremlin_python.process.traversal import Cardinality

from local import neptune_csv, sample
from local.config import ROOT
from local.servers import Servers
from tests.cohort_flywheel.memory_limits import MEMORY_MB, MemoryLimits
from tests.faults.simulate import Run
from tests.faults.sites import Case, Fault, Site
from tests.local.neptune_loader_service import BUCKET, Loader, graph_digest

MODELER = ROOT.parent / "shared" / "cohort-modeler"
FOLDER = "graph/cohort_modeler/"
NOW = datetime(2026, 11, 22, 15, 30, tzinfo=UTC)


class GraphLoads:
    """The DAG beside a registry that a test may edit, and its runs."""

    def __init__(self, folder: Path, loader: Loader, state_bucket: str) -> None:
        self.folder = folder
        self.loader = loader
        self.state_bucket = state_bucket
        for each in ("dags", "include"):
            shutil.copytree(ROOT / each, folder / each, ignore=shutil.ignore_patterns("__pycache__"))

    def edit(self, before: str, after: str) -> None:
        """Change the first place of the registry that reads so."""
        registry = self.folder / "include" / "cohorts.yaml"
        text = registry.read_text(encoding="utf-8")
        assert before in text
        registry.write_text(text.replace(before, after, 1), encoding="utf-8")

    def put(self, folder: Path) -> None:
        """Upload the seven files of a folder."""
        for name in neptune_csv.LOAD_ORDER:
            self.loader.put(FOLDER + name, (folder / name).read_bytes())

    def load_only(self, name: str) -> None:
        """Name one file in the registry instead of all."""
        names = "".join(f"      - {each}\n" for each in neptune_csv.LOAD_ORDER)
        self.edit(names, f"      - {name}\n")

    def run(self, case: Case | None = None, **conf: Any) -> Run:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            dag = DagBag(self.folder / "dags" / "graph_load.py").dags["graph_load"]
        run = Run(dag, {"load": "cohort_modeler", "dry_run": False} | conf, NOW, self.folder / "run.log", case)
        run.go()
        if run.failed and case:
            run.clear()
            run.go()
        for module in run.modules:  # which the next child need not import again
            with suppress(ImportError):
                importlib.import_module(module)
        return run

    def forget_runs(self) -> None:
        """Another run of the same id: the simulated run has one name only."""
        for key in self.objects():
            self.loader.s3.delete_object(Bucket=self.state_bucket, Key=key)

    def objects(self, folder: str = "") -> list[str]:
        """The keys of what the runs have put into the state bucket."""
        prefix = f"staged/graph_loads/{folder}"
        found = self.loader.s3.list_objects_v2(Bucket=self.state_bucket, Prefix=prefix).get("Contents", ())
        return [item["Key"] for item in found]

    def log(self) -> str:
        return (self.folder / "run.log").read_text(encoding="utf-8")


@pytest.fixture
def loads(
    airflow_env: Mapping[str, str], state_bucket: str, loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> GraphLoads:
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_STATE_BUCKET", state_bucket)
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_GRAPH_LOAD_BUCKET", BUCKET)
    monkeypatch.setenv("AIRFLOW_VAR_COHORT_FLYWHEEL_GRAPH_LOAD_ROLE_ARN", loader.role_arn)
    # a wait is long only where the machine is busy
    monkeypatch.setattr("tests.faults.simulate.ATTEMPT_SECONDS", 600)
    monkeypatch.setattr("tests.faults.simulate.TRIGGER_SECONDS", 300)
    monkeypatch.setattr("tests.faults.transport.PART_BYTES", 8 * 1024**2)  # S3's least size of a part is 5 MiB
    real = Client.__init__

    def init(self: Any, url: str, traversal_source: str, *args: Any, **kwargs: Any) -> None:
        real(self, url, "scratch" if traversal_source == "g" else traversal_source, *args, **kwargs)

    monkeypatch.setattr(Client, "__init__", init)  # the package reads the graph that is loaded into
    return GraphLoads(tmp_path, loader, state_bucket)


@pytest.fixture(scope="session")
def sample_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    sample.write(folder)
    return folder


def succeeded(run: Run) -> None:
    assert set(run.states.values()) == {"success"}, run.errors


def test_the_sample_loaded_by_the_dag_is_the_graph_of_the_tests_loader(
    loads: GraphLoads,
    sample_folder: Path,
    servers: Servers,
    g: GraphTraversalSource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    neptune_csv.load_folder(sample_folder, servers.gremlin_url, source="scratch")
    expected = graph_digest(g)
    g.V().drop().iterate()
    loads.put(sample_folder)

    loads.edit("\ndestination: pinpoint\n", f"\ndestination: pinpoint\ntuning: {{memory_mb: {MEMORY_MB}}}\n")
    limits = MemoryLimits(tmp_path / "limits", monkeypatch)
    dry = loads.run(dry_run=True)
    assert limits.are_tuned()
    assert dry.states == dict.fromkeys(["plan_load", "validate_files"], "success") | dict.fromkeys(
        ["copy_files", "count_before", "load_files", "check_load"], "skipped"
    )
    assert (loads.loader.jobs(), g.V().count().next()) == ([], 0)

    first = loads.run()
    succeeded(first)
    assert {task.aws_conn_id for task in first.dag.tasks} == {"aws_graph_load"}
    assert graph_digest(g) == expected
    report = first.outputs["check_load"]["return_value"]
    assert report["expected"] == report["loaded"]
    assert report["duplicates"] == 0
    assert report["vertices"]["player"] == {"before": 0, "after": 1000}
    assert report["edges"]["interaction_edge"] == {"before": 0, "after": 2000}
    assert loads.objects("cohort_modeler/") == []  # the copies are removed

    # another value in the graph is replaced by a second load
    g.V().has_label("player").property(Cardinality.single, "status", "Other").iterate()
    loads.forget_runs()
    again = loads.run()
    succeeded(again)
    assert graph_digest(g) == expected
    assert again.outputs["check_load"]["return_value"]["vertices"]["player"] == {"before": 1000, "after": 1000}


def test_without_single_a_second_load_adds_values(
    loads: GraphLoads, small_folder: Path, g: GraphTraversalSource
) -> None:
    loads.edit('    single: [playerId, status, "ea_*", "stat_*", name]\n', "")
    loads.load_only("user_vertices.csv")
    loads.put(small_folder)
    succeeded(loads.run())
    before = graph_digest(g)
    changed = (small_folder / "user_vertices.csv").read_text(encoding="utf-8").replace(",Active,", ",Inactive,", 1)
    loads.loader.put(f"{FOLDER}user_vertices.csv", changed)
    loads.forget_runs()
    succeeded(loads.run())
    statuses = g.V().has_label("player").value_map("status").to_list()
    assert [sorted(each["status"]) for each in statuses].count(["Active", "Inactive"]) == 1
    assert graph_digest(g)[:2] == before[:2]
    assert graph_digest(g) != before
    assert [job["request"]["updateSingleCardinalityProperties"] for job in loads.loader.jobs()] == [False] * 2


@pytest.mark.skipif(not MODELER.is_dir(), reason="the Cohort Modeler's own data is not here")
def test_the_modelers_own_files(loads: GraphLoads, servers: Servers, g: GraphTraversalSource) -> None:
    neptune_csv.load_folder(MODELER, servers.gremlin_url, source="scratch")
    expected = graph_digest(g)
    g.V().drop().iterate()
    loads.put(MODELER)
    run = loads.run()
    succeeded(run)
    assert graph_digest(g) == expected
    report = run.outputs["check_load"]["return_value"]
    assert report["expected"] == report["loaded"]


def _with_cell(text: str, line: int, column: int, value: str) -> str:
    lines = text.splitlines()
    cells = lines[line - 1].split(",")
    cells[column] = value
    lines[line - 1] = ",".join(cells)
    return "\n".join(lines) + "\n"


#: How a file is broken, and how the log names the place.
BROKEN: dict[str, tuple[Callable[[str], str], str]] = {
    "user_vertices.csv": (lambda text: _with_cell(text, 5, 6, "many"), ", line 5, column ea_reputation"),
    "campaign_bidirectional_edges.csv": (lambda text: text.replace("~id", "id", 1), ""),
    "engagement_edges.csv": (lambda text: text.replace("action_edge", '"action_edge', 1), ", line "),
    "interaction_edges.csv": (lambda text: _with_cell(text, 2, 4, "many"), ", line 2, column action_chat"),
}


def test_broken_files_are_found_with_their_places_and_nothing_is_loaded(
    loads: GraphLoads, small_folder: Path, g: GraphTraversalSource
) -> None:
    loads.put(small_folder)
    for name, (broken, _) in BROKEN.items():
        loads.loader.put(FOLDER + name, broken((small_folder / name).read_text(encoding="utf-8")))
    run = loads.run()
    assert run.states["validate_files"] == "failed"
    assert run.states["load_files"] == "upstream_failed"
    error = run.errors["validate_files"]
    assert "CF-LOAD-02: the files of the load cohort_modeler have " in error
    assert "user_vertices.csv" in error
    for name, (_, place) in BROKEN.items():
        assert name + place in loads.log()
    assert "many" not in loads.log()
    assert (loads.loader.jobs(), g.V().count().next()) == ([], 0)
    (findings,) = [key for key in loads.objects() if key.endswith("findings.json")]
    body = loads.loader.s3.get_object(Bucket=loads.state_bucket, Key=findings)["Body"].read()
    assert json.loads(body)["findings"]


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (None, "CF-LOAD-01: s3://graph-files/graph/cohort_modeler/campaign_vertices.csv, which the load cohort_mod"),
        ("old", "CF-LOAD-01: the loader takes s3://graph-files/graph/cohort_modeler/user_vertices.csv for a prefix"),
    ],
)
def test_a_plan_that_cannot_be_loaded(edit: str | None, sentence: str, loads: GraphLoads, small_folder: Path) -> None:
    loads.put(small_folder)
    if edit:
        loads.loader.put(f"{FOLDER}user_vertices.csv.{edit}", "")
    else:
        loads.loader.s3.delete_object(Bucket=BUCKET, Key=f"{FOLDER}campaign_vertices.csv")
    run = loads.run()
    assert sentence in run.errors["plan_load"]
    assert loads.loader.jobs() == []


def test_ends_that_are_in_the_graph_alone(
    loads: GraphLoads, small_folder: Path, servers: Servers, g: GraphTraversalSource
) -> None:
    neptune_csv.load_folder(small_folder, servers.gremlin_url, source="scratch")
    edges = g.E().has_label("action_edge").count().next()
    g.E().has_label("action_edge").drop().iterate()
    loads.put(small_folder)
    loads.load_only("engagement_edges.csv")
    loads.edit('    single: [playerId, status, "ea_*", "stat_*", name]\n', "")
    loads.edit("    self_contained: true\n", "")
    succeeded(loads.run())
    assert g.E().has_label("action_edge").count().next() == edges
    g.V().has_label("action").drop().iterate()
    loads.forget_runs()
    assert "the vertex is neither in the files nor in the graph" in loads.run().errors["validate_files"]


def test_a_folder_is_loaded_once_with_its_vertices_first_when_a_start_is_killed(
    loads: GraphLoads, small_folder: Path, small_graph: tuple[int, int, str], g: GraphTraversalSource
) -> None:
    """The trigger too runs here in processes of its own; test_kills.py has every other call."""
    names = "".join(f"      - {name}\n" for name in neptune_csv.LOAD_ORDER)
    loads.edit(f"    folder: {FOLDER}\n    files:\n{names}", f"    prefix: {FOLDER}\n")
    loads.put(small_folder)
    run = loads.run(Case(Site("load_files", "neptunedata", "StartLoaderJob", 1), Fault("killed after")))
    assert run.struck
    succeeded(run)
    jobs = loads.loader.jobs()
    assert [job["status"] for job in jobs] == ["LOAD_COMPLETED"] * 7
    assert len({job["source"] for job in jobs}) == 7
    assert graph_digest(g) == small_graph
