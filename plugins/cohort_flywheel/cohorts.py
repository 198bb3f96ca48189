"""A cohort: which players, beyond which threshold, and what may be said of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictInt,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from cohort_flywheel.errors import FlywheelError

Direction = Literal["above", "below"]

#: Names that are safe in a DAG id, an S3 key, a segment name and as a Gremlin property key. A Pinpoint
#: attribute name has at most 50 characters [Amazon Pinpoint quotas], and the score's is the property's.
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=50)]
AttributeName = Annotated[str, Field(min_length=1, max_length=255)]
#: What a record may say of consent; an empty text is no answer, but silence.
Answer = Annotated[str, Field(min_length=1)] | bool | int


class Strict(BaseModel):
    """A part of the registry: a key that is not known is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Consent(Strict):
    """Which attribute of a player's record holds the consent, and what its values mean.

    A value in neither list is taken for a no. `silence` says what a record without the attribute means.
    """

    attribute: AttributeName
    opted_in: list[Answer] = Field(min_length=1)
    opted_out: list[Answer] = Field(min_length=1)
    silence: Literal["opted_in", "opted_out"]

    @model_validator(mode="after")
    def _no_value_means_both(self) -> Consent:
        if both := {_answer(v) for v in self.opted_in} & {_answer(v) for v in self.opted_out}:
            raise ValueError(f"{sorted(both)} stand under both opted_in and opted_out: leave each in one")
        return self


def _answer(value: str | bool | int) -> str:
    """As contacts.as_text compares: true and "true" are one answer."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _form_of_consent(value: object) -> str:
    return "<mapping>" if isinstance(value, dict | Consent) else "<word>"


class ThresholdRange(Strict):
    """The whole numbers that a person may type as a threshold, both ends included."""

    min: StrictInt
    max: StrictInt

    @model_validator(mode="after")
    def _ordered(self) -> ThresholdRange:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: swap them")
        return self


class Cohort(Strict):
    """One cohort as the registry defines it. Membership is strict: above means > threshold, below means <."""

    name: Name
    description: str = Field(min_length=1)
    property: Name
    direction: Direction
    threshold_range: ThresholdRange  # before the threshold, which it judges
    threshold: StrictInt
    daily: bool
    attributes: dict[Name, AttributeName]
    include_score: bool
    consent: Annotated[
        Annotated[Consent, Tag("<mapping>")] | Annotated[Literal["none"], Tag("<word>")],
        Discriminator(_form_of_consent),
    ]

    @field_validator("attributes")
    @classmethod
    def _not_ours(cls, attributes: dict[str, str]) -> dict[str, str]:
        if taken := sorted({"FirstName", "LastName", "FavoriteRole"} & set(attributes)):
            raise ValueError(f"{taken} are in every segment file already: leave them out")
        return attributes

    @field_validator("threshold")
    @classmethod
    def _within_its_range(cls, threshold: int, info: ValidationInfo) -> int:
        allowed = info.data.get("threshold_range")  # None where it has a fault of its own
        if allowed and not allowed.min <= threshold <= allowed.max:
            raise ValueError(
                f"{threshold} is outside threshold_range: write a whole number from {allowed.min} to {allowed.max},"
                " or widen the range"
            )
        return threshold

    @model_validator(mode="after")
    def _consistent(self) -> Cohort:
        if self.include_score and self.property in self.attributes:
            raise ValueError(f"{self.property} is both an attribute and the score: rename the attribute")
        return self

    def check_threshold(self, threshold: object) -> int:
        """Return the threshold as an int; raise FlywheelError unless it is a whole number within the range."""
        # NaN and the infinities leave NaN as their rest
        if not isinstance(threshold, int | float) or isinstance(threshold, bool) or threshold % 1 != 0:
            raise FlywheelError(
                f"threshold {threshold!r} is no whole number: give one from {self.threshold_range.min}"
                f" to {self.threshold_range.max}, or leave it empty for the registry's ({self.threshold})"
            )
        number = int(threshold)
        if not self.threshold_range.min <= number <= self.threshold_range.max:
            raise FlywheelError(
                f"threshold {number} is outside the range of cohort {self.name}, which looks {self.direction}"
                f" its threshold: give a whole number from {self.threshold_range.min} to"
                f" {self.threshold_range.max}, or widen threshold_range in the registry"
            )
        return number
