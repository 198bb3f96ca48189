"""The JSON Schema of cohorts.yaml, by which editors complete and check the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from cohort_flywheel.config.cohorts import Cohort, Name
from cohort_flywheel.config.graph_loads import GraphLoad
from cohort_flywheel.config.registry_head import RegistryKeys


class _RegistryFile(RegistryKeys):
    """The cohorts of a studio."""

    cohorts: Annotated[dict[Name, Cohort], Field(min_length=1)]
    graph_loads: dict[Name, GraphLoad] = Field(default_factory=dict)


class _Generator(GenerateJsonSchema):
    """Without fields' titles, which repeat their names, and without keys that their pattern does not match."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        found = super().dict_schema(schema)
        return found | {"additionalProperties": False} if "patternProperties" in found else found


def registry_schema() -> JsonSchemaValue:
    """Return the schema. It accepts each file that the loader accepts; the loader also compares keys."""
    schema = _RegistryFile.model_json_schema(schema_generator=_Generator)
    return {"$schema": _Generator.schema_dialect, **schema, "title": "cohorts.yaml"}


def write_schema(include: Path) -> None:
    """Write cohorts.schema.json beside the registry."""
    text = json.dumps(registry_schema(), indent=2, ensure_ascii=False) + "\n"
    (include / "cohorts.schema.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_schema(Path(__file__).parents[3] / "include")
