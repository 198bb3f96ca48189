"""Uploaded extracts: valid ones, invalid ones, and the place of the error."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.segment import uploaded_extract as dropped_extract
from cohort_flywheel.segment.extract_file import write_extract
from cohort_flywheel.segment.members import Member, Vertex
from cohort_flywheel.segment.uploaded_extract import read_uploaded_extract, uploaded_extract_key
from tests.cohort_flywheel.segment.snapshots import records_of

URI = "s3://exports/dropped/theirs.json"
WAYNE = '{"playerId": ["wayne96"], "score": [3]}'


def read(
    text: str | bytes, size: int = 7, direction: Direction = "above", required: tuple[str, ...] = ()
) -> list[Vertex]:
    """Read in chunks of a few bytes: a record, and a letter, may be in several."""
    body = text.encode() if isinstance(text, str) else text
    chunks = [body[first : first + size] for first in range(0, len(body), size)]
    return list(read_uploaded_extract(chunks, URI, property="score", direction=direction, required=required))


def refusal(text: str | bytes, **how: Any) -> str:
    with pytest.raises(FlywheelError) as error:
        read(text, **how)
    return str(error.value)


# --- what is one


@pytest.mark.parametrize("size", [1, 7, 64 * 1024])
def test_our_own_extract_and_the_posts_are_read(size: int) -> None:
    members = [Member("Ñuñez", 3), Member("wayne96", 2.5), Member("xortiz", -1)]
    file = BytesIO()
    write_extract(records_of(members, "score"), file)
    ours = file.getvalue()
    posts = json.dumps([{"playerId": [m.player_id], "score": [m.score]} for m in members]).encode()
    assert b"\n" not in posts, "json.dumps writes one line"
    assert read(ours, size) == read(posts, size) == [Vertex(m.player_id, m.score) for m in members]


@pytest.mark.parametrize("text", ["[]", "[\n]\n", " [ ] \r\n\t"])
def test_an_empty_extract(text: str) -> None:
    assert read(text) == []


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64 * 1024])
def test_a_byte_order_mark_of_utf_8_is_not_part_of_the_extract(size: int) -> None:
    assert read(b"\xef\xbb\xbf" + f"[{WAYNE}]".encode(), size) == [Vertex("wayne96", 3)]
    assert read(b"\xef\xbb\xbf[]", size) == []


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64 * 1024])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_another_encoding_has_its_own_error(size: int, encoding: str) -> None:
    assert refusal(f"[{WAYNE}]".encode(encoding), size=size) == (
        f"CF-EXTRACT-03: {URI} is encoded as UTF-16 or UTF-32: save it as UTF-8"
    )


@pytest.mark.parametrize("start", [b"\x1f\x8b\x08\x00", b"\x1f\x8b\x08\x08", b"\x28\xb5\x2f\xfd"])
def test_a_compressed_extract_is_refused(start: bytes) -> None:
    said = f"CF-EXTRACT-03: {URI} is not UTF-8 after line 1: write plain JSON, not compressed"
    assert refusal(start + b"rest") == said


@pytest.mark.parametrize("text", [f"[{WAYNE},\ufeff{WAYNE}]", f" \ufeff[{WAYNE}]", f"[{WAYNE}]\ufeff"])
def test_a_byte_order_mark_elsewhere_is_refused(text: str) -> None:
    assert "is not a list of records: " in refusal(text)


def test_a_record_is_a_vertex_with_all_that_one_may_have() -> None:
    text = (
        '[{"playerId": ["ann"], "score": [1, 3, 2], "status": ["Active"], "other": 5}, {"score": [3]},'
        ' {"playerId": [], "score": [3]}, {"playerId": ["bob", "bo"], "score": [3]}, {"playerId": [""], "score": [3]},'
        ' {"playerId": ["\\ud800"], "score": [3]}]'
    )
    assert read(text) == [Vertex("ann", 3)] + 5 * [Vertex(None, 3)]
    assert read(text, direction="below")[0] == Vertex("ann", 1)


def test_required_properties_are_read() -> None:
    text = '[{"playerId": ["ann"], "score": [3], "status": ["Active"]}]'
    assert read(text, required=("status",)) == [Vertex("ann", 3, {"status": ["Active"]})]


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8"), min_size=1), st.integers(-9, 9) | st.floats(-1e9, 1e9), st.booleans()
        )
    ),
    st.sampled_from([None, 0, 2]),
    st.integers(1, 99),
)
def test_any_json_layout_is_read(players: list[tuple[str, float, bool]], indent: int | None, size: int) -> None:
    records = [{"playerId": [player], "score": [score]} for player, score, _ in players]
    text = json.dumps(records, indent=indent, ensure_ascii=bool(players and players[0][2]))
    assert read(text, size) == [Vertex(player, score) for player, score, _ in players]


# --- invalid extracts


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", f"{URI} is truncated after 0 records: upload the whole file again; a file without players is []"),
        (" \n", f"{URI} is truncated after 0 records"),
        ("[", f"{URI} is truncated after 0 records"),
        (f"[{WAYNE}", f"{URI} is truncated after 1 records"),
        (f"[{WAYNE},\n", f"{URI} is truncated after 1 records"),
        (WAYNE, f"line 1 of {URI}, after 0 records, is not a list of records: write [ there"),
        (f"{WAYNE}\n{WAYNE}\n", f"line 1 of {URI}, after 0 records, is not a list of records: write [ there"),
        ("[3]", "after 0 records, is not a list of records: write { or ] there"),
        (f"[{WAYNE} {WAYNE}]", "after 1 records, is not a list of records: write , or ] there"),
        (f"[{WAYNE},\n]", f"line 2 of {URI}, after 1 records, is not a list of records: write {{ there"),
        (f"[{WAYNE}]\n\n{WAYNE}", f"line 3 of {URI}, after 1 records, is not a list of records: nothing may follow"),
        (
            f"[\n{WAYNE},\n{WAYNE[:-1]}\n]",
            f"record 2 of {URI}, on line 3, is not JSON, is truncated, or is longer than",
        ),
        (f"[{WAYNE},\n\n{WAYNE[:9]}", f"record 2 of {URI}, on line 3, is not JSON, is truncated, or is longer than"),
        ("playerId,score\nwayne96,3\n", f"line 1 of {URI}, after 0 records, is not a list of records: write [ there"),
        (b"\x1f\x8b\x08\x00wayne96", f"{URI} is not UTF-8 after line 1: write plain JSON, not compressed"),
        (f"[{WAYNE},\n".encode() + b'{"playerId": ["wayn\xe9"]', f"{URI} is not UTF-8 after line"),
        (b"[]\xc3", f"{URI} is not UTF-8"),
    ],
)
def test_other_than_a_list_of_records(text: str | bytes, sentence: str) -> None:
    said = refusal(text)
    assert sentence in said
    assert "wayn" not in said, "never the text, which may be a player"


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        ('{"playerId": "wayne96", "score": [3]}', "has a playerId that is not in a list"),
        ('{"playerId": [96], "score": [3]}', "has a playerId that is not in a list, is not text"),
        ('{"playerId": [null], "score": [3]}', "has a playerId that is not in a list, is not text"),
        ('{"playerId": ["' + "é" * 1025 + '"], "score": [3]}', "or is longer than 2,048 bytes"),
        ('{"playerId": ["wayne96"]}', "has no list of finite numbers as its score"),
        ('{"playerId": ["wayne96"], "scores": [3]}', "has no list of finite numbers as its score"),
        ('{"playerId": ["wayne96"], "score": 3}', "has no list of finite numbers as its score"),
        ('{"playerId": ["wayne96"], "score": []}', "has no list of finite numbers as its score"),
        ('{"playerId": ["wayne96"], "score": ["3"]}', "has no list of finite numbers as its score"),
        ('{"playerId": ["wayne96"], "score": [true]}', "has no list of finite numbers as its score"),
        ('{"playerId": ["wayne96"], "score": [NaN]}', "has no list of finite numbers as its score"),
        ('{"playerId": ["wayne96"], "score": [1e999]}', "has no list of finite numbers as its score"),
        ('{"playerId": ["wayne96"], "score": [9223372036854775808]}', "has no list of finite numbers as its score"),
        ('{"playerId": ["wayne96"], "score": [' + "9" * 5000 + "]}", "is not JSON"),
        ('{"playerId": ' + "[" * 50_000, "is not JSON"),
        ("{" + f'"playerId": ["wayne96"], "pad": "{"x" * 70_000}"' + "}", "or is longer than 65,536 characters"),
    ],
)
def test_an_invalid_record_is_reported_with_number_and_line(record: str, sentence: str) -> None:
    said = refusal(f"[{WAYNE},\n\n{record}, {WAYNE}]", size=64 * 1024)
    assert said.startswith(f"CF-EXTRACT-03: record 2 of {URI}, on line 3,")
    assert sentence in said
    assert "wayne96" not in said


def test_a_record_without_what_the_cohort_requires_is_refused_and_not_left_out() -> None:
    said = refusal(f"[{WAYNE}]", required=("status", "realm"))
    assert said == (
        f"CF-EXTRACT-03: record 1 of {URI}, on line 1, has no list as its status, realm, which the cohort's `where`"
        " names: write the values beside the score"
    )


def test_a_record_that_never_ends_is_not_read_to_its_end() -> None:
    def chunks() -> Any:
        yield b'[{"playerId": ["'
        for _ in range(3):
            yield b"x" * dropped_extract.MAX_RECORD_CHARACTERS
        raise AssertionError

    with pytest.raises(FlywheelError, match="or is longer than 65,536 characters"):
        list(read_uploaded_extract(chunks(), URI, property="score", direction="above"))


# --- its address


def test_the_key_of_an_address_in_the_dropped_folder() -> None:
    assert uploaded_extract_key(URI, "exports") == "dropped/theirs.json"
    assert uploaded_extract_key("s3://exports/dropped/team-a/2026_11.22/x(1).json", "exports").endswith("/x(1).json")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://exports/export/ea_atrisk_2_2026-11-22_00-00-00.json",
        "s3://exports/dropped/",
        "s3://exports/dropped/team/",
        "s3://exports/xdropped/a.json",
        "s3://others/dropped/a.json",
        "s3://exports/dropped/a b.json",
        "s3://exports/dropped/a%20b.json",
        "s3://exports/dropped/ann@example.com.json",
        "s3://exports/dropped/a.json\n",
        "s3:/exports/dropped/a.json",
        "https://exports.s3.amazonaws.com/dropped/a.json",
        "dropped/a.json",
    ],
)
def test_other_addresses_are_refused(uri: str) -> None:
    with pytest.raises(FlywheelError) as error:
        uploaded_extract_key(uri, "exports")
    assert str(error.value).startswith(
        "CF-EXTRACT-02: extract_uri is not a file below s3://exports/dropped/: upload it there"
    )
    assert "ann@" not in str(error.value)
