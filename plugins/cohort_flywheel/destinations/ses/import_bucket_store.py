"""The policy of the import bucket, by which SES reads the files of an import."""

from __future__ import annotations

import json
import logging
from fnmatch import fnmatchcase

from botocore.exceptions import ClientError

from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.destinations.ses.layout import IMPORT_FOLDER
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook

log = logging.getLogger(__name__)

_REFUSED = ("AccessDenied", "403")
_SERVICE = "ses.amazonaws.com"


def check_bucket_policy(s3: S3Hook, bucket: str) -> None:
    """Raise FlywheelError unless the bucket's policy allows SES to read: the import job would fail later.

    Conditions and denials are not evaluated.
    """
    try:
        policy = json.loads(s3.get_conn().get_bucket_policy(Bucket=bucket)["Policy"])
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _REFUSED:
            log.warning("s3:GetBucketPolicy is refused: whether SES may read bucket %s is not checked", bucket)
            return
        if code != "NoSuchBucketPolicy":
            raise
        policy = {"Statement": []}
    if not any(_allows_ses(statement, bucket) for statement in _listed(policy["Statement"])):
        raise FlywheelError(
            f"the policy of the import bucket {bucket} does not allow {_SERVICE} to read: add a statement that allows"
            f" it s3:GetObject on arn:aws:s3:::{bucket}/{IMPORT_FOLDER}*, if aws:Referer is your account",
            code=Code.REFUSED,
        )


def _allows_ses(statement: AwsStructure, bucket: str) -> bool:
    principal = statement.get("Principal", {})
    named = [principal] if principal == "*" else _listed(principal.get("Service", []))
    places = [pattern.rpartition(":")[2] for pattern in _listed(statement.get("Resource", []))]  # in any partition
    return (
        statement["Effect"] == "Allow"
        and not {_SERVICE, "*"}.isdisjoint(named)
        and any(fnmatchcase("s3:getobject", action.lower()) for action in _listed(statement.get("Action", [])))
        and any(fnmatchcase(f"{bucket}/{IMPORT_FOLDER}any.csv", place) for place in places)
    )


def _listed[Entry](value: Entry | list[Entry]) -> list[Entry]:
    return value if isinstance(value, list) else [value]
