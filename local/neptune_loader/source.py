"""The source of a load: objects of moto's S3, read with the permissions of a role that is attached to the cluster."""

import bz2
import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.iam.models import Role, iam_backends
from moto.s3.exceptions import MissingBucket
from moto.s3.models import FakeBucket, S3Backend, s3_backends

from local.pinpoint import roles
from local.rest_json.errors import ServiceError

#: [loader: bulk-load-tutorial-IAM] the role's trust policy names this service.
SERVICE = "rds.amazonaws.com"
PARTITION = "aws"
_URI = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(.*)", re.DOTALL)
#: [loader: bulk-load-tutorial-format] "single files can be compressed in gzip or bzip2 format"; by their names.
_UNPACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".bz2": bz2.decompress}


def bad_request(message: str) -> ServiceError:
    """[loader: load-api-reference-load-errors] HTTP 400; [run elsewhere] its code."""
    return ServiceError("BadRequestException", 400, message)


@dataclass(frozen=True)
class Source:
    """The address of a load, its region and the role that reads it."""

    uri: str
    region: str
    role_arn: str

    def check(self, attached: set[str], cluster_region: str) -> dict[str, str]:
        """Return the ETags of the objects to load; raise ServiceError where the load cannot start."""
        if self._role() is None or self.role_arn not in attached:
            raise bad_request("Couldn't find the AWS credential for iam_role_arn.")
        if (bucket := self._bucket()) is None:
            raise bad_request("S3 bucket not found for source.")
        if bucket.region_name != self.region or self.region != cluster_region:
            raise bad_request(f"Bucket is not in provided Region ({self.region}).")
        if not self._may("s3:ListBucket", f"arn:{PARTITION}:s3:::{bucket.name}"):
            raise ServiceError("LoadUrlAccessDeniedException", 400, "Unable to perform S3 list operation.")
        found = self.etags()
        if not found:
            raise bad_request("The source does not exist/not reachable.")
        return found

    def etags(self) -> dict[str, str]:
        """The objects and their ETags.

        [model StartLoaderJobInput.source] the key is a prefix: "It identifies all the objects in the specified S3
        bucket whose names begin with that prefix."
        """
        bucket = self._bucket()
        keys = bucket.keys if bucket else {}
        names = sorted(name for name in keys if name.startswith(self._parts()[1]) and not name.endswith("/"))
        found = {name: self._s3().get_object(self._parts()[0], name) for name in names}
        return {name: key.etag for name, key in found.items() if key is not None}

    def read(self, name: str) -> bytes | None:
        """The content of an object, unpacked; None where the role may not read it."""
        if not self._may("s3:GetObject", f"arn:{PARTITION}:s3:::{self._parts()[0]}/{name}"):
            return None
        key = self._s3().get_object(self._parts()[0], name)
        content: bytes = key.value if key else b""
        unpack = next((unpack for ending, unpack in _UNPACK.items() if name.endswith(ending)), bytes)
        return unpack(content)

    def uri_of(self, name: str) -> str:
        return f"s3://{self._parts()[0]}/{name}"

    def _parts(self) -> tuple[str, str]:
        match = _URI.fullmatch(self.uri)
        if match is None:
            raise bad_request("Only a source that begins with s3:// is emulated.")
        return match[1], match[2]

    def _s3(self) -> S3Backend:
        return s3_backends[DEFAULT_ACCOUNT_ID][PARTITION]

    def _bucket(self) -> FakeBucket | None:
        try:
            return self._s3().get_bucket(self._parts()[0])
        except MissingBucket:
            return None

    def _role(self) -> Role | None:
        known = {role.arn: role for role in iam_backends[DEFAULT_ACCOUNT_ID][PARTITION].get_roles()}
        role = known.get(self.role_arn)
        return role if role is not None and roles.trusts(role, SERVICE, self._context()) else None

    def _may(self, action: str, resource: str) -> bool:
        role = self._role()
        return role is not None and roles.may(role, action, resource, self._context())

    def _context(self) -> dict[str, str]:
        return {"aws:sourceaccount": DEFAULT_ACCOUNT_ID, "aws:resourceaccount": DEFAULT_ACCOUNT_ID}
