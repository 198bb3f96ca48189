"""Thresholds: whole numbers, and numbers with at most six decimals. 2.0 is 2."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

#: Beyond it a double holds no whole number exactly, and Airflow's processes exchange 64 bits.
MAX_INT = 2**53
#: A double keeps 15 digits, and with more than 11 the longest name of a segment has more than the 64 characters of
#: Customer Profiles.
MAX_DIGITS = 11
DECIMALS = 6

_FORM = "a whole number, or one with at most six decimals and 11 digits, written as 2 or 0.75"
_TEXT = re.compile(r"-?[0-9]{1,16}(?:\.[0-9]{1,6})?")


def read_number(value: object) -> int | float:
    """Return an int, or a float that is not whole; raise ValueError for anything but a number of six decimals."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"input should be {_FORM}")
    if isinstance(value, int) or value.is_integer():
        return int(value)
    digits = f"{abs(Decimal(repr(value))):f}".partition(".")
    if not math.isfinite(value) or len(digits[2]) > DECIMALS or len(digits[0] + digits[2]) > MAX_DIGITS:
        raise ValueError(f"input should be {_FORM}")
    return value


def parse_number(text: str) -> int | float:
    """Read a number from text, as in a name or a template; raises ValueError for any other text."""
    if not _TEXT.fullmatch(text):
        raise ValueError(f"input should be {_FORM}")
    return read_number(float(text) if "." in text else int(text))


def is_number(text: str) -> bool:
    """Whether `parse_number` takes a text."""
    try:
        parse_number(text)
    except ValueError:
        return False
    return True


def number_text(number: float) -> str:
    """Write a number with at most six decimals, without an exponent and trailing zeros: 2, 0.75, 0.000001."""
    return str(number) if isinstance(number, int) else f"{number:z.{DECIMALS}f}".rstrip("0").removesuffix(".")


#: A number of the registry. Its values are int or float, and a float is never whole: 2 and 2.0 have one name.
Number = Annotated[
    int | float,
    BeforeValidator(read_number),
    Field(ge=-MAX_INT, le=MAX_INT),
    WithJsonSchema({"type": "number", "minimum": -MAX_INT, "maximum": MAX_INT}),
]
