"""The extract: its format, its shards, and what is refused."""

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohort_flywheel.config.data_schema import PLAYER_ID
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.segment import extract_file
from cohort_flywheel.segment.extract_file import (
    LINES,
    MAX_SHARDS,
    SHARD_MEMBERS,
    extract_records,
    read_extract,
    read_shard,
    shard_size,
    write_extract,
)
from cohort_flywheel.segment.members import Member, Members, Vertex
from cohort_flywheel.segment.outputs import Shard
from tests.cohort_flywheel.segment.snapshots import records_of


def extract(*members: Member, property: str = "ea_atrisk") -> bytes:
    file = io.BytesIO()
    write_extract(records_of(members, property), file)
    return file.getvalue()


def read(data: bytes) -> list[Member]:
    return list(read_extract(data.splitlines(keepends=True), "ea_atrisk"))


# --- the extract -----------------------------------------------------------------------------------------


def test_the_extract_has_one_record_per_line() -> None:
    assert extract(Member("msmith", 3), Member("wayne96", 3)) == (
        b'[\n{"playerId": ["msmith"], "ea_atrisk": [3]},\n{"playerId": ["wayne96"], "ea_atrisk": [3]}\n]\n'
    )


any_scores = st.integers(-(2**53), 2**53) | st.floats(-9e299, allow_nan=False, allow_infinity=False)


@settings(max_examples=settings().max_examples // 4)  # a database takes some 20 ms to open
@given(st.dictionaries(st.text(min_size=1), any_scores), st.sampled_from(["ea_atrisk", 'it\'s "x" \\ {}']))
def test_the_records_are_those_of_the_members(scored: dict[str, float], property: str) -> None:
    with TemporaryDirectory() as folder, Members(Path(folder), direction="above", threshold=-1e300) as members:
        members.add(Vertex(player, score) for player, score in scored.items())
        lines, found = list(extract_records(members, property)), list(members)
    assert not [line for line in lines if "\n" in line or "\r" in line]
    assert list(read_extract([b"[\n", *(f"{line},\n".encode() for line in lines), b"]\n"], property)) == found
    assert found == [Member(player, scored[player]) for player in sorted(scored)]


def test_the_record_of_a_member_is_the_seeds(tmp_path: Path) -> None:
    with Members(tmp_path, direction="above", threshold=2) as members:
        members.add([Vertex("wayne96", 3.0), Vertex("a\n\u2028", 2.5)])
        assert list(extract_records(members, "ea_atrisk")) == [
            '{"playerId":["a\\n\u2028"],"ea_atrisk":[2.5]}', '{"playerId":["wayne96"],"ea_atrisk":[3]}',
        ]  # fmt: skip


def test_an_empty_extract_is_an_empty_list() -> None:
    assert json.loads(extract()) == []
    assert extract().strip() == b"[]"
    assert read(extract()) == []


@given(
    st.dictionaries(
        st.text(min_size=1), st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
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
    shards = write_extract(records_of(members, "ea_atrisk"), file, size)
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


def test_reading_holds_some_lines_at_a_time() -> None:
    taken = [0]

    def endless() -> Iterator[bytes]:
        yield b"[\n"
        for number in range(10**9):
            taken[0] += 1
            yield f'{{"playerId": ["{number:010}"], "ea_atrisk": [3]}},\n'.encode()

    members = read_extract(endless(), "ea_atrisk")
    for number in range(3 * LINES):
        assert next(members) == (f"{number:010}", 3)
        assert taken[0] <= number + LINES


records = st.builds(
    '{{"playerId": [{}], "ea_atrisk": [{}]}}{}'.format,
    st.sampled_from(['"a"', '"b"', '"b\\u0020"', '"c"', '"\\ud800"', '""', "1", '"x", "y"', ""]),
    st.sampled_from(["3", "2.5", "9007199254740993", "1e400", "true", "null", "3, 4", ""]),
    st.sampled_from(
        ["", ",", ",,", "\r", " ", ', {"playerId": ["d"], "ea_atrisk": [3]}', '{"playerId": ["d"], "ea_atrisk": [3]}']
    ),
) | st.sampled_from(["", "[", "]", "[]", "],", '{"playerId": ["e"],', '"ea_atrisk": [3], "other": 1}'])


@given(st.lists(records, max_size=6), st.lists(st.integers(0, 2**53), max_size=40, unique=True))
def test_lines_that_are_read_together_are_read_as_each_alone(odd: list[str], plain: list[int]) -> None:
    lines = [f'{{"playerId": ["{number:020}"], "ea_atrisk": [{number}]}},\n'.encode() for number in sorted(plain)]
    lines += [f"{line}\n".encode() for line in odd]

    def read_all(size: int) -> list[Member] | str:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(extract_file, "LINES", size)
            try:
                return list(read_extract(lines, "ea_atrisk"))
            except FlywheelError as error:
                return error.message

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extract_file, "_read_records", lambda *_: None)
        alone = read_all(1)
    assert [read_all(size) for size in (1, 2, 5, 100)] == [alone] * 4


@pytest.mark.parametrize("property", ['a "score"', "playerId", "skóre"])
def test_any_name_of_a_property(property: str) -> None:
    lines = [b"[\n", *(f'{{"playerId": ["{n}"], {json.dumps(property)}: [3]}},\n'.encode() for n in "abc"), b"]\n"]
    if property == PLAYER_ID:
        with pytest.raises(FlywheelError, match="line 2 of the extract is not a record"):
            list(read_extract(lines, property))
    else:
        assert list(read_extract(lines, property)) == [Member(n, 3) for n in "abc"]


def test_a_score_that_is_a_float_reads_back() -> None:
    (member,) = read(extract(Member("a", 2.5)))
    assert math.isclose(member.score, 2.5)
