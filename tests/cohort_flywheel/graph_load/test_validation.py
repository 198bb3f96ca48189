"""Files broken in each way are found with their place, and no value of theirs is repeated."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable, Iterable
from functools import partial
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

import pytest

from cohort_flywheel.graph_load.findings import FileSummary, Finding, FindingKind, NeptuneCode, Severity, Validation
from cohort_flywheel.graph_load.validation import GraphFile, validate
from local import graph_files, sample
from local.config import ROOT
from local.neptune_csv import LOAD_ORDER

MODELER = ROOT.parent / "shared" / "cohort-modeler"
K = FindingKind

Check = Callable[..., Validation]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Validate files given as text or bytes by name."""

    def run(files: dict[str, str | bytes], **options: Any) -> Validation:
        datas = {name: data if isinstance(data, bytes) else data.encode() for name, data in files.items()}
        graph = [GraphFile(name, partial(BytesIO, data)) for name, data in datas.items()]
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        found = validate(graph, folder=folder, **options)
        assert Validation.model_validate(json.loads(found.model_dump_json())) == found
        return found

    return run


def places(found: Validation) -> list[tuple[FindingKind, str | None, int | None, str | None]]:
    return [(each.kind, each.file, each.line, each.column) for each in found.findings]


def one(found: Validation) -> tuple[FindingKind, int | None, str | None]:
    assert len(found.findings) == 1, [str(each) for each in found.findings]
    each = found.findings[0]
    return each.kind, each.line, each.column


GOOD = "~id,~label,name:String,score:Int(single)\n"


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ("", (K.EMPTY_FILE, None, None)),
        ("~label,x:Int\nplayer,1\n", (K.MISSING_COLUMN, 1, None)),
        ("~id,~label,x:Integer\n", (K.HEADER_COLUMN, 1, "#3")),
        ("~id,~label,x y\n", (K.HEADER_COLUMN, 1, "#3")),
        ("~id,~label,x:Int,x:Int\n", (K.REPEATED_COLUMN, 1, "x")),
        ("~id,~label,x:Int(single)[]\n", (K.SINGLE_ARRAY, 1, "x")),
        ("~id,~label,~from,~to,x:Int[]\n", (K.EDGE_CARDINALITY, 1, "x")),
        ("~id,~label,~from,~to,x:Int(set)\n", (K.EDGE_CARDINALITY, 1, "x")),
        (f"\ufeff{GOOD}a,player,Jo,1\n", (K.BYTE_ORDER_MARK, 1, None)),
        (f"{GOOD}a,player,Jo,1\nb,player,Zoé,2\n".encode("latin-1"), (K.ENCODING, 3, None)),
        (f"{GOOD}a,player,J\0o,1\n", (K.ENCODING, 2, None)),
        (GOOD.encode("utf-16"), (K.ENCODING, 1, None)),
        (f"{GOOD}a,player,Jo\n", (K.ROW_LENGTH, 2, None)),
        (f"{GOOD}a,player,Smith, Jo,1\n", (K.ROW_LENGTH, 2, None)),
        (f'{GOOD}a,player,"J\no",1\nb,player,Jo "Ace" Smith,1\n', (K.QUOTING, 4, None)),
        (f'{GOOD}a,player,Jo,1\nb,player,"Ace" Smith,1\n', (K.QUOTING, 3, None)),
        (f'{GOOD}a,player,Jo,1\nb,player,"Ace,1\nc,player,Smith,2\n', (K.QUOTING, 3, None)),
        (f"{GOOD}a,player,J\ro,1\n", (K.QUOTING, 2, None)),
        ('~id,na"me:String\na,b\n', (K.QUOTING, 1, None)),
        (f"{GOOD}a,player,Jo,1\n\nb,player,Jo,1\n", (K.BLANK_LINE, 3, None)),
        (f"{GOOD},player,Jo,1\n", (K.BLANK_REQUIRED, 2, "~id")),
        (f'{GOOD}"",player,Jo,1\n', (K.BLANK_REQUIRED, 2, "~id")),
        (f"{GOOD}a,,Jo,1\n", (K.BLANK_REQUIRED, 2, "~label")),
        ("~id,~from,~to\ne,a,\n", (K.BLANK_REQUIRED, 2, "~to")),
        (f"{GOOD}a,player,Jo,1\nb,player,Jo,many\n", (K.VALUE, 3, "score")),
        ("~id,x:Date\na,25.07.2021\n", (K.VALUE, 2, "x")),
        ("~id,x:Int[]\na,1;2\nb,1;x\n", (K.VALUE, 3, "x")),
        ("~id,x:Bool\na,true\nb,TRUE\n", (K.BOOLEAN_TEXT, 3, "x")),
        ("~id,~from,~to,~label\ne,a,b,one;two\n", (K.EDGE_LABELS, 2, "~label")),
        (f"{GOOD}a,player,Jo,1\na,player,Jo,01\n", (K.REPEATED_ID, 3, "~id")),
        ("~id,~label,a:Int,A:Int\n", (K.COLUMN_CASE, 1, "A")),
    ],
)
def test_a_file_broken_in_one_way(check: Check, data: str | bytes, place: tuple[Any, ...]) -> None:
    found = check({"f.csv": data})
    assert one(found) == place
    text = found.findings[0].model_dump_json()
    assert not [value for value in ("Jo", "Smith", "many", "TRUE", "25.07") if value in text]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_file_that_uses_everything_is_valid(check: Check, newline: str) -> None:
    lines = [
        "~id,~label,name:String,score:Int(single),tags:String[],ok:Bool,since:Date",
        'a,player;person,"Smith, ""Jo""", 1 ,one;two\\;half,true,2021-07-25',
        'b , player,"two\nlines",,,,',
    ]
    data = newline.join(lines)
    for name, packed in (
        ("f.csv", data.encode()),
        ("f.csv.gz", gzip.compress(data.encode())),
        ("f.csv.bz2", bz2.compress(data.encode())),
    ):
        found = check({name: packed, "e.csv": "~id,~from,~to\ne,b,a\n"}, self_contained=True)
        assert not found.findings
        # labels 2 + 1, name, score, two tags, ok, since; label, name; and an edge
        assert [(file.elements, file.rows, file.records, file.complete) for file in found.files] == [
            ("vertices", 2, 10, True),
            ("edges", 1, 1, True),
        ]


@pytest.mark.parametrize(
    ("name", "data", "text"),
    [
        ("f.csv", gzip.compress(GOOD.encode()), "the file is compressed: give its name the extension .gz"),
        ("f.csv.gz", GOOD.encode(), "the file is not a complete .gz file"),
        ("f.csv.gz", gzip.compress(GOOD.encode())[:-4], "the file is not a complete .gz file"),
        ("f.csv.bz2", GOOD.encode(), "the file is not a complete .bz2 file"),
        ("f.csv.bz2", bz2.compress(GOOD.encode())[:-4], "the file is not a complete .bz2 file"),
    ],
)
def test_a_compressed_file_that_is_not_what_its_name_says(check: Check, name: str, data: bytes, text: str) -> None:
    found = check({name: data})
    assert one(found)[0] is K.COMPRESSION
    assert text in found.findings[0].text
    assert not found.files[0].complete


class Body:
    """As the body of an object in S3: it can only be read, and closed."""

    def __init__(self, data: bytes) -> None:
        self._stream = BytesIO(data)
        self.closed = False

    def read(self, size: int, /) -> bytes:
        return self._stream.read(size)

    def close(self) -> None:
        self.closed = True


def test_a_stream_need_only_be_readable_and_is_closed(tmp_path: Path) -> None:
    data = f"{GOOD}a,player,Jo,1\na,player,Jo,2\n".encode()
    for name, packed in (("f.csv", data), ("f.csv.gz", gzip.compress(data)), ("f.csv.bz2", bz2.compress(data))):
        bodies: list[Body] = []

        def opened(packed: bytes = packed, bodies: list[Body] = bodies) -> Body:
            bodies.append(Body(packed))
            return bodies[-1]

        found = validate([GraphFile(name, opened)], folder=tmp_path)
        assert found.counts == {K.REPEATED_ID: 1, K.SINGLE_VALUES: 1}
        assert [body.closed for body in bodies] == [True, True]


def test_a_fault_of_the_network_is_not_a_finding(tmp_path: Path) -> None:
    class Broken(BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise ConnectionResetError

    for name in ("f.csv", "f.csv.gz", "f.csv.bz2"):
        with pytest.raises(ConnectionResetError):
            validate([GraphFile(name, Broken)], folder=tmp_path)


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


def test_a_limit_of_findings_and_the_number_of_the_others(check: Check) -> None:
    rows = "".join(f"p{number % 900},{'x' if number % 2 else number}\n" for number in range(10_000))
    found = check({"v.csv": f"~id,n:Int(single)\n{rows}"}, max_findings=3)
    assert [each.line for each in found.findings if each.kind is K.VALUE] == [3, 5, 7]
    assert found.counts == {K.VALUE: 5000, K.REPEATED_ID: 900, K.SINGLE_VALUES: 450}
    assert found.unlisted == {K.VALUE: 4997, K.REPEATED_ID: 897, K.SINGLE_VALUES: 447}
    assert {each.severity for each in found.errors} == {Severity.ERROR}
    assert [each.kind for each in found.findings if each not in found.errors] == [K.REPEATED_ID] * 3


def test_a_finding_as_a_line_of_a_log() -> None:
    finding = Finding(
        kind=K.VALUE,
        severity=Severity.ERROR,
        neptune_code=NeptuneCode.PARSING_ERROR,
        file="f.csv",
        line=1234,
        column="score",
        text="the value is not a valid Int",
    )
    assert str(finding) == "f.csv, line 1,234, column score: the value is not a valid Int (PARSING_ERROR)"


def test_ids_that_could_break_a_csv_of_ids(check: Check) -> None:
    odd = ['a"b', "c,d", "x\ny", "z\r", "NULL", "é🐉", "%s", "'; DROP", "x\r\ny", "\\N"]
    cells = ['"{}"'.format(each.replace('"', '""')) for each in odd]
    vertices = "~id\n" + "".join(f"{cell}\n" for cell in cells)
    edges = "~id,~from,~to\n" + "".join(f"{cell},{cell},{cell}\n" for cell in cells)
    assert not check({"v.csv": vertices, "e.csv": edges}, self_contained=True).findings
    found = check({"v.csv": vertices + vertices.removeprefix("~id\n"), "e.csv": edges}, self_contained=True)
    assert found.counts == {K.REPEATED_ID: len(odd)}


def test_many_files(check: Check) -> None:
    files = {f"v{number}.csv": f"~id,~label\na{number},x\nb,x\n" for number in range(40)}
    files["e.csv"] = "~id,~from,~to\ne,a0,a39\n"
    found = check(files, self_contained=True)
    assert found.counts == {K.REPEATED_ID: 1}
    assert places(found) == [(K.REPEATED_ID, "v1.csv", 3, "~id")]


def test_a_cell_that_is_too_long_for_memory_is_found(check: Check) -> None:
    long = "x" * 300_000
    for text in (f"~id,name\na,b\n{long},c\n", f'~id,name\na,b\nd,"{long}"\n', f"~id,name\na,b\nd,{long * 60}\n"):
        assert one(check({"v.csv": text})) == (K.QUOTING, 3, None)


def test_an_error_of_duckdb_quotes_no_id(check: Check) -> None:
    rows = "".join(f"secret{number:0100},x\n" for number in range(20_000))
    with pytest.raises(OSError, match="the ids of the files cannot be compared .* needs local disk") as raised:
        check({"v.csv": f"~id,~label\n{rows}{rows}"}, memory_mb=1)
    assert "secret" not in str(raised.value)


def test_records_are_counted_as_the_loader_counts_them(check: Check) -> None:
    """The two examples of https://docs.aws.amazon.com/neptune/latest/userguide/load-api-reference-status-response.html."""
    header = "~id,~label,name,team\n"
    assert check({"f.csv": f"{header}'P-1','Player','Stokes','England'\n"}).records == 3
    assert check({"f.csv": header + "P-2,Player,Kohli,India\n" * 2}).records == 6


def validated(folder: Path, ids: Path, names: Iterable[str] = LOAD_ORDER, **options: Any) -> Validation:
    files = [GraphFile(name, partial(FileIO, folder / name)) for name in names]
    ids.mkdir()
    return validate(files, folder=ids, single=["ea_*"], self_contained=True, **options)


def test_the_sample_and_the_generated_files_are_valid(tmp_path: Path) -> None:
    sample.write(tmp_path / "sample")
    found = validated(tmp_path / "sample", tmp_path / "ids")
    assert not found.findings
    assert found.files[0] == FileSummary(
        file="user_vertices.csv", elements="vertices", rows=1000, records=21_000, complete=True
    )
    graph_files.write(tmp_path / "made", 500, compress=True)
    found = validated(tmp_path / "made", tmp_path / "ids2", [f"{name}.gz" for name in LOAD_ORDER])
    assert not found.findings
    assert [file.rows for file in found.files[:3]] == [500, 10, 12]
    assert found.files[3].rows > 8000


@pytest.mark.skipif(not MODELER.is_dir(), reason="the Cohort Modeler's own data is not here")
def test_the_modelers_own_files_are_valid(tmp_path: Path) -> None:
    found = validated(MODELER, tmp_path / "ids")
    assert not found.findings
    assert {file.file: (file.rows, file.records) for file in found.files} == {
        "user_vertices.csv": (1000, 21_000),
        "campaign_vertices.csv": (10, 70),
        "action_vertices.csv": (12, 12),
        "interaction_edges.csv": (19_877, 139_139),
        "engagement_edges.csv": (2394, 4788),
        "campaign_edges.csv": (1000, 1000),
        "campaign_bidirectional_edges.csv": (241, 964),
    }
