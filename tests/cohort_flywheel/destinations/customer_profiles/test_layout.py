"""The segment file of Customer Profiles, and the files of upload jobs: held against the reader of the emulation."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.config.data_schema import NAME_COLUMNS
from cohort_flywheel.config.decimals import read_number
from cohort_flywheel.destinations.customer_profiles import layout
from cohort_flywheel.destinations.pinpoint import layout as pinpoint
from cohort_flywheel.destinations.ses import layout as ses
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.runs.names import segment_name
from cohort_flywheel.segment.contacts import Contact
from local.customer_profiles.upload_file import rows as read_rows

SEGMENT = layout.LAYOUT
COLUMNS = [*NAME_COLUMNS, "Level"]
AS_OF = datetime(2026, 11, 22, tzinfo=UTC)


def contact(player_id: str = "wayne96", **attributes: str) -> Contact:
    names = {"FirstName": "Wayne", "LastName": "Chen", "FavoriteRole": "healer"}
    return Contact(player_id, "wayne@example.com", names | attributes)


def csv_of(*rows: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def test_the_segment_file_is_that_of_ses() -> None:
    someone = contact(Level="12")
    assert SEGMENT.header(COLUMNS) == ses.header(COLUMNS)
    assert SEGMENT.row(someone) == ses.row(someone)


def test_an_upload_has_each_cell_under_its_own_name_and_no_player_id() -> None:
    header = layout.upload_header(layout.header(COLUMNS), "ea_atrisk_2")
    row = layout.upload_row(SEGMENT.row(contact(Level="12")))
    assert dict(zip(header, row, strict=True)) == {
        "playerKey": layout.player_key("wayne96"),
        "emailAddress": "wayne@example.com",
        "FirstName": "Wayne",
        "LastName": "Chen",
        "FavoriteRole": "healer",
        "Level": "12",
        "ea_atrisk_2": "in",
    }
    assert {column: field["Target"] for column, field in layout.fields(header).items()} == {
        "playerKey": "_profile.AccountNumber",
        "emailAddress": "_profile.EmailAddress",
        "FirstName": "_profile.FirstName",
        "LastName": "_profile.LastName",
        "FavoriteRole": "_profile.Attributes.FavoriteRole",
        "Level": "_profile.Attributes.Level",
        "ea_atrisk_2": "_profile.Attributes.ea_atrisk_2",
    }


def test_a_leaver_row_has_the_key_and_out() -> None:
    found = dict(zip(layout.out_header("ea_atrisk_2"), layout.out_row("wayne96"), strict=True))
    assert found == {"playerKey": layout.player_key("wayne96"), "ea_atrisk_2": "out"}


def test_the_key_is_pinpoints_endpoint_id() -> None:
    columns = list(NAME_COLUMNS)
    endpoint = dict(zip(pinpoint.header(columns), pinpoint.row(contact()), strict=True))
    assert layout.player_key("wayne96") == endpoint["Id"]


VALUES = [
    "", "x" * 100, "🎮" * 100, 'a "b", c', "=1+1", "ÄÖÜ", "\u200d", "a\nb", "a\tb", "\0", "\x85", "\u2028", "\ud83c",
    "x" * 101,
]  # fmt: skip


@pytest.mark.parametrize("column", ["FirstName", "LastName", "FavoriteRole", "Level"])
@pytest.mark.parametrize("value", VALUES)
def test_a_cohort_has_the_same_players_as_by_pinpoint(column: str, value: str) -> None:
    someone = contact(**{column: value})
    assert SEGMENT.refused_column(someone) == pinpoint.refused_column(someone)


cells = st.text(max_size=100)


@given(player_id=st.text(min_size=1), first=cells, last=cells, level=cells)
def test_the_service_accepts_every_value_that_the_layout_accepts(
    player_id: str, first: str, last: str, level: str
) -> None:
    """A row is refused by us, or is read by the emulated service to the letter, in and out."""
    someone = contact(player_id, FirstName=first, LastName=last, Level=level)
    if SEGMENT.refused_column(someone):
        return
    header = layout.upload_header(layout.header(COLUMNS), "ea_atrisk_2")
    content = csv_of(header, layout.upload_row(SEGMENT.row(someone)))
    ((_, values),) = read_rows(content, layout.fields(header), layout.UNIQUE_KEY)
    expected: dict[Any, str] = {
        ("AccountNumber",): layout.player_key(player_id), ("EmailAddress",): "wayne@example.com",
        ("FirstName",): first, ("LastName",): last, ("Attributes", "FavoriteRole"): "healer",
        ("Attributes", "Level"): level, ("Attributes", "ea_atrisk_2"): "in",
    }  # fmt: skip
    assert values == {path: text for path, text in expected.items() if text}
    out = layout.out_header("ea_atrisk_2")
    ((_, left),) = read_rows(csv_of(out, layout.out_row(player_id)), layout.fields(out), layout.UNIQUE_KEY)
    assert left == {("AccountNumber",): layout.player_key(player_id), ("Attributes", "ea_atrisk_2"): "out"}


def test_more_columns_than_a_job_maps_are_refused() -> None:
    fits = [*NAME_COLUMNS, *(f"A{number}" for number in range(19))]
    assert len(layout.upload_header(layout.header(fits), "ea_atrisk_2")) == layout.MAX_COLUMNS == 25
    with pytest.raises(FlywheelError, match="an upload job has 25 columns, and this cohort needs 26: use fewer"):
        layout.header([*fits, "Another"])


@pytest.mark.parametrize("name", ["playerKey", "emailAddress", "playerId"])
def test_an_attribute_that_is_a_column_already_is_refused(name: str) -> None:
    with pytest.raises(FlywheelError, match=f"the column {name} is in every upload already: rename the attribute"):
        layout.header([*NAME_COLUMNS, name])


def test_an_attribute_of_the_segments_name_is_refused() -> None:
    with pytest.raises(FlywheelError, match="the attribute ea_atrisk_2 marks the members of the segment"):
        layout.upload_header(layout.header([*NAME_COLUMNS, "ea_atrisk_2"]), "ea_atrisk_2")


@pytest.mark.parametrize(("threshold", "text"), [(2, "2"), (0, "0"), (-75, "-75"), (0.75, "0p75")])
def test_a_job_is_known_by_its_name(threshold: float, text: str) -> None:
    name = segment_name("ea_atrisk", threshold)
    job = layout.upload_job_name(name, AS_OF, 17, layout.OUT, 3, "0123456789abcdef0123")
    assert job == f"ea_atrisk_{text}.2026-11-22_00-00-00.17.out_0003_0123456789abcdef.csv"
    assert layout.upload_of(job, name) == 17


@pytest.mark.parametrize("other", ["ea_atrisk", "ea_atrisk_2_3", "ea_atrisk_22", "atrisk_2", "ea_atrisk_-2"])
def test_a_job_of_another_segment_is_not_ours(other: str) -> None:
    job = layout.upload_job_name(other, AS_OF, 17, layout.IN, 0, "0123456789abcdef")
    assert layout.upload_of(job, "ea_atrisk_2") is None


@pytest.mark.parametrize("job", ["", "ea_atrisk_2", "ea_atrisk_2.csv", "ea_atrisk_2.2026.x.in_0000_ab.csv"])
def test_a_job_with_another_name_is_not_ours(job: str) -> None:
    assert layout.upload_of(job, "ea_atrisk_2") is None


@pytest.mark.parametrize("threshold", [-999_999_999_999, read_number(-99_999.999999)])
def test_the_longest_names_are_taken(threshold: float) -> None:
    name = segment_name("c" * 50, threshold)
    assert len(name) <= 64  # of a definition and of a column [botocore's model]
    assert len(layout.upload_job_name(name, AS_OF, 999_999, layout.OUT, 9999, "0" * 64)) <= 255


GROUPS = layout.segment_groups("ea_atrisk_2")


def test_a_segment_is_the_same_with_or_without_the_default_values() -> None:
    (group,) = GROUPS["Groups"]
    bare = {"Groups": [{"Dimensions": group["Dimensions"]}]}
    assert layout.is_same_segment(bare, GROUPS)
    assert layout.is_same_segment(bare | {"Include": "ALL"}, GROUPS)
    assert layout.is_same_segment({"Groups": [group | {"SourceSegments": []}]}, GROUPS)


@pytest.mark.parametrize(
    "change",
    [
        None,
        {},
        {"Groups": []},
        GROUPS | {"Include": "NONE"},
        GROUPS | {"Include": "ANY"},
        layout.segment_groups("ea_atrisk_1"),
        {"Groups": [*GROUPS["Groups"], *GROUPS["Groups"]]},
    ],
)
def test_another_segment_is_not(change: Any) -> None:
    assert not layout.is_same_segment(change, GROUPS)
