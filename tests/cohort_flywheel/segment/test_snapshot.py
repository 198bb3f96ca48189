"""A snapshot reads back as it was written, also by other programs, and a damaged file is refused."""

import json
import re
import runpy
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.config.conditions import Condition
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.config.decimals import read_number
from cohort_flywheel.config.registry import MAX_GRAPH_NAMES
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.runs.names import snapshot_key
from cohort_flywheel.segment.members import Members, Vertex, is_beyond
from cohort_flywheel.segment.snapshot import HEADER as HEADER_KEY
from cohort_flywheel.segment.snapshot import READ, Header, read_file_header, read_header, read_vertices
from local.config import ROOT
from tests.cohort_flywheel.segment.snapshots import snapshot_file

HEADER = Header(
    cohort="ea_atrisk",
    as_of=datetime(2026, 11, 22, tzinfo=UTC),
    property="ea_atrisk",
    direction="above",
    floor=0,
    required=["status"],
    read_at=datetime(2026, 11, 22, 0, 3, 7, 12, tzinfo=UTC),
)
BELOW = HEADER.model_copy(update={"direction": "below", "floor": -50})
PLACE = "s3://state/snapshots/one.parquet"
VERTICES = [
    Vertex("wayne96", 3, {"status": ["Active"]}),
    Vertex(None, 2.5, {"status": []}),
    Vertex("wayne96", 1, {"status": ["Active", "Inactive"]}),
]
#: Of properties that open a database, which takes some 20 ms.
FEW = settings(max_examples=settings().max_examples // 4)


def written(folder: Path, vertices: Iterable[Vertex], header: Header = HEADER) -> list[Vertex]:
    return list(read_vertices(snapshot_file(folder, header, vertices)))


# --- what is written reads back --------------------------------------------------------------------------


def test_a_snapshot_has_a_row_per_vertex_and_a_header(tmp_path: Path) -> None:
    path = snapshot_file(tmp_path, HEADER, VERTICES)
    assert duckdb.read_parquet(str(path)).fetchall() == [
        (3, "wayne96", '{"status": ["Active"]}'),
        (2.5, None, '{"status": []}'),
        (1, "wayne96", '{"status": ["Active", "Inactive"]}'),
    ]
    assert read_file_header(path, PLACE) == HEADER
    assert list(read_vertices(path)) == VERTICES


def test_an_empty_snapshot_has_its_header(tmp_path: Path) -> None:
    assert written(tmp_path, []) == []
    assert read_file_header(tmp_path / "snapshot.parquet", PLACE) == HEADER


def test_the_same_vertices_are_the_same_bytes(tmp_path: Path) -> None:
    first, second = (snapshot_file(tmp_path, HEADER, VERTICES).read_bytes() for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("header", "scores", "kept"),
    [(HEADER, [0, 1, -1, 0.5, 0.0], [1, 0.5]), (BELOW, [-50, -51, -49, -50.5], [-51, -50.5])],
)
def test_what_is_not_beyond_the_floor_is_cut(
    tmp_path: Path, header: Header, scores: list[float], kept: list[float]
) -> None:
    """A manual threshold looser than the floor reads more vertices than the snapshot holds."""
    found = written(tmp_path, [Vertex("a", score, {"status": ["Active"]}) for score in scores], header)
    assert [vertex.score for vertex in found] == kept


def test_the_longest_header_fits_into_the_metadata_of_an_object() -> None:
    """S3 takes 2 KB of names and values together."""
    names: list[str] = []
    while len(json.dumps([*names, "player", "playerId", ""])) < MAX_GRAPH_NAMES - 50:
        names.append(f"{len(names):02}".ljust(48, "y"))
    header = HEADER.model_copy(
        update={"cohort": "c" * 50, "property": "p" * 100, "required": names, "floor": -1.123456}
    )
    metadata = {HEADER_KEY: header.text(), READ: "0" * 16, "sha256": "0" * 64}
    assert header.text().isascii()
    assert sum(len(name) + len(value) for name, value in metadata.items()) <= 2048


awkward = st.text() | st.sampled_from(
    ["🎮", '"', "'", "\\", "\n", "\r\n", "\u2028", "\x85", "\ud83c", "\udc00", "\0", ","]
)
values = awkward | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
player_ids = st.none() | st.text(min_size=1).filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))
scores = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
conditions = st.sampled_from([Condition(one_of=["Active", 1]), Condition(above=0.5), Condition(equals=True)])
floors = st.integers(-5, 5) | st.decimals(-5, 5, places=6).map(lambda number: read_number(float(number)))
any_vertices = st.lists(
    st.builds(
        Vertex, player_ids, scores, st.fixed_dictionaries({"status": st.lists(values), "beta": st.lists(values)})
    ),
    max_size=20,
)


@FEW
@example([Vertex("a", 1, {"status": ["\ud800"], "beta": [-(2**63) - 1]})], "above", 0)  # what orjson does not keep
@given(any_vertices, st.sampled_from(["above", "below"]), floors)
def test_any_vertices_read_back_as_they_were(vertices: list[Vertex], direction: Direction, floor: float) -> None:
    header = HEADER.model_copy(update={"direction": direction, "floor": floor, "required": ["status", "beta"]})
    with TemporaryDirectory() as folder:
        found = written(Path(folder), vertices, header)
        assert read_file_header(Path(folder) / "snapshot.parquet", PLACE) == header
    assert found == [vertex for vertex in vertices if is_beyond(vertex.score, direction, floor)]


@FEW
@given(any_vertices, st.sampled_from(["above", "below"]), st.sampled_from([0, 0.75, 3, 9]), conditions)
def test_the_members_of_a_snapshot_are_those_of_the_graph(
    vertices: list[Vertex], direction: Direction, stricter: float, condition: Condition
) -> None:
    """For every compatible threshold, with the same sums except for the vertices that the floor excludes."""
    header = HEADER.model_copy(update={"direction": direction, "floor": 0, "required": ["status", "beta"]})
    threshold = stricter if direction == "above" else -stricter
    why_not = header.incompatibility(
        property="ea_atrisk", direction=direction, threshold=threshold, required=["status"], schema=DataSchema()
    )
    assert why_not is None
    found: list[Any] = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        snapshot = snapshot_file(folder, header, vertices)
        for from_graph in (True, False):
            with Members(folder, direction=direction, threshold=threshold, where={"status": condition}) as members:
                if from_graph:
                    members.add(vertices)
                else:
                    members.add_snapshot(snapshot)
                sums = members.counts()
                found.append((list(members), sums.vertices, sums.merged, sums.vertices_not_as_required))
    assert found[0] == found[1]


# --- other programs --------------------------------------------------------------------------------------


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    """The state bucket as a folder, with final snapshots of two days and another cohort."""
    for cohort, day, scores in (
        ("ea_atrisk", 22, {"ann": 3, "bob": 2.5, "cyd": 1}),
        ("ea_atrisk", 23, {"ann": 4, "bob": 1}),
        ("ea_other", 23, {"dan": 9}),
    ):
        header = HEADER.model_copy(update={"cohort": cohort, "as_of": datetime(2026, 11, day, tzinfo=UTC)})
        vertices = [Vertex(None, 8), Vertex("ann", 3), *(Vertex(*each) for each in scores.items())]
        path = tmp_path / snapshot_key(cohort, header.as_of)
        path.parent.mkdir(parents=True)
        assert snapshot_file(path.parent, header, vertices if cohort == "ea_atrisk" else vertices[2:]) == path
    return tmp_path


def query(language: str, heading: str, bucket: Path) -> str:
    """The query below a heading of the page, with a folder in place of the bucket."""
    page = (ROOT / "docs" / "how-to" / "snapshots.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^## {heading}$.*?^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert "s3://STATE_BUCKET" in found
    return str(found.replace("s3://STATE_BUCKET", str(bucket)))


MEMBERS = {"2026-11-22_00-00-00": 2, "2026-11-23_00-00-00": 1}


def test_duckdb_reads_snapshots_as_documented(bucket: Path) -> None:
    assert dict(duckdb.execute(query("sql", "DuckDB", bucket)).fetchall()) == MEMBERS


def test_pandas_reads_snapshots_as_documented(bucket: Path) -> None:
    (program := bucket / "query.py").write_text(query("python", "pandas", bucket), encoding="utf-8")
    assert runpy.run_path(str(program))["members"].to_dict() == MEMBERS


# --- damaged files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [0, 1, 4, 100, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, end: int) -> None:
    """Its missing players would be lost without an error, in every later run of that day."""
    path = snapshot_file(tmp_path, HEADER, VERTICES)
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(FlywheelError, match=f"CF-STATE-01: {PLACE} is not a snapshot that this version reads: move it"):
        read_file_header(path, PLACE)
    with pytest.raises(duckdb.InvalidInputException, match="^DuckDB could not read the snapshot$") as error:
        list(read_vertices(path))
    assert error.value.__suppress_context__


def test_a_parquet_file_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    duckdb.execute("COPY (SELECT 'wayne96' AS player_id) TO ? (FORMAT parquet)", [str(path)])
    with pytest.raises(FlywheelError, match="is not a snapshot that this version reads"):
        read_file_header(path, PLACE)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "wayne96",
        '["wayne96", 3]',
        "{}",
        '{"version": 2}',
        HEADER.text().replace('"version": 2', '"version": 1'),
        HEADER.text().replace('"floor": 0', '"floor": "wayne96"'),
        HEADER.text().replace('"floor": 0', '"floor": 0, "wayne96": 1'),
        HEADER.text()[:-9],
    ],
)
def test_an_invalid_header_is_an_error(text: str | None) -> None:
    with pytest.raises(FlywheelError) as error:
        read_header(text, PLACE)
    assert str(error.value).startswith(f"CF-STATE-01: {PLACE} is not a snapshot that this version reads: move it")
    assert "wayne96" not in str(error.value)
    assert error.value.__suppress_context__


# --- which runs can use a snapshot -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "asked", "why_not"),
    [
        (HEADER, {}, None),
        (HEADER, {"threshold": 0}, None),
        (HEADER, {"threshold": 99}, None),
        (HEADER, {"threshold": -1}, "has the floor 0, and the threshold -1 is looser"),
        (BELOW, {"direction": "below", "threshold": -50}, None),
        (BELOW, {"direction": "below", "threshold": -75}, None),
        (BELOW, {"direction": "below", "threshold": -49}, "has the floor -50, and the threshold -49 is looser"),
        (HEADER, {"required": []}, None),
        (HEADER, {"schema": DataSchema(address="mail")}, None),
        (
            HEADER,
            {"schema": DataSchema(vertex_label="customer")},
            "holds player vertices by their playerId, and the registry now says customer and playerId",
        ),
        (
            HEADER,
            {"schema": DataSchema(player_id="pid")},
            "holds player vertices by their playerId, and the registry now says player and pid",
        ),
        (HEADER, {"required": ["status"]}, None),
        (HEADER, {"required": ["tier", "status", "beta"]}, "was written before `where` named beta, tier"),
        (
            HEADER,
            {"property": "risk"},
            "holds ea_atrisk above a floor, and the registry now says risk above",
        ),
        (
            HEADER,
            {"direction": "below", "threshold": -9},
            "holds ea_atrisk above a floor, and the registry now says ea_atrisk below",
        ),
    ],
)
def test_which_runs_can_use_a_snapshot(header: Header, asked: dict[str, Any], why_not: str | None) -> None:
    whole: dict[str, Any] = {
        "property": "ea_atrisk", "direction": "above", "threshold": 2, "required": [], "schema": DataSchema(),
    }  # fmt: skip
    assert header.incompatibility(**(whole | asked)) == why_not
