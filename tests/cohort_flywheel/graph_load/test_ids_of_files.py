"""Ids, ends of edges and columns are compared over all files of a load."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import duckdb
import pytest

from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.graph_load.findings import FindingKind, NeptuneCode
from cohort_flywheel.graph_load.id_sets import MEMORY_MB, IdSets
from cohort_flywheel.graph_load.load_format import ID
from tests.cohort_flywheel.graph_load.validated_files import Check, places, validated

K = FindingKind


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Validate files given as text or bytes by name."""
    return partial(validated, tmp_path)


def test_edges_without_their_vertices(check: Check) -> None:
    files = {"e.csv": "~from,~to,~id\na,x,e1\na,b,e2\ny,x,e3\n", "v.csv": "~id\na\n", "w.csv": "~id\nb\n"}
    later = [(K.END_LOADED_LATER, "e.csv", 2, "~from"), (K.END_LOADED_LATER, "e.csv", 3, "~to")]
    missing = [(K.MISSING_END, "e.csv", 2, "~to"), (K.MISSING_END, "e.csv", 4, "~from")]
    found = check(files)
    assert (places(found), found.ends_unchecked) == (later, 2)
    assert check(files, in_order=False).ends_unchecked == 2
    found = check(files, self_contained=True)
    assert sorted(places(found)) == sorted(later + missing)
    assert {each.neptune_code for each in found.findings} == {NeptuneCode.FROM_OR_TO_VERTEX_ARE_MISSING}
    assert places(check(files, self_contained=True, in_order=False)) == missing
    asked: list[str] = []

    def find_in_graph(ids: list[str]) -> Iterable[str]:
        asked.extend(ids)
        return [each for each in ids if each in "ax"]

    found = check(files, find_in_graph=find_in_graph)
    assert places(found) == [(K.END_LOADED_LATER, "e.csv", 3, "~to"), (K.MISSING_END, "e.csv", 4, "~from")]
    assert (sorted(asked), found.ends_looked_up, found.ends_unchecked) == (["a", "b", "x", "y"], 4, 0)
    assert check(files, find_in_graph=find_in_graph, in_order=False).ends_looked_up == 2


def test_ends_are_not_checked_where_vertices_are_unknown(check: Check) -> None:
    files = {"v.csv": "~id,~label\na,player\nb,pl\xff", "e.csv": "~id,~from,~to\ne,a,z\n"}
    found = check({"v.csv": files["v.csv"].encode("latin-1"), "e.csv": files["e.csv"]}, self_contained=True)
    assert (places(found), found.ends_unchecked) == ([(K.ENCODING, "v.csv", 3, None)], 1)


def test_one_id_with_two_values_of_a_single_property(check: Check) -> None:
    files = {
        "a.csv": "~id,~label,ea_duty:Int,name:String(single),free:String\na,player,1,Jo,x\nb,player,1,Jo,x\n",
        "b.csv": '~id,~label,free:String,ea_duty:Int\n"b",player,y,2\na,other,y,01\nc,player,y,\nc,player,y,5\n',
    }
    repeated = [(K.REPEATED_ID, "b.csv", line, "~id") for line in (2, 3, 5)]
    found = check(files, single=["ea_*"])
    assert sorted(places(found)) == sorted([*repeated, (K.SINGLE_VALUES, "b.csv", 2, "ea_duty")])
    assert found.errors[0].neptune_code == NeptuneCode.SINGLE_CARDINALITY_VIOLATION
    assert places(check(files)) == repeated


def test_lines_are_right_after_rows_that_are_left_out_and_cells_of_several_lines(check: Check) -> None:
    rows = ['a,"x\ny",1', "b,x", "", ",x,2", "a,x,2", 'c,"\n\n",3', "c,x,4,5", "c,x,6"]
    found = check({"v.csv": "\n".join(["~id,name,n:Int(single)", *rows])})
    assert sorted((kind, line) for kind, _, line, _ in places(found)) == sorted(
        [
            *((K.ROW_LENGTH, 4), (K.BLANK_LINE, 5), (K.BLANK_REQUIRED, 6), (K.ROW_LENGTH, 11)),
            *((K.REPEATED_ID, 7), (K.SINGLE_VALUES, 7), (K.REPEATED_ID, 12), (K.SINGLE_VALUES, 12)),
        ]
    )


def test_one_id_of_two_edges(check: Check) -> None:
    files = {
        "v.csv": "~id\na\nb\n",
        "e.csv": "~id,~from,~to,~label,n:Int\n"
        "e,a,b,x,1\ne,b,a,x,1\nf,a,b,x,1\nf,a,b,x,1\ng,a,b,x,1\ng,a,b,y,2\na,a,b,x,1\n",
    }
    found = check(files)
    assert sorted(places(found)) == sorted(
        [
            *((K.REPEATED_ID, "e.csv", line, "~id") for line in (3, 5, 7)),
            (K.EDGE_ID_REUSED, "e.csv", 3, "~from"),
            (K.EDGE_ID_REUSED, "e.csv", 3, "~to"),
            (K.EDGE_ID_REUSED, "e.csv", 7, "~label"),
            (K.SINGLE_VALUES, "e.csv", 7, "n"),
        ]
    )


def test_columns_that_differ_between_files(check: Check) -> None:
    files = {
        "a.csv": "~id,x:Int,y:Boolean,z:Int(single),ea_t:Int,u:Int\n",
        "b.csv": "~id,x:Long,y:bool,z:Int,ea_t:Int(set),u:Int[]\n",
        "e.csv": "~id,~from,~to,x:String,y:Bool(single)\n",
        "f.csv": "~id,~from,~to,y:Bool\n",
    }
    found = check(files, single=["ea_*"])
    assert places(found) == [(K.COLUMN_DIFFERS, "b.csv", 1, name) for name in "xzu"]
    assert found.findings[0].text == "it is Long here and Int in a.csv: write one of them in both"
    assert (K.COLUMN_DIFFERS, "b.csv", 1, "ea_t") not in places(check(files))


def test_single_must_name_properties_of_vertices(check: Check) -> None:
    files = {"v.csv": "~id,ea_duty:Int,tags:String[]\n", "e.csv": "~id,~from,~to,weight:Int\n"}
    found = check(files, single=["ea_*", "weight", "tags", "EA_*"])
    assert places(found) == [
        (K.SINGLE_UNUSED, None, None, None),
        (K.SINGLE_UNUSED, None, None, None),
        (K.SINGLE_ARRAY, "v.csv", 1, "tags"),
    ]
    assert [str(each)[:29] for each in found.findings[:2]] == [
        f"all files: single names {name}" for name in ("weigh", "EA_*,")
    ]


def test_ids_that_could_break_a_csv_of_ids(check: Check) -> None:
    odd = ['a"b', "c,d", "x\ny", "z\r", "NULL", "é🐉", "%s", "'; DROP", "x\r\ny", "\\N"]
    cells = ['"{}"'.format(each.replace('"', '""')) for each in odd]
    vertices = "~id\n" + "".join(f"{cell}\n" for cell in cells)
    edges = "~id,~from,~to\n" + "".join(f"{cell},{cell},{cell}\n" for cell in cells)
    assert not check({"v.csv": vertices, "e.csv": edges}, self_contained=True).findings
    found = check({"v.csv": vertices + vertices.removeprefix("~id\n"), "e.csv": edges}, self_contained=True)
    assert found.counts == {K.REPEATED_ID: len(odd)}


@pytest.mark.parametrize("odd", ["a\rb", "a\r\nb", "\r", "a\r"], ids=repr)
def test_a_carriage_return_in_the_first_id(check: Check, odd: str) -> None:
    found = check({"v.csv": f'~id,~label\n"{odd}",x\nc,x\n"{odd}",x\n'})
    assert found.counts == {K.REPEATED_ID: 1}


def test_many_files(check: Check) -> None:
    files = {f"v{number}.csv": f"~id,~label\na{number},x\nb,x\n" for number in range(40)}
    files["e.csv"] = "~id,~from,~to\ne,a0,a39\n"
    found = check(files, self_contained=True)
    assert found.counts == {K.REPEATED_ID: 1}
    assert places(found) == [(K.REPEATED_ID, "v1.csv", 3, "~id")]


def test_an_error_of_duckdb_quotes_no_id(check: Check) -> None:
    rows = "".join(f"secret{number:0100},x\n" for number in range(20_000))
    with pytest.raises(FlywheelError, match=r"CF-TASK-04: DuckDB could not .* memory_mb under") as raised:
        check({"v.csv": f"~id,~label\n{rows}{rows}"}, memory_mb=1)
    assert "secret" not in str(raised.value)


def test_an_error_of_duckdb_that_is_not_of_memory_or_disk_is_not_called_one(tmp_path: Path) -> None:
    with IdSets(tmp_path, MEMORY_MB) as ids:
        ids.add(0, "vertices", [2], {ID: ["secret"]})
        ids._sql.execute("DROP VIEW vertices")
        with pytest.raises(duckdb.CatalogException, match="^DuckDB could not compare the ids of the files"):
            ids.collect_repeated("vertices")
