"""The source of an import job: one object of moto's S3, if the bucket policy allows SES to read it."""

import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from moto.s3.exceptions import MissingBucket
from moto.s3.models import s3_backends

from local.pinpoint import roles

from .import_file import FileError

SERVICE = "ses.amazonaws.com"


@dataclass(frozen=True)
class Source:
    """[shape ImportDataSource.S3Url] "in the format s3://<bucket_name>/<object>": one object, not a folder."""

    account_id: str
    partition: str
    bucket: str
    key: str

    def read(self) -> bytes:
        """Return the object's bytes; raises FileError with the job's failure text."""
        s3 = s3_backends[self.account_id][self.partition]
        try:
            policy = s3.get_bucket_policy(self.bucket)
        except MissingBucket:
            raise FileError("The bucket does not exist.") from None
        # [SES docs: list management] "Give Amazon SES permission to read the Amazon S3 object": the bucket's policy
        # allows ses.amazonaws.com; a role is not used. [strict] Checked only when the job reads.
        if policy is None or not self._admits(policy):
            raise FileError("The bucket policy does not allow s3:GetObject on the object to ses.amazonaws.com.")
        found = s3.get_object(self.bucket, self.key)
        if found is None:
            raise FileError("The object does not exist.")
        return bytes(found.value)

    def _admits(self, policy: bytes) -> bool:
        document = json.loads(policy)
        statements = document["Statement"] if isinstance(document["Statement"], list) else [document["Statement"]]
        ours = [s for s in statements if _names_ses(s.get("Principal"))]
        # Pinpoint's policy evaluation requires a role with the policy.
        holder = SimpleNamespace(policies={"bucket": {"Statement": ours}}, managed_policies={})
        # [SES docs: list management] The guide's policy has aws:Referer with the account. [strict] No
        # aws:SourceArn: the documentation names none for an import job.
        context = {"aws:referer": self.account_id, "aws:sourceaccount": self.account_id}
        return roles.may(
            cast(Any, holder), "s3:GetObject", f"arn:{self.partition}:s3:::{self.bucket}/{self.key}", context
        )


def _names_ses(principal: Any) -> bool:
    if principal == "*":
        return True
    services = principal.get("Service", []) if isinstance(principal, dict) else []
    return SERVICE in (services if isinstance(services, list) else [services])
