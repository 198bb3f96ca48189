"""Files broken in each way are found with their place, and no value of theirs is repeated."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Iterable
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
from tests.cohort_flywheel.graph_load.validated_files import Check, one, validated

MODELER = ROOT.parent / "shared" / "cohort-modeler"
K = FindingKind


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Validate files given as text or bytes by name."""
    return partial(validated, tmp_path)


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
        ("f.csv.gz", gzip.compress(data.encode(), mtime=0)),
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
        ("f.csv", gzip.compress(GOOD.encode(), mtime=0), "the file is compressed: give its name the extension .gz"),
        ("f.csv.gz", GOOD.encode(), "the file is not a complete .gz file"),
        ("f.csv.gz", gzip.compress(GOOD.encode(), mtime=0)[:-4], "the file is not a complete .gz file"),
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


def test_a_cell_that_is_too_long_for_memory_is_found(check: Check) -> None:
    long = "x" * 300_000
    for text in (f"~id,name\na,b\n{long},c\n", f'~id,name\na,b\nd,"{long}"\n', f"~id,name\na,b\nd,{long * 60}\n"):
        assert one(check({"v.csv": text})) == (K.QUOTING, 3, None)


def test_records_are_counted_as_the_loader_counts_them(check: Check) -> None:
    """The two examples of https://docs.aws.amazon.com/neptune/latest/userguide/load-api-reference-status-response.html."""
    header = "~id,~label,name,team\n"
    assert check({"f.csv": f"{header}'P-1','Player','Stokes','England'\n"}).records == 3
    assert check({"f.csv": header + "P-2,Player,Kohli,India\n" * 2}).records == 6


def validated_folder(folder: Path, ids: Path, names: Iterable[str] = LOAD_ORDER, **options: Any) -> Validation:
    files = [GraphFile(name, partial(FileIO, folder / name)) for name in names]
    ids.mkdir()
    return validate(files, folder=ids, single=["ea_*"], self_contained=True, **options)


def test_the_sample_and_the_generated_files_are_valid(tmp_path: Path) -> None:
    sample.write(tmp_path / "sample")
    found = validated_folder(tmp_path / "sample", tmp_path / "ids")
    assert not found.findings
    assert found.files[0] == FileSummary(
        file="user_vertices.csv", elements="vertices", rows=1000, records=21_000, complete=True
    )
    graph_files.write(tmp_path / "made", 500, compress=True)
    found = validated_folder(tmp_path / "made", tmp_path / "ids2", [f"{name}.gz" for name in LOAD_ORDER])
    assert not found.findings
    assert [file.rows for file in found.files[:3]] == [500, 10, 12]
    assert found.files[3].rows > 8000


@pytest.mark.skipif(not MODELER.is_dir(), reason="the Cohort Modeler's own data is not here")
def test_the_modelers_own_files_are_valid(tmp_path: Path) -> None:
    found = validated_folder(MODELER, tmp_path / "ids")
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
