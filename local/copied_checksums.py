"""The checksum of a copied object in moto's S3.

moto copies the value of a checksum and not its type, so a client that reads a copy compares the checksum of an upload
of several parts with the bytes of the whole, and refuses them.
"""

from functools import wraps
from typing import Any

from moto.s3.models import FakeKey, S3Backend

_copy_object = S3Backend.copy_object


def install() -> None:
    """Let a copy have the whole checksum of its source."""
    S3Backend.copy_object = _copy_with_checksum  # type: ignore[method-assign]  # moto calls this method


@wraps(_copy_object)
def _copy_with_checksum(
    self: S3Backend, src_key: FakeKey, dest_bucket_name: str, dest_key_name: str, *args: Any, **kwargs: Any
) -> None:
    """[shape CopyObjectRequest: ChecksumAlgorithm] "if the source object has a checksum, that checksum value will be
    copied to the new object by default"."""
    _copy_object(self, src_key, dest_bucket_name, dest_key_name, *args, **kwargs)
    made = self.get_object(dest_bucket_name, dest_key_name)
    if isinstance(made, FakeKey):
        made.checksum_type, made.checksum_parts = src_key.checksum_type, src_key.checksum_parts
