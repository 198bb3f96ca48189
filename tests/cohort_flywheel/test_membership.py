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

from cohort_flywheel.cohorts import Direction
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.membership import (
    Member,
    Members,
    is_beyond,
    read_extract,
    usable_player_id,
    write_extract,
)

Vertex = tuple[list[Any], list[Any]]


@pytest.fixture
def above(tmp_path: Path) -> Iterator[Members]:
    with Members(tmp_path, property="ea_atrisk", direction="above", threshold=2) as members:
        yield members


@pytest.fixture
def below(tmp_path: Path) -> Iterator[Members]:
    with Members(tmp_path, property="ea_reputation", direction="below", threshold=-75) as members:
        yield members


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


def test_several_values_count_by_the_most_extreme(above: Members) -> None:
    """Neptune's set cardinality: a re-load adds a value, and `P.gt` matches if any value passes."""
    above.add([(["msmith"], [1, 3, 2])])
    assert list(above) == [Member("msmith", 3)]


def test_below_the_most_extreme_is_the_least(below: Members) -> None:
    below.add([(["msmith"], [40, -76, -81]), (["msmith"], [-80])])
    assert list(below) == [Member("msmith", -81)]


def test_several_vertices_of_one_player_are_one_member(above: Members) -> None:
    above.add([(["msmith"], [3])])
    above.add([(["msmith"], [7]), (["msmith"], [4])])
    assert list(above) == [Member("msmith", 7)]
    assert above.counts() == {"vertices": 3, "members": 1, "merged": 2, "vertices_without_playerId": 0}


def test_the_sum_holds_over_every_kind_of_vertex(above: Members) -> None:
    above.add([(["a"], [3]), (["a"], [4]), ([], [9]), (["b", "c"], [3]), (["b", "b"], [3]), ([""], [3])])
    assert above.counts() == {"vertices": 6, "members": 2, "merged": 1, "vertices_without_playerId": 3}


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


def test_members_leave_sorted_by_code_point(above: Members) -> None:
    names = ["b", "a", "Z", "ä", "\U0001f3ae", "\uffff", "a\0b", "a b", "10", "9"]
    above.add([([name], [3]) for name in names])
    assert [member.player_id for member in above] == sorted(names)


def test_a_read_that_broke_begins_again(above: Members) -> None:
    above.add([(["a"], [3]), ([], [3])])
    above.clear()
    above.add([(["b"], [4])])
    assert list(above) == [Member("b", 4)]
    assert above.counts() == {"vertices": 1, "members": 1, "merged": 0, "vertices_without_playerId": 0}


@pytest.mark.parametrize(
    "scores", [[], ["3"], [None], [True], [float("nan")], [float("inf")], [3, "4"], [[3]], [10**400]]
)
def test_a_score_that_is_no_finite_number_is_refused(above: Members, scores: list[Any]) -> None:
    with pytest.raises(FlywheelError, match="property ea_atrisk of a vertex is no finite number: name") as error:
        above.add([(["wayne96"], scores)])
    assert "wayne96" not in str(error.value)


def test_a_score_larger_than_any_database_holds_is_refused(above: Members) -> None:
    """Gremlin Server has integers without end; nothing may be half written when one comes."""
    with pytest.raises(FlywheelError, match="ea_atrisk"):
        above.add([(["wayne96"], [2**63])])


@pytest.mark.parametrize("score", [2, 1, -5, 2.0])
def test_the_graph_is_not_believed_with_a_vertex_that_it_should_not_have_given(above: Members, score: float) -> None:
    with pytest.raises(FlywheelError, match="a vertex that is not above 2") as error:
        above.add([(["wayne96"], [score])])
    assert "wayne96" not in str(error.value)


def test_a_vertex_without_an_id_is_checked_all_the_same(below: Members) -> None:
    with pytest.raises(FlywheelError, match="a vertex that is not below -75"):
        below.add([([], [-75])])


player_ids = st.text(max_size=3) | st.text(alphabet="ab", max_size=2) | st.integers(0, 3) | st.just("\ud800x")
scores = st.integers(3, 9) | st.floats(2, 9, exclude_min=True)
vertices = st.lists(st.tuples(st.lists(player_ids, max_size=2), st.lists(scores, min_size=1, max_size=3)), max_size=30)


@given(vertices, st.sampled_from(["above", "below"]), st.randoms(use_true_random=False))
def test_any_vertices_in_any_order_give_the_same_members_and_the_sum(
    given_vertices: list[Vertex], direction: Direction, random: Any
) -> None:
    sign = 1 if direction == "above" else -1
    signed = [(ids, [sign * score for score in values]) for ids, values in given_vertices]
    meant: dict[str, float] = {}
    without = 0
    for ids, values in given_vertices:
        texts = {str(i) for i in ids}
        one = texts.pop() if len(texts) == 1 else ""
        if not one or "\ud800" in one:
            without += 1
        else:
            meant[one] = max([*values, meant.get(one, 0)])
    extracts = set()
    for _ in range(2):
        with (
            TemporaryDirectory() as folder,
            Members(Path(folder), property="ea_atrisk", direction=direction, threshold=sign * 2) as members,
        ):
            half = random.randint(0, len(signed))
            members.add(signed[:half])
            members.add(iter(signed[half:]))
            found, counts = list(members), members.counts()
            extracts.add(extract(*members))
        assert found == [Member(name, sign * meant[name]) for name in sorted(meant)]
        assert counts["vertices"] == counts["members"] + counts["merged"] + counts["vertices_without_playerId"]
        assert (counts["vertices"], counts["members"]) == (len(signed), len(found))
        assert counts["vertices_without_playerId"] == without
        random.shuffle(signed)
    assert len(extracts) == 1, "a graph has no order, so the bytes must not depend on one"


# --- the extract -----------------------------------------------------------------------------------------


def test_the_extract_has_the_seeds_shape_and_a_record_a_line() -> None:
    assert extract(Member("msmith", 3), Member("wayne96", 3)) == (
        b'[\n{"playerId": ["msmith"], "ea_atrisk": [3]},\n{"playerId": ["wayne96"], "ea_atrisk": [3]}\n]\n'
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
def test_an_extract_is_json_a_record_a_line_and_reads_back(scored: dict[str, float]) -> None:
    members = [Member(name, scored[name]) for name in sorted(scored)]
    data = extract(*members)
    assert json.loads(data) == [{"playerId": [m.player_id], "ea_atrisk": [m.score]} for m in members]
    assert data.count(b"\n") == (len(members) + 2 if members else 1)
    assert read(data) == members


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
    "a score that is none": b'{"playerId": ["wayne96"], "ea_atrisk": [null]}',
    "a score that is a truth": b'{"playerId": ["wayne96"], "ea_atrisk": [true]}',
    "a score that is no number": b'{"playerId": ["wayne96"], "ea_atrisk": [NaN]}',
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
def test_an_extract_that_breaks_off_is_refused(data: bytes) -> None:
    """Its missing members would be dropped in silence."""
    with pytest.raises(FlywheelError, match="extract"):
        read(data)


@pytest.mark.parametrize("data", [b"[]", b"[\r\n" + A + b"\r\n]\r\n\r\n", b"[\n\n" + A + b"\n]"])
def test_how_the_lines_end_is_no_matter(data: bytes) -> None:
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
