"""The conditions of `where`: what the values of a vertex's other properties must be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, TypeGuard

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_serializer, model_validator

from cohort_flywheel.config.decimals import Number, number_text, read_number


def _read_value(value: object) -> object:
    if isinstance(value, bool) or (isinstance(value, str) and value):
        return value
    try:
        number = read_number(value)
        if isinstance(number, int) and abs(number) >= 2**63:  # Airflow's processes exchange 64 bits
            raise ValueError
    except ValueError:
        raise ValueError(
            "input should be true, false, a text that is not empty, or a number with at most six decimals, within 64"
            " bits"
        ) from None
    return number


#: A value that a property may have: 2 and 2.0 are one, and so are true and "true".
Value = Annotated[
    str | bool | int | float,
    BeforeValidator(_read_value),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, {"type": ["boolean", "number"]}]}),
]


class Condition(BaseModel):
    """What each value of a property must be: strictly above or below a number, or one of some values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    above: Number | None = None
    below: Number | None = None
    equals: Value | None = None
    one_of: Annotated[list[Value], Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _is_a_mapping(cls, condition: object) -> object:
        if not isinstance(condition, dict | Condition):
            raise ValueError("a condition is a mapping: write, for example, {equals: Active} or {above: 2, below: 10}")
        return condition

    @model_validator(mode="after")
    def _is_one_condition(self) -> Condition:
        given = self.to_mapping()
        if not given or (len(given) > 1 and not given.keys() <= {"above", "below"}):
            raise ValueError("it needs above, below or both, or equals, or one_of: write one of these")
        if self.above is not None and self.below is not None and self.above >= self.below:
            above, below = number_text(self.above), number_text(self.below)
            raise ValueError(f"no number is above {above} and below {below}: correct one of them")
        return self

    @model_serializer
    def to_mapping(self) -> dict[str, object]:
        """Return the condition as it is written: without what it does not have."""
        return {key: value for key, value in self if value is not None}

    def test(self) -> Callable[[Sequence[object]], bool]:
        """Return the function that tells whether a property has values, and all of them meet the condition.

        After a reload of the graph a property may have two values. Only a number is above or below another.
        """
        if self.above is None and self.below is None:
            allowed = {_text(value) for value in ([self.equals] if self.one_of is None else self.one_of)}
            return lambda values: bool(values) and {_text(value) for value in values} <= allowed
        above = -math.inf if self.above is None else self.above
        below = math.inf if self.below is None else self.below
        return lambda values: bool(values) and all(_is_number(value) and above < value < below for value in values)


def _is_number(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or math.isfinite(value)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)
