"""Stream files to and from S3."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from airflow.providers.amazon.aws.hooks import s3 as provider
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from cohort_flywheel.common.aws_answers import S3_WRITES
from cohort_flywheel.common.records import Json
from cohort_flywheel.config.variables import PREFIX, EncryptionSettings, read_settings
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.shared_session import SharedSessionHook
from cohort_flywheel.segment.outputs import Shard

#: Errors of S3 after which the same write may succeed [S3: error responses].
_PASSING = (
    "ConditionalRequestConflict", "OperationAborted", "SlowDown", "ServiceUnavailable", "InternalError",
    "RequestTimeout", "409", "500", "503",
)  # fmt: skip


class S3Hook(SharedSessionHook, provider.S3Hook):
    """The provider's hook; its clients send the encryption headers of the Variables with each write.

    A bucket whose policy requires the header refuses a write without it, even if the bucket's default encryption is
    the same. An error of its clients has the requested address, as `Address` beside its code.
    """

    def get_client_type(
        self, region_name: str | None = None, config: Config | None = None, deferrable: bool = False
    ) -> Any:
        client = super().get_client_type(region_name, config, deferrable)
        if deferrable:
            return client
        client.meta.events.register("before-parameter-build.s3", _note_address)
        client.meta.events.register("after-call.s3", _add_address_to_error)
        if encryption := _read_encryption():

            def encrypt(params: dict[str, str], **_: object) -> None:
                params.update({**encryption, **params})

            for operation in S3_WRITES:
                client.meta.events.register(f"before-parameter-build.s3.{operation}", encrypt)
        return client


def _note_address(params: Mapping[str, object], context: dict[str, object], **_: object) -> None:
    context["address"] = f"s3://{params.get('Bucket', '')}/{params.get('Key', params.get('Prefix', ''))}"


def _add_address_to_error(parsed: Mapping[str, dict[str, object]], context: Mapping[str, object], **_: object) -> None:
    if "Error" in parsed:
        parsed["Error"]["Address"] = context["address"]


def _read_encryption() -> dict[str, str]:
    """Return the encryption arguments of each write to S3, empty unless `s3_encryption` is set.

    Raises FlywheelError that names the Variable that S3 would refuse.
    """
    settings = read_settings(EncryptionSettings)
    algorithm, key = str(settings["s3_encryption"]), str(settings["s3_kms_key_id"])
    if key and not algorithm.startswith("aws:kms"):
        raise FlywheelError(
            f"{PREFIX}s3_kms_key_id is set, and {PREFIX}s3_encryption is {algorithm or 'not set'}: a key is used with"
            " aws:kms and aws:kms:dsse only; set one of these, or delete the key",
            code=Code.VARIABLE,
        )
    arguments = {"ServerSideEncryption": algorithm, "SSEKMSKeyId": key}
    return {name: value for name, value in arguments.items() if value}


def put_unless_equal(s3: S3Hook, path: Path, bucket: str, key: str, sha256: str) -> bool:
    """Upload a file unless the object has the same bytes; return whether it was uploaded.

    The digest is in the object's metadata, because the ETag of a multipart upload is not a digest of its bytes.
    """
    if _digest_of(s3, bucket, key) == sha256:
        return False
    client, metadata = s3.get_conn(), {"sha256": sha256}
    if path.stat().st_size < TransferConfig().multipart_threshold:
        with path.open("rb") as file:  # in one request as boto3 would, but without its threads
            client.put_object(Bucket=bucket, Key=key, Body=file, Metadata=metadata)
        return True
    try:
        client.upload_file(str(path), bucket, key, ExtraArgs={"Metadata": metadata})
    except S3UploadFailedError as error:
        if isinstance(error.__context__, ClientError):  # S3's own error; the one around it has only its text
            raise error.__context__ from None
        raise
    return True


def lines(s3: S3Hook, bucket: str, key: str, shard: Shard | None = None) -> Iterator[bytes]:
    """The lines of an object as they arrive; of a shard, its bytes alone.

    Raises FlywheelError where there is no such object, or it is not the one (`of`: SHA-256) that the shard was cut of.
    """
    if shard and not shard.bytes:
        return
    part = {"Range": f"bytes={shard.first}-{shard.first + shard.bytes - 1}"} if shard else {}
    try:
        answer = s3.get_conn().get_object(Bucket=bucket, Key=key, **part)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchKey", "404"):
            raise
        raise FlywheelError(
            f"there is no s3://{bucket}/{key}: put the file there, or correct its name", code=Code.FILE_CHANGED
        ) from None
    if shard and answer["Metadata"].get("sha256") != shard.of:
        raise FlywheelError(
            f"s3://{bucket}/{key} has changed since it was cut into shards: clear the task that makes it",
            code=Code.FILE_CHANGED,
        )
    pending = b""
    for chunk in answer["Body"].iter_chunks(64 * 1024):
        # JSON does not escape other line breaks (U+2028 …), and bytes.splitlines does not split at them either
        *whole, pending = (pending + chunk).splitlines(keepends=True)
        yield from [line.rstrip(b"\r\n") for line in whole]
    yield from [pending.rstrip(b"\r\n")] if pending else []


def copy_unless_equal(s3: S3Hook, source: tuple[str, str], target: tuple[str, str], sha256: str) -> None:
    """Copy an object, (bucket, key) to (bucket, key), with its metadata, unless the target has the same bytes.

    Raises FlywheelError if the source is gone or has changed.
    """
    client = s3.get_conn()
    if _digest_of(s3, *source) != sha256:
        raise FlywheelError(
            f"s3://{source[0]}/{source[1]} is gone or has changed since it was made: clear the task that makes it,"
            " with downstream",
            code=Code.FILE_CHANGED,
        )
    if _digest_of(s3, *target) != sha256:
        client.copy_object(CopySource={"Bucket": source[0], "Key": source[1]}, Bucket=target[0], Key=target[1])


def _digest_of(s3: S3Hook, bucket: str, key: str) -> str | None:
    return (metadata_of(s3, bucket, key) or {}).get("sha256")


class ListedObject(NamedTuple):
    """An object as a listing has it; `written` has whole seconds."""

    key: str
    etag: str
    written: datetime


def objects(s3: S3Hook, bucket: str, prefix: str) -> Iterator[ListedObject]:
    """The objects below a prefix, sorted by key."""
    for page in s3.get_conn().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", ()):
            yield ListedObject(item["Key"], item["ETag"], item["LastModified"])


def keys(s3: S3Hook, bucket: str, prefix: str) -> Iterator[str]:
    """The keys below a prefix, sorted."""
    return (each.key for each in objects(s3, bucket, prefix))


def folders(s3: S3Hook, bucket: str, prefix: str) -> Iterator[str]:
    """The names of the folders directly below a prefix."""
    pages = s3.get_conn().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
    for page in pages:
        for item in page.get("CommonPrefixes", ()):
            yield item["Prefix"].removeprefix(prefix).rstrip("/")


def get_json(s3: S3Hook, bucket: str, key: str) -> tuple[Json, str] | None:
    """Return a small JSON object and its ETag, or None if it does not exist."""
    answer = _if_it_exists(lambda: s3.get_conn().get_object(Bucket=bucket, Key=key))
    return (json.loads(answer["Body"].read()), answer["ETag"]) if answer else None


def put_json(s3: S3Hook, bucket: str, key: str, value: Mapping[str, object], **condition: str) -> bool:
    """Put a small JSON object, as `put_if` does."""
    body = json.dumps(value, indent=2, sort_keys=True).encode()
    return put_if(s3, bucket, key, body, None, ContentType="application/json", **condition)


def put_if(
    s3: S3Hook, bucket: str, key: str, body: bytes | Path, metadata: Mapping[str, str] | None = None, **arguments: str
) -> bool:
    """Put an object in one request; return False if `IfNoneMatch="*"` or `IfMatch=etag` fails.

    After a lost answer, a retry finds the object of the first attempt: on False, a caller reads the object before it
    treats it as another run's.
    """

    def put() -> None:
        with body.open("rb") if isinstance(body, Path) else BytesIO(body) as file:
            s3.get_conn().put_object(Bucket=bucket, Key=key, Body=file, Metadata=dict(metadata or {}), **arguments)

    return _try_conditionally(put, arguments)


def delete_if(s3: S3Hook, bucket: str, key: str, etag: str) -> bool:
    """Delete an object if it has this ETag; return False if it is gone or has another."""
    return _try_conditionally(
        lambda: s3.get_conn().delete_object(Bucket=bucket, Key=key, IfMatch=etag), {"IfMatch": etag}
    )


def _try_conditionally(write: Callable[[], Any], arguments: Mapping[str, str]) -> bool:
    """Make a write, with retries; return False if its condition fails.

    A write that conflicts with another request to the same key gets a 409 and must be retried [S3 user guide:
    conditional writes]. The SDK does not do so, and its other retries end too soon for the record of sent e-mails.
    """
    try:
        for attempt in Retrying(
            retry=retry_if_exception(_may_pass),
            wait=wait_random_exponential(multiplier=0.2, max=15),
            stop=stop_after_attempt(12),
            reraise=True,
        ):
            with attempt:
                write()
    except ClientError as error:
        # 412: the condition fails; 404: the object of IfMatch is gone [S3: PutObject, DeleteObject]
        conditional = arguments.keys() & {"IfMatch", "IfNoneMatch"}
        if conditional and error.response["Error"]["Code"] in ("PreconditionFailed", "412", "NoSuchKey", "404"):
            return False
        raise
    return True


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, ClientError):
        return error.response["Error"]["Code"] in _PASSING
    return isinstance(error, HTTPClientError)  # no answer, or only a part


class Version(NamedTuple):
    """A version of an object, or a delete marker; without versioning the only version has the id `null`."""

    bucket: str
    key: str
    id: str
    bytes: int
    is_latest: bool
    is_marker: bool


def versions(s3: S3Hook, bucket: str, prefix: str) -> Iterator[Version]:
    """Every version of every object below a prefix, with delete markers."""
    for page in s3.get_conn().get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
        for kind, is_marker in (("Versions", False), ("DeleteMarkers", True)):
            for item in page.get(kind, ()):
                yield Version(bucket, item["Key"], item["VersionId"], item.get("Size", 0), item["IsLatest"], is_marker)


def delete_version(s3: S3Hook, version: Version) -> None:
    """Delete one version permanently, without a delete marker."""
    s3.get_conn().delete_object(Bucket=version.bucket, Key=version.key, VersionId=version.id)


def delete_every_version(s3: S3Hook, bucket: str, key: str) -> None:
    """Delete an object with all its versions, the latest last, so that an earlier one never takes its place."""
    found = [version for version in versions(s3, bucket, key) if version.key == key]  # a prefix of other keys
    for version in sorted(found, key=lambda version: version.is_latest):
        delete_version(s3, version)


def fetch(s3: S3Hook, version: Version, path: Path) -> dict[str, str]:
    """Download a version to a file; return its metadata."""
    return _download(s3, path, Bucket=version.bucket, Key=version.key, VersionId=version.id)


def download(s3: S3Hook, bucket: str, key: str, path: Path) -> dict[str, str] | None:
    """Download an object to a file; return its metadata, which may be empty, or None if it does not exist."""
    return _if_it_exists(lambda: _download(s3, path, Bucket=bucket, Key=key))


def _download(s3: S3Hook, path: Path, **which: str) -> dict[str, str]:
    answer = s3.get_conn().get_object(**which)
    with path.open("wb") as file:
        for chunk in answer["Body"].iter_chunks(1024 * 1024):
            file.write(chunk)
    return dict(answer["Metadata"])


def metadata_of(s3: S3Hook, bucket: str, key: str) -> dict[str, str] | None:
    """The metadata of an object, or None if it does not exist."""
    return _if_it_exists(lambda: dict(s3.get_conn().head_object(Bucket=bucket, Key=key)["Metadata"]))


def _if_it_exists[T](read: Callable[[], T]) -> T | None:
    """Return the answer of a read of an object; None if the object does not exist."""
    try:
        return read()
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchKey", "404"):
            raise
    return None


def put_instead(s3: S3Hook, version: Version, path: Path, metadata: Mapping[str, str]) -> None:
    """Replace a version by a file, with the metadata that the version has, and delete the version."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        answer = s3.get_conn().put_object(
            Bucket=version.bucket, Key=version.key, Body=file, Metadata={**metadata, "sha256": sha256}
        )
    if answer.get("VersionId", "null") != version.id:  # without versioning it is overwritten
        delete_version(s3, version)
