"""Vertices in, members out: who is one, who is merged, and in which shape and order they leave."""

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.config.conditions import Condition
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.segment.members import (
    MAX_SHARDS,
    SHARD_MEMBERS,
    Member,
    Members,
    UnusableScoreError,
    Vertex,
    is_beyond,
    read_extract,
    read_shard,
    shard_size,
    to_vertex,
    usable_player_id,
    write_extract,
)
from cohort_flywheel.segment.outputs import Shard

Row = tuple[list[Any], list[Any]]


@pytest.fixture
def above(tmp_path: Path) -> Iterator[Members]:
    with Members(tmp_path, direction="above", threshold=2) as members:
        yield members


@pytest.fixture
def below(tmp_path: Path) -> Iterator[Members]:
    with Members(tmp_path, direction="below", threshold=-75) as members:
        yield members


def vertex(ids: list[Any], scores: list[Any], direction: Direction = "above", threshold: int = 2) -> Vertex:
    row = {"playerId": ids, "ea_atrisk": scores}
    return to_vertex(row, property="ea_atrisk", direction=direction, threshold=threshold)


def counts(members: Members) -> tuple[int, ...]:
    """Of the second sum: vertices, members, merged, without a playerId."""
    found = members.counts()
    return found.vertices, found.members, found.merged, found.vertices_without_player_id


def extract(*members: Member, property: str = "ea_atrisk") -> bytes:
    file = io.BytesIO()
    write_extract(members, property, file)
    return file.getvalue()


def read(data: bytes) -> list[Member]:
    return list(read_extract(data.splitlines(keepends=True), "ea_atrisk"))


# --- who is a member -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "direction", "threshold", "beyond"),
    [
        (2, "above", 2, False),
        (3, "above", 2, True),
        (2.0001, "above", 2, True),
        (-75, "below", -75, False),
        (-76, "below", -75, True),
        (-75.5, "below", -75, True),
        (0, "below", -75, False),
    ],
)
def test_the_threshold_is_strict(score: float, direction: Direction, threshold: int, beyond: bool) -> None:
    assert is_beyond(score, direction, threshold) is beyond


def test_several_values_count_by_the_most_extreme() -> None:
    """Neptune's set cardinality: a re-load adds a value, and `P.gt` matches if any value passes."""
    assert vertex(["msmith"], [1, 3, 2]) == Vertex("msmith", 3)


def test_below_the_most_extreme_is_the_least(below: Members) -> None:
    below.add([vertex(["msmith"], [40, -76, -81], "below", -75), vertex(["msmith"], [-80], "below", -75)])
    assert list(below) == [Member("msmith", -81)]


def test_several_vertices_of_one_player_are_one_member(above: Members) -> None:
    above.add([Vertex("msmith", 3)])
    above.add([Vertex("msmith", 7), Vertex("msmith", 4)])
    assert list(above) == [Member("msmith", 7)]
    assert counts(above) == (3, 1, 2, 0)


def test_the_sum_holds_over_every_kind_of_vertex(above: Members) -> None:
    rows = [(["a"], [3]), (["a"], [4]), ([], [9]), (["b", "c"], [3]), (["b", "b"], [3]), ([""], [3])]
    above.add(vertex(*row) for row in rows)
    assert counts(above) == (6, 2, 1, 3)


def test_what_is_not_beyond_the_threshold_is_counted_and_nothing_else(above: Members, below: Members) -> None:
    """A read at the floor has more than the members: the threshold itself is not beyond itself."""
    above.add([Vertex("a", 2), Vertex("b", 3), Vertex(None, 2), Vertex(None, 3), Vertex("b", -1)])
    assert [member.player_id for member in above] == ["b"]
    assert above.counts().model_dump(mode="json") == {
        "vertices_read": 5, "vertices_not_beyond": 3, "vertices_not_as_required": 0,
        "vertices": 2, "members": 1, "merged": 0, "vertices_without_playerId": 1,
    }  # fmt: skip
    below.add([Vertex("a", -75), Vertex("b", -76)])
    assert [member.player_id for member in below] == ["b"]


# --- conditions on other properties ----------------------------------------------------------------------


def test_vertices_not_as_required_are_excluded_and_counted(tmp_path: Path) -> None:
    with Members(tmp_path, direction="above", threshold=2, where={"status": Condition(equals="Active")}) as members:
        members.add([
            Vertex("a", 3, {"status": ["Active"]}), Vertex("b", 3, {"status": ["Inactive"]}), Vertex("c", 3),
            Vertex("d", 1, {"status": ["Inactive"]}), Vertex(None, 3, {"status": ["Active"]}),
        ])  # fmt: skip
        assert list(members) == [Member("a", 3)]
        found = members.counts()
    assert (found.vertices_read, found.vertices_not_beyond, found.vertices_not_as_required) == (5, 1, 2)
    assert found.vertices == 2


def test_a_vertex_brings_what_where_names_and_nothing_else() -> None:
    row: dict[str, list[Any]] = {
        "playerId": ["a"],
        "ea_atrisk": [3],
        "status": ["Active", "Inactive"],
        "email": ["a@example.com"],
    }
    made = to_vertex(row, property="ea_atrisk", direction="above", threshold=2, required=["status", "beta"])
    assert made == Vertex("a", 3, {"status": ["Active", "Inactive"], "beta": []})


@pytest.mark.parametrize(
    ("values", "player_id"),
    [
        (["wayne96"], "wayne96"),
        (["wayne96", "wayne96"], "wayne96"),
        ([96], "96"),
        ([96, "96"], "96"),
        (["名前 🎮"], "名前 🎮"),
        ([], None),
        ([""], None),
        (["wayne96", "xortiz"], None),
        (["wayne96", ""], None),
        (["\ud800"], None),
        ([None], None),
    ],
)
def test_the_one_id_of_a_vertex(values: list[Any], player_id: str | None) -> None:
    assert usable_player_id(values) == player_id


def test_members_are_sorted_by_code_point(above: Members) -> None:
    names = ["b", "a", "Z", "ä", "\U0001f3ae", "\uffff", "a\0b", "a b", "10", "9"]
    above.add(Vertex(name, 3) for name in names)
    assert [member.player_id for member in above] == sorted(names)


def test_an_interrupted_read_begins_again(above: Members) -> None:
    above.add([Vertex("a", 3), Vertex(None, 3), Vertex("a", 1)])
    above.clear()
    above.add([Vertex("b", 4)])
    assert list(above) == [Member("b", 4)]
    assert (above.counts().vertices_read, *counts(above)) == (1, 1, 1, 0, 0)


@pytest.mark.parametrize(
    "scores", [[], ["3"], [None], [True], [float("nan")], [float("inf")], [3, "4"], [[3]], [10**400]]
)
def test_a_score_that_is_not_a_finite_number_is_refused(scores: list[Any]) -> None:
    with pytest.raises(
        UnusableScoreError, match="property ea_atrisk of a vertex is not a finite number: name"
    ) as error:
        vertex(["wayne96"], scores)
    assert "wayne96" not in str(error.value)


def test_a_score_larger_than_any_database_holds_is_refused() -> None:
    """Gremlin Server has integers without end; nothing may be half written when one comes."""
    with pytest.raises(FlywheelError, match="ea_atrisk"):
        vertex(["wayne96"], [2**63])


@pytest.mark.parametrize("score", [2, 1, -5, 2.0])
def test_an_unrequested_vertex_is_refused(score: float) -> None:
    with pytest.raises(FlywheelError, match="a vertex that is not above 2") as error:
        vertex(["wayne96"], [score])
    assert "wayne96" not in str(error.value)


def test_the_score_of_a_vertex_without_an_id_is_checked() -> None:
    with pytest.raises(FlywheelError, match="a vertex that is not below -75"):
        vertex([], [-75], "below", -75)


player_ids = st.text(max_size=3) | st.text(alphabet="ab", max_size=2) | st.integers(0, 3) | st.just("\ud800x")
scores = st.integers(-1, 9) | st.floats(-1, 9)
statuses = st.sampled_from([["Active"], ["Inactive"], ["Active", "Inactive"], []])
vertices = st.lists(
    st.tuples(st.lists(player_ids, max_size=2), st.lists(scores, min_size=1, max_size=3), statuses), max_size=30
)


@given(vertices, st.sampled_from(["above", "below"]), st.booleans(), st.randoms(use_true_random=False))
def test_any_vertices_in_any_order_give_the_same_members_and_both_sums(
    given_vertices: list[tuple[list[Any], list[float], list[str]]], direction: Direction, asked: bool, random: Any
) -> None:
    """The graph was asked at a floor of -2; the members are those beyond 2, Active where that is required."""
    sign = 1 if direction == "above" else -1
    rows = [
        {"playerId": ids, "ea_atrisk": [sign * score for score in values], "status": status}
        for ids, values, status in given_vertices
    ]
    meant: dict[str, float] = {}
    without = not_beyond = not_as_required = 0
    for ids, values, status in given_vertices:
        texts = {str(i) for i in ids}
        one = texts.pop() if len(texts) == 1 else ""
        if max(values) <= 2:
            not_beyond += 1
        elif asked and status != ["Active"]:
            not_as_required += 1
        elif not one or "\ud800" in one:
            without += 1
        else:
            meant[one] = max([*values, meant.get(one, 0)])
    where = {"status": Condition(equals="Active")} if asked else {}
    extracts = set()
    for _ in range(2):
        with (
            TemporaryDirectory() as folder,
            Members(Path(folder), direction=direction, threshold=sign * 2, where=where) as members,
        ):
            half = random.randint(0, len(rows))
            read = [
                to_vertex(row, property="ea_atrisk", direction=direction, threshold=sign * -2, required=list(where))
                for row in rows
            ]
            members.add(read[:half])
            members.add(iter(read[half:]))
            found, sums = list(members), members.counts()
            extracts.add(extract(*members))
        assert found == [Member(name, sign * meant[name]) for name in sorted(meant)]
        assert sums.vertices_read == len(rows)
        assert (sums.vertices_not_beyond, sums.vertices_not_as_required) == (not_beyond, not_as_required)
        assert sums.vertices_read == sums.vertices + not_beyond + not_as_required
        assert sums.vertices == sums.members + sums.merged + sums.vertices_without_player_id
        assert (sums.members, sums.vertices_without_player_id) == (len(found), without)
        random.shuffle(rows)
    assert len(extracts) == 1, "a graph has no order, so the bytes must not depend on one"


# --- the extract -----------------------------------------------------------------------------------------


def test_the_extract_has_one_record_per_line() -> None:
    assert extract(Member("msmith", 3), Member("wayne96", 3)) == (
        b'[\n{"playerId":["msmith"],"ea_atrisk":[3]},\n{"playerId":["wayne96"],"ea_atrisk":[3]}\n]\n'
    )


def test_an_empty_extract_is_an_empty_list() -> None:
    assert json.loads(extract()) == []
    assert extract().strip() == b"[]"
    assert read(extract()) == []


@given(
    st.dictionaries(
        st.text(min_size=1), st.integers(1 - 2**63, 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    )
)
def test_an_extract_is_json_with_one_record_per_line_and_reads_back(scored: dict[str, float]) -> None:
    members = [Member(name, scored[name]) for name in sorted(scored)]
    data = extract(*members)
    assert json.loads(data) == [{"playerId": [m.player_id], "ea_atrisk": [m.score]} for m in members]
    assert data.count(b"\n") == (len(members) + 2 if members else 1)
    assert read(data) == members


# --- its shards ------------------------------------------------------------------------------------------


def cut(*members: Member, size: int) -> tuple[bytes, list[Shard]]:
    file = io.BytesIO()
    shards = write_extract(members, "ea_atrisk", file, size)
    return file.getvalue(), shards


def read_cut(data: bytes, shard: Shard) -> list[Member]:
    lines = data[shard.first : shard.first + shard.bytes].split(b"\n")
    return list(read_shard(lines, "ea_atrisk", shard.members))


@given(st.lists(st.text(min_size=1), unique=True), st.integers(1, 6))
def test_every_member_is_in_exactly_one_shard_of_any_size(names: list[str], size: int) -> None:
    members = [Member(name, 3) for name in sorted(names)]
    data, shards = cut(*members, size=size)
    assert data == extract(*members), "the extract is the same file however it is cut"
    assert [member for shard in shards for member in read_cut(data, shard)] == members
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert all(shard.members == size for shard in shards[:-1])
    assert 0 < shards[-1].members <= size or not members


def test_an_empty_cohort_is_one_empty_shard() -> None:
    data, shards = cut(size=2)
    assert shards == [Shard(index=0, first=0, bytes=0, members=0, size=2, of="")]
    assert read_cut(data, shards[0]) == []


@pytest.mark.parametrize("members", [1, 3])
def test_a_shard_with_another_number_of_members_is_refused(members: int) -> None:
    data, (shard,) = cut(Member("a", 3), Member("b", 3), size=9)
    with pytest.raises(FlywheelError, match=f"the shard has 2 members and not {members}: write the extract again"):
        read_cut(data, shard.model_copy(update={"members": members}))


def test_a_cohort_is_never_cut_into_more_shards_than_airflow_maps() -> None:
    assert shard_size(0) == shard_size(SHARD_MEMBERS * MAX_SHARDS) == SHARD_MEMBERS
    for members in (SHARD_MEMBERS * MAX_SHARDS + 1, 10**9 + 7):
        assert -(-members // shard_size(members)) <= MAX_SHARDS == 1024
    assert shard_size(2_000 * MAX_SHARDS, 2_000) == 2_000
    assert shard_size(2_000 * MAX_SHARDS + 1, 2_000) == 2_001


A, B = b'{"playerId": ["a"], "ea_atrisk": [3]}', b'{"playerId": ["b"], "ea_atrisk": [3]}'


@pytest.mark.parametrize(("first", "second"), [(B, A), (A, A)], ids=["order", "twice"])
def test_an_extract_that_is_not_sorted_is_refused_with_its_line(first: bytes, second: bytes) -> None:
    with pytest.raises(FlywheelError, match="line 3 of the extract does not come after .* sort it by playerId"):
        read(b"[\n" + first + b",\n" + second + b"\n]\n")


SHAPES = {
    "all on one line": b"[" + A + b"]",
    "two on one line": A + b"," + B,
    "no JSON": b"wayne96",
    "half a record": b'{"playerId": ["wayne96"], "ea_at',
    "no UTF-8": b'{"playerId": ["wayne96\xff"], "ea_atrisk": [3]}',
    "a list": b'["wayne96", 3]',
    "a number": b"96",
    "no playerId": b'{"ea_atrisk": [3], "name": ["wayne96"]}',
    "no score": b'{"playerId": ["wayne96"]}',
    "another property": b'{"playerId": ["wayne96"], "ea_duty": [3]}',
    "no list of ids": b'{"playerId": "wayne96", "ea_atrisk": [3]}',
    "no list of ids, and a short one": b'{"playerId": "w", "ea_atrisk": [3]}',
    "no list of scores": b'{"playerId": ["wayne96"], "ea_atrisk": 3}',
    "two ids": b'{"playerId": ["wayne96", "xortiz"], "ea_atrisk": [3]}',
    "no id": b'{"playerId": [], "ea_atrisk": [3]}',
    "two scores": b'{"playerId": ["wayne96"], "ea_atrisk": [3, 4]}',
    "a score that is text": b'{"playerId": ["wayne96"], "ea_atrisk": ["3"]}',
    "a null score": b'{"playerId": ["wayne96"], "ea_atrisk": [null]}',
    "a score that is a truth": b'{"playerId": ["wayne96"], "ea_atrisk": [true]}',
    "a score that is not a number": b'{"playerId": ["wayne96"], "ea_atrisk": [NaN]}',
    "an id that is a number": b'{"playerId": [96], "ea_atrisk": [3]}',
    "an empty id": b'{"playerId": [""], "ea_atrisk": [3]}',
    "half of a surrogate pair": b'{"playerId": ["wayne96\\ud800"], "ea_atrisk": [3]}',
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_another_shape_is_refused_with_its_line_and_without_its_text(shape: str) -> None:
    with pytest.raises(FlywheelError, match="line 2 of the extract ") as error:
        read(b"[\n" + SHAPES[shape] + b"\n]\n")
    assert "wayne96" not in str(error.value)
    assert error.value.__suppress_context__, "or the JSON error's text, which quotes the line, would be logged"


@pytest.mark.parametrize("data", [b"[\n" + A + b",\n", b"[\n" + A + b"\n", b"[\n", b""])
def test_a_truncated_extract_is_refused(data: bytes) -> None:
    """Its missing members would be lost without an error."""
    with pytest.raises(FlywheelError, match="extract"):
        read(data)


@pytest.mark.parametrize("data", [b"[]", b"[\r\n" + A + b"\r\n]\r\n\r\n", b"[\n\n" + A + b"\n]"])
def test_line_endings_do_not_matter(data: bytes) -> None:
    assert len(read(data)) == data.count(A)


def test_reading_holds_one_line_at_a_time() -> None:
    def endless() -> Iterator[bytes]:
        yield b"[\n"
        for number in range(10**9):
            yield f'{{"playerId": ["{number:010}"], "ea_atrisk": [3]}},\n'.encode()

    members = read_extract(endless(), "ea_atrisk")
    assert [next(members).player_id for _ in range(3)] == ["0000000000", "0000000001", "0000000002"]


def test_a_score_that_is_a_float_reads_back() -> None:
    (member,) = read(extract(Member("a", 2.5)))
    assert math.isclose(member.score, 2.5)
