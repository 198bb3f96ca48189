"""The file of a Pinpoint import job: its columns, and the values that it refuses with their column."""

import pytest

from cohort_flywheel.config.data_schema import NAME_COLUMNS
from cohort_flywheel.destinations.pinpoint import layout as pinpoint
from cohort_flywheel.runs.names import endpoint_id
from cohort_flywheel.segment.contacts import Contact


def contact(player_id: str = "wayne96", **attributes: str) -> Contact:
    names = {"FirstName": "Wayne", "LastName": "Chen", "FavoriteRole": "healer"}
    return Contact(player_id, "wayne@example.com", names | attributes)


def test_the_header_has_the_seeds_columns_in_its_order_and_case_then_the_id() -> None:
    assert pinpoint.header([*NAME_COLUMNS, "Level", "ea_atrisk"]) == [
        "ChannelType",
        "Address",
        "User.UserId",
        "User.UserAttributes.FirstName",
        "User.UserAttributes.LastName",
        "Id",
        "User.UserAttributes.FavoriteRole",
        "User.UserAttributes.Level",
        "User.UserAttributes.ea_atrisk",
    ]


def test_no_column_can_opt_an_endpoint_in_again() -> None:
    """Nor one that facts.md's contradicting pages are about."""
    header = pinpoint.header([*NAME_COLUMNS, "Level"])
    assert not {"OptOut", "EffectiveDate", "EndpointStatus"} & set(header)


def test_a_row_has_a_cell_for_each_column() -> None:
    someone = contact(Level="12")
    header, row = pinpoint.header(list(someone.attributes)), pinpoint.row(someone)
    assert dict(zip(header, row, strict=True)) == {
        "ChannelType": "EMAIL",
        "Address": "wayne@example.com",
        "User.UserId": "wayne96",
        "User.UserAttributes.FirstName": "Wayne",
        "User.UserAttributes.LastName": "Chen",
        "Id": endpoint_id("EMAIL", "wayne96"),
        "User.UserAttributes.FavoriteRole": "healer",
        "User.UserAttributes.Level": "12",
    }


def test_the_id_is_one_players_on_one_channel() -> None:
    ids = {endpoint_id(channel, player) for channel in ("EMAIL", "SMS") for player in ("wayne96", "xortiz")}
    assert len(ids) == 4


@pytest.mark.parametrize(
    "value", ["", "x" * 100, "🎮" * 100, 'a "b", c', "=1+1", " a ", "O'Neil", "ÄÖÜ", "\u00a0", "\u200d"]
)
def test_a_value_that_pinpoint_takes(value: str) -> None:
    assert pinpoint.refused_column(contact(Level=value)) is None


REFUSED = [
    "a\nb", "a\rb", "a\r\nb", "a\tb", "\0", "\x0b", "\x0c", "\x1b[0m", "\x1c", "\x7f", "\x85", "\u2028", "\u2029",
    "\ud83c", "x" * 101, "🎮" * 101,
]  # fmt: skip


@pytest.mark.parametrize("column", ["FirstName", "LastName", "FavoriteRole", "Level"])
@pytest.mark.parametrize("value", REFUSED)
def test_a_value_that_pinpoint_refuses_is_named_by_its_column(column: str, value: str) -> None:
    assert pinpoint.refused_column(contact(**{column: value})) == column


@pytest.mark.parametrize("player_id", [text for text in REFUSED if len(text) < 100])
def test_a_player_id_that_pinpoint_refuses(player_id: str) -> None:
    assert pinpoint.refused_column(contact(player_id)) == "playerId"


def test_the_first_column_at_fault_is_named() -> None:
    assert pinpoint.refused_column(contact(LastName="\t", Level="\t")) == "LastName"


def test_an_endpoint_has_15_kb_at_most() -> None:
    """The names of the attributes count as well: the emulated Pinpoint takes it so too."""
    empty = contact("")
    texts = [*pinpoint.header(list(empty.attributes)), *pinpoint.row(empty)]
    room = 15_000 - sum(len(text.encode()) for text in texts)
    assert pinpoint.refused_column(contact("x" * room)) is None
    assert pinpoint.refused_column(contact("x" * (room + 1))) == "playerId"


def test_the_limit_is_of_bytes_and_not_of_characters() -> None:
    assert pinpoint.refused_column(contact("🎮" * 4_000)) == "playerId"


def test_many_short_attributes_can_be_too_much_together_and_that_is_not_the_ids_fault() -> None:
    attributes = {f"Column{number}": "🎮" * 100 for number in range(40)}
    column = pinpoint.refused_column(contact("wayne96", **attributes))
    assert column in attributes
