"""Players are found in a file, removed from it, and recognized later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cohort_flywheel.destinations.pinpoint import layout as pinpoint
from cohort_flywheel.destinations.ses import layout as ses
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.governance.erasure import (
    MAX_PLAYERS,
    Found,
    Tombstones,
    kind_of,
    look,
    read_players,
    tombstone,
)
from cohort_flywheel.segment.contacts import Contact, Reject
from cohort_flywheel.segment.extract_file import write_extract
from cohort_flywheel.segment.members import Member, Members, Vertex
from cohort_flywheel.segment.segment_file import write_segment
from cohort_flywheel.segment.snapshot import Header, read_file_header, read_vertices
from tests.cohort_flywheel.conftest import NEWEST
from tests.cohort_flywheel.segment.snapshots import records_of, snapshot_file

ANN, BOB, ZOË = "ann", 'bo"b, \\ Ⅷ', "Zoë"
SALT = b"salt" * 8


# --- the list


def test_a_list_has_one_player_per_line() -> None:
    assert read_players([b"\xef\xbb\xbfbob", b"", b"  ", "Zoë\r".encode(), b"bob", b"an n"]) == [ZOË, "an n", "bob"]


def test_a_json_line_can_hold_any_player_id() -> None:
    quoted = [b'" ann"', b'"ann\\u0020"', b'"a\\nb"', b'"\\"ann\\""', b'"<a, b>"', '"ann\u200b"'.encode()]
    assert read_players(quoted) == [" ann", '"ann"', "<a, b>", "a\nb", "ann ", "ann\u200b"]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([b"", b"  "], "erasure/players.txt has no players: write one playerId per line"),
        ([b'""'], "line 1 of erasure/players.txt begins with a quote and is not a JSON string"),
        ([b"ann", b"\xff"], "line 2 of erasure/players.txt is not UTF-8"),
        ([b"bob", b"ann "], "line 2 of erasure/players.txt has a blank at an end: remove it, or, if it is part of the"),
        ([b'"ann'], r'line 1 .* begins with a quote and is not a JSON string: write .* as "\\"…"$'),
        ([b'"ann", "bob"'], "line 1 of erasure/players.txt begins with a quote and is not a JSON string"),
        ([rb'"ann\ud800"'], "line 1 of erasure/players.txt begins with a quote and is not a JSON string"),
        ([b"bob", b"'ann'"], r"line 2 of erasure/players.txt is more than a playerId: remove what is not part of it"),
        ([b"bob", b"<ann>"], "line 2 of erasure/players.txt is more than a playerId"),
        ([b"ann,unsubscribed"], "line 1 of erasure/players.txt is more than a playerId"),
        ([b"bob", b"", b"ann;1"], "line 3 of erasure/players.txt is more than a playerId"),
        ([b"ann."], "line 1 of erasure/players.txt is more than a playerId"),
        (["ann\u200b".encode()], "line 1 of erasure/players.txt is more than a playerId"),
        (["Zoe\u0308ann".encode()], "line 1 of erasure/players.txt is more than a playerId"),
        ([str(n).encode() for n in range(MAX_PLAYERS + 1)], "has 1,001 players, and at most 1,000 are erased"),
    ],
)  # fmt: skip
def test_an_invalid_list_is_refused_without_quoting_it(lines: list[bytes], sentence: str) -> None:
    with pytest.raises(FlywheelError, match=sentence) as raised:
        read_players(lines)
    assert "ann" not in str(raised.value)


# --- tombstones


def test_a_tombstone_is_recognized_only_with_its_salt() -> None:
    assert tombstone(SALT, ANN) == tombstone(SALT, ANN)
    assert len({tombstone(SALT, ANN), tombstone(SALT, BOB), tombstone(b"other" * 6, ANN)}) == 3
    erased = Tombstones(SALT, [tombstone(SALT, ANN)])
    assert ANN in erased
    assert BOB not in erased


def test_an_erased_players_vertices_are_left_out_and_counted(tmp_path: Path) -> None:
    erased = Tombstones(SALT, [tombstone(SALT, ANN)])
    with Members(tmp_path, direction="above", threshold=2, erased=erased.__contains__) as members:
        members.add([Vertex(ANN, 9)])
        members.clear()  # an interrupted read begins again
        members.add(iter([Vertex(ANN, 3), Vertex(BOB, 3), Vertex(None, 3), Vertex(ANN, 0)]))
        assert list(members) == [Member(BOB, 3)]
        assert members.counts().vertices_read == 2
        assert members.vertices_erased == 2


# --- files


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("snapshots/cohort=ea_atrisk/as_of=2026-11-22_00-00-00/snapshot.parquet", "snapshot"),
        ("snapshots_pending/cohort=ea_atrisk/as_of=2026-11-22_00-00-00/0123456789abcdef.parquet", "snapshot"),
        ("export/n.json", "extract"),
        ("dry_run/export/n.json", "extract"),
        ("dropped/team/any.json", "extract"),
        ("staged/n.json", "extract"),
        ("dry_run/staged/n.json", "extract"),
        ("staged/n/0000_ab.csv", "file of rows"),
        ("dry_run/staged/n/0000_ab.csv", "file of rows"),
        ("staged/graph_loads/cohort_modeler/0123/user_vertices.csv", "graph load file"),
        ("staged/graph_loads/cohort_modeler/0123/user_vertices.csv.gz", "graph load file"),
        ("staged/graph_loads/cohort_modeler/0123/user_vertices.csv.bz2", "graph load file"),
        ("staged/graph_loads/graph_load__r_load_files/0123456789abcdef_errors_ab-1.jsonl", "graph load file"),
        ("staged/graph_loads/graph_load__r_load_files/0123456789abcdef.json", None),
        ("staged/graph_loads/graph_load__r_load_files/findings.json", None),
        ("staged/graph_loads/graph_load__r_load_files/report.json", None),
        ("segments/n_ab/0000.csv", "file of rows"),
        ("rejects/n/0000.csv", "file of rows"),
        ("dry_run/rejects/n/0000.csv", "file of rows"),
        ("contacts/n_ab/0000_ab.csv", "import file"),
        ("memberships/customer_profiles/domain/ea_atrisk_2.txt", "membership"),
        ("sends/template/n.jsonl", "send ledger"),
        ("launches/n/in_doubt.txt", "list of a launch"),
        ("launches/n/000001_1.outcome.json", "batch of a launch"),
        ("reports/n/d__1.json", None),
        ("reports/n/mail_0123456789abcdef.html", None),
        ("dry_run/reports/n/d__1.json", None),
        ("results/ea_atrisk/2/x.json", None),
        ("last_runs/n.json", None),
        ("dry_run/last_runs/n.json", None),
        ("do_not_contact.txt", None),
        ("what_if/ea_atrisk_2_2026-11-01_2026-11-22.csv", None),
        ("erasure/tombstones/ab", None),
        ("engagement/suppressions.csv", None),
        ("engagement/remove.txt", None),
        ("engagement/events/as_of=2026-11-22_00-00-00/events.parquet", None),
        ("engagement/feedback/2026-11-22_00-00-00.csv", None),
        ("snapshots/", None),
        ("snapshots_pending/cohort=ea_atrisk/", None),
        ("dry_run/staged/n/", None),
    ],
)
def test_the_kind_of_file_of_a_key(key: str, kind: str | None) -> None:
    assert kind_of("bucket", key) == kind


@pytest.mark.parametrize(
    "key",
    [
        "snapshots/ea_atrisk/2026-11-22_00-00-00/0123.jsonl",
        "snapshots/cohort=ea_atrisk/as_of=2026-11-22_00-00-00/0123.parquet",
        "snapshots/cohort=ea_atrisk/as_of=2026-11-22_00-00-00/final.json",
        "snapshots/cohort=ea_atrisk/snapshot.parquet",
        "staged/n/0000.json.gz",
        "dry_run/rejects/n/0000.xlsx",
        "memberships/backup.csv",
        "sends/template/n.jsonl.bak",
        "launches/n",
        "new_folder/n.json",
        "reports/n/copy.parquet",
        "dry_run/reports/n/copy.csv",
        "results/ea_atrisk/2/players.csv",
        "what_if/copy.parquet",
        "engagement/backup.csv",
        "engagement/events/copy.csv",
    ],
)
def test_an_object_of_an_unknown_kind_is_an_error(key: str) -> None:
    with pytest.raises(FlywheelError, match=f"s3://bucket/{key} is not a file of this package") as raised:
        kind_of("bucket", key)
    assert raised.value.code == Code.ERASURE_UNKNOWN_FILE


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "file", tmp_path / "rest"


@pytest.mark.parametrize("required", [[], ["status"]])
def test_erased_players_are_removed_from_a_snapshot(tmp_path: Path, required: list[str]) -> None:
    header = Header(
        cohort="ea_atrisk", as_of=NEWEST, property="ea_atrisk", direction="above", floor=0, required=required,
        read_at=NEWEST,
    )  # fmt: skip
    properties = {"status": ["ann"]} if required else {}
    everybody = [Vertex(name, 3, properties) for name in (ANN, "anna", BOB, None, ZOË, ANN)]
    path, rest = snapshot_file(tmp_path, header, everybody), tmp_path / "rest"
    assert look("snapshot", path, ["dora"], [], rest) == Found(0)
    assert look("snapshot", path, [ANN, ZOË], [], rest) == Found(3)
    assert list(read_vertices(rest)) == [vertex for vertex in everybody if vertex.player_id not in (ANN, ZOË)]
    assert read_file_header(rest, "rest") == header
    assert look("snapshot", path, [BOB], [], rest) == Found(1)


def test_a_snapshot_of_wide_rows_is_rewritten_within_the_memory_of_a_task(tmp_path: Path) -> None:
    """80 MB of values of `where`, with the limit of 64."""
    header = Header(
        cohort="ea_atrisk", as_of=NEWEST, property="ea_atrisk", direction="above", floor=0, required=["status"],
        read_at=NEWEST,
    )  # fmt: skip
    vertices = (Vertex(f"p{n}", 3, {"status": [f"{n:06}" * 340]}) for n in range(40_000))
    path, rest = snapshot_file(tmp_path, header, vertices, memory_mb=512), tmp_path / "rest"
    assert look("snapshot", path, ["p7", "p39999"], [], rest) == Found(2)
    assert sum(1 for _ in read_vertices(rest)) == 39_998


def test_a_snapshot_that_cannot_be_searched_is_an_error(paths: tuple[Path, Path]) -> None:
    path, rest = paths
    path.write_text(f'["{ANN}", 3]\n')
    with pytest.raises(
        FlywheelError,
        match="s3://state/one is not a snapshot that this version reads: move it",
    ):
        look("snapshot", path, [ANN], [], rest, "s3://state/one")


def contact(player: str) -> Contact:
    attributes = {"FirstName": 'Jo "J", Jr.', "LastName": "", "FavoriteRole": "Tank"}
    return Contact(player, f"{player[:2]}@Example.com", attributes)


@pytest.mark.parametrize("layout", [pinpoint.LAYOUT, ses.LAYOUT])
def test_a_segment_file_and_rejects_lose_their_rows_and_no_other_byte(paths: tuple[Path, Path], layout: Any) -> None:
    path, rest = paths
    columns = list(contact(ANN).attributes)
    rejected = [Reject(BOB, "no_record"), Reject("x\n\ry", "bad_value", "a")]
    everybody = [contact(ANN), contact("anna"), contact(ZOË), *rejected]

    def written(judged: list[Any]) -> tuple[bytes, bytes]:
        rejects = path.with_name("rejects")
        write_segment(judged, columns, layout, path, rejects)
        return path.read_bytes(), rejects.read_bytes()

    rows, _ = written([contact("anna"), contact(ZOË)])
    _, rejects = written(rejected[1:])
    written(everybody)
    assert look("file of rows", path, [ANN, BOB], [], rest) == Found(1, frozenset([(ANN, "an@Example.com")]))
    assert rest.read_bytes() == rows
    assert look("file of rows", path.with_name("rejects"), [ANN, BOB], [], rest) == Found(1)
    assert rest.read_bytes() == rejects
    assert look("file of rows", path.with_name("rejects"), ["x\n\ry"], [], rest) == Found(1)


def test_an_import_file_has_only_addresses(paths: tuple[Path, Path]) -> None:
    path, rest = paths
    header, row = "emailAddress,unsubscribeAll\n", "{}@Example.com,false\n"
    path.write_text(header + row.format("Ann") + row.format("bob"))
    addresses = [(ANN, "aNN@example.com")]
    assert look("import file", path, [ANN], addresses, rest) == Found(1, frozenset([("", "Ann@Example.com")]))
    assert rest.read_text() == header + row.format("bob")


def test_other_rows_keep_their_bytes(paths: tuple[Path, Path]) -> None:
    path, rest = paths
    for content in (b"", b"line\n7\n", b"Address,b\n\xff,2\n", b"playerId,a\nb\xff,1\n"):
        path.write_bytes(content)
        assert look("file of rows", path, [ANN], [(ANN, "a@b.c")], rest) == Found(0)
        assert rest.read_bytes() == content


@pytest.mark.parametrize(
    "content", ["x", "a,b\nann,2\n", "\nplayerId\nann\n", "playerId;reason\nann;no_record\n", "\ufeffplayerId\nann\n"]
)
def test_a_file_without_a_column_of_players_or_addresses_is_an_error(paths: tuple[Path, Path], content: str) -> None:
    path, rest = paths
    path.write_text(content, encoding="utf-8")
    with pytest.raises(FlywheelError, match="^CF-ERASURE-02: s3://state/one is not a file of this package"):
        look("file of rows", path, [ANN], [(ANN, "a@b.c")], rest, "s3://state/one")


def test_the_id_of_a_vertex_may_be_the_player(paths: tuple[Path, Path]) -> None:
    path, rest = paths
    path.write_text("vertexId,playerId\nann,\nv-1,ann\nann,bob\nv-2,bob\nanna,\n")
    assert look("file of rows", path, [ANN], [], rest) == Found(3)
    assert rest.read_text() == "vertexId,playerId\nv-2,bob\nanna,\n"


def test_an_extract_names_players_in_each_format(paths: tuple[Path, Path]) -> None:
    path, rest = paths
    with path.open("wb") as file:
        write_extract(records_of([Member("anna", 3), Member(BOB, 3), Member(ZOË, 3)], "ea_atrisk"), file)
    assert look("extract", path, [ANN], [], rest) == Found(0)
    assert look("extract", path, [ANN, BOB, ZOË], [], rest) == Found(2)
    path.write_text(json.dumps([{"playerId": [ZOË]}], indent=4))  # with \u00eb
    assert look("extract", path, [ZOË], [], rest) == Found(1)
    path.write_bytes(b"")
    assert look("extract", path, [ZOË], [], rest) == Found(0)
    assert not rest.exists()


@pytest.mark.parametrize(
    ("player", "written"),
    [
        (ANN, r"\u0061nn"),
        (ANN, r"\u0061\u006E\u006e"),
        ("a/n", r"a\/n"),
        ("a/n", "a/n"),
        (BOB, r"bo\u0022b, \u005c \u2167"),
        ("😀", r"\ud83d\ude00"),
        (" ann ", " ann "),
        ("a\tn", r"a\tn"),
        ("a\\", r"a\\"),
    ],
)
def test_players_are_found_in_an_extract_with_any_escapes(paths: tuple[Path, Path], player: str, written: str) -> None:
    path, rest = paths
    record = f'[{{"playerId": ["{written}"], "ea_atrisk": [3]}}, {{"playerId": ["\\u0062", "joann"]}}]'
    assert json.loads(record)[0]["playerId"] == [player]
    for text in (record, f'an uploaded file with a quote " of its own, {record[:-20]}', f"\\\\{record}"):
        path.write_text(text, encoding="utf-8")
        assert look("extract", path, [player, "unknown", "ann nn"], [], rest) == Found(1), text


@pytest.mark.parametrize("kind", ["membership", "send ledger", "list of a launch"])
def test_a_membership_and_a_send_ledger_have_one_player_per_line(paths: tuple[Path, Path], kind: str) -> None:
    path, rest = paths
    path.write_text('{"upload": 1}\nann\nanna\njoann\n')
    assert look(kind, path, [ANN], [], rest) == Found(1)
    assert rest.read_text() == '{"upload": 1}\nanna\njoann\n'


def test_a_batch_of_a_launch_has_players_in_its_lists(paths: tuple[Path, Path]) -> None:
    path, rest = paths
    written = {"sent": 2, "try": ANN, "left": [ANN, "anna"], "refused": {"MessageRejected": ["joann", ANN]}}
    path.write_text(json.dumps(written))
    assert look("batch of a launch", path, [ANN], [], rest) == Found(2)
    others = written | {"left": ["anna"], "refused": {"MessageRejected": ["joann"]}}
    assert rest.read_text() == json.dumps(others, indent=2, sort_keys=True)  # as put_json has it


def test_the_intents_of_a_batch_keep_the_index_of_the_others(paths: tuple[Path, Path]) -> None:
    """The tag of a mail, and its message id, name a player by the index."""
    path, rest = paths
    path.write_text(json.dumps({"player_ids": ["joann", ANN, "anna"], "withdrawn": {"opted_out": [ANN]}}))
    assert look("batch of a launch", path, [ANN], [], rest) == Found(2)
    assert json.loads(rest.read_text()) == {"player_ids": ["joann", "", "anna"], "withdrawn": {"opted_out": []}}
    path.write_bytes(rest.read_bytes())
    assert look("batch of a launch", path, [ANN], [], rest) == Found(0)
