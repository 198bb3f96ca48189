"""Cohort configuration models."""

from __future__ import annotations

import re
from datetime import date, datetime, tzinfo
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    StrictInt,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from cohort_flywheel.campaign.email_template import TEMPLATE_NAME
from cohort_flywheel.campaign.sender import mail_address, read_sender
from cohort_flywheel.config.attribute_paths import AttributePath
from cohort_flywheel.config.conditions import Condition
from cohort_flywheel.config.data_schema import NAME_COLUMNS, PLAYER_ID, DataSchema, GraphName
from cohort_flywheel.config.decimals import MAX_INT, Number, number_text, read_number
from cohort_flywheel.errors import Code, FlywheelError

Direction = Literal["above", "below"]

#: Names that are safe in a DAG id, an S3 key, a segment name and as a Gremlin property key. A Pinpoint
#: attribute name has at most 50 characters [Amazon Pinpoint quotas], and the score's is the property's.
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=50)]


def _of_the_graph(connection: str) -> str:
    if not re.fullmatch(r"neptune_[A-Za-z0-9_]+", connection):
        raise ValueError(
            f"{connection!r} is not the id of an Airflow connection of the graph: write one that begins with neptune_,"
            " as in neptune_reader"
        )
    return connection


#: An Airflow connection of the graph. Of Parameter Store, the execution role reads connections of such names only.
GraphConnection = Annotated[str, Field(max_length=100), AfterValidator(_of_the_graph)]
Int = Annotated[StrictInt, Field(ge=-MAX_INT, le=MAX_INT)]
Count = Annotated[StrictInt, Field(ge=0, le=MAX_INT)]
#: A value of the consent attribute. An empty text is not an answer: `silence` applies.
Answer = Annotated[str, Field(min_length=1)] | StrictBool | Int


class Strict(BaseModel):
    """The base of the registry's models: an unknown key is a fault."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Consent(Strict):
    """The attribute of a player's record that holds the consent, and what its values mean.

    A value in neither list means opted out. `silence` is the meaning of a record without the attribute.
    """

    attribute: AttributePath
    opted_in: list[Answer] = Field(min_length=1)
    opted_out: list[Answer] = Field(min_length=1)
    silence: Literal["opted_in", "opted_out"]

    @model_validator(mode="after")
    def _no_value_means_both(self) -> Consent:
        if both := {_answer(v) for v in self.opted_in} & {_answer(v) for v in self.opted_out}:
            raise ValueError(f"{sorted(both)} are under both opted_in and opted_out: leave each in one")
        return self


def _answer(value: str | bool | int) -> str:
    """The text that contacts.as_text compares: true and "true" are the same answer."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _form_of_consent(value: object) -> str:
    return "<mapping>" if isinstance(value, dict | Consent) else "<word>"


def _form_of_threshold(value: object) -> str:
    return "<history>" if isinstance(value, list) else "<number>"


class ThresholdRange(Strict):
    """The range of the param `threshold`, both ends included."""

    min: Number
    max: Number

    @model_validator(mode="after")
    def _ordered(self) -> ThresholdRange:
        if self.min > self.max:
            raise ValueError(f"min {number_text(self.min)} is above max {number_text(self.max)}: swap them")
        return self

    def __str__(self) -> str:
        return f"from {number_text(self.min)} to {number_text(self.max)}"


class ThresholdFrom(Strict):
    """One entry of a threshold's history: in force from the first as-of at or after midnight of its date."""

    first: Annotated[date, Field(alias="from", strict=True)]
    threshold: Number


class Limits(Strict):
    """The limits of a run, checked before the import; both ends included.

    `max_change_percent` is a percentage of the members of the previous result or of this run, whichever are fewer.
    `max_reject_percent` is a percentage of this run's members, and counts data faults only.
    """

    min_members: Count
    max_members: Count
    max_change_percent: Count
    max_reject_percent: Annotated[Count, Field(le=100)]

    @model_validator(mode="after")
    def _ordered(self) -> Limits:
        if self.min_members > self.max_members:
            raise ValueError(f"min_members {self.min_members} is above max_members {self.max_members}: swap them")
        return self


#: What to do with a verified segment: the values of the param `campaign` and of the registry's `mode`.
CAMPAIGN_MODES = {
    "none": "no e-mail is sent",
    "draft": "the e-mail is prepared at the destination for review; none is sent",
    "test": "three samples, for made-up players, are sent to the test addresses",
    "launch": "each player of the segment gets one e-mail, after an approver has accepted exactly this segment and"
    " e-mail",
}


class Campaign(Strict):
    """How a cohort's segment is mailed.

    Players who were mailed this template within `not_again_days` are excluded from the segment, in every cohort,
    threshold and destination; a launch needs it. A launch holds out `holdout_percent` of the players that it would
    mail, and `effect_days` later they are compared with those that it mailed.
    """

    mode: Literal["none", "draft", "test", "launch"] = "none"
    template: Annotated[str, Field(pattern=f"^{TEMPLATE_NAME}$")]
    sender: Annotated[str, Field(alias="from")]
    reply_to: str | None = None
    not_again_days: Annotated[StrictInt, Field(ge=1, le=36_500)] | None = None
    holdout_percent: Annotated[StrictInt, Field(ge=0, le=99)] = 0
    effect_days: Annotated[StrictInt, Field(ge=1, le=90)] | None = None
    test_addresses: list[str] = Field(default_factory=list)

    @field_validator("sender")
    @classmethod
    def _is_a_sender(cls, sender: str) -> str:
        return read_sender(sender)

    @field_validator("reply_to")
    @classmethod
    def _is_a_reply_to_address(cls, reply_to: str | None) -> str | None:
        return None if reply_to is None else read_sender(reply_to, "reply-to address")

    @field_validator("test_addresses")
    @classmethod
    def _are_addresses(cls, addresses: list[str]) -> list[str]:
        found = [mail_address(each.strip()) for each in addresses]
        if None in found:
            wrong = addresses[found.index(None)]
            raise ValueError(f"{wrong!r} is not an address: write it without a name, as in qa@studio.example")
        return [each for each in found if each]

    @model_validator(mode="after")
    def _effect_is_measured(self) -> Campaign:
        if self.holdout_percent and self.effect_days is None:
            raise ValueError(
                "holdout_percent needs effect_days, the days after which the held-out players are compared with the"
                " mailed ones"
            )
        if self.effect_days and (self.not_again_days is None or self.not_again_days < self.effect_days):
            raise ValueError(
                f"effect_days {self.effect_days} needs not_again_days of {self.effect_days} or more: earlier another"
                " launch could mail the players that are held out"
            )
        return self


def _without_control_characters(text: str) -> str:
    """Refuse control characters: a description is stored in Airflow's database, which refuses NUL."""
    if found := re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text):
        raise ValueError(f"it has the control character {found[0]!a}: leave it out")
    return text


def loosest_threshold(thresholds: list[Number], direction: Direction) -> Number:
    """Return the threshold with the most members: members for the others are also members for this one."""
    return min(thresholds) if direction == "above" else max(thresholds)


class Cohort(Strict):
    """One cohort as the registry defines it. Membership is strict: above means > threshold, below means <."""

    name: SkipJsonSchema[Name]  # in the file the key above its lines
    description: Annotated[str, Field(min_length=1), AfterValidator(_without_control_characters)]
    vertex_label: GraphName | None = None
    connection: GraphConnection | None = None
    may_be_empty: StrictBool = False
    property: Name
    direction: Direction
    threshold_range: ThresholdRange  # before the threshold, whose validator reads it
    threshold: Annotated[
        Annotated[Number, Tag("<number>")] | Annotated[list[ThresholdFrom], Field(min_length=1), Tag("<history>")],
        Discriminator(_form_of_threshold),
    ]
    floor: Number | None = None
    where: dict[Name, Condition] = Field(default_factory=dict)
    limits: Limits
    daily: StrictBool
    attributes: dict[Name, AttributePath]
    score_as: Name | None = None
    holdout_percent: Annotated[StrictInt, Field(ge=0, le=99)] = 0
    campaign: Campaign | None = None
    consent: Annotated[
        Annotated[Consent, Tag("<mapping>")] | Annotated[Literal["none"], Tag("<word>")],
        Discriminator(_form_of_consent),
    ]

    @field_validator("attributes")
    @classmethod
    def _not_ours(cls, attributes: dict[str, AttributePath]) -> dict[str, AttributePath]:
        if taken := sorted(set(NAME_COLUMNS) & set(attributes)):
            raise ValueError(f"{taken} are in every segment file already: leave them out")
        return attributes

    @field_validator("threshold")
    @classmethod
    def _within_its_range(
        cls, threshold: Number | list[ThresholdFrom], info: ValidationInfo
    ) -> Number | list[ThresholdFrom]:
        for entry in threshold if isinstance(threshold, list) else []:
            _check_range(entry.threshold, info)
        if not isinstance(threshold, list):
            _check_range(threshold, info)
        elif [e.first for e in threshold] != sorted({e.first for e in threshold}):
            raise ValueError("the entries must be in the order of their dates, each date once: sort them by `from`")
        return threshold

    @field_validator("floor")
    @classmethod
    def _floor_is_the_loosest(cls, floor: Number | None, info: ValidationInfo) -> Number | None:
        history, direction = info.data.get("threshold"), info.data.get("direction")
        if floor is None or history is None or direction is None:  # absent where it has a fault of its own
            return floor
        _check_range(floor, info)
        numbers = [entry.threshold for entry in history] if isinstance(history, list) else [history]
        loosest = loosest_threshold(numbers, direction)
        if loosest_threshold([floor, loosest], direction) != floor:
            text = number_text(loosest)
            raise ValueError(
                f"{number_text(floor)} is stricter than the threshold {text}, whose members a snapshot must hold:"
                f" write {text} or a looser number, or leave it out"
            )
        return floor

    @model_validator(mode="after")
    def _consistent(self) -> Cohort:
        if self.score_as in (*NAME_COLUMNS, *self.attributes):
            raise ValueError(f"score_as {self.score_as} is the column of another value: write another name")
        if clash := {PLAYER_ID, self.property} & set(self.where):
            raise ValueError(f"where names {sorted(clash)}, which is the id or the score: leave it out")
        return self

    def schema_of(self, studio: DataSchema) -> DataSchema:
        """Return the studio's names, with this cohort's own label."""
        return studio.model_copy(update={"vertex_label": self.vertex_label}) if self.vertex_label else studio

    def columns(self) -> list[str]:
        """The columns of the segment file besides the address and the playerId."""
        return [*NAME_COLUMNS, *self.attributes, *([self.score_as] if self.score_as else [])]

    def thresholds(self) -> list[Number]:
        """Every threshold of the history, the latest last."""
        return [e.threshold for e in self.threshold] if isinstance(self.threshold, list) else [self.threshold]

    def snapshot_floor(self) -> Number:
        """The loosest threshold for which a snapshot has all members: the registry's floor, or the history's."""
        return loosest_threshold(self.thresholds(), self.direction) if self.floor is None else self.floor

    def threshold_at(self, as_of: datetime, zone: tzinfo) -> Number:
        """Return the threshold in force at an as-of, by its date in the zone of the schedule.

        Raises FlywheelError where the history begins later.
        """
        if not isinstance(self.threshold, list):
            return self.threshold
        local = as_of.astimezone(zone)
        in_force = [e for e in self.threshold if e.first <= local.date()]
        if not in_force:
            raise FlywheelError(
                f"cohort {self.name} has no threshold in force at {local:%Y-%m-%d %H:%M} {zone}, as its history in the"
                f" registry begins on {self.threshold[0].first}: give the param threshold, or add an earlier entry",
                code=Code.PARAM,
            )
        return in_force[-1].threshold

    def check_threshold(self, threshold: object) -> Number:
        """Return the threshold of a param; raise FlywheelError unless it is a number within the range."""
        try:
            number = read_number(threshold)
        except ValueError:
            raise FlywheelError(
                f"threshold {threshold!r} is not a whole number or one with at most six decimals: give one"
                f" {self.threshold_range}, or leave it empty for the registry's",
                code=Code.PARAM,
            ) from None
        if not self.threshold_range.min <= number <= self.threshold_range.max:
            raise FlywheelError(
                f"threshold {number_text(number)} is outside the range of cohort {self.name}, which looks"
                f" {self.direction} its threshold: give a number {self.threshold_range}, or widen threshold_range in"
                " the registry",
                code=Code.PARAM,
            )
        return number


def _check_range(threshold: Number, info: ValidationInfo) -> None:
    allowed = info.data.get("threshold_range")  # absent where it has a fault of its own
    if allowed and not allowed.min <= threshold <= allowed.max:
        raise ValueError(
            f"{number_text(threshold)} is outside threshold_range: write a number {allowed}, or widen the range"
        )
