"""Thresholds with decimals: what is a number, its text, and that one number has one text."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.config.decimals import MAX_INT, number_text, parse_number, read_number

#: Every number that the registry may have.
numbers = st.integers(-MAX_INT, MAX_INT) | st.decimals(-99_999, 99_999, places=6, allow_nan=False).map(
    lambda number: read_number(float(number))
)


@given(numbers)
def test_a_number_has_one_text_which_gives_the_same_number_again(number: float) -> None:
    text = number_text(number)
    assert re.fullmatch(r"-?(0|[1-9]\d*)(\.\d{0,5}[1-9])?", text), text
    assert text != "-0"
    assert Decimal(text) == Decimal(repr(number))
    again = parse_number(text)
    assert again == number
    assert type(again) is type(number)


@given(st.integers(-(2**53), 2**53))
def test_a_whole_number_is_written_as_before_whatever_its_type(number: int) -> None:
    assert number_text(number) == str(number)
    assert type(read_number(float(number))) is int
    assert read_number(float(number)) == number


@given(numbers, numbers)
def test_two_numbers_have_two_texts_in_which_no_dot_is_lost(one: float, other: float) -> None:
    assert (number_text(one) == number_text(other)) is (one == other)
    spelled = [number_text(each).replace(".", "p") for each in (one, other)]
    assert (spelled[0] == spelled[1]) is (one == other)


@given(st.floats())
def test_any_float_is_a_number_with_at_most_six_decimals_and_eleven_digits_or_refused(value: float) -> None:
    try:
        number = read_number(value)
    except ValueError as error:
        assert "a whole number, or one with at most six decimals and 11 digits" in str(error)
        return
    assert number == value
    if isinstance(number, float):
        digits = number_text(abs(number))
        assert Decimal(digits) == abs(Decimal(repr(value)))
        assert len(digits) <= 12


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (3, "3"), (3.0, "3"), (0.1 + 0.2, "0.3"), (3.0999999046325684, "3.1"), (1e-06, "0.000001"), (1e-9, "0"),
        (-1e-9, "0"), (-0.0, "0"), (1e22, "10000000000000000000000"), (-1.25, "-1.25"), (100.0, "100"),
        (2**60, str(2**60)),
    ],
)  # fmt: skip
def test_a_score_is_written_with_at_most_six_decimals_and_without_an_exponent(score: float, text: str) -> None:
    assert number_text(score) == text


@pytest.mark.parametrize(
    "value",
    [True, None, "2", [2], float("nan"), float("inf"), -float("inf"), 1e-07, 0.1234567, 100000.000001, 1 / 3],
)
def test_another_value_is_no_number(value: object) -> None:
    with pytest.raises(ValueError, match="written as 2 or 0.75"):
        read_number(value)


@pytest.mark.parametrize(
    "text", ["", "1e3", "1.", ".5", "+1", "1_0", "0x1", "nan", "1.2345678", " 1", "1\n", "٣", "1,5"]
)
def test_another_text_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match="written as 2 or 0.75"):
        parse_number(text)
