"""The source of an import job: objects of moto's S3, read with the permissions of the job's role."""

import re
from dataclasses import dataclass

from moto.iam.models import Role, iam_backends
from moto.s3.exceptions import MissingBucket
from moto.s3.models import FakeKey, S3Backend, s3_backends

from . import roles
from .errors import BadRequestError
from .import_file import PieceError

_S3_URL = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", re.DOTALL)
_OTHER_FORMAT = {"CSV": ".json", "JSON": ".csv"}


@dataclass(frozen=True)
class Source:
    """An import's S3 location and the role that reads it."""

    account_id: str
    partition: str
    application_arn: str
    bucket: str
    key: str
    role_arn: str
    file_format: str

    def check(self) -> None:
        """Raise BadRequestError if Pinpoint could not use the role.

        [strict] The documentation says what the role must allow, and not when that is checked: here at the create
        call, where a mistake is refused before there is a job, and again when the job reads.
        """
        if self._role() is None:
            raise BadRequestError(
                "The IAM role does not exist, is not in this account, or does not trust Amazon Pinpoint."
            )
        if not self._may("s3:GetObject", self._arn(self.key or "*")):
            raise BadRequestError("The IAM role does not allow s3:GetObject on the objects of S3Url.")
        if (not self.key or self.key.endswith("/")) and not self._may_list():
            raise BadRequestError("The IAM role does not allow s3:ListBucket on the bucket of S3Url.")

    def objects(self) -> list[FakeKey]:
        """The objects that the location names.

        [shape ImportJobRequest.S3Url] "can be a folder or a single file [...] including any subfolders"; it "can end
        with the key for an individual object or a prefix that qualifies multiple objects".
        """
        try:
            bucket = self._s3().get_bucket(self.bucket)
        except MissingBucket:
            raise PieceError("The bucket does not exist.") from None
        if self.key and not self.key.endswith("/"):  # a folder marker is not a file
            single = self._s3().get_object(self.bucket, self.key)
            if single is not None:
                return [single]
        if not self._may_list():
            raise PieceError("The object does not exist, and the role does not allow s3:ListBucket.")
        # [shape ImportJobRequest.Format] "imports data only from the files that use the specified format"; [strict]
        # only a name that ends like the other format is passed over: every other stray object is imported too.
        names = sorted(
            n for n in bucket.keys if n.startswith(self.key) and not n.endswith(_OTHER_FORMAT[self.file_format])
        )
        found = [self._s3().get_object(self.bucket, name) for name in names if not name.endswith("/")]
        return [key for key in found if key is not None]

    def read(self, key: FakeKey) -> bytes:
        if not self._may("s3:GetObject", self._arn(key.name)):
            raise PieceError("The role does not allow s3:GetObject on the object.")
        if key.name.endswith(".gz"):
            # [Pinpoint docs: importing segments] the file must not be compressed.
            raise PieceError("The file is compressed; an import requires an uncompressed file.")
        return key.value

    def _s3(self) -> S3Backend:
        return s3_backends[self.account_id][self.partition]

    def _arn(self, key: str) -> str:
        return f"arn:{self.partition}:s3:::{self.bucket}/{key}"

    def _role(self) -> Role | None:
        """The role, if it exists and trusts Pinpoint for this application.

        [Pinpoint docs: IAM role for importing endpoints] aws:SourceAccount and aws:SourceArn are the application's.
        [IAM docs: passing a role to a service] a role can be passed only within its own account.
        """
        known = {role.arn: role for role in iam_backends[self.account_id][self.partition].get_roles()}
        role = known.get(self.role_arn)
        return role if role is not None and roles.trusts_pinpoint(role, self._context()) else None

    def _may(self, action: str, resource: str, **more: str) -> bool:
        role = self._role()
        return role is not None and roles.may(role, action, resource, self._context() | more)

    def _may_list(self) -> bool:
        return self._may("s3:ListBucket", f"arn:{self.partition}:s3:::{self.bucket}", **{"s3:prefix": self.key})

    def _context(self) -> dict[str, str]:
        return {
            "aws:sourceaccount": self.account_id,
            "aws:sourcearn": self.application_arn,
            "aws:resourceaccount": self.account_id,
        }


def parse_s3_url(url: str) -> tuple[str, str]:
    """[shape ImportJobRequest.S3Url] "in the following format: s3://bucket-name/folder-name/file-name"."""
    match = _S3_URL.fullmatch(url)
    if match is None:
        raise BadRequestError("S3Url must look like s3://bucket-name/folder-name/file-name.")
    return match[1], match[2] or ""
