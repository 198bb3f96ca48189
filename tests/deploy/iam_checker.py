"""What IAM would say of a request: identity policies, evaluated as its documentation has it.

moto evaluates no condition, knows the resource of few services and never asks for PassRole [facts], so this does. Each
rule cites its page of the IAM User Guide. What is not known here raises PolicyError: a policy that cannot be judged
passes no test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

Document = Mapping[str, Any]


class PolicyError(Exception):
    """A policy that is not understood."""


@dataclass(frozen=True)
class Request:
    """What IAM is asked: an action on a resource, with the condition keys that come with it."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.action} on {self.resource}"


def allows(documents: Sequence[Document], request: Request) -> bool:
    """[policy evaluation logic] a Deny that applies wins; otherwise an Allow that applies is needed."""
    effects = [each["Effect"] for document in documents for each in statements(document) if _applies(each, request)]
    if unknown := set(effects) - {"Allow", "Deny"}:
        raise PolicyError(f"Effect is {unknown}: write Allow or Deny")
    return "Allow" in effects and "Deny" not in effects


def trusts(document: Document, service: str, context: Mapping[str, str]) -> bool:
    """[policy elements: Principal] a role's trust policy lets a service assume it."""
    request = Request("sts:AssumeRole", "", context)
    ours = [
        {key: value for key, value in each.items() if key != "Principal"} | {"Resource": "*"}
        for each in statements(document)
        if service in _listed(each["Principal"].get("Service", []))
    ]
    return allows([{"Statement": ours}], request)


def statements(document: Document) -> list[dict[str, Any]]:
    return _listed(document["Statement"])


def _applies(statement: Mapping[str, Any], request: Request) -> bool:
    return (
        # [policy elements: Action] "The prefix and the action name are case insensitive."
        _names(statement, "Action", lambda pattern: _like(pattern.lower(), request.action.lower()))
        and _names(statement, "Resource", lambda pattern: _like(pattern, request.resource))
        and all(
            _holds(operator, key, _listed(wanted), request.context)
            for operator, tests in statement.get("Condition", {}).items()
            for key, wanted in tests.items()
        )
    )


def _names(statement: Mapping[str, Any], element: str, matches: Callable[[str], bool]) -> bool:
    """[policy elements: NotAction, NotResource] "everything except"."""
    if element in statement:
        return any(matches(pattern) for pattern in _listed(statement[element]))
    if f"Not{element}" not in statement:
        raise PolicyError(f"a statement has neither {element} nor Not{element}")
    return not any(matches(pattern) for pattern in _listed(statement[f"Not{element}"]))


@cache
def _like(pattern: str, value: str) -> bool:
    """[policy elements: Resource] * is any run of characters, : and / among them, and ? is one."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, value, re.DOTALL) is not None


def _arn_like(pattern: str, value: str) -> bool:
    """[condition operators: ArnLike] "Each of the six colon-delimited components of the ARN is checked separately"."""
    patterns, values = pattern.split(":", 5), value.split(":", 5)
    return len(patterns) == len(values) == 6 and all(map(_like, patterns, values))


# [condition operators] ArnEquals and ArnLike behave identically.
_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda pattern, value: pattern == value,
    "StringLike": _like,
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
    "Bool": lambda pattern, value: pattern.lower() == value.lower(),
}


def _holds(operator: str, key: str, wanted: list[str], context: Mapping[str, str]) -> bool:
    """[condition block] every operator and key must hold, and of a key's values one."""
    known = {name.lower(): value for name, value in context.items()}  # [condition] key names are not case-sensitive
    value = known.get(key.lower())
    # [condition operators: Null] true: the key is absent
    if operator == "Null":
        return (value is None) == (wanted[0].lower() == "true")
    # [condition operators: ...IfExists] an absent key matches
    if operator.endswith("IfExists"):
        if value is None:
            return True
        operator = operator.removesuffix("IfExists")
    # [condition operators] a negated one holds where the key is absent
    negated = "Not" in operator
    compare = _OPERATORS.get(operator.replace("Not", ""))
    if compare is None:
        raise PolicyError(f"condition operator {operator} is not known here: add it, with its page")
    found = value is not None and any(compare(pattern, value) for pattern in wanted)
    return found != negated


class Without(NamedTuple):
    """A policy that lacks one thing, and what it lacks."""

    statement: str
    kind: str
    lacks: str
    document: Document


def each_removed(document: Document) -> Iterator[Without]:
    """The policy without each of its statements, and without each action and each resource of one."""
    for number, statement in enumerate(statements(document)):
        sid = statement["Sid"]
        lacking = deepcopy(dict(document))
        del lacking["Statement"][number]
        yield Without(sid, "statement", sid, lacking)
        for kind in ("Action", "Resource"):
            for entry in _listed(statement.get(kind, [])):  # NotAction and NotResource are not supported
                lacking = deepcopy(dict(document))
                kept = [each for each in _listed(statement[kind]) if each != entry]
                if kept:
                    lacking["Statement"][number][kind] = kept
                else:  # IAM takes no statement without either
                    del lacking["Statement"][number]
                yield Without(sid, kind.lower(), entry, lacking)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
