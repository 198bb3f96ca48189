"""The registry, include/cohorts.yaml, which a studio edits: read with care, and faults named with their line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from croniter import croniter
from pydantic import BaseModel, Field, StrictInt, ValidationError, field_validator

from cohort_flywheel.config.cohorts import (
    Campaign,
    Cohort,
    Consent,
    Limits,
    Name,
    Strict,
    ThresholdFrom,
    ThresholdRange,
)
from cohort_flywheel.errors import FlywheelError


class Approval(Strict):
    """Who may approve a launch, by their names in Airflow, and how long it waits for one of them."""

    approvers: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    own_runs: bool = False
    hours: Annotated[StrictInt, Field(ge=1, le=168)] = 12


class Notify(Strict):
    """Who is told: Airflow notifiers, each `{notifier: dotted.path.of.its.class, …its arguments}`."""

    on_call: list[dict[str, Any]] = Field(default_factory=list)
    producers: list[dict[str, Any]] = Field(default_factory=list)
    approvers: list[dict[str, Any]] = Field(default_factory=list)

    @field_validator("on_call", "producers", "approvers")
    @classmethod
    def _names_a_class(cls, targets: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if [t for t in targets if not re.fullmatch(r"[\w.]+\.[A-Z]\w*", str(t.get("notifier")))]:
            raise ValueError(
                "each target needs the key notifier with the path of an Airflow notifier's class, such as"
                " airflow.providers.amazon.aws.notifications.sns.SnsNotifier, and that class's arguments beside it"
            )
        return targets


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
    #: the Airflow pool of the tasks that ask the graph, where the deployment has made one
    graph_pool: str | None = None
    notify: Notify = field(default_factory=lambda: Notify())
    #: "none": it is written down that nobody has opted out where players were written to before
    opt_outs: str | None = None
    approval: Approval = field(default_factory=lambda: Approval())

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


class _Head(Strict):
    default_cohort: str
    schedule: str
    destination: Name
    graph_pool: Annotated[str, Field(min_length=1)] | None = None
    opt_outs: Literal["none"] | None = None
    notify: Notify = Field(default_factory=Notify)
    approval: Approval = Field(default_factory=Approval)
    cohorts: dict[str, Any] = Field(min_length=1)

    @field_validator("schedule")
    @classmethod
    def _is_cron(cls, schedule: str) -> str:
        if not croniter.is_valid(schedule) or len(schedule.split()) not in (1, 5):
            raise ValueError(
                f"{schedule!r} is no cron expression: write five fields, such as 0 0 * * * (every midnight, UTC)"
            )
        return schedule


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
    return Registry(
        path,
        head.default_cohort,
        head.schedule,
        head.destination,
        cohorts,
        broken,
        daily,
        head.graph_pool,
        head.notify,
        head.opt_outs,
        head.approval,
    )


#: The keys that have keys of their own.
_INNER: dict[object, type[BaseModel]] = {
    "approval": Approval,
    "campaign": Campaign,
    "consent": Consent,
    "limits": Limits,
    "notify": Notify,
    "threshold": ThresholdFrom,
    "threshold_range": ThresholdRange,
}

#: Pydantic's marks for a choice of types, in the place of a fault.
_MARKS = ("<mapping>", "<word>", "<number>", "<history>", "[key]")

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
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key]
    return None


def _line(node: Any) -> int:
    return node.start_mark.line + 1 if node is not None else 1


def _key_line(node: Any, key: object) -> int:
    if isinstance(node, yaml.SequenceNode):
        return _line(_child(node, key))
    for name, _value in node.value if _is_mapping(node) else ():
        if name.value == str(key):
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
            line = _key_line(node, part)
            node = child
            fields = _INNER[part].model_fields if part in _INNER else fields
        if part not in _MARKS:
            path.append(str(part))
    where, message = ".".join(path), fault["msg"].removeprefix("Value error, ")
    match fault["type"]:
        case "extra_forbidden":
            known = [field.alias or name for name, field in fields.items() if name != "name"]
            return (
                f"line {line}: {where} is no key that is known here{_did_you_mean(path[-1], known)}:"
                f" the keys are {', '.join(known)}"
            )
        case "literal_error" if where == "consent":
            return f"line {line}: consent must be the word none, or have the keys {', '.join(Consent.model_fields)}"
        case "date_type" | "date_from_datetime_inexact":
            return f"line {line}: {where} is no date: write it as 2026-11-02, without quotes and without a time"
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
