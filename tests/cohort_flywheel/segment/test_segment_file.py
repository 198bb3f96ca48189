"""Contacts in, a segment file and a rejects file out: valid rows, and every player accounted for.

The rules of Pinpoint's import are written here a second time, from its user guide and quotas, and not imported.
"""

import csv
import io
import re
import sys
import unicodedata
from collections import Counter
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from cohort_flywheel.campaign.email_template import is_blank
from cohort_flywheel.config.cohorts import Consent
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.destinations.pinpoint import layout as pinpoint
from cohort_flywheel.destinations.ses import layout as ses
from cohort_flywheel.destinations.webhook import layout as webhook
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.segment import segment_file
from cohort_flywheel.segment.contacts import Contact, Reject, classify_member
from cohort_flywheel.segment.extract_file import extract_records, read_extract, write_extract
from cohort_flywheel.segment.members import Members, to_vertex
from cohort_flywheel.segment.outputs import SegmentCounts, SegmentPart, Shard
from cohort_flywheel.segment.segment_file import Layout, combine, digest, write_segment

NAMES = ["FirstName", "LastName", "FavoriteRole"]


@pytest.mark.parametrize("layout", [pinpoint, ses, webhook], ids=lambda layout: layout.__name__.split(".")[-2])
def test_no_refused_character_is_printable(layout: ModuleType) -> None:
    """The layouts look for these characters only in values that are not printable."""
    printable = "".join(filter(str.isprintable, map(chr, range(sys.maxunicode + 1))))
    assert layout._REFUSED.search("\x1f") is not None
    assert layout._REFUSED.search(printable) is None


any_cells = st.lists(st.text(max_size=3) | st.sampled_from(["", ",", '"', "\n", "\r", "a,b", " ", "#"]), max_size=4)


@given(st.lists(any_cells, max_size=4))
def test_rows_are_written_as_by_csv_writer(rows: list[list[str]]) -> None:
    ours, theirs = io.StringIO(newline=""), io.StringIO(newline="")
    writer = csv.writer(ours, lineterminator="\n")
    for row in rows:
        segment_file._write_row(row, ours, writer)
    csv.writer(theirs, lineterminator="\n").writerows(rows)
    assert ours.getvalue() == theirs.getvalue()


def contact(player_id: str, first: str = "First", last: str = "Last", role: str = "healer") -> Contact:
    return Contact(player_id, f"{player_id}@example.com", dict(zip(NAMES, (first, last, role), strict=True)))


def write(folder: Path, *judged: Contact | Reject, layout: Layout = pinpoint.LAYOUT) -> SegmentCounts:
    return write_segment(iter(judged), NAMES, layout, folder / "rows.csv", folder / "rejects.csv")


def cells(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file, strict=True))


def test_contacts_become_rows_and_rejects_become_lines(tmp_path: Path) -> None:
    counts = write(
        tmp_path,
        contact("ann"),
        Reject("bob", "opted_out", "emailConsent"),
        contact("cem", first="line\nbreak"),
        Reject("dee", "no_record"),
        contact("eve"),
    )
    rejects = {"bad_value": 1, "no_record": 1, "opted_out": 1}
    assert counts == SegmentCounts(members=5, rows=2, rejects=rejects)
    header, *rows = cells(tmp_path / "rows.csv")
    assert header == pinpoint.header(NAMES)
    assert [row[2] for row in rows] == ["ann", "eve"]
    assert cells(tmp_path / "rejects.csv") == [
        ["playerId", "reason", "column"],
        ["bob", "opted_out", "emailConsent"],
        ["cem", "bad_value", "FirstName"],
        ["dee", "no_record", ""],
    ]


def test_an_excluded_member_is_classified_last_and_is_a_reject(tmp_path: Path) -> None:
    def withheld(asked: Contact) -> Reject | None:
        assert asked.player_id != "cem", "a value that the destination refuses comes first"
        return Reject("eve", "holdout") if asked.player_id == "eve" else None

    judged: list[Contact | Reject] = [contact("ann"), Reject("bob", "no_record")]
    judged += [contact("cem", first="line\nbreak"), contact("eve")]
    paths = tmp_path / "rows.csv", tmp_path / "rejects.csv"
    counts = write_segment(iter(judged), NAMES, pinpoint.LAYOUT, *paths, withheld)
    assert counts == SegmentCounts(members=4, rows=1, rejects={"bad_value": 1, "holdout": 1, "no_record": 1})
    assert [row[2] for row in cells(paths[0])[1:]] == ["ann"]
    assert cells(paths[1])[-1] == ["eve", "holdout", ""]


def test_an_empty_cohort_is_two_headers(tmp_path: Path) -> None:
    assert write(tmp_path) == SegmentCounts(members=0, rows=0, rejects={})
    assert len(cells(tmp_path / "rows.csv")) == len(cells(tmp_path / "rejects.csv")) == 1


@pytest.mark.parametrize("name", ['O"Neil, "Jr."', "a,b", '"', ",", "'", " spaced ", "=cmd()", "🎮,\u200d", "\\,", ""])
def test_what_has_a_meaning_in_csv_reads_back_as_it_was(tmp_path: Path, name: str) -> None:
    assert write(tmp_path, contact("ann", first=name, last=name)).rows == 1
    assert cells(tmp_path / "rows.csv")[1][3:5] == [name, name]
    assert (tmp_path / "rows.csv").read_bytes().count(b"\n") == 2


def test_a_rejected_value_is_in_neither_file(tmp_path: Path) -> None:
    write(tmp_path, contact("ann", last="Secret\tLast"))
    for name in ("rows.csv", "rejects.csv"):
        assert b"Secret" not in (tmp_path / name).read_bytes()


@pytest.mark.parametrize(
    "player_id", ["a\rb", "\r", "a\nb", "a\r\nb", 'a","b', "a\tb", "\0", "\u2028", "ann,no_record,\rbob"]
)
def test_no_player_id_can_break_a_line_of_the_rejects(tmp_path: Path, player_id: str) -> None:
    write(tmp_path, Reject(player_id, "no_record"), contact(player_id))
    _, *rejects = cells(tmp_path / "rejects.csv")
    assert rejects[0] == [player_id, "no_record", ""]
    assert [row[0] for row in rejects] + [row[2] for row in cells(tmp_path / "rows.csv")[1:]] == [player_id] * 2


def test_the_files_are_the_same_bytes_for_the_same_players(tmp_path: Path) -> None:
    players: list[Contact | Reject] = [contact("ann"), Reject("bob", "no_record"), contact("cem", role="тест")]
    digests = []
    for name in ("one", "two"):
        (folder := tmp_path / name).mkdir()
        write(folder, *players)
        digests.append((digest(folder / "rows.csv"), digest(folder / "rejects.csv")))
    assert digests[0] == digests[1]
    write(tmp_path, *players[:2])
    assert digest(tmp_path / "rows.csv") != digests[0][0]


def test_the_digest_is_sha_256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert digest(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# --- the parts of several shards -------------------------------------------------------------------------


def part(index: int, **changed: Any) -> SegmentPart:
    """The output of a task of before there were counts of records."""
    return SegmentPart.model_validate({
        "index": index, "of": "abc", "members": 3, "rows": 2, "rejects": {"no_record": 1}, "bytes": 600,
        "sha256": f"{index}" * 64, "do_not_contact": 7, "s3_bucket": "state", "s3_key": f"staged/n/{index:04d}.csv",
        "s3_url": f"s3://state/staged/n/{index:04d}.csv", "rejects_key": f"rejects/n/{index:04d}.csv",
    } | changed)  # fmt: skip


SHARDS = [Shard(index=index, first=2 + 100 * index, bytes=98, members=3, size=3, of="abc") for index in range(2)]


def test_the_parts_are_combined_in_any_order() -> None:
    second = part(1, rejects={"no_record": 2, "bad_value": 1}, rows=0)
    whole = combine([second, part(0)], SHARDS, 1_200)
    assert whole == combine([part(0), second], SHARDS, 1_200)
    assert (whole.members, whole.rows, whole.bytes, whole.do_not_contact) == (6, 2, 1_200, 7)
    assert whole.rejects == {"bad_value": 1, "no_record": 3}
    assert [file.s3_key for file in whole.parts] == ["staged/n/0000.csv", "staged/n/0001.csv"]


def test_the_counts_of_the_records_are_summed_with_their_zeros() -> None:
    one = part(0, records=3, records_without={"email": 0, "lastName": 3}, matched_key=None)
    other = part(1, records=2, records_without={"email": 0, "lastName": 1}, matched_key="staged/n/0001_matched_a.csv")
    whole = combine([other, one], SHARDS, 9_999)
    assert (whole.records, whole.records_without) == (5, {"email": 0, "lastName": 4})
    assert whole.matched_keys == ["staged/n/0001_matched_a.csv"]


def test_parts_of_an_earlier_version_have_default_counts() -> None:
    whole = combine([part(0), part(1)], SHARDS, 9_999)
    assert (whole.records, whole.records_without, whole.matched_keys) == (0, {}, [])


def test_other_bytes_in_any_part_have_another_digest() -> None:
    digests = {combine(parts, SHARDS, 9_999).sha256 for parts in (
        [part(0), part(1)], [part(0, sha256="f" * 64), part(1)], [part(0), part(1, sha256="f" * 64)],
        [part(0, sha256="1" * 64), part(1, sha256="0" * 64)],
    )}  # fmt: skip
    assert len(digests) == 4


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [part(0)],
        [part(1)],
        [part(0), part(0)],
        [part(0), part(1), part(1)],
        [part(0), part(1, of="another extract")],
        [part(0), part(1, members=2)],
    ],
)
def test_parts_that_are_not_those_of_the_shards_are_refused(parts: list[SegmentPart]) -> None:
    with pytest.raises(FlywheelError, match=r"the \d parts are not those of the 2 shards of the extract: clear enrich"):
        combine(parts, SHARDS, 9_999)


def test_leftover_parts_of_more_shards_are_ignored() -> None:
    """After a clear, Airflow still has the outputs of the indexes that are mapped no more."""
    assert combine([part(0), part(1), part(2, of="older")], SHARDS, 9_999) == combine([part(0), part(1)], SHARDS, 9_999)


def test_a_segment_that_the_destination_would_refuse_for_its_size_is_refused() -> None:
    assert combine([part(0), part(1)], SHARDS, 1_200).bytes == 1_200
    with pytest.raises(FlywheelError, match=r"has 1,200 bytes, and the destination takes 1,199 in one import: choose"):
        combine([part(0), part(1)], SHARDS, 1_199)


def test_the_shipped_limit_is_pinpoints() -> None:
    assert pinpoint.MAX_BYTES <= 1_000_000_000


# --- the whole way, for any players ----------------------------------------------------------------------

CONSENT = Consent(attribute="emailConsent", opted_in=["yes", True], opted_out=["no", False], silence="opted_out")
ATTRIBUTES = {"Guild": "guild"}
COLUMNS = [*NAMES, "Guild", "ea_atrisk"]
ON_THE_LIST = {"listed", "listed@example.com"}


def keeps_the_rules_of_the_import(data: bytes) -> list[dict[str, str]]:
    """Check Pinpoint's rules on the bytes; return the rows."""
    text = data.decode("utf-8", errors="strict")
    assert not text.startswith("\ufeff")
    header, *rows = csv.reader(text.splitlines(keepends=True), strict=True)
    assert len(rows) + 1 == data.count(b"\n"), "a row a line"
    assert b"\r" not in data
    assert b"\t" not in data
    for name in header:
        assert re.fullmatch(r"ChannelType|Address|Id|User\.UserId|User\.UserAttributes\.\w{1,50}", name)
    assert len(set(header)) == len(header)
    endpoints = [dict(zip(header, row, strict=True)) for row in rows]
    for endpoint in endpoints:
        assert endpoint["ChannelType"] == "EMAIL"
        assert re.fullmatch(r"[^@\s,]+@[^@\s,]+\.[^@\s,]+", endpoint["Address"], re.ASCII)
        assert 1 <= len(endpoint["Id"]) <= 100
        assert endpoint["User.UserId"]
        assert sum(len(value.encode()) for value in endpoint.values()) <= 15_000
        for name, value in endpoint.items():
            assert not {unicodedata.category(letter) for letter in value} & {"Cc", "Cs", "Zl", "Zp"}
            assert len(value) <= 100 or not name.startswith("User.UserAttributes.")
    assert len({endpoint["Id"] for endpoint in endpoints}) == len(endpoints)
    assert len({endpoint["User.UserId"] for endpoint in endpoints}) == len(endpoints)
    return endpoints


harmless = st.text(alphabet="abcÄ🎮 ,'\"\\;|=", max_size=100)
harmful = st.text(alphabet=st.characters(), max_size=120) | st.sampled_from(
    ["a\nb", "a\r\nb", "a\tb", "\x85", "\u2028", "\ud83c", "x" * 101, "🎮" * 2_500, '"\n"']
)
fine_address = st.builds("{}@{}.example.com".format, st.from_regex(r"[a-z]{1,9}", fullmatch=True), st.just("mail"))
addresses = (
    fine_address | st.emails() | st.sampled_from(["a@BÜCHER.de", "Listed@EXAMPLE.com", "", "none", "ä@example.com"])
)
values = st.one_of(harmless, st.none(), st.decimals(0, 9, places=1), harmful, st.just(["a"]))
fine_record = st.fixed_dictionaries(
    {"emailConsent": st.sampled_from(["yes", True]), "email": fine_address},
    optional=dict.fromkeys(("firstName", "lastName", "favoriteRole", "guild"), harmless),
)
any_record = st.fixed_dictionaries(
    {"emailConsent": st.sampled_from(["yes", True, "no", "", 1])},
    optional={"email": addresses, "firstName": values, "lastName": values, "favoriteRole": values, "guild": values},
)
awkward_id = st.text(max_size=5) | st.sampled_from(["listed", "a\nb", "x" * 10_000, "🎮" * 2_500, "x" * 16_000])
ids = st.one_of(harmless.map(lambda i: [i]), awkward_id.map(lambda i: [i]), st.lists(harmless, max_size=2))
vertices = st.tuples(ids, st.lists(st.integers(3, 9), min_size=1, max_size=2))
records = fine_record | any_record | st.none()


@settings(max_examples=settings().max_examples // 2)  # a database takes some 20 ms to open
@given(st.lists(st.tuples(vertices, records), max_size=12))
def test_any_players_give_a_valid_pinpoint_file_and_all_are_accounted_for(
    players: list[tuple[tuple[list[str], list[int]], dict[str, Any] | None]],
) -> None:
    table = {ids[0]: record for (ids, _), record in players if ids and record is not None}
    with TemporaryDirectory() as name:
        folder = Path(name)
        with Members(folder, direction="above", threshold=2) as members:
            members.add(
                to_vertex({"playerId": ids, "ea_atrisk": found}, property="ea_atrisk", direction="above", threshold=2)
                for (ids, found), _ in players
            )
            found, graph = list(members), members.counts()
            with (folder / "extract").open("wb") as file:
                write_extract(extract_records(members, "ea_atrisk"), file)
        with (folder / "extract").open("rb") as lines:
            judged = (
                classify_member(
                    member,
                    table.get(member.player_id),
                    columns=DataSchema().name_columns | ATTRIBUTES,
                    score_column="ea_atrisk",
                    consent=CONSENT,
                    do_not_contact=ON_THE_LIST.__contains__,
                )
                for member in read_extract(lines, "ea_atrisk")
            )
            counts = write_segment(judged, COLUMNS, pinpoint.LAYOUT, folder / "rows.csv", folder / "rejects.csv")
        endpoints = keeps_the_rules_of_the_import((folder / "rows.csv").read_bytes())
        header, *rejects = cells(folder / "rejects.csv")

    # both sums
    assert graph.vertices == graph.vertices_read == len(players)
    assert graph.vertices == graph.members + graph.merged + graph.vertices_without_player_id
    assert counts.members == graph.members == counts.rows + sum(counts.rejects.values())
    assert counts.rows == len(endpoints)
    assert counts.rejects == Counter(reason for _, reason, _ in rejects)
    # each player is in one of the two files, once
    assert sorted([e["User.UserId"] for e in endpoints] + [r[0] for r in rejects]) == [m.player_id for m in found]
    # and what is read back is what was meant
    scores = dict(found)
    for endpoint in endpoints:
        player_id = endpoint["User.UserId"]
        record = table[player_id]
        assert record["emailConsent"] in ("yes", True)
        assert type(record["emailConsent"]) is not int
        assert not {player_id, endpoint["Address"].lower()} & ON_THE_LIST
        assert endpoint["Address"].casefold() == record["email"].casefold().replace("bücher", "xn--bcher-kva")
        assert endpoint["User.UserAttributes.ea_atrisk"] == str(scores[player_id])
        for column, attribute in zip(COLUMNS, ("firstName", "lastName", "favoriteRole", "guild"), strict=False):
            value, cell = record.get(attribute), endpoint[f"User.UserAttributes.{column}"]
            text = "" if value is None else value if isinstance(value, str) else f"{value:f}"
            assert cell == ("" if is_blank(text) else text)  # a value that shows nothing is an empty cell
            assert isinstance(value, str | Decimal | None)
    assert header == ["playerId", "reason", "column"]
    for reason in counts.rejects:
        event(f"rejected as {reason}")
    event("with rows" if endpoints else "without rows")
