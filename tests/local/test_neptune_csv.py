"""Neptune's CSV becomes in Gremlin Server what it becomes in Neptune; a malformed file gets a sentence."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from gremlin_python.driver.driver_remote_connection import DriverRemoteConnection
from gremlin_python.process.anonymous_traversal import traversal
from gremlin_python.process.graph_traversal import GraphTraversalSource
from gremlin_python.process.traversal import P, T

from local.config import ROOT, LocalError
from local.neptune_csv import LOAD_ORDER, elements, load_folder
from local.servers import Servers

MODELER = ROOT.parent / "shared" / "cohort-modeler"


@pytest.fixture
def g(servers: Servers) -> Iterator[GraphTraversalSource]:
    """An empty graph beside the seeded one."""
    connection = DriverRemoteConnection(servers.gremlin_url, "scratch")
    source = traversal().with_(connection)
    source.V().drop().to_list()
    yield source
    source.V().drop().to_list()
    connection.close()


def write(folder: Path, text: str, name: str = "file.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def load(servers: Servers, file: Path) -> int:
    return load_folder(file.parent, servers.gremlin_url, [file.name], source="scratch")[file.name]


def test_every_type(servers: Servers, g: GraphTraversalSource, tmp_path: Path) -> None:
    header = "~id,~label,a:Bool,b:Byte,c:Short,d:Int,e:Long,f:Float,g:Double,h:String,i:Date,j,k:Int[],l:String(single)"
    row = 'v,player,TRUE,-128,300,70000,9999999999,0.5,-INF,"é, ""x""",2021-07-25,plain,3;1;3,one'
    assert load(servers, write(tmp_path, f"{header}\n{row}\n")) == 1
    assert g.V("v").value_map().next() == {
        "a": [True],
        "b": [-128],
        "c": [300],
        "d": [70000],
        "e": [9999999999],
        "f": [0.5],
        "g": [float("-inf")],
        "h": ['é, "x"'],
        "i": [datetime(2021, 7, 25, tzinfo=UTC)],
        "j": ["plain"],
        "k": [3, 1],
        "l": ["one"],
    }


def test_an_empty_cell_is_no_property(servers: Servers, g: GraphTraversalSource, tmp_path: Path) -> None:
    load(servers, write(tmp_path, "~id,~label,playerId:String,ea_atrisk:Int\nv,player,,3\n"))
    assert g.V("v").value_map().next() == {"ea_atrisk": [3]}


def test_another_load_adds_a_value_and_no_vertex(servers: Servers, g: GraphTraversalSource, tmp_path: Path) -> None:
    header = "~id,~label,ea_atrisk:Int,status:String(single)\n"
    for score, status in ((3, "Active"), (1, "Inactive"), (1, "Inactive")):
        load(servers, write(tmp_path, f"{header}v,player,{score},{status}\n"))
    assert g.V().has("ea_atrisk", P.gt(2)).value_map().to_list() == [{"ea_atrisk": [3, 1], "status": ["Inactive"]}]


def test_edges_once(servers: Servers, g: GraphTraversalSource, tmp_path: Path) -> None:
    load(servers, write(tmp_path, "~id,~label\na,player\nb,player\n"))
    edges = write(
        tmp_path, "~from,~to,~id,~label,iterations:Int,note:String(single)\na,b,e,action_edge,7,\n", "edges.csv"
    )
    assert [load(servers, edges), load(servers, edges)] == [1, 1]
    assert g.E().element_map().to_list() == [g.E("e").element_map().next()]
    edge = g.E("e").element_map().next()
    assert (edge[T.label], edge["iterations"], g.V("a").out().id_().to_list()) == ("action_edge", 7, ["b"])


def test_an_edge_to_a_missing_vertex_is_an_error(servers: Servers, g: GraphTraversalSource, tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"file\.csv: the graph rejected one of the elements 1 to 1"):
        load(servers, write(tmp_path, "~id,~label,~from,~to\ne,action_edge,a,missing\n"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"file\.csv is empty: it needs a header line"),
        ("~id,name:String\n", r"line 1: the column ~label is missing"),
        ("~id,~label,~from\n", r"line 1: .*the column ~to is missing"),
        ("~id,~label,~what\n", r"line 1: column '~what' is neither"),
        ("~id,~label,x:Integer\n", r"line 1: column 'x:Integer' has an unknown type: write one of bool"),
        ("~id,~label,x:Int[](single)\n", r"line 1: column 'x:Int\[\]\(single\)' is an array, which cannot be single"),
        ("~id,~label,x:Int,x:Int\n", r"line 1: column x:Int occurs twice"),
        ("~id,~label,x:Int\nv,player,1\nw,player,many\n", r"file\.csv, line 3, column x: the cell is not a valid Int"),
        ("~id,~label,x:Int\nv,player,2147483648\n", r"line 2, column x: the cell is not a valid Int"),
        ("~id,~label,x:Bool\nv,player,perhaps\n", r"line 2, column x: the cell is not a valid Bool"),
        ("~id,~label,x:Date\nv,player,yesterday\n", r"line 2, column x: the cell is not a valid Date"),
        ("~id,~label,x:Int\nv,player\n", r"line 2: 2 cells under a header of 3"),
        ("~id,~label\n,player\n", r"line 2: ~id is empty"),
        ('~id,~label\nv,"player\n', r"file\.csv, after line 2: not UTF-8 CSV"),
    ],
)
def test_a_malformed_file_is_an_error(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(LocalError, match=sentence) as raised:
        list(elements(write(tmp_path, text)))
    assert "many" not in str(raised.value)  # a cell may be personal data


@pytest.mark.skipif(not MODELER.is_dir(), reason="the Cohort Modeler's own data is not here")
def test_the_modelers_own_data(servers: Servers, g: GraphTraversalSource) -> None:
    loaded = load_folder(MODELER, servers.gremlin_url, source="scratch")
    for name in LOAD_ORDER:
        with (MODELER / name).open(newline="") as file:
            assert loaded[name] == sum(1 for _ in csv.DictReader(file))
    for threshold, vertices, members in ((2, 3, 3), (1, 53, 53), (0, 349, 348)):
        beyond = g.V().has_label("player").has("ea_atrisk", P.gt(threshold)).values("playerId").to_list()
        assert (len(beyond), len(set(beyond))) == (vertices, members)
    with (MODELER / "user_vertices.csv").open(newline="") as file:
        toxic = {row["playerId:String"] for row in csv.DictReader(file) if int(row["ea_reputation:Int"]) < -75}
    assert toxic
    assert g.V().has("ea_reputation", P.lt(-75)).values("playerId").to_set() == toxic
