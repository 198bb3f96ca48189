"""Vertices in, members out: who is one, who is merged, and in which order they leave."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.config.conditions import Condition
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.segment.members import (
    Member,
    Members,
    UnusableScoreError,
    Vertex,
    is_beyond,
    to_vertex,
    usable_player_id,
)
from cohort_flywheel.segment.snapshot import read_vertices

Row = tuple[list[Any], list[Any]]

#: Of properties that open a database, which takes some 20 ms.
FEW = settings(max_examples=settings().max_examples // 4)


@pytest.fixture
def above(tmp_path: Path) -> Iterator[Members]:
    with Members(tmp_path, direction="above", threshold=2) as members:
        yield members


@pytest.fixture
def below(tmp_path: Path) -> Iterator[Members]:
    folder = tmp_path / "below"
    folder.mkdir()
    with Members(folder, direction="below", threshold=-75) as members:
        yield members


def vertex(ids: list[Any], scores: list[Any], direction: Direction = "above", threshold: int = 2) -> Vertex:
    row = {"playerId": ids, "ea_atrisk": scores}
    return to_vertex(row, property="ea_atrisk", direction=direction, threshold=threshold)


def counts(members: Members) -> tuple[int, ...]:
    """Of the second sum: vertices, members, merged, without a playerId."""
    found = members.counts()
    return found.vertices, found.members, found.merged, found.vertices_without_player_id


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
    names += ["a,b", '"', '""', "\n", "\r", "a\r\nb", "\\", "#"]
    above.add(Vertex(name, 3) for name in names)
    assert [member.player_id for member in above] == sorted(names)


@pytest.mark.parametrize("names", [[], ["status"], ["status", "region"]])
def test_columns_are_added_as_their_vertices(names: list[str], tmp_path: Path) -> None:
    ids, scores = ["a,b", '"', "\n", "a"], [3, 2.5, 2**53, 4]
    properties: dict[str, list[list[object]]] = {name: [["Active"], [], [3, None, True], ['"', name]] for name in names}
    found = []
    for columns in (True, False):
        folder = tmp_path / str(columns)
        folder.mkdir()
        with Members(folder, direction="above", threshold=2) as members:
            if columns:
                members.add_columns(ids, scores, properties)
            else:
                values = ({name: properties[name][n] for name in names} for n in range(4))
                members.add(Vertex(*each) for each in zip(ids, scores, values, strict=True))
            path = folder / "snapshot.parquet"
            members.write_vertices(path, "true", {}, 10)
            found.append((list(members), members.counts(), list(read_vertices(path))))
    assert found[0] == found[1]
    assert [each.player_id for each in found[0][0]] == sorted(ids)


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


def test_a_whole_score_that_a_double_does_not_hold_is_refused() -> None:
    """Gremlin Server has integers without end, and DuckDB's DOUBLE holds each up to 2^53 only."""
    assert vertex(["wayne96"], [2**53]).score == 2**53
    with pytest.raises(FlywheelError, match="ea_atrisk"):
        vertex(["wayne96"], [2**53 + 1])


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


@FEW
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
            again = tuple(members)
        assert found == [Member(name, sign * meant[name]) for name in sorted(meant)]
        assert sums.vertices_read == len(rows)
        assert (sums.vertices_not_beyond, sums.vertices_not_as_required) == (not_beyond, not_as_required)
        assert sums.vertices_read == sums.vertices + not_beyond + not_as_required
        assert sums.vertices == sums.members + sums.merged + sums.vertices_without_player_id
        assert (sums.members, sums.vertices_without_player_id) == (len(found), without)
        assert list(again) == found, "a graph has no order, and members are the same in any"
        random.shuffle(rows)


@pytest.mark.parametrize("direction", ["above", "below"])
def test_a_score_keeps_its_value_and_a_whole_one_is_an_integer(tmp_path: Path, direction: Direction) -> None:
    numbers = [0, 3, 2.0, 2.5, 0.1, 1e-320, 1.7976931348623157e308, 2**53]
    sign = 1 if direction == "above" else -1
    with Members(tmp_path, direction=direction, threshold=-sign) as members:
        members.add(Vertex(f"{index}", sign * number) for index, number in enumerate(numbers))
        found = [member.score for member in members]
    assert found == [sign * number for number in numbers]
    assert [type(score) for score in found] == [int, int, int, float, float, float, float, int]


values = st.lists(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), max_size=3)
conditions = st.sampled_from([Condition(above=2), Condition(below=0), Condition(one_of=["a", 2, True])])


@FEW
@given(st.lists(values, max_size=30), conditions)
def test_any_values_of_a_property_are_compared_as_the_graph_has_them(
    given_values: list[list[object]], condition: Condition
) -> None:
    given_vertices = [Vertex(f"{index:02}", 3, {"status": each}) for index, each in enumerate(given_values)]
    meets = condition.test()
    with (
        TemporaryDirectory() as folder,
        Members(Path(folder), direction="above", threshold=2, where={"status": condition}) as members,
    ):
        members.add(given_vertices)
        assert list(members) == [Member(v.player_id or "", 3) for v in given_vertices if meets(v.properties["status"])]


def test_an_error_of_the_database_has_no_text_of_a_player(above: Members) -> None:
    above.add([Vertex("wayne96", 3)])
    above.counts()
    above._sql.execute("DROP TABLE member")
    with pytest.raises(duckdb.CatalogException, match="^DuckDB could not sort the members$") as error:
        list(above)
    assert error.value.__suppress_context__
    assert "fetch" in [each.name for each in error.traceback], "where it failed"


def test_files_of_other_folders_are_not_read(above: Members, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other") / "vertices.csv"
    other.write_text("wayne96\n")
    with pytest.raises(duckdb.PermissionException):
        above._sql.read_csv(str(other))


# --- the sets --------------------------------------------------------------------------------------------


def test_each_score_is_counted(above: Members) -> None:
    above.add([Vertex("a", 3), Vertex("a", 5), Vertex("b", 3.5), Vertex("c", 5), Vertex("d", 1), Vertex(None, 5)])
    assert sorted(above.count_scores()) == [(3.5, 1), (5, 2)]
