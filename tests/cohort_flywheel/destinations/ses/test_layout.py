"""The segment file where mail goes out by SES, and the file of an import, which names addresses and nothing else."""

from __future__ import annotations

import pytest

from cohort_flywheel.config.data_schema import NAME_COLUMNS
from cohort_flywheel.destinations.pinpoint import layout as pinpoint
from cohort_flywheel.destinations.ses import layout as ses
from cohort_flywheel.segment.contacts import Contact


def contact(player_id: str = "wayne96", **attributes: str) -> Contact:
    names = {"FirstName": "Wayne", "LastName": "Chen", "FavoriteRole": "healer"}
    return Contact(player_id, "wayne@example.com", names | attributes)


def test_a_row_has_the_address_the_player_and_each_attribute_by_its_own_name() -> None:
    someone = contact(Level="12")
    header, row = ses.header([*NAME_COLUMNS, "Level"]), ses.row(someone)
    assert dict(zip(header, row, strict=True)) == {
        "emailAddress": "wayne@example.com",
        "playerId": "wayne96",
        "FirstName": "Wayne",
        "LastName": "Chen",
        "FavoriteRole": "healer",
        "Level": "12",
    }


def test_the_file_of_an_import_names_an_address_and_consent_only() -> None:
    assert dict(zip(ses.import_header("News"), ses.import_row("wayne@example.com"), strict=True)) == {
        "emailAddress": "wayne@example.com",
        "unsubscribeAll": "false",
        "attributesData": "",
        "topicPreferences.News": "OPT_IN",
    }


def test_the_files_of_imports_lie_apart_from_the_segment_files() -> None:
    """SES may read this folder, and the segment files hold playerIds."""
    assert ses.import_folder("segments/ea_atrisk_2_0123456789abcdef/") == "contacts/ea_atrisk_2_0123456789abcdef/"
    assert ses.import_file_name(7, "0123456789abcdef0123") == "0007_0123456789abcdef.csv"


VALUES = [
    "", "x" * 100, "🎮" * 100, 'a "b", c', "=1+1", "ÄÖÜ", "\u200d", "a\nb", "a\tb", "\0", "\x85", "\u2028", "\ud83c",
    "x" * 101,
]  # fmt: skip


@pytest.mark.parametrize("column", ["FirstName", "LastName", "FavoriteRole", "Level"])
@pytest.mark.parametrize("value", VALUES)
def test_a_cohort_has_the_same_players_as_by_pinpoint(column: str, value: str) -> None:
    someone = contact(**{column: value})
    assert ses.refused_column(someone) == pinpoint.refused_column(someone)


@pytest.mark.parametrize("value", ["a\nb", "a\r\nBcc: x", "\x1b[0m", "\u2029", "x" * 101])
def test_a_value_that_no_mail_should_carry_is_named_by_its_column(value: str) -> None:
    assert ses.refused_column(contact(LastName=value, Level=value)) == "LastName"


@pytest.mark.parametrize("player_id", ["a\nb", "\0", "\ud83c"])
def test_a_player_id_that_would_break_a_line(player_id: str) -> None:
    assert ses.refused_column(contact(player_id)) == "playerId"
