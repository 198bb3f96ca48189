"""Whether a service may use a role: its trust policy, and what its policies allow.

moto keeps roles and policies but evaluates neither a service's trust nor conditions, so this does, for what the role of
an import or of a load needs and no more. [strict] A condition operator that is not known here is not met in an Allow
and met in a Deny.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from moto.iam.models import Role

SERVICE = "pinpoint.amazonaws.com"


def _matches(pattern: str, value: str) -> bool:
    """IAM's wildcards: * is any run of characters, ? is one [IAM docs: policy elements, Resource]."""
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, value, re.DOTALL) is not None


# [IAM docs: condition operators] ArnEquals and ArnLike behave identically.
_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda pattern, value: pattern == value,
    "StringLike": _matches,
    "ArnEquals": _matches,
    "ArnLike": _matches,
}


def trusts_pinpoint(role: Role, context: Mapping[str, str]) -> bool:
    """[Pinpoint docs: IAM role for importing endpoints] the role trusts the service, under the conditions it gives."""
    return trusts(role, SERVICE, context)


def trusts(role: Role, service: str, context: Mapping[str, str]) -> bool:
    """Whether a role's trust policy lets a service assume it."""
    statements = _statements(role.assume_role_policy_document)
    ours = [s for s in statements if _names_service(s.get("Principal"), service) and _names_action(s, "sts:AssumeRole")]
    return _decide(ours, context)


def may(role: Role, action: str, resource: str, context: Mapping[str, str]) -> bool:
    """Whether the role's inline and attached policies allow an action on a resource."""
    attached = [v.document for p in role.managed_policies.values() for v in p.versions if v.is_default]
    documents = [*role.policies.values(), *attached]
    statements = [statement for document in documents for statement in _statements(document)]
    concerned = [s for s in statements if _names_action(s, action) and _names_resource(s, resource)]
    return _decide(concerned, context)


def _decide(statements: list[dict[str, Any]], context: Mapping[str, str]) -> bool:
    """[IAM docs: policy evaluation logic] a Deny that applies wins; otherwise an Allow is needed."""
    denied = any(s["Effect"] == "Deny" and _conditions_met(s, context, unknown=True) for s in statements)
    return not denied and any(s["Effect"] == "Allow" and _conditions_met(s, context, unknown=False) for s in statements)


def _conditions_met(statement: dict[str, Any], context: Mapping[str, str], unknown: bool) -> bool:
    for operator, tests in statement.get("Condition", {}).items():
        compare = _OPERATORS.get(operator)
        if compare is None:
            return unknown
        for name, wanted in tests.items():
            value = context.get(name.lower())
            if value is None or not any(compare(pattern, value) for pattern in _listed(wanted)):
                return False
    return True


def _names_service(principal: Any, service: str) -> bool:
    return principal == "*" or (isinstance(principal, dict) and service in _listed(principal.get("Service", [])))


def _names_action(statement: dict[str, Any], action: str) -> bool:
    if "NotAction" in statement:  # [strict] not evaluated: matches everything in a Deny, nothing in an Allow
        return bool(statement["Effect"] == "Deny")
    # [IAM docs: policy elements, Action] "The prefix and the action name are case insensitive."
    return any(_matches(pattern.lower(), action.lower()) for pattern in _listed(statement.get("Action", [])))


def _names_resource(statement: dict[str, Any], resource: str) -> bool:
    if "NotResource" in statement:  # [strict] as above
        return bool(statement["Effect"] == "Deny")
    return any(_matches(pattern, resource) for pattern in _listed(statement.get("Resource", [])))


def _statements(document: str | dict[str, Any]) -> list[dict[str, Any]]:
    policy = json.loads(document) if isinstance(document, str) else document
    return _listed(policy["Statement"])


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
