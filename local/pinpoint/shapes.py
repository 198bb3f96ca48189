"""botocore's model of Pinpoint, and validation of JSON documents against it."""

from functools import cache
from typing import Any

from botocore.model import ServiceModel, Shape
from botocore.session import get_session

_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "timestamp": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "list": (list,),
    "map": (dict,),
    "structure": (dict,),
}


@cache
def service() -> ServiceModel:
    """The model that ships with botocore: what boto3 sends and expects."""
    return get_session().get_service_model("pinpoint")


@cache
def shape(name: str) -> Shape:
    return service().shape_for(name)


@cache
def payload(operation: str, direction: str) -> Shape:
    """The shape of an operation's body ("input" or "output"), without what travels in the address."""
    model = service().operation_model(operation)
    whole: Any = model.input_shape if direction == "input" else model.output_shape
    member = whole.serialization.get("payload")
    return whole.members[member] if member else whole


def problems(value: Any, expected: Any, at: str = "body") -> list[str]:
    """Return one error text per violation of the shape, without values."""
    kind = expected.type_name
    of_kind: bool = isinstance(value, _PYTHON_TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if not of_kind:
        return [f"{at} is a {type(value).__name__} and must be a {kind}."]
    if kind == "list":
        return [p for i, item in enumerate(value) for p in problems(item, expected.member, f"{at}[{i}]")]
    if kind == "map":
        return [p for key, item in value.items() for p in problems(item, expected.value, f"{at}.{key}")]
    if kind == "structure":
        return _structure_problems(value, expected, at)
    if kind == "string" and expected.enum and value not in expected.enum:
        return [f"{at} must be one of {', '.join(expected.enum)}."]
    return []


def _structure_problems(value: dict[str, Any], expected: Any, at: str) -> list[str]:
    members = {m.serialization.get("name", name): m for name, m in expected.members.items()}
    found = [f"{at} lacks {name}, which is required." for name in expected.required_members if name not in value]
    found += [f"{at}.{name} is not a member of {expected.name}." for name in value if name not in members]
    for name, item in value.items():
        if name in members:
            found += problems(item, members[name], f"{at}.{name}")
    return found
