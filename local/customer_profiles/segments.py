"""A segment's definition, and whether a profile is in it: [shape SegmentGroup] evaluated on the profile itself."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .profiles import Document, value_at

# How conditions are combined, by [shape IncludeOptions].
_INCLUDE: dict[str, Callable[[list[bool]], bool]] = {
    "ALL": all,
    "ANY": any,
    "NONE": lambda found: not any(found),
}
# [strict] The default is ALL; the documentation names none.
_DEFAULT = "ALL"

# Comparisons of a held value with those of the dimension [shape AttributeDimensionType].
_TEXT: dict[str, Callable[[str, list[str]], bool]] = {
    # [strict] Comparisons are case-sensitive.
    "INCLUSIVE": lambda held, values: held in values,
    "EXCLUSIVE": lambda held, values: held not in values,
    "CONTAINS": lambda held, values: any(value in held for value in values),
    "BEGINS_WITH": lambda held, values: held.startswith(tuple(values)),
    "ENDS_WITH": lambda held, values: held.endswith(tuple(values)),
}
_NUMBERS: dict[str, Callable[[float, list[float]], bool]] = {
    "GREATER_THAN": lambda held, values: held > values[0],
    "LESS_THAN": lambda held, values: held < values[0],
    "GREATER_THAN_OR_EQUAL": lambda held, values: held >= values[0],
    "LESS_THAN_OR_EQUAL": lambda held, values: held <= values[0],
    "EQUAL": lambda held, values: held == values[0],
}
_DATES: dict[str, Callable[[float, list[float]], bool]] = {
    "BEFORE": lambda held, values: held < values[0],
    "AFTER": lambda held, values: held > values[0],
    "ON": lambda held, values: held == values[0],
    "BETWEEN": lambda held, values: values[0] <= held <= values[1],
    "NOT_BETWEEN": lambda held, values: not values[0] <= held <= values[1],
}


class DefinitionError(ValueError):
    """A definition that cannot be evaluated; the text says why."""


@dataclass
class Definition:
    """[shape GetSegmentDefinitionResponse]; it never changes: the service has no call that updates one."""

    arn: str
    request: dict[str, Any]
    created: float

    @property
    def groups(self) -> dict[str, Any]:
        return dict(self.request["SegmentGroups"])

    def item(self) -> dict[str, Any]:
        """[shape SegmentDefinitionItem]"""
        kept = ("SegmentDefinitionName", "DisplayName", "Description", "Tags")
        found = {name: self.request[name] for name in kept if name in self.request}
        return found | {"SegmentDefinitionArn": self.arn, "CreatedAt": self.created, "SegmentType": "CLASSIC"}

    def document(self) -> dict[str, Any]:
        sort = {name: self.request[name] for name in ("SegmentSort",) if name in self.request}
        return self.item() | {"SegmentGroups": self.groups} | sort


def check(groups: dict[str, Any], known: Callable[[str], bool]) -> None:
    """Raise DefinitionError for a definition that cannot be evaluated, before anything is stored."""
    if not groups.get("Groups"):
        raise DefinitionError("A segment must have at least one group.")  # [strict] It would match all profiles.
    if not all(known(name) for name in sources(groups)):
        raise DefinitionError("A source segment does not exist.")
    for group in groups["Groups"]:
        if not group.get("Dimensions") and not group.get("SourceSegments"):
            raise DefinitionError("A group must have dimensions or source segments.")  # [strict] as above
        for dimension in group.get("Dimensions", ()):
            if "CalculatedAttributes" in dimension or not dimension.get("ProfileAttributes"):
                raise DefinitionError("A dimension must have profile attributes; calculated ones are not emulated.")
            for _, condition in _conditions(dimension):
                _check_condition(condition)


def sources(groups: dict[str, Any]) -> list[str]:
    """The names of the definitions that a segment builds on."""
    return [source.get("SegmentDefinitionName", "") for g in groups["Groups"] for source in g.get("SourceSegments", ())]


def includes(groups: dict[str, Any], document: Document, definition: Callable[[str], Definition]) -> bool:
    """Whether a profile is in the segment; `definition` gives the source segments."""
    found = [_group_includes(group, document, definition) for group in groups["Groups"]]
    return _INCLUDE[groups.get("Include", _DEFAULT)](found)


def _group_includes(group: dict[str, Any], document: Document, definition: Callable[[str], Definition]) -> bool:
    sources = [
        includes(definition(source["SegmentDefinitionName"]).groups, document, definition)
        for source in group.get("SourceSegments", ())
    ]
    # [shape Group.SourceSegments] "the starting source of data": a profile outside it is never in the group.
    if sources and not _INCLUDE[group.get("SourceType", _DEFAULT)](sources):
        return False
    dimensions = [
        all(_meets(document, path, condition) for path, condition in _conditions(dimension))
        for dimension in group.get("Dimensions", ())
    ]
    return not dimensions or _INCLUDE[group.get("Type", _DEFAULT)](dimensions)


def _conditions(dimension: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Each attribute of a dimension and what it must be; [strict] they all must be met."""
    for name, condition in dimension.get("ProfileAttributes", {}).items():
        if "DimensionType" in condition and "Values" in condition and isinstance(condition["Values"], list):
            yield (name,), condition
        else:  # an address or the custom attributes
            for inner, deeper in condition.items():
                yield (name, inner), deeper


def _check_condition(condition: dict[str, Any]) -> None:
    kind, values = condition["DimensionType"], condition["Values"]
    if kind in ("BETWEEN", "NOT_BETWEEN") and len(values) != 2:
        raise DefinitionError(f"{kind} takes two values.")  # [strict]
    if kind in _NUMBERS and (len(values) != 1 or _number(values[0]) is None):
        raise DefinitionError(f"{kind} takes one number.")  # [strict]
    if kind in _DATES and any(_instant(value) is None for value in values):
        raise DefinitionError(f"{kind} takes dates in ISO 8601.")  # [strict]


def _meets(document: Document, path: tuple[str, ...], condition: dict[str, Any]) -> bool:
    kind, values = condition["DimensionType"], condition["Values"]
    held = value_at(document, path)
    if held is None:
        # [strict] A profile without the attribute is not excluded: it would be mailed.
        return bool(kind == "EXCLUSIVE")
    if kind in _TEXT:
        return _TEXT[kind](held, values)
    read = _number if kind in _NUMBERS else _instant
    number = read(held)
    table = _NUMBERS if kind in _NUMBERS else _DATES
    return number is not None and table[kind](number, [read(value) or 0.0 for value in values])


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _instant(text: str) -> float | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


@dataclass
class Estimate:
    """[shape GetSegmentEstimateResponse] counted at the request."""

    id: str
    ends: float
    size: int
    failed: bool

    def status(self, now: float) -> str:
        if now < self.ends:
            return "RUNNING"
        return "FAILED" if self.failed else "SUCCEEDED"
