"""Why Pinpoint rejected rows: the reasons and their counts, without personal data."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.destinations.pinpoint.import_failures import reasons


def counted(text: str) -> int:
    return sum(int(number) for number in re.findall(r"(\d+) (?:×|more)", text))


def test_without_failures_there_are_no_reasons() -> None:
    assert reasons([]) == "Pinpoint gave no reason"


def test_personal_data_is_replaced_and_equal_reasons_are_counted_together() -> None:
    assert (
        reasons(
            [
                "The value wayne@example.com for Address is invalid.",
                "The value xortiz@example.com for Address is invalid.",
                "Line 7: missing column ChannelType",
            ]
        )
        == "2 × The value … for Address is invalid.; 1 × Line … missing column ChannelType"
    )


@pytest.mark.parametrize(
    "player", ["wayne96", "wayne@example.com", "<wayne@example.com>", "Wayne,", "'Wayne'", "+15550100"]
)
def test_reasons_never_contain_personal_data(player: str) -> None:
    text = reasons([f"Row 5: {player} is invalid", f"Address={player}", f"User({player}): {player}", player])
    assert not re.search(r"wayne|example|5550100|5", text, re.IGNORECASE)


def test_a_long_text_is_cut() -> None:
    assert len(reasons(["the row is invalid " * 1_000])) < 1_000
    assert reasons(["wayne96 " * 1_000]) == "1 × …"


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_text_is_a_reason_all_the_same(text: str) -> None:
    assert reasons([text, text]) == "2 × …"


def test_less_common_reasons_are_counted_as_more() -> None:
    words = ["address", "channel", "column", "file", "header", "metric", "quota"]
    failures = [word for number, word in enumerate(words, start=1) for _ in range(number)]
    text = reasons(failures)
    assert text.startswith("7 × quota; 6 × metric; ")
    assert counted(text) == len(failures)


#: Texts that share no word with a sentence about a CSV file: each has a digit, a capital inside, or an @.
players = st.one_of(
    st.emails(),
    st.from_regex(r"[a-z]{0,6}[0-9]{3,}[a-z]{0,3}", fullmatch=True),
    st.from_regex(r"[A-Z][a-z]{2,5}[A-Z][a-z]{3,6}ovic", fullmatch=True),
    st.text(min_size=4).filter(lambda text: not re.search(r"[a-zA-Z…×;]|\d", text) and text.strip() == text),
)
sentences = st.sampled_from(
    [
        "The value {} is not a valid Address.", "Row {}: missing column Id", "Invalid:{}", "{}",
        "Address '{}' is invalid",
        "User.UserId={}, User.UserAttributes.FirstName={}", '{{"Address":"{}"}}', "duplicate\t{}\nin line 5",
    ]
)  # fmt: skip


@given(st.lists(st.tuples(sentences, players), min_size=1, max_size=8))
def test_nothing_of_any_player_survives_and_every_failure_is_counted(failures: list[tuple[str, str]]) -> None:
    text = reasons(sentence.replace("{}", player) for sentence, player in failures)
    for _, player in failures:
        for part in player.split():
            if re.search(r"\w{3}|@", part):
                assert part not in text
    assert counted(text) == len(failures)
