"""Read the vertices of an uploaded extract from the export bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.segment.members import Vertex
from cohort_flywheel.segment.uploaded_extract import MAX_BYTES, read_uploaded_extract, uploaded_extract_key


class UploadedExtract(NamedTuple):
    """An uploaded extract that was read: the digest of its bytes, and when it was uploaded."""

    sha256: str
    uploaded_at: str


def stream_uploaded_extract(
    s3: S3Hook,
    uri: str,
    export_bucket: str,
    take: Callable[[Iterable[Vertex]], Any],
    *,
    property: str,
    direction: Direction,
    required: Iterable[str],
) -> UploadedExtract:
    """Stream the vertices of an uploaded extract to `take`, which must read them all.

    Raises FlywheelError if the file does not exist, may not be read, is too large, or is not an extract.
    """
    key = uploaded_extract_key(uri, export_bucket)
    try:
        answer = s3.get_conn().get_object(Bucket=export_bucket, Key=key)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in ("NoSuchKey", "NoSuchBucket", "404"):
            raise FlywheelError(
                f"{uri} does not exist: upload the file first, or correct extract_uri", code=Code.UPLOAD_PLACE
            ) from None
        if code in ("AccessDenied", "403"):
            raise FlywheelError(
                f"{uri} is refused ({code}): grant the execution role s3:GetObject on it, and kms:Decrypt if it is"
                " encrypted with a key of its uploader",
                code=Code.REFUSED,
            ) from None
        raise
    if answer["ContentLength"] > MAX_BYTES:
        raise FlywheelError(
            f"{uri} has {answer['ContentLength']:,} bytes, and an uploaded extract may have {MAX_BYTES:,}: upload it"
            " in parts",
            code=Code.UPLOAD_PLACE,
        )
    digest, body = hashlib.sha256(), answer["Body"]

    def chunks() -> Iterator[bytes]:
        for chunk in body.iter_chunks(64 * 1024):
            digest.update(chunk)
            yield chunk

    take(read_uploaded_extract(chunks(), uri, property=property, direction=direction, required=required))
    return UploadedExtract(digest.hexdigest(), answer["LastModified"].isoformat())
