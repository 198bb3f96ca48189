"""A cohort: which players, beyond which threshold, and what may be said of them. Read from include/cohorts.yaml."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from cohort_flywheel.errors import FlywheelError

Direction = Literal["above", "below"]

#: Names that are safe in a DAG id, an S3 key, a segment name and as a Gremlin property key. A Pinpoint
#: attribute name has at most 50 characters [Amazon Pinpoint quotas], and the score's is the property's.
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=50)]
AttributeName = Annotated[str, Field(min_length=1, max_length=255)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Consent(_Strict):
    """Which attribute of a player's record holds the consent, and what its values mean.

    A value in neither list is taken for a no. `silence` says what a record without the attribute means.
    """

    attribute: AttributeName
    opted_in: list[str | bool | int] = Field(min_length=1)
    opted_out: list[str | bool | int] = Field(min_length=1)
    silence: Literal["opted_in", "opted_out"]

    @model_validator(mode="after")
    def _no_value_means_both(self) -> Consent:
        if both := {str(v) for v in self.opted_in} & {str(v) for v in self.opted_out}:
            raise ValueError(f"{sorted(both)} stand under both opted_in and opted_out: leave each in one")
        return self


class ThresholdRange(_Strict):
    """The whole numbers that a person may type as a threshold, both ends included."""

    min: StrictInt
    max: StrictInt

    @model_validator(mode="after")
    def _ordered(self) -> ThresholdRange:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: swap them")
        return self


class Cohort(_Strict):
    """One cohort as the registry defines it. Membership is strict: above means > threshold, below means <."""

    name: Name
    description: str = Field(min_length=1)
    property: Name
    direction: Direction
    threshold: StrictInt
    threshold_range: ThresholdRange
    daily: bool
    attributes: dict[Name, AttributeName]
    include_score: bool
    consent: Consent | Literal["none"]

    @field_validator("attributes")
    @classmethod
    def _not_ours(cls, attributes: dict[str, str]) -> dict[str, str]:
        if taken := sorted({"FirstName", "LastName", "FavoriteRole"} & set(attributes)):
            raise ValueError(f"{taken} are in every segment file already: leave them out")
        return attributes

    @model_validator(mode="after")
    def _consistent(self) -> Cohort:
        self.check_threshold(self.threshold)
        if self.include_score and self.property in self.attributes:
            raise ValueError(f"{self.property} is both an attribute and the score: rename the attribute")
        return self

    def check_threshold(self, threshold: object) -> int:
        """Return the threshold as an int; raise FlywheelError unless it is a whole number within the range."""
        whole = isinstance(threshold, int | float) and not isinstance(threshold, bool)
        if not whole or threshold != int(threshold):  # type: ignore[call-overload]  # a number, as `whole` says
            raise FlywheelError(
                f"threshold {threshold!r} is no whole number: give one from {self.threshold_range.min}"
                f" to {self.threshold_range.max}, or leave it empty for the registry's ({self.threshold})"
            )
        number = int(threshold)  # type: ignore[call-overload]  # as above
        if not self.threshold_range.min <= number <= self.threshold_range.max:
            raise FlywheelError(
                f"threshold {number} is outside the range of cohort {self.name}, which looks {self.direction}"
                f" its threshold: give a whole number from {self.threshold_range.min} to"
                f" {self.threshold_range.max}, or widen threshold_range in the registry"
            )
        return number


@dataclass(frozen=True)
class Registry:
    """What the studio's file says: the cohorts that can be used, and a sentence for each that cannot."""

    path: Path
    default_cohort: str
    schedule: str
    destination: str
    cohorts: dict[str, Cohort] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    #: the cohorts with a daily run of their own, broken ones included, so that a typo cannot hide one
    daily: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Every cohort of the file, in its order, broken ones last."""
        return [*self.cohorts, *self.broken]

    def cohort(self, name: str) -> Cohort:
        """Return a cohort; raise FlywheelError for one that is unknown or written wrongly."""
        if name in self.broken:
            raise FlywheelError(self.broken[name])
        if name not in self.cohorts:
            raise FlywheelError(
                f"{self.path.name} has no cohort {name!r}{_did_you_mean(name, self.names)}:"
                f" choose one of {', '.join(self.names)}, or add it to the file"
            )
        return self.cohorts[name]


class _Head(_Strict):
    default_cohort: str
    schedule: str
    destination: Name
    cohorts: dict[str, Any] = Field(min_length=1)


def read_registry(path: Path) -> Registry:
    """Read the registry. One cohort's fault stays that cohort's; a fault of the file raises FlywheelError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FlywheelError(
            f"the registry {path} cannot be read ({type(error).__name__}): put cohorts.yaml there, as UTF-8"
        ) from None
    return parse_registry(text, path)


def parse_registry(text: str, path: Path) -> Registry:
    """The same for a text that was read already; `path` is for the sentences."""
    try:
        root, data = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or "it does not parse"
        raise FlywheelError(f"{path.name}, line {line}: this is no YAML ({problem}): correct the line") from None
    if not isinstance(root, yaml.MappingNode):
        raise FlywheelError(
            f"{path.name}, line 1: the file must be a mapping with the keys {', '.join(_Head.model_fields)}"
        )
    cohorts_node = _child(root, "cohorts")
    if faults := [f for f in _duplicates(root) if not _inside(f.node, cohorts_node)]:
        raise FlywheelError(f"{path.name}, {faults[0].sentence}")
    try:
        head = _Head.model_validate(data)
    except ValidationError as error:
        raise FlywheelError(f"{path.name}, {_first_fault(error, root, _Head)}") from None

    cohorts: dict[str, Cohort] = {}
    broken: dict[str, str] = {}
    for name, raw in head.cohorts.items():
        node = _child(cohorts_node, name)
        place = f"cohort {name} in {path.name}"
        twice = [f for f in _duplicates(cohorts_node) if f.key == name and f.parent is cohorts_node]
        within = [f for f in _duplicates(cohorts_node) if _inside(f.node, node) and f.node is not node]
        if faults := twice + within:
            broken[name] = f"{place}, {faults[0].sentence}"
        elif not isinstance(raw, dict):
            broken[name] = f"{place}, line {_line(node)}: a cohort is a mapping of keys: write its keys below it"
        else:
            try:
                cohorts[name] = Cohort.model_validate({"name": name, **raw})
            except ValidationError as error:
                broken[name] = f"{place}, {_first_fault(error, node, Cohort)}"
    if head.default_cohort not in head.cohorts:
        raise FlywheelError(
            f"{path.name}, line {_line(_child(root, 'default_cohort'))}: default_cohort {head.default_cohort!r}"
            f" is no cohort of the file{_did_you_mean(head.default_cohort, list(head.cohorts))}:"
            f" write one of {', '.join(head.cohorts)}"
        )
    daily = tuple(
        name
        for name, raw in head.cohorts.items()
        # a broken cohort keeps its daily DAG unless its line clearly says that it has none
        if (cohorts[name].daily if name in cohorts else not (isinstance(raw, dict) and raw.get("daily") is False))
    )
    return Registry(path, head.default_cohort, head.schedule, head.destination, cohorts, broken, daily)


# --- where in the file, and in which words -------------------------------------------------------------


@dataclass(frozen=True)
class _Duplicate:
    key: str
    parent: Any
    node: Any
    sentence: str


def _duplicates(node: Any) -> list[_Duplicate]:
    """Every key that stands twice in one mapping at or below the node: YAML keeps the last one in silence."""
    found: list[_Duplicate] = []
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in first:
                found.append(
                    _Duplicate(
                        name,
                        node,
                        value,
                        f"line {_line(key)}: {name} stands a second time (first on line"
                        f" {first[name]}): remove one of the two",
                    )
                )
            first.setdefault(name, _line(key))
            found += _duplicates(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            found += _duplicates(value)
    return found


def _inside(node: Any, outer: Any) -> bool:
    return outer is not None and (
        outer.start_mark.index <= node.start_mark.index and node.end_mark.index <= outer.end_mark.index
    )


def _child(node: Any, key: object) -> Any:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == str(key):
                return value
    return None


def _line(node: Any) -> int:
    return node.start_mark.line + 1 if node is not None else 1


def _key_line(node: Any, key: str) -> int:
    for name, _value in getattr(node, "value", []):
        if name.value == key:
            return int(name.start_mark.line) + 1
    return _line(node)


def _first_fault(error: ValidationError, node: Any, model: type[BaseModel]) -> str:
    """The first fault that pydantic found, with the line that holds it and what to write there."""
    fault = error.errors(include_url=False, include_input=False)[0]
    line, path = _line(node), []
    fields: Any = model.model_fields
    for part in fault["loc"]:
        child = _child(node, part)
        if child is not None:
            line = _key_line(node, str(part))
            node = child
            inner: dict[str, type[BaseModel]] = {"consent": Consent, "threshold_range": ThresholdRange}
            fields = inner.get(str(part), model).model_fields
        if str(part) not in ("Consent", "literal['none']", "[key]"):  # pydantic's marks for a choice of types
            path.append(str(part))
    where, message = ".".join(path), fault["msg"].removeprefix("Value error, ")
    match fault["type"]:
        case "extra_forbidden":
            known = [name for name in fields if name != "name"]
            return (
                f"line {line}: {where} is no key that is known here{_did_you_mean(path[-1], known)}:"
                f" the keys are {', '.join(known)}"
            )
        case "missing":
            return f"line {line}: the key {where} is missing: add it"
        case "string_pattern_mismatch":
            return (
                f"line {line}: {where} must begin with a letter and hold letters, digits and underscores only,"
                " as it becomes a DAG id, an S3 key and a property name: rename it"
            )
        case _:
            return f"line {line}: {where or 'the cohort'}: {message[:1].lower()}{message[1:]}"


def _did_you_mean(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
