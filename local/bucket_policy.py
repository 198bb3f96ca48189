"""The bucket policies of moto's S3: a Deny that depends on the encryption headers of a write.

moto evaluates a policy without its conditions: it takes every conditional Deny as one that always holds.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from flask import request
from moto.iam.access_control import IAMPolicy, IAMPolicyStatement, PermissionResult
from moto.s3.exceptions import S3AccessDeniedError
from moto.s3.models import FakeBucket

#: [Service Authorization Reference: Amazon S3] "s3:x-amz-server-side-encryption: Filters access by server-side
#: encryption", "s3:x-amz-server-side-encryption-aws-kms-key-id: ... by AWS KMS customer managed CMK": the value of the
#: request header of that name.
_KEYS = {
    f"s3:{header}": header for header in ("x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id")
}


def install() -> None:
    """Replace moto's evaluation by this one."""
    FakeBucket.get_permission = _get_permission  # type: ignore[method-assign]  # moto calls this method


def _get_permission(self: FakeBucket, action: str, resource: str) -> PermissionResult:
    if self.policy is None:
        return PermissionResult.NEUTRAL
    document = json.loads(self.policy)
    statements = document["Statement"] if isinstance(document["Statement"], list) else [document["Statement"]]
    ours = [statement for statement in statements if _reads_encryption(statement)]
    write = _write_action(action)
    headers = {name.lower(): value for name, value in request.headers.items()}
    if write and any(_denies(statement, write, resource, headers) for statement in ours):
        raise S3AccessDeniedError
    rest = [statement for statement in statements if statement not in ours]
    return IAMPolicy(json.dumps(document | {"Statement": rest})).is_action_permitted(action, resource)


def _write_action(action: str) -> str | None:
    """The permission that a write which can carry the headers needs, or None for another request.

    [S3 API: PutObject, CopyObject, CreateMultipartUpload] each needs s3:PutObject. [shape UploadPartRequest] A part has
    no member for the header: the encryption is that of its CreateMultipartUpload.
    """
    if action == "s3:PutObject" and "uploadId" not in request.args:
        return action
    return "s3:PutObject" if action == "s3:PostObject" and "uploads" in request.args else None


def _reads_encryption(statement: Mapping[str, Any]) -> bool:
    names = {name.lower() for block in statement.get("Condition", {}).values() for name in block}
    return statement["Effect"] == "Deny" and bool(names) and names <= _KEYS.keys()


def _denies(statement: Mapping[str, Any], action: str, resource: str, headers: Mapping[str, str]) -> bool:
    bare = IAMPolicyStatement({name: value for name, value in statement.items() if name != "Condition"})
    return bare.is_action_permitted(action, resource) == PermissionResult.DENIED and all(
        _holds(operator, headers.get(_KEYS[name.lower()]), _list(expected))
        for operator, block in statement["Condition"].items()
        for name, expected in block.items()
    )


def _holds(operator: str, found: str | None, expected: list[str]) -> bool:
    """Whether a condition holds, with a header's value or None where the request has no such header.

    [IAM: condition operators] Null: true where the key is not in the request. A negated operator matches a request
    without the key; `IfExists` does so too.
    """
    name, if_exists, _ = operator.partition("IfExists")
    if name == "Null":
        return (found is None) == (expected == ["true"])
    if found is None:
        return bool(if_exists) or "Not" in name
    equal = {"StringEquals": True, "ArnEquals": True, "StringNotEquals": False, "ArnNotEquals": False}
    if name not in equal:
        raise NotImplementedError(f"the local bucket policies do not support the condition operator {operator}")
    return (found in expected) is equal[name]


def _list(value: str | bool | Iterable[str]) -> list[str]:
    values = [value] if isinstance(value, str | bool) else value
    return [str(each).lower() if isinstance(each, bool) else each for each in values]
