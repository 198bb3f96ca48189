"""botocore's models of services: validation of documents by shape, and serialization of responses."""

import re
from datetime import UTC, datetime
from functools import cache
from typing import Any

from botocore.model import OperationModel, ServiceModel
from botocore.session import get_session

_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "list": (list,),
    "map": (dict,),
    "structure": (dict,),
}
_TIMESTAMPS: dict[str, tuple[type, ...]] = {"unixTimestamp": (int, float), "iso8601": (str,)}


@cache
def service(name: str) -> ServiceModel:
    """The model that ships with botocore: what boto3 sends and expects."""
    return get_session().get_service_model(name)


@cache
def operation(service_name: str, name: str) -> OperationModel:
    return service(service_name).operation_model(name)


def problems(value: Any, expected: Any, at: str = "The request") -> list[str]:
    """Return one error text per violation of the shape, without values."""
    kind = expected.type_name
    types = _TIMESTAMPS[_timestamp_format(expected)] if kind == "timestamp" else _PYTHON_TYPES[kind]
    of_kind = isinstance(value, types) and (kind == "boolean" or not isinstance(value, bool))
    if not of_kind:
        return [f"{at} is a {type(value).__name__} and must be a {kind}."]
    found = _range_problems(value, expected, at)
    if kind == "list":
        return found + [p for i, item in enumerate(value) for p in problems(item, expected.member, f"{at}[{i}]")]
    if kind == "map":
        found += [p for key in value for p in problems(key, expected.key, f"A key of {at}")]
        return found + [p for item in value.values() for p in problems(item, expected.value, f"A value of {at}")]
    if kind == "structure":
        return _structure_problems(value, expected, at)
    if kind == "string" and expected.enum and value not in expected.enum:
        found.append(f"{at} must be one of {', '.join(expected.enum)}.")
    pattern = expected.metadata.get("pattern")
    if pattern and isinstance(value, str) and not re.fullmatch(pattern, value, re.DOTALL):
        found.append(f"{at} must match {pattern}.")
    return found


def _range_problems(value: Any, expected: Any, at: str) -> list[str]:
    """[shape traits min and max] the length of a string, list or map; of a number the number."""
    size = len(value) if isinstance(value, str | list | dict) else value
    low, high = expected.metadata.get("min"), expected.metadata.get("max")
    found = [f"{at} must not be less than {low}, its length or value."] if low is not None and size < low else []
    return found + ([f"{at} must not be more than {high}, its length or value."] if high and size > high else [])


def _structure_problems(value: dict[str, Any], expected: Any, at: str) -> list[str]:
    members = {wire_name(name, member): member for name, member in expected.members.items()}
    required = [wire_name(name, expected.members[name]) for name in expected.required_members]
    found = [f"{at} lacks {name}, which is required." for name in required if name not in value]
    # [strict] The real services may ignore unknown members.
    found += [f"{at} has {name}, which is not a member of {expected.name}." for name in value if name not in members]
    if expected.is_tagged_union and len(value) != 1:
        found.append(f"{at} must have exactly one member.")
    for name, item in value.items():
        if name in members:
            found += problems(item, members[name], f"{at}.{name}" if at != "The request" else name)
    return found


def _timestamp_format(expected: Any) -> str:
    return str(expected.serialization.get("timestampFormat", "unixTimestamp"))


def wire_name(name: str, member: Any) -> str:
    """What a member is called in JSON; what travels in the address or a header keeps the model's word."""
    return name if "location" in member.serialization else member.serialization.get("name", name)


def to_json(value: Any, expected: Any) -> Any:
    """Return a response as JSON: timestamps, kept as epoch seconds, in their shape's format."""
    kind = expected.type_name
    if kind == "timestamp":
        if isinstance(value, str) or _timestamp_format(expected) == "unixTimestamp":
            return value  # a string is one that a request had
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if kind == "structure":
        return {name: to_json(item, expected.members[name]) for name, item in value.items()}
    if kind == "list":
        return [to_json(item, expected.member) for item in value]
    if kind == "map":
        return {key: to_json(item, expected.value) for key, item in value.items()}
    return value
