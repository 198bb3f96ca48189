"""The base of the models of what tasks hand on, and names for data that has no model here."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

#: An object of JSON: what a task returns, what a templated field holds in `execute`, or a file of the state bucket. A
#: model of this package gives it by `model_dump(mode="json")`, as Airflow does not read a model from an XCom.
type Json = dict[str, Any]
#: The output of an upstream task in a DAG file (an XComArg), or a key of it. `Any`: a key of an XComArg has no type.
type Output = Any
#: A structure of an AWS request or answer: botocore checks it by its own model, and gives it no Python type.
type AwsStructure = dict[str, Any]


class Record(BaseModel):
    """A model whose JSON is an XCom or lies in S3.

    A key that an earlier version did not write has a default, and a key of a later version is ignored: a run may wait
    for an approval for days, while another version is deployed.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", serialize_by_alias=True, validate_by_name=True, validate_by_alias=True,
        hide_input_in_errors=True,
    )  # fmt: skip


def read_kept[Model: Record](model: type[Model], value: object) -> Model | None:
    """Return the model of a file, or None for one that is missing or of another version: the caller makes it again."""
    try:
        return None if value is None else model.model_validate(value)
    except ValidationError:
        return None
