"""The graph loads of the registry: what is shipped, and the sentence and the line for what is written wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from cohort_flywheel.config.registry import Registry, parse_registry, read_registry
from cohort_flywheel.errors import Code, FlywheelError
from local.neptune_csv import LOAD_ORDER

SHIPPED = Path(__file__).parents[3] / "include" / "cohorts.yaml"
LINES = """\
default_cohort: calm
schedule: "0 0 * * *"
destination: pinpoint
cohorts: {calm: {}}
graph_loads:
  game:
    folder: graph/game/
    files: [players.csv, edges.csv.gz]
    bucket: graph-files
    role: arn:aws:iam::123456789012:role/NeptuneLoadFromS3
    region: eu-west-1
    mode: auto
    single: [status, "ea_*"]
    self_contained: false
    parallelism: low
    max_findings: 5
  nightly: {prefix: export/nightly/}
"""


def parse(before: str = "", after: str = "") -> Registry:
    assert before in LINES
    return parse_registry(LINES.replace(before, after, 1), Path("cohorts.yaml"))


def test_the_modelers_seven_files_are_shipped_in_the_order_of_the_notebook() -> None:
    registry = read_registry(SHIPPED)
    assert registry.load_names == ["cohort_modeler"]
    load = registry.graph_load("cohort_modeler")
    assert load.file_keys() == [f"graph/cohort_modeler/{name}" for name in LOAD_ORDER]
    assert (load.mode, load.self_contained, load.bucket, load.role) == ("new", True, None, None)


def test_every_key_and_its_default() -> None:
    registry = parse()
    load = registry.graph_load("game")
    assert load.file_keys() == ["graph/game/players.csv", "graph/game/edges.csv.gz"]
    assert (load.bucket, load.region, load.mode) == ("graph-files", "eu-west-1", "auto")
    assert (load.single, load.parallelism, load.max_findings) == (["status", "ea_*"], "low", 5)
    other = registry.graph_load("nightly")
    assert (other.prefix, other.files, other.mode, other.single) == ("export/nightly/", None, "new", [])
    assert (other.self_contained, other.parallelism, other.max_findings) == (False, "high", 20)


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("mode: auto", "mode: append", "line 12: mode: input should be 'new', 'auto' or 'resume'"),
        ("mode: auto", "mod: auto", "line 12: mod is not a known key (did you mean mode?): the keys are description,"),
        ("folder: graph/game/", "folder: graph/game", "line 7: folder: 'graph/game' does not end with a slash"),
        ("players.csv, ", "players.txt, ", "line 8: files.0: 'players.txt' is not a CSV file: its name must end with"),
        ("players.csv, ", "s3://a/*.csv, ", "line 8: files.0: 's3://a/*.csv' has a wildcard, which is not expanded"),
        ("players.csv, ", "/players.csv, ", "line 8: files.0: '/players.csv' is not the key of an object"),
        ("players.csv, ", "edges.csv.gz, ", "line 6: the graph load: edges.csv.gz occurs twice in files: remove one"),
        ("    files: [players.csv, edges.csv.gz]\n", "", "line 6: the graph load: a load has either files or prefix"),
        ("folder: graph/game/", "prefix: graph/", "line 6: the graph load: a load has either files or prefix"),
        ("bucket: graph-files", "bucket: s3://graph-files", "line 9: bucket: write the name of the bucket alone"),
        ("role: arn", "role: my-arn", "line 10: role: write arn:aws:iam::<account>:role/<name>"),
        ("region: eu-west-1", "region: Ireland", "line 11: region: write the code of a region, as in eu-west-1"),
        ('"ea_*"', '"ea_atrisk:Int"', "line 13: single.1: 'ea_atrisk:Int' is not the name of a property, or a pattern"),
        ("max_findings: 5", "max_findings: 0", "line 16: max_findings: input should be greater than or equal to 1"),
        ("  game:", "  game: 3\n  game2:", "line 6: a graph load is a mapping of keys: write its keys below it"),
        ("    folder:", "    name: x\n    folder:", "line 7: name is not a key of a graph load, whose name is the key"),
        ("  nightly:", "  game:", "line 17: game occurs a second time (first on line 6): remove one of the two"),
    ],
)
def test_a_fault_of_a_load_is_its_own(before: str, after: str, sentence: str) -> None:
    registry = parse(before, after)
    assert f"graph load game in cohorts.yaml, {sentence}" in registry.broken_loads["game"]
    assert "game" in registry.load_names
    with pytest.raises(FlywheelError) as error:
        registry.graph_load("game")
    assert error.value.code is Code.INCLUDE_FILE
    assert registry.cohorts == parse().cohorts


def test_an_unknown_load() -> None:
    with pytest.raises(FlywheelError, match=r"has no graph load 'gam' \(did you mean game\?\): choose one of game, ni"):
        parse().graph_load("gam")


def test_a_registry_may_have_no_loads_and_a_wrong_form_of_them_is_the_files_fault() -> None:
    assert parse(LINES[LINES.index("graph_loads:") :], "").load_names == []
    with pytest.raises(FlywheelError, match=r"cohorts\.yaml, line 5: graph_loads: input should be a valid dictionary"):
        parse(LINES[LINES.index("graph_loads:") :], "graph_loads: [game]\n")
