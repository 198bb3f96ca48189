"""The JSON Schema of cohorts.yaml: the shipped file is current, accepts what the loader accepts, and finds faults."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from cohort_flywheel.config.registry import parse_registry
from cohort_flywheel.config.registry_schema import registry_schema, write_schema

INCLUDE = Path(__file__).parents[3] / "include"
TEXT = (INCLUDE / "cohorts.yaml").read_text(encoding="utf-8")
VALIDATOR = Draft202012Validator(registry_schema())


def errors(text: str) -> list[str]:
    """The schema's errors; a date is text to it, as to YAML 1.2."""
    data = json.loads(json.dumps(yaml.safe_load(text), default=date.isoformat))
    return [f"{'.'.join(map(str, each.absolute_path))}: {each.message}" for each in VALIDATOR.iter_errors(data)]


def edited(old: str, new: str) -> str:
    assert old in TEXT
    return TEXT.replace(old, new, 1)


def test_the_file_is_what_make_schema_writes(tmp_path: Path) -> None:
    Draft202012Validator.check_schema(registry_schema())
    write_schema(tmp_path)
    name = "cohorts.schema.json"
    assert (INCLUDE / name).read_text("utf-8") == (tmp_path / name).read_text("utf-8"), "run `make schema`"


def test_the_shipped_registry_names_the_schema_and_is_valid() -> None:
    assert TEXT.startswith("# yaml-language-server: $schema=cohorts.schema.json\n")
    assert errors(TEXT) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    threshold: 2\n", "    threshold: [{from: 2026-06-01, threshold: 3}, {from: 2026-11-02, threshold: 2}]\n"),
        (
            "    floor: 0\n",
            "    where: {status: {equals: Active}, level: {one_of: [1, true, 2.5]}, age: {above: 17.5}}\n",
        ),
        ("    floor: 0\n", "    floor:\n"),
        ("approval: {approvers: [], hours: 12}\n", "opt_outs: none\ngraph_pool: graph\n"),
        ("approval:", "schema: {player_id: customer id, address: [profile, email]}\napproval:"),
        ("attributes: {}", "attributes: {Level: [stats, level]}\n    vertex_label: customer"),
        ("approval:", "notify: {on_call: [{notifier: a.SnsNotifier, target_arn: 'arn:aws:sns:x'}]}\napproval:"),
    ],
)
def test_what_the_loader_accepts_is_valid(old: str, new: str) -> None:
    text = edited(old, new)
    assert parse_registry(text, Path("cohorts.yaml")).broken == {}
    assert errors(text) == []


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("destination:", "destinations:", "'destinations' was unexpected"),
        ("    direction: above\n", "    direction: beyond\n", "cohorts.ea_atrisk.direction: "),
        ("    direction: above\n", "", "cohorts.ea_atrisk: 'direction' is a required property"),
        ("    direction: above\n", "    direction: above\n    name: x\n", "'name' was unexpected"),
        ("hours: 12", "hours: 169", "approval.hours: 169"),
        ("  ea_atrisk:\n", "  at-risk:\n", "cohorts: 'at-risk' does not match"),
        ("attributes: {}", "attributes: {a-b: c}", "cohorts.ea_atrisk.attributes: 'a-b' does not match"),
        ("approval:", "schema: {label: x}\napproval:", "schema: "),
        ("attributes: {}", "attributes: {Level: []}", "cohorts.ea_atrisk.attributes.Level: "),
        ("silence: opted_out", "silence: out", "cohorts.ea_atrisk.consent: "),
        ("    mode: new\n", "    mode: append\n", "graph_loads.cohort_modeler.mode: "),
    ],
)
def test_a_fault_is_found(old: str, new: str, where: str) -> None:
    assert any(where in error for error in errors(edited(old, new)))


def test_each_key_of_the_models_is_in_the_head_of_the_shipped_file() -> None:
    head = TEXT.partition("\ndefault_cohort:")[0]
    schema: dict[str, Any] = registry_schema()
    keys = list(schema["properties"])
    for model in ("Cohort", "Campaign", "GraphLoad"):
        keys += schema["$defs"][model]["properties"]
    assert [key for key in keys if key not in head] == ["description", "description"]
