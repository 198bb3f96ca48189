"""`make deploy`: upload the bundle to MWAA's bucket and update the environment's plugins and requirements.

Nothing is deleted. An object is replaced only if it has our metadata mark and no content that others merged into it
would be lost.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from local import bundle
from local.config import ROOT, LocalError

#: The metadata key of each object that `make deploy` wrote; the value is the SHA-256 of its bytes.
MARK = "cohort-flywheel"
#: MWAA's API parameters of the two versioned files.
VERSIONED = {bundle.PLUGINS: "Plugins", bundle.REQUIREMENTS: "Requirements"}
#: The variable of `make bundle` that names an existing file to merge with.
MERGE = {bundle.PLUGINS: "INTO", bundle.REQUIREMENTS: "REQUIREMENTS"}


class ExistingObject(NamedTuple):
    """An object of the bucket: its ETag, its version and its bytes; marked if `make deploy` wrote it."""

    etag: str
    version: str
    data: bytes
    marked: bool


@dataclass(frozen=True)
class Place:
    """The bucket and the key prefix."""

    s3: Any
    bucket: str
    prefix: str

    def url(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"


def deploy(
    bucket: str,
    *,
    environment: str | None = None,
    prefix: str = "",
    folder: Path = bundle.BUILD,
    root: Path = ROOT,
    s3: Any = None,
    mwaa: Any = None,
) -> None:
    """Upload a bundle; with an environment's name, update the environment if its plugins or requirements differ.

    prefix: key prefix in the bucket; the DAG files of an environment go to its configured dags folder.
    Raises LocalError before anything is uploaded if any check fails.
    """
    check(folder, root)
    place = Place(s3 or boto3.client("s3"), bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else "")
    with aws_errors():
        if place.s3.get_bucket_versioning(Bucket=bucket).get("Status") != "Enabled":
            raise LocalError(f"Versioning is not enabled on the bucket {bucket}, and MWAA requires it: enable it.")
        mwaa = (mwaa or boto3.client("mwaa")) if environment else None
        now = mwaa.get_environment(Name=environment)["Environment"] if mwaa else {}
        versioned = {f"{place.prefix}{name}": (folder / name).read_bytes() for name in VERSIONED}
        dags = now.get("DagS3Path", f"{place.prefix}{bundle.DAGS}").strip("/")
        files = {
            f"{dags}/{path.relative_to(folder / bundle.DAGS).as_posix()}": path.read_bytes()
            for path in sorted((folder / bundle.DAGS).rglob("*"))
            if path.is_file()
        }
        if now:
            check_environment(now, place, folder)
        before = {key: get_object(place, key) for key in (versioned | files)}
        for key, data in (versioned | files).items():
            check_object(place, key, before[key], data)

        versions = {key: put(place, key, data, before[key]) for key, data in versioned.items()}
        if mwaa:
            update(mwaa, now, place, versions)
        for key, data in files.items():
            put(place, key, data, before[key])
        for key in stale_keys(place, f"{dags}/{bundle.OURS}/", set(files)):
            print(f"No longer part of the bundle and not deleted; remove it by hand: {place.url(key)}")
        if not place.prefix:  # the template takes the two files only at the bucket's root
            # a stack update with older versions would roll the environment back
            parameters = [f"{word}Version={versions[name]}" for name, word in VERSIONED.items()]
            print("The template's parameters: " + " ".join(parameters))


def check(folder: Path, root: Path) -> None:
    """Raise LocalError unless the bundle exists, matches the sources, and has a valid registry."""
    if not (folder / bundle.PLUGINS).is_file():
        raise LocalError(f"{folder.name}/ does not contain a bundle: run `make bundle` first.")
    if changed := bundle.stale(folder, root):
        raise LocalError(
            f"{changed} has changed since the bundle was built: run `make bundle` again with the same variables."
        )
    if str(ROOT / "plugins") not in sys.path:
        sys.path.insert(0, str(ROOT / "plugins"))
    from cohort_flywheel.config.registry import read_registry
    from cohort_flywheel.destinations import check_destination
    from cohort_flywheel.errors import Code, FlywheelError

    try:
        registry = read_registry(folder / bundle.DAGS / bundle.OURS / "include" / "cohorts.yaml")
        check_destination(registry.destination)
    except FlywheelError as error:
        raise LocalError(f"Nothing was uploaded: {error}") from None
    if registry.broken:
        raise LocalError(f"Nothing was uploaded: {Code.INCLUDE_FILE}: {'; '.join(registry.broken.values())}")


def check_environment(now: dict[str, Any], place: Place, folder: Path) -> None:
    """Raise LocalError unless the environment can be updated now, without losing content of others."""
    name, bucket = now["Name"], now["SourceBucketArn"].rpartition(":")[2]
    if bucket != place.bucket:
        raise LocalError(f"The environment {name} uses the bucket {bucket}: write BUCKET={bucket}.")
    if now["Status"] not in ("AVAILABLE", "UPDATE_FAILED"):
        raise LocalError(f"The environment {name} is {now['Status']}: try again when it is AVAILABLE.")
    for file, word in VERSIONED.items():
        if key := now.get(f"{word}S3Path"):
            found = get_object(place, key, now.get(f"{word}S3ObjectVersion"))
            if found and (lost := bundle.lost(file, found.data, (folder / file).read_bytes())):
                raise LocalError(
                    f"The environment {name} has {lost!r} in its {file}, which is not ours and not in the bundle:"
                    f" fetch {place.url(key)}, and run `make bundle {MERGE[file]}=that-file`."
                )


def check_object(place: Place, key: str, found: ExistingObject | None, data: bytes) -> None:
    """Raise LocalError unless an object may be replaced by these bytes."""
    name = key.rpartition("/")[2]
    if not found or found.data == data:
        return
    if not found.marked:
        what = f"{place.url(key)} was not written by `make deploy` and has different content, so it was not replaced."
        if name in VERSIONED:
            raise LocalError(
                f"{what} Run `make bundle {MERGE[name]}=a-copy-of-it`, then deploy with PREFIX={bundle.OURS}:"
                " the merged file is then uploaded next to it."
            )
        raise LocalError(f"{what} Copy the changes that you want to keep into your checkout, then remove the object.")
    if name in VERSIONED and (lost := bundle.lost(name, found.data, data)):
        raise LocalError(
            f"{place.url(key)} has {lost!r}, which is not ours and not in the bundle: run `make bundle"
            f" {MERGE[name]}=a-copy-of-it`."
        )


def get_object(place: Place, key: str, version: str | None = None) -> ExistingObject | None:
    """An object of the bucket, or None."""
    try:
        found = place.s3.get_object(Bucket=place.bucket, Key=key, **({"VersionId": version} if version else {}))
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            return None
        raise
    return ExistingObject(found["ETag"], found.get("VersionId", ""), found["Body"].read(), MARK in found["Metadata"])


def put(place: Place, key: str, data: bytes, before: ExistingObject | None) -> str:
    """Put one object unless it already has these bytes; return its version.

    The conditional write keeps an object that another writer put there in the meantime.
    """
    if before and before.data == data:
        return before.version
    condition = {"IfMatch": before.etag} if before else {"IfNoneMatch": "*"}
    try:
        answer = place.s3.put_object(
            Bucket=place.bucket, Key=key, Body=data, Metadata={MARK: bundle.digest(data)}, **condition
        )
    except ClientError as error:
        if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409"):
            raise LocalError(
                f"{place.url(key)} was changed during the deployment and was not replaced: run `make deploy` again."
            ) from None
        raise
    print(f"Uploaded {place.url(key)}")
    return str(answer["VersionId"])


def stale_keys(place: Place, folder: str, keys: set[str]) -> list[str]:
    """The keys below a folder that `make deploy` wrote and the bundle no longer has."""
    pages = place.s3.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=folder)
    others = [item["Key"] for page in pages for item in page.get("Contents", ()) if item["Key"] not in keys]
    return [key for key in others if (found := get_object(place, key)) and found.marked]


def update(mwaa: Any, now: dict[str, Any], place: Place, versions: dict[str, str]) -> None:
    """Update the environment to the versions that it does not have yet."""
    wanted: dict[str, str] = {}
    for file, word in VERSIONED.items():
        key = f"{place.prefix}{file}"
        if (now.get(f"{word}S3Path"), now.get(f"{word}S3ObjectVersion")) != (key, versions[key]):
            wanted |= {f"{word}S3Path": key, f"{word}S3ObjectVersion": versions[key]}
    if not wanted:
        print(f"The environment {now['Name']} already has these versions; it picks up new DAG files without an update.")
        return
    # running tasks may end first
    mwaa.update_environment(Name=now["Name"], WorkerReplacementStrategy="GRACEFUL", **wanted)
    print(f"The environment {now['Name']} is updating; that takes half an hour, and longer while tasks run.")


@contextmanager
def aws_errors() -> Iterator[None]:
    """Turn an error of AWS into a LocalError."""
    try:
        yield
    except ClientError as error:
        code, call = error.response["Error"]["Code"], error.operation_name
        raise LocalError(f"AWS refused {call} with {code}: check the name and your permissions.") from None
    except BotoCoreError as error:
        raise LocalError(f"AWS cannot be reached ({error}): check the region and your credentials.") from None
