"""What a line of a list may name, in whatever form an export, a spreadsheet or a mail program has left it."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.segment.list_entries import is_exact, normal_form, read_entry

AROUND = [
    '"{}"', "'{}'", "“{}”", "‘{}’", "„{}“", "«{}»", "`{}`", "<{}>", "({})", "[{}]", "{{{}}}", "＜{}＞", "「{}」", "{}.",
    "{},", "{};", "{}:", "{}|", "{}…", "\u200b{}", "{}\u200b", "{}\u200d", "\ufeff{}", "\u202a{}\u202c", "\u00ad{}",
    "{}\ufe0f", "{}\u3164", "{}\u00a0", "\u2003{}\u3000", "  {}\t", '"{}",', "'{}';", '"<{}>"', '\\"{}\\"', "**{}**",
    '="{}"',
]  # fmt: skip


@pytest.mark.parametrize("around", AROUND, ids=map(ascii, AROUND))
@pytest.mark.parametrize("named", ["wayne96", "wayne@example.com", "Zoë", "xX_wayne_Xx", "The Boss"])
def test_characters_around_an_entry_are_ignored(around: str, named: str) -> None:
    entry = read_entry(around.format(named))
    assert entry is not None
    assert named in entry.texts
    assert entry.addresses == (frozenset([named]) if "@" in named else frozenset())


@pytest.mark.parametrize(
    "line",
    [
        "wayne96,unsubscribed", "unsubscribed;wayne96", "wayne96\t2026-11-02\tpush", "1|wayne96|no", "wayne96 | 2026",
        '"wayne96","unsubscribed, by phone"', "\"Johnson, Wayne\";wayne96;\"a \"\"b\"\"\"", "3,'wayne96',x",
        "wayne96，unsubscribed", "wayne96 unsubscribed", "wayne96   # by phone", "- wayne96", "1. wayne96",
        '{"playerId": "wayne96"}', '{"Item":{"playerId":{"S":"wayne96"}}}', '["wayne96", "xortiz"]', "playerId=wayne96",
        "playerId: wayne96", "wayne96,wayne@example.com,Wayne Johnson", "wayne96 <wayne@example.com>",
        "&quot;wayne96&quot;", "wayne96&nbsp;", "https://studio.example/?player=wayne96", "%22wayne96%22",
    ],
)  # fmt: skip
def test_each_column_and_each_word_may_be_the_player_id(line: str) -> None:
    entry = read_entry(line)
    assert entry is not None
    assert "wayne96" in entry.texts


@pytest.mark.parametrize(
    "line",
    [
        "Wayne Johnson <wayne@example.com>", '"Johnson, Wayne" <wayne@example.com>', "wayne@example.com (by phone)",
        "mailto:wayne@example.com", "MAILTO:wayne@example.com?subject=unsubscribe", "<mailto:wayne%40example.com>",
        "wayne@example.com,unsubscribed", "7;wayne@example.com;x", "wayne@example.com\tno", "wayne@example.com|no",
        "wayne @ example.com", "wayne@ example.com", "wayne＠example．com",
        "wayne@example。com", "wa\u200byne@example.com", "wayne@exam\u00adple.com", "email=wayne@example.com",
        "email:wayne@example.com", "to wayne@example.com.",
        "[wayne@example.com](mailto:wayne@example.com)", '{"email": "wayne@example.com"}', "邮箱wayne@example.com",
        "a@example.com, wayne@example.com", "wayne@example.com unsubscribed", "wayne&#64;example.com",
        "wayne (at) example.com", "wayne [AT] example [dot] com", "wayne@example.com-", "_wayne@example.com_",
        "https://studio.example/?email=wayne%40example.com&x=1", "&lt;wayne@example.com&gt;",
    ],
)  # fmt: skip
def test_an_address_is_found_in_what_stands_around_it(line: str) -> None:
    entry = read_entry(line)
    assert entry is not None
    assert "wayne@example.com" in entry.addresses


@pytest.mark.parametrize("line", ["12345.0", "12345.00", '"12345.0"', "12345.0,unsubscribed", "1;12345.0"])
def test_a_player_id_of_digits_is_found_where_a_tool_has_made_it_a_decimal_number(line: str) -> None:
    entry = read_entry(line)
    assert entry is not None
    assert {"12345", "12345" + line.strip('"').partition("12345")[2].partition(",")[0]} <= entry.texts


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Zoë", unicodedata.normalize("NFD", "Zoë")), ("Zo\u200be\u0308", "Zoë"), ("ｗａｙｎｅ９６", "wayne96"),
        ("wayne\u201396", "wayne-96"), ("o’brien", "o'brien"), ("o´brien", "o'brien"), ("The\u00a0Boss", "The Boss"),
        ("The  Boss", "The Boss"), ("ﬁnn", "finn"), ("한", unicodedata.normalize("NFD", "한")),
        ("❤️", "❤"), ("wayne\u2028", "wayne"),
    ],
)  # fmt: skip
def test_texts_that_look_alike_have_one_normal_form(one: str, other: str) -> None:
    assert normal_form(one) == normal_form(other) != ""


@pytest.mark.parametrize(("one", "other"), [("WAYNE96", "wayne96"), ("wayne9", "wayne96"), ("wayne.96", "wayne96")])
def test_texts_that_differ_in_more_do_not(one: str, other: str) -> None:
    assert normal_form(one) != normal_form(other)


@given(st.text())
def test_a_normal_form_is_its_own_and_a_line_of_it_names_it(text: str) -> None:
    normal = normal_form(text)
    assert normal_form(normal) == normal
    entry = read_entry(text)
    if entry and (entry.texts or entry.addresses):
        assert normal == "" or normal in entry.texts
    if is_exact(text) and normal:
        assert normal == text


@pytest.mark.parametrize("line", ["", " ", "\t", "\n", "\ufeff", "\u200b\u200d", "\u00a0", "\u3000\r\n", "\u3164"])
def test_a_line_on_which_nothing_can_be_seen_is_blank(line: str) -> None:
    assert read_entry(line) == (frozenset(), frozenset())


@pytest.mark.parametrize(
    "line",
    [
        '""', "''", "<>", ",", ",,;", '"",""', "|", "…", "( )",  # nothing is left
        "w\x00a\x00", "wayne\x1b[0m", "wa\ufffdne", "wayne\x93",  # not text
        "*@example.com", "@example.com", "%@example.com", "jo*@example.com", "jo@*.example.com",  # a pattern
        "jo@gmail,com", "Jo <jo@gmail>", "jo@@example.com", "jo@example..com", "jo@a@example.com",  # not an address
        "jo smith@example", "a@example.com, b@gmail,com",
        "1.23457E+17", '"1.23457E+17",unsubscribed', "7E+15",  # a spreadsheet has rounded it
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_an_address_or_a_player_id(line: str) -> None:
    assert read_entry(line) is None


@pytest.mark.parametrize("text", ["wayne96", "an n", "Zoë", "steam:96", "o'brien", "wayne@example.com", "#96", "日本"])
def test_what_is_exactly_one_player_id(text: str) -> None:
    assert is_exact(text)


@pytest.mark.parametrize(
    "text",
    [
        "'wayne96'", "“wayne96”", "<wayne96>", "[wayne96]", "wayne96.", "wayne96,", "wayne96,unsubscribed",
        "wayne96;x", "wayne96\tx", "wayne96|x", "wayne96\u200b", "\u2060wayne96", "wa\u00adyne96", "Zo\u0065\u0308",
        "ｗａｙｎｅ９６",
        "wayne\u00a096", "wayne  96", "mailto:wayne@example.com", "Wayne <wayne@example.com>", "a\u2013b",
    ],
)  # fmt: skip
def test_a_line_that_needs_cleaning_is_not_exact(text: str) -> None:
    assert not is_exact(text)


@pytest.mark.parametrize(
    "line", ["a;" + "x" * 10**5 + "@", "x@" + "a." * 10**5, "x@" + "a-" * 10**5 + "!", ";" + '"' * 10**5, "&" * 10**5]
)
def test_a_very_long_line_is_read_quickly(line: str) -> None:
    before = time.process_time()
    read_entry(line)
    assert time.process_time() - before < 5
