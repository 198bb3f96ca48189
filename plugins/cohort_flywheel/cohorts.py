"""A cohort: which players, beyond which threshold, and what may be said of them. Read from include/cohorts.yaml."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictInt,
    Tag,
    ValidationError,
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


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Consent(_Strict):
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
        root, data = _read_yaml(text)
    except yaml.YAMLError as error:
        mark, position = getattr(error, "problem_mark", None), getattr(error, "position", 0)
        line = mark.line + 1 if mark else text.count("\n", 0, position) + 1
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
        raise FlywheelError(f"{path.name}, {_first_fault(error, root, _Head, _line(root))}") from None

    cohorts: dict[str, Cohort] = {}
    broken: dict[str, str] = {}
    unclear: set[str] = set()
    for name, raw in head.cohorts.items():
        node = _child(cohorts_node, name)
        place = f"cohort {name} in {path.name}"
        twice = [f for f in _duplicates(cohorts_node) if f.key == name and f.parent is cohorts_node]
        within = _duplicates(node)  # not by the place in the file: what an alias shares lies elsewhere
        if twice or any(f.key == "daily" for f in within):
            unclear.add(name)
        if faults := twice + within:
            broken[name] = f"{place}, {faults[0].sentence}"
        elif not isinstance(raw, dict):
            broken[name] = f"{place}, line {_line(node)}: a cohort is a mapping of keys: write its keys below it"
        elif "name" in raw:
            broken[name] = (
                f"{place}, line {_key_line(node, 'name')}: name is no key that is known here: a cohort's name is"
                " the key above its lines; remove this one"
            )
        else:
            try:
                cohorts[name] = Cohort.model_validate({"name": name, **raw})
            except ValidationError as error:
                broken[name] = f"{place}, {_first_fault(error, node, Cohort, _key_line(cohorts_node, name))}"
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
        if (
            cohorts[name].daily
            if name in cohorts
            else name in unclear or not isinstance(raw, dict) or raw.get("daily") is not False
        )
    )
    return Registry(path, head.default_cohort, head.schedule, head.destination, cohorts, broken, daily)


# --- where in the file, and in which words -------------------------------------------------------------


def _read_yaml(text: str) -> tuple[Any, Any]:
    """The nodes, which know their lines, and the data. A cohort's name is text, also where it reads `on` or 2024."""
    loader = yaml.SafeLoader(text)
    root = loader.get_single_node()
    if root is None:
        return None, None
    cohorts = _child(root, "cohorts")
    for key, _value in cohorts.value if _is_mapping(cohorts) else ():
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            key.tag = "tag:yaml.org,2002:str"
    try:
        return root, loader.construct_document(root)
    except ValueError:  # PyYAML lets Python's own through: no such day, no such number
        for node in _nodes(root):
            try:
                yaml.SafeLoader("").construct_object(node)
            except ValueError as error:
                raise yaml.MarkedYAMLError(problem=str(error), problem_mark=node.start_mark) from None
        raise


def _is_mapping(node: Any) -> bool:
    return isinstance(node, yaml.MappingNode)


def _nodes(node: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """The node and all below it, each once: an alias may lead back to a node."""
    seen = set() if seen is None else seen
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    yield node
    if isinstance(node, yaml.CollectionNode):
        for child in node.value:
            for part in child if isinstance(child, tuple) else (child,):
                yield from _nodes(part, seen)


@dataclass(frozen=True)
class _Duplicate:
    key: str
    parent: Any
    node: Any
    sentence: str


def _duplicates(node: Any) -> list[_Duplicate]:
    """Every key that stands twice in one mapping at or below the node: YAML keeps the last one in silence."""
    found: list[_Duplicate] = []
    for mapping in filter(_is_mapping, _nodes(node)):
        first: dict[str, int] = {}
        for key, value in mapping.value:
            name = str(key.value)
            if name in first:
                found.append(
                    _Duplicate(
                        name,
                        mapping,
                        value,
                        f"line {_line(key)}: {name} stands a second time (first on line"
                        f" {first[name]}): remove one of the two",
                    )
                )
            first.setdefault(name, _line(key))
    return found


def _inside(node: Any, outer: Any) -> bool:
    return outer is not None and (
        outer.start_mark.index <= node.start_mark.index and node.end_mark.index <= outer.end_mark.index
    )


def _child(node: Any, key: object) -> Any:
    if _is_mapping(node):
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


def _first_fault(error: ValidationError, node: Any, model: type[BaseModel], line: int) -> str:
    """The first fault that pydantic found, with the line that holds it and what to write there.

    `line` is for a fault of the whole. A key that nobody knows comes first: it is why another one is missing.
    """
    faults = error.errors(include_url=False, include_input=False)
    fault = next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])
    path = []
    fields: Any = model.model_fields
    for part in fault["loc"]:
        child = _child(node, part)
        if child is not None:
            line = _key_line(node, str(part))
            node = child
            inner: dict[str, type[BaseModel]] = {"consent": Consent, "threshold_range": ThresholdRange}
            fields = inner[part].model_fields if part in inner else fields
        if part not in ("<mapping>", "<word>", "[key]"):  # pydantic's marks for a choice of types
            path.append(str(part))
    where, message = ".".join(path), fault["msg"].removeprefix("Value error, ")
    match fault["type"]:
        case "extra_forbidden":
            known = [name for name in fields if name != "name"]
            return (
                f"line {line}: {where} is no key that is known here{_did_you_mean(path[-1], known)}:"
                f" the keys are {', '.join(known)}"
            )
        case "literal_error" if where == "consent":
            return f"line {line}: consent must be the word none, or have the keys {', '.join(Consent.model_fields)}"
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
