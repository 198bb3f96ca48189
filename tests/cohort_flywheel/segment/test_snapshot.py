"""A snapshot reads back as it was written, and a truncated or damaged file is refused."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.config.conditions import Condition
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.config.decimals import read_number
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.segment.members import Members, Vertex, is_beyond
from cohort_flywheel.segment.snapshot import MAX_HEADER_BYTES, Header, SnapshotFile, read_header, read_vertices

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
PLACE = "s3://state/snapshots/one.jsonl"
VERTICES = [
    Vertex("wayne96", 3, {"status": ["Active"]}),
    Vertex(None, 2.5, {"status": []}),
    Vertex("wayne96", 1, {"status": ["Active", "Inactive"]}),
]


def written(folder: Path, vertices: Iterable[Vertex], header: Header = HEADER) -> list[bytes]:
    file = SnapshotFile(folder / "snapshot.jsonl", header)
    file.add(vertices)
    file.close()
    return (folder / "snapshot.jsonl").read_bytes().splitlines(keepends=True)


def read(lines: Iterable[bytes]) -> list[Vertex]:
    return list(read_vertices(lines, PLACE))


def refusal(lines: Iterable[bytes]) -> str:
    with pytest.raises(FlywheelError) as error:
        read(lines)
    assert PLACE in str(error.value)
    assert "wayne96" not in str(error.value)
    assert error.value.__suppress_context__ or error.value.__context__ is None, "or what quotes the line is logged"
    return str(error.value)


# --- what is written reads back --------------------------------------------------------------------------


def test_a_snapshot_has_a_header_one_line_per_vertex_and_an_end(tmp_path: Path) -> None:
    header, *lines = written(tmp_path, VERTICES)
    assert read_header(header, PLACE) == HEADER
    assert [json.loads(line) for line in lines] == [
        ["wayne96", 3, ["Active"]],
        [None, 2.5, []],
        ["wayne96", 1, ["Active", "Inactive"]],
        {"vertices": 3},
    ]
    assert read([header, *lines]) == VERTICES


def test_an_empty_snapshot_is_complete(tmp_path: Path) -> None:
    lines = written(tmp_path, [])
    assert len(lines) == 2
    assert read(lines) == []


@pytest.mark.parametrize(
    ("header", "scores", "kept"),
    [(HEADER, [0, 1, -1, 0.5, 0.0], [1, 0.5]), (BELOW, [-50, -51, -49, -50.5], [-51, -50.5])],
)
def test_what_is_not_beyond_the_floor_is_cut(
    tmp_path: Path, header: Header, scores: list[float], kept: list[float]
) -> None:
    """A manual threshold looser than the floor reads more vertices than the snapshot holds."""
    lines = written(tmp_path, [Vertex("a", score, {"status": ["Active"]}) for score in scores], header)
    assert [vertex.score for vertex in read(lines)] == kept


def test_an_interrupted_read_begins_again(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path / "snapshot.jsonl", HEADER)
    file.add(VERTICES)
    file.clear()
    file.add(VERTICES[:1])
    file.close()
    assert read((tmp_path / "snapshot.jsonl").read_bytes().splitlines()) == VERTICES[:1]


def test_a_property_that_a_vertex_does_not_have_is_an_empty_list(tmp_path: Path) -> None:
    assert read(written(tmp_path, [Vertex("a", 3)])) == [Vertex("a", 3, {"status": []})]


def test_the_header_with_the_longest_names_fits_into_the_bytes_that_are_read(tmp_path: Path) -> None:
    names = [f"{n:02}".replace("0", "x").ljust(50, "y") for n in range(50)]
    header = HEADER.model_copy(update={"cohort": "c" * 50, "property": "p" * 50, "required": names})
    assert len(written(tmp_path, [], header)[0]) < MAX_HEADER_BYTES


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


@example([Vertex("a", 1, {"status": ["\ud800"], "beta": [-(2**63) - 1]})], "above", 0, 0)  # what orjson does not keep
@given(any_vertices, st.sampled_from(["above", "below"]), floors, st.integers(0, 20))
def test_any_vertices_read_back_as_they_were(
    vertices: list[Vertex], direction: Direction, floor: float, first: int
) -> None:
    header = HEADER.model_copy(update={"direction": direction, "floor": floor, "required": ["status", "beta"]})
    with TemporaryDirectory() as name:
        path = Path(name) / "snapshot.jsonl"
        file = SnapshotFile(path, header)
        file.add(vertices[:first])
        file.add(iter(vertices[first:]))
        file.close()
        data = path.read_bytes()
    found = read(data.split(b"\n")[:-1])
    assert read_header(data.partition(b"\n")[0], PLACE) == header
    assert found == [vertex for vertex in vertices if is_beyond(vertex.score, direction, floor)]
    assert [type(vertex.score) for vertex in found] == [
        type(vertex.score) for vertex in vertices if is_beyond(vertex.score, direction, floor)
    ]
    assert data.count(b"\n") == len(found) + 2, "a line a vertex, whatever its values hold"


@settings(max_examples=settings().max_examples // 4)  # a database takes some 20 ms to open
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
        snapshot = written(folder, vertices, header)
        for given_vertices in (vertices, read_vertices(snapshot, PLACE)):
            with Members(folder, direction=direction, threshold=threshold, where={"status": condition}) as members:
                members.add(given_vertices)
                sums = members.counts()
                found.append((list(members), sums.vertices, sums.merged, sums.vertices_not_as_required))
    assert found[0] == found[1]


# --- truncated and damaged files -------------------------------------------------------------------------


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    """Its missing players would be lost without an error, in every later run of that day."""
    lines = written(tmp_path, VERTICES)
    assert "is truncated after 3 vertices: restore the file" in refusal(lines[:-1])
    assert "is truncated after 1 vertices" in refusal(lines[:2])
    assert "is truncated after 0 vertices" in refusal(lines[:1])
    assert "is truncated after 2 vertices" in refusal([*lines[:2], *lines[3:]])
    assert "is truncated" in refusal([*lines, lines[1]])


@pytest.mark.parametrize("number", [2, 3, 4])
@pytest.mark.parametrize(
    "line",
    [
        b'["wayne96", 3, ["Acti',
        b"wayne96",
        b"",
        b"96",
        b"null",
        b"[]",
        b'["wayne96"]',
        b'["wayne96", 3]',
        b'["wayne96", 3, ["Active"], ["more"]]',
        b'["wayne96\xff", 3, ["Active"]]',
        b'{"playerId": "wayne96"}',
    ],
)
def test_a_broken_line_is_reported_by_its_number_and_not_quoted(tmp_path: Path, line: bytes, number: int) -> None:
    lines = written(tmp_path, VERTICES)
    lines[number - 1] = line + b"\n"
    assert refusal(lines).startswith(
        f"CF-STATE-01: line {number} of {PLACE} is not a vertex: restore the file as it was"
    )


@pytest.mark.parametrize(
    "line",
    [
        b'["wayne96", "3", ["Active"]]',
        b'["wayne96", null, ["Active"]]',
        b'["wayne96", true, ["Active"]]',
        b'["wayne96", NaN, ["Active"]]',
        b'[96, 3, ["Active"]]',
        b'["wayne96", 3, "Active"]',
        b'["wayne96", 3, null]',
        b'"a96"',
    ],
)
def test_a_line_of_another_kind_is_reported_by_its_number(tmp_path: Path, line: bytes) -> None:
    lines = written(tmp_path, VERTICES)
    lines[1] = line + b"\n"
    assert refusal(lines).startswith(f"CF-STATE-01: line 2 of {PLACE} is not a vertex")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"wayne96",
        b'["wayne96", 3]',
        b"{}",
        b'{"version": 2}',
        HEADER.model_dump_json().replace('"version":1', '"version":2').encode(),
        HEADER.model_dump_json().replace('"floor":0', '"floor":"wayne96"').encode(),
        HEADER.model_dump_json().replace('"floor":0', '"floor":0,"wayne96":1').encode(),
        HEADER.model_dump_json()[:-9].encode(),
        b"\xff\xfe",
    ],
)
def test_an_invalid_header_is_an_error(line: bytes) -> None:
    with pytest.raises(FlywheelError) as error:
        read_header(line, PLACE)
    assert str(error.value).startswith(f"CF-STATE-01: {PLACE} is not a snapshot that this version reads: move it away")
    assert "wayne96" not in str(error.value)
    assert error.value.__suppress_context__
    assert "is not a snapshot" in refusal([line + b"\n"])
    assert "is not a snapshot" in refusal([])


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
