"""The generated files have the modeler's headers and shapes, and the same seed gives the same bytes."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import pytest

from local import graph_files
from local.__main__ import main
from local.config import ROOT
from local.neptune_csv import LOAD_ORDER

MODELER = ROOT.parent / "shared" / "cohort-modeler"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph-files", str(tmp_path / "a"), "--players", "300"]) == 0
    assert "300 players" in capsys.readouterr().out
    assert main(["graph-files", str(tmp_path / "b"), "--players", "300", "--gzip"]) == 0
    assert main(["graph-files", str(tmp_path / "c"), "--players", "300", "--seed", "2"]) == 0
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(LOAD_ORDER)
    for name in LOAD_ORDER:
        data = (tmp_path / "a" / name).read_bytes()
        assert gzip.decompress((tmp_path / "b" / f"{name}.gz").read_bytes()) == data
        if name != "action_vertices.csv":
            assert (tmp_path / "c" / name).read_bytes() != data


def test_shapes(tmp_path: Path) -> None:
    graph_files.write(tmp_path, 1000)
    found = {name: rows(tmp_path / name) for name in LOAD_ORDER}
    numbers = {name: len(found[name]) for name in LOAD_ORDER}
    assert (numbers["user_vertices.csv"], numbers["campaign_edges.csv"]) == (1000, 1000)
    assert 18_000 < numbers["interaction_edges.csv"] < 22_000
    assert 2_000 < numbers["engagement_edges.csv"] < 2_800
    assert 180 < numbers["campaign_bidirectional_edges.csv"] < 300
    assert all(row["~from"] != row["~to"] for row in found["interaction_edges.csv"])
    edges = [row["~id"] for name in LOAD_ORDER[3:] for row in found[name]]
    vertices = [row["~id"] for name in LOAD_ORDER[:3] for row in found[name]]
    assert len({*edges, *vertices}) == len(edges) + len(vertices)


def test_one_player_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["graph-files", str(tmp_path), "--players", "1"]) == 1
    assert "write --players 2 or more" in capsys.readouterr().err


@pytest.mark.skipif(not MODELER.is_dir(), reason="the Cohort Modeler's own data is not here")
def test_the_headers_are_the_modelers(tmp_path: Path) -> None:
    graph_files.write(tmp_path, 10)
    for name in LOAD_ORDER:
        with (MODELER / name).open() as theirs, (tmp_path / name).open() as ours:
            assert next(theirs) == next(ours)
    actions = [{row["~id"] for row in rows(folder / "action_vertices.csv")} for folder in (tmp_path, MODELER)]
    assert actions[0] == actions[1]
