"""Names of attributes of a record: at its top level, or in a map by a path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import AfterValidator, Discriminator, Field, Tag, TypeAdapter

#: The levels of a record [DynamoDB quotas: nested attribute depth].
MAX_LEVELS = 32


def _one_level(name: str) -> str:
    if re.search(r"[.\[\]]", name):
        parts = [part for part in re.split(r"[.\[\]]+", name) if part]
        advice = "an item of a list is not read: copy the value to an attribute of its own"
        if not any(part.isdecimal() for part in parts):
            advice = f"write a path into a map as a list, as in [{', '.join(parts) or 'profile, email'}]"
        raise ValueError(f"{name!r} is not the name of an attribute: {advice}")
    if name.split() != name.split(" ") or not name.isprintable():
        raise ValueError(
            f"{name!r} has a blank at an end, two in a row, or an invisible character: write the attribute's"
            " name as the contacts table has it"
        )
    return name


def _form(value: object) -> str:
    return "<path>" if isinstance(value, list | tuple) else "<name>"


def _shortest(path: tuple[str, ...]) -> str | tuple[str, ...]:
    return path[0] if len(path) == 1 else path


#: The name of an attribute at one level of a record.
AttributeName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_one_level)]
#: An attribute of a record: its name, or the names from the top level of the record down to it.
AttributePath = Annotated[
    Annotated[AttributeName, Tag("<name>")]
    | Annotated[
        tuple[AttributeName, ...], Field(min_length=1, max_length=MAX_LEVELS), AfterValidator(_shortest), Tag("<path>")
    ],
    Discriminator(_form),
]
#: Reads the columns of a segment file, each with its attribute, from JSON.
COLUMNS: TypeAdapter[dict[str, AttributePath]] = TypeAdapter(dict[str, AttributePath])


def path_text(path: AttributePath) -> str:
    """Return a path as text: names have no dots."""
    return path if isinstance(path, str) else ".".join(path)


def value_at(record: Mapping[str, object], path: AttributePath) -> object:
    """Return the value of an attribute; None if it, or a map above it, does not exist."""
    if isinstance(path, str):
        return record.get(path)
    value: object = record
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def has_maps_above(record: Mapping[str, object], path: AttributePath) -> bool:
    """Whether each value above an attribute is a map, or does not exist."""
    value: object = record
    for name in () if isinstance(path, str) else path[:-1]:
        value = value.get(name) if isinstance(value, Mapping) else value
    return value is None or isinstance(value, Mapping)


def without_overlaps(paths: Iterable[AttributePath]) -> list[tuple[str, ...]]:
    """Return each path once, without those below another: DynamoDB refuses a projection with both."""
    distinct = dict.fromkeys((path,) if isinstance(path, str) else path for path in paths)
    return [path for path in distinct if not any(path[:levels] in distinct for levels in range(1, len(path)))]
