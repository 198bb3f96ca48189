"""Files to and from S3, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import ClientError

from cohort_flywheel.errors import FlywheelError


def put_unless_equal(s3: S3Hook, path: Path, bucket: str, key: str, sha256: str) -> bool:
    """Put a file, in parts where it is large, unless the same bytes are there; say whether it was put.

    The digest travels as the object's metadata: the ETag of an upload in parts is no digest of its bytes.
    """
    client = s3.get_conn()
    try:
        if client.head_object(Bucket=bucket, Key=key)["Metadata"].get("sha256") == sha256:
            return False
    except ClientError as error:
        if error.response["Error"]["Code"] != "404":
            raise
    try:
        client.upload_file(str(path), bucket, key, ExtraArgs={"Metadata": {"sha256": sha256}})
    except S3UploadFailedError as error:
        if isinstance(error.__context__, ClientError):  # what S3 said; the error around it is only its text
            raise error.__context__ from None
        raise
    return True


def lines(s3: S3Hook, bucket: str, key: str) -> Iterator[bytes]:
    """The lines of an object as they arrive. Raises FlywheelError where there is no such object."""
    try:
        body: Any = s3.get_conn().get_object(Bucket=bucket, Key=key)["Body"]
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchKey", "404"):
            raise
        raise FlywheelError(f"there is no s3://{bucket}/{key}: put the file there, or correct its name") from None
    # JSON escapes none of the other line breaks (U+2028 …), which bytes' own splitlines does not know either
    yield from body.iter_lines(chunk_size=64 * 1024)
