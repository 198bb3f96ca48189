"""botocore's model of SES v2, and validation of JSON documents against it."""

import re
from functools import cache
from typing import Any

from botocore.model import ServiceModel
from botocore.session import get_session

# A timestamp travels as a number of seconds: rest-json's default, which the model does not change.
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "blob": (str,),
    "timestamp": (int, float),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "double": (int, float),
    "list": (list,),
    "map": (dict,),
    "structure": (dict,),
}
_SIZED = ("string", "list")


@cache
def service() -> ServiceModel:
    """The model that ships with botocore: what boto3 sends and expects."""
    return get_session().get_service_model("sesv2")


def problems_of(operation: str, direction: str, body: Any) -> list[str]:
    """Return one error text per violation of the operation's "input" or "output" shape."""
    model = service().operation_model(operation)
    expected: Any = model.input_shape if direction == "input" else model.output_shape
    return problems(body, expected) if expected is not None else []


def problems(value: Any, expected: Any, at: str = "body") -> list[str]:
    """Return one error text per violation, without values."""
    kind = expected.type_name
    of_kind: bool = isinstance(value, _PYTHON_TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if not of_kind:
        return [f"{at} is a {type(value).__name__} and must be a {kind}."]
    found = _size_problems(value, expected, at)
    if kind == "list":
        found += [p for i, item in enumerate(value) for p in problems(item, expected.member, f"{at}[{i}]")]
    elif kind == "map":
        found += [p for key, item in value.items() for p in problems(item, expected.value, f"{at}.{key}")]
    elif kind == "structure":
        found += _structure_problems(value, expected, at)
    elif kind == "string" and expected.enum and value not in expected.enum:
        found.append(f"{at} must be one of {', '.join(expected.enum)}.")
    return found


def _size_problems(value: Any, expected: Any, at: str) -> list[str]:
    limits, found = expected.metadata, []
    if expected.type_name in _SIZED and len(value) < limits.get("min", 0):
        found.append(f"{at} is too short.")
    if expected.type_name in _SIZED and len(value) > limits.get("max", len(value)):
        found.append(f"{at} is too long.")
    if expected.type_name == "string" and "pattern" in limits and not re.fullmatch(limits["pattern"], value):
        found.append(f"{at} does not match the pattern of {expected.name}.")
    return found


def _structure_problems(value: dict[str, Any], expected: Any, at: str) -> list[str]:
    """The members that travel in the body: those of the URI and the query string are not checked here."""
    in_body = {name: m for name, m in expected.members.items() if "location" not in m.serialization}
    members = {m.serialization.get("name", name): m for name, m in in_body.items()}
    required = [name for name in expected.required_members if name in in_body]
    found = [f"{at} lacks {name}, which is required." for name in required if name not in value]
    found += [f"{at}.{name} is not a member of {expected.name}." for name in value if name not in members]
    for name, item in value.items():
        if name in members:
            found += problems(item, members[name], f"{at}.{name}")
    return found
