"""The loader of the registry, include/cohorts.yaml; faults are reported with their line."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml
from pydantic import BaseModel, ValidationError

from cohort_flywheel.common.encoding import decode_text
from cohort_flywheel.config.cohorts import (
    Campaign,
    Cohort,
    Consent,
    Limits,
    ThresholdFrom,
    ThresholdRange,
)
from cohort_flywheel.config.conditions import Condition
from cohort_flywheel.config.data_schema import PLAYER_ID, DataSchema
from cohort_flywheel.config.graph_loads import GraphLoad
from cohort_flywheel.config.registry_head import Approval, Engagement, Notify, RegistryHead, Tuning
from cohort_flywheel.config.yaml_nodes import (
    Fault,
    child,
    compose,
    construct,
    duplicates,
    faults,
    flatten,
    has_twice,
    is_false,
    key_line,
    key_text,
    line_of,
    yaml_fault,
)
from cohort_flywheel.errors import Code, FlywheelError

#: A name that a DAG id may end with [Airflow: a key has letters, digits, `_`, `-` and `.`, and 250 of them].
_DAG_ID = re.compile(r"[\w-]{1,200}")
#: The characters of the graph's names in a snapshot's header, as JSON: S3 takes 2 KB of metadata with an object.
MAX_GRAPH_NAMES = 1400


@dataclass(frozen=True)
class Registry:
    """The valid cohorts of the file, and an error text for each other."""

    path: Path
    default_cohort: str
    schedule: str
    destination: str
    cohorts: dict[str, Cohort] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    #: the cohorts with a daily run of their own, broken ones included, so that a typo cannot hide one
    daily: tuple[str, ...] = ()
    #: the Airflow pool of the tasks that query the graph, if any
    graph_pool: str | None = None
    notify: Notify = field(default_factory=lambda: Notify())
    #: "none": no player has opted out at a service that mailed the players before
    opt_outs: str | None = None
    approval: Approval = field(default_factory=lambda: Approval())
    tuning: Tuning = field(default_factory=lambda: Tuning())
    #: the studio's own names in the graph and in the contacts table
    data_schema: DataSchema = field(default_factory=DataSchema)
    engagement: Engagement = field(default_factory=lambda: Engagement())
    #: the zone of the schedule and of the dates
    timezone: str = "UTC"
    graph_loads: dict[str, GraphLoad] = field(default_factory=dict)
    broken_loads: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Every cohort of the file, in its order, broken ones last."""
        return [*self.cohorts, *self.broken]

    def cohort(self, name: str) -> Cohort:
        """Return a cohort; raise FlywheelError if it is unknown or has a fault."""
        if name in self.broken:
            raise FlywheelError(self.broken[name], code=Code.INCLUDE_FILE)
        if name not in self.cohorts:
            raise FlywheelError(
                f"{self.path.name} has no cohort {name!r}{_did_you_mean(name, self.names)}:"
                f" choose one of {', '.join(self.names)}, or add it to the file",
                code=Code.PARAM,
            )
        return self.cohorts[name]

    @property
    def load_names(self) -> list[str]:
        """Every graph load of the file, in its order, broken ones last."""
        return [*self.graph_loads, *self.broken_loads]

    def graph_load(self, name: str) -> GraphLoad:
        """Return a graph load; raise FlywheelError for one that is unknown or written wrongly."""
        if name in self.broken_loads:
            raise FlywheelError(self.broken_loads[name], Code.INCLUDE_FILE)
        if name not in self.graph_loads:
            raise FlywheelError(
                f"{self.path.name} has no graph load {name!r}{_did_you_mean(name, self.load_names)}:"
                f" choose one of {', '.join(self.load_names) or 'none'}, or add it to the file",
                Code.PARAM,
            )
        return self.graph_loads[name]


def read_registry(path: Path) -> Registry:
    """Read the registry. A fault of a cohort affects only that cohort; a fault of the file raises FlywheelError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FlywheelError(
            f"the registry {path} cannot be read ({type(error).__name__}): put cohorts.yaml there",
            code=Code.INCLUDE_MISSING,
        ) from None
    return parse_registry(decode_text(content, path.name, Code.INCLUDE_FILE), path)


def parse_registry(text: str, path: Path) -> Registry:
    """Read the registry from its text; `path` is for the error texts."""
    try:
        root = compose(text)
    except yaml.YAMLError as error:
        line, problem = yaml_fault(error, text)
        raise FlywheelError(
            f"{path.name}, line {line}: this is not YAML ({problem}): correct the line", code=Code.INCLUDE_FILE
        ) from None
    entries: dict[str, _Entry] = {}
    loads: dict[str, _Entry] = {}
    head = _read_head(root, {"cohorts": entries, "graph_loads": loads})
    if isinstance(head, Fault):
        raise FlywheelError(f"{path.name}, {head}", code=Code.INCLUDE_FILE)

    cohorts: dict[str, Cohort] = {}
    broken: dict[str, str] = {}
    daily: list[str] = []
    for name, entry in entries.items():
        found = _read_cohort(entry, head.data_schema)
        if isinstance(found, Cohort):
            cohorts[name] = found
        else:
            broken[name] = f"cohort {name} in {path.name}, {found}"
        # a broken cohort keeps its daily DAG, unless `daily` is clearly false or its name cannot be in a DAG id
        if found.daily if isinstance(found, Cohort) else entry.stays_daily and _DAG_ID.fullmatch(name):
            daily.append(name)
    default = _label(head.default_cohort)
    if default not in entries:
        broken[default] = (
            f"{path.name}, line {line_of(child(root, 'default_cohort'))}: default_cohort {default!r} is not a cohort of"
            f" the file{_did_you_mean(default, list(entries))}: write one of {', '.join(entries)}"
        )
    return Registry(
        path,
        default,
        head.schedule,
        head.destination,
        cohorts,
        broken,
        tuple(daily),
        head.graph_pool,
        head.notify,
        head.opt_outs,
        head.approval,
        head.tuning,
        head.data_schema,
        head.engagement,
        head.timezone,
        *_read_loads(loads, path),
    )


def _read_loads(entries: dict[str, _Entry], path: Path) -> tuple[dict[str, GraphLoad], dict[str, str]]:
    """Return the graph loads that can be used, and an error for each that cannot."""
    found = {name: _read_entry(entry, GraphLoad) for name, entry in entries.items()}
    loads = {name: load for name, load in found.items() if isinstance(load, GraphLoad)}
    return loads, {
        name: f"graph load {name} in {path.name}, {each}" for name, each in found.items() if isinstance(each, Fault)
    }


class _Entry(NamedTuple):
    """One cohort of the file, not yet validated."""

    key: yaml.Node
    node: yaml.Node
    twice: Fault | None  # if its name occurs a second time
    stays_daily: bool


def _read_head(root: yaml.Node | None, named: dict[str, dict[str, _Entry]]) -> RegistryHead | Fault:
    """Read all keys but those of `named`, whose entries are put there."""
    if not isinstance(root, yaml.MappingNode):
        keys = [each.alias or name for name, each in RegistryHead.model_fields.items()]
        return Fault(1, f"the file must be a mapping with the keys {', '.join(keys)}")
    below = {key: node for key in named if (node := child(root, key)) is not None}
    rest = yaml.MappingNode(
        root.tag, [pair for pair in root.value if pair[1] not in below.values()], root.start_mark, root.end_mark
    )
    if found := sorted({*faults(rest), *duplicates(root).values()}):
        return found[0]
    try:
        flatten(rest)
        data = construct(rest)
        for key, node in below.items():
            if isinstance(node, yaml.MappingNode):
                named[key] |= _entries(node)
                data[key] = dict.fromkeys(named[key])
            else:
                data[key] = construct(node)
        return RegistryHead.model_validate(data)
    except yaml.YAMLError as error:
        return yaml_fault(error, "")
    except ValidationError as error:
        return _first_fault(error, root, RegistryHead, line_of(root))


def _entries(cohorts: yaml.MappingNode) -> dict[str, _Entry]:
    """The entries by name; raises YAMLError for a `<<` that does not name a mapping."""
    twice = duplicates(cohorts)
    flatten(cohorts)
    found: dict[str, _Entry] = {}
    for key, node in cohorts.value:
        name = key_text(key)
        stays_daily = name in twice or has_twice(node, "daily") or not is_false(child(node, "daily"))
        label = f"of line {line_of(key)}" if name is None else _label(name)
        found[label] = _Entry(key, node, twice.get(name or ""), stays_daily)
    return found


def _label(name: str) -> str:
    """Return a name that can be shown and stored: a database refuses NUL and half a surrogate pair."""
    return name if name and name.isprintable() else ascii(name)


def _read_cohort(entry: _Entry, schema: DataSchema) -> Cohort | Fault:
    """Return the cohort, or its first fault."""
    cohort = _read_entry(entry, Cohort)
    if isinstance(cohort, Fault):
        return cohort
    if cohort.property in (PLAYER_ID, schema.player_id):
        return Fault(key_line(entry.node, "property"), f"property {cohort.property} is the players' id: name the score")
    if schema.player_id in cohort.where:
        return Fault(
            key_line(child(entry.node, "where"), schema.player_id),
            f"where names {schema.player_id}, which is the id: leave it out",
        )
    graph_names = [*cohort.where, cohort.schema_of(schema).vertex_label, schema.player_id]
    if (size := len(json.dumps(graph_names))) > MAX_GRAPH_NAMES:
        return Fault(
            key_line(entry.node, "where"),
            f"the names in where and schema are {size:,} characters long together, and the header of a snapshot holds"
            f" {MAX_GRAPH_NAMES:,}: name fewer properties, or give them shorter names",
        )
    return cohort


def _read_entry[Model: (Cohort, GraphLoad)](entry: _Entry, model: type[Model]) -> Model | Fault:
    """Return the entry as a model, or its first fault."""
    node: yaml.Node | None = entry.node
    line, what = line_of(entry.key), _NOUNS[model]
    if entry.twice:
        return entry.twice
    if found := [*faults(entry.key), *faults(node)]:
        return found[0]
    if not isinstance(node, yaml.MappingNode):
        return Fault(line_of(node), f"a {what} is a mapping of keys: write its keys below it")
    try:
        flatten(node)
        raw = construct(node)
    except yaml.YAMLError as error:
        return yaml_fault(error, "")
    if not isinstance(raw, dict):
        return Fault(line_of(node), f"a {what} is a mapping of keys: write its keys below it")
    if "name" in raw:
        return Fault(
            key_line(node, "name"),
            f"name is not a key of a {what}, whose name is the key above its lines: remove this one",
        )
    try:
        return model.model_validate({"name": key_text(entry.key), **raw})
    except ValidationError as error:
        return _first_fault(error, node, model, line)


#: What a sentence calls an entry.
_NOUNS: dict[type[BaseModel], str] = {Cohort: "cohort", GraphLoad: "graph load"}

#: The keys that have keys of their own.
_INNER: dict[object, type[BaseModel]] = {
    "approval": Approval,
    "campaign": Campaign,
    "consent": Consent,
    "limits": Limits,
    "notify": Notify,
    "schema": DataSchema,
    "threshold": ThresholdFrom,
    "threshold_range": ThresholdRange,
    "tuning": Tuning,
    "engagement": Engagement,
    "tracking_consent": Consent,
    "where": Condition,
}

#: Pydantic's marks for a choice of types, in the path of a fault.
_MARKS = ("<mapping>", "<word>", "<number>", "<history>", "<name>", "<path>", "[key]")


def _first_fault(error: ValidationError, node: yaml.Node | None, model: type[BaseModel], line: int) -> Fault:
    """Return the first fault that pydantic found, with its line and what to write there.

    `line` is that of a fault of the whole node. An unknown key comes first: it is the reason why another is missing.
    """
    errors = error.errors(include_url=False, include_input=False)
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    path: list[str] = []
    fields = model.model_fields
    for part in first["loc"]:
        inner = child(node, part)
        if inner is not None:
            line = key_line(node, part)
            node = inner
            # below `where` are names of properties, which may be `limits` or `schema` too
            inside = _INNER.get(part) if "where" not in path else None
            fields = inside.model_fields if inside else fields
        if part not in _MARKS:
            path.append(_label(str(part)))
    keys = [f.alias or name for name, f in fields.items() if name != "name"]
    message = first["msg"].removeprefix("Value error, ")
    where = ".".join(path) or f"the {_NOUNS.get(model, 'cohort')}"
    return Fault(line, _sentence(first["type"], where, message, keys))


def _sentence(kind: str, where: str, message: str, keys: list[str]) -> str:
    match kind:
        case "extra_forbidden":
            return (
                f"{where} is not a known key{_did_you_mean(where.rpartition('.')[2], keys)}:"
                f" the keys are {', '.join(keys)}"
            )
        case "literal_error" if where == "consent":
            return f"consent must be the word none, or have the keys {', '.join(Consent.model_fields)}"
        case "date_type" | "date_from_datetime_inexact":
            return f"{where} is not a date: write it as 2026-11-02, without quotes and without a time"
        case "missing":
            return f"the key {where} is missing: add it"
        case "string_pattern_mismatch":
            return (
                f"{where} must begin with a letter and hold letters, digits and underscores only,"
                " as it becomes a DAG id, an S3 key and a property name: rename it"
            )
        case _:
            return f"{where}: {message[:1].lower()}{message[1:]}"


def _did_you_mean(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
