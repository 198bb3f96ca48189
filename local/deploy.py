"""`make deploy`: puts the bundle into MWAA's bucket, and gives the environment its new plugins and requirements.

Nothing is deleted. What lies under a name of ours is replaced only where the object has our mark, its metadata, and
nothing that others merged into it would be lost.
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

#: The metadata of each object that this wrote; the value is the SHA-256 of its bytes.
MARK = "cohort-flywheel"
#: The names that MWAA's API gives to the two files that it takes in a version.
VERSIONED = {bundle.PLUGINS: "Plugins", bundle.REQUIREMENTS: "Requirements"}
#: The variable of `make bundle` that names another's file.
MERGE = {bundle.PLUGINS: "INTO", bundle.REQUIREMENTS: "REQUIREMENTS"}


class There(NamedTuple):
    """An object of the bucket: its ETag, its version and its bytes; marked if this wrote it."""

    etag: str
    version: str
    data: bytes
    marked: bool


@dataclass(frozen=True)
class Place:
    """The bucket, and the prefix of everything in it."""

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
    """Upload the bundle of a folder; with an environment's name, update it if its plugins or requirements are others.

    prefix: where in the bucket; the DAG files of an environment go to its own dags folder, wherever that is.
    Raises LocalError before anything is uploaded if any of it would be refused.
    """
    check(folder, root)
    place = Place(s3 or boto3.client("s3"), bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else "")
    with said():
        if place.s3.get_bucket_versioning(Bucket=bucket).get("Status") != "Enabled":
            raise LocalError(f"The bucket {bucket} has no versioning, which MWAA demands: switch it on.")
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
        before = {key: look(place, key) for key in (versioned | files)}
        for key, data in (versioned | files).items():
            check_object(place, key, before[key], data)

        versions = {key: put(place, key, data, before[key]) for key, data in versioned.items()}
        if mwaa:
            update(mwaa, now, place, versions)
        for key, data in files.items():
            put(place, key, data, before[key])
        for key in left_there(place, f"{dags}/{bundle.OURS}/", set(files)):
            print(f"Left there, though it is no longer part of the bundle; remove it by hand: {place.url(key)}")
        if not place.prefix:  # the template knows the two files at the bucket's root alone
            # an update of the stack that has older ones would set the environment back
            parameters = [f"{word}Version={versions[name]}" for name, word in VERSIONED.items()]
            print("The template's parameters: " + " ".join(parameters))


def check(folder: Path, root: Path) -> None:
    """Raise LocalError unless the bundle is there, holds what the sources hold, and its registry reads."""
    if not (folder / bundle.PLUGINS).is_file():
        raise LocalError(f"There is no bundle in {folder.name}/: run `make bundle` first.")
    if changed := bundle.stale(folder, root):
        raise LocalError(f"{changed} is not as it was when the bundle was built: run `make bundle` again, as before.")
    if str(ROOT / "plugins") not in sys.path:
        sys.path.insert(0, str(ROOT / "plugins"))
    from cohort_flywheel.config.registry import read_registry
    from cohort_flywheel.destinations import check_destination
    from cohort_flywheel.errors import FlywheelError

    try:
        registry = read_registry(folder / bundle.DAGS / bundle.OURS / "include" / "cohorts.yaml")
        check_destination(registry.destination)
    except FlywheelError as error:
        raise LocalError(f"Nothing was uploaded: {error}") from None
    if registry.broken:
        raise LocalError("Nothing was uploaded: " + "; ".join(registry.broken.values()))


def check_environment(now: dict[str, Any], place: Place, folder: Path) -> None:
    """Raise LocalError unless the environment can be updated now, and takes nothing that the bundle would leave out."""
    name, bucket = now["Name"], now["SourceBucketArn"].rpartition(":")[2]
    if bucket != place.bucket:
        raise LocalError(f"The environment {name} takes its files from {bucket}: write BUCKET={bucket}.")
    if now["Status"] not in ("AVAILABLE", "UPDATE_FAILED"):
        raise LocalError(f"The environment {name} is {now['Status']}: try again when it is AVAILABLE.")
    for file, word in VERSIONED.items():
        if key := now.get(f"{word}S3Path"):
            found = look(place, key, now.get(f"{word}S3ObjectVersion"))
            if found and (lost := bundle.lost(file, found.data, (folder / file).read_bytes())):
                raise LocalError(
                    f"The environment {name} has {lost!r} of others in its {file}, which the bundle does not hold:"
                    f" fetch {place.url(key)}, and run `make bundle {MERGE[file]}=that-file`."
                )


def check_object(place: Place, key: str, found: There | None, data: bytes) -> None:
    """Raise LocalError unless an object may be replaced by these bytes."""
    name = key.rpartition("/")[2]
    if not found or found.data == data:
        return
    if not found.marked:
        what = f"{place.url(key)} was not written by `make deploy` and has other bytes, so it was left as it is."
        if name in VERSIONED:
            raise LocalError(
                f"{what} Run `make bundle {MERGE[name]}=a-copy-of-it`, then deploy with PREFIX={bundle.OURS}:"
                " the merged file then lies beside it."
            )
        raise LocalError(f"{what} Take what is right in it into your checkout, then remove it there.")
    if name in VERSIONED and (lost := bundle.lost(name, found.data, data)):
        raise LocalError(
            f"{place.url(key)} has {lost!r} of others, which the bundle does not hold: run `make bundle"
            f" {MERGE[name]}=a-copy-of-it`."
        )


def look(place: Place, key: str, version: str | None = None) -> There | None:
    """An object of the bucket, or None."""
    try:
        found = place.s3.get_object(Bucket=place.bucket, Key=key, **({"VersionId": version} if version else {}))
    except ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            return None
        raise
    return There(found["ETag"], found.get("VersionId", ""), found["Body"].read(), MARK in found["Metadata"])


def put(place: Place, key: str, data: bytes, before: There | None) -> str:
    """Put one object, unless it is there with these bytes; return its version.

    The condition keeps what somebody else put there since we looked.
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
                f"Somebody else wrote {place.url(key)} just now, and it was left as it is: run `make deploy` again."
            ) from None
        raise
    print(f"Uploaded {place.url(key)}")
    return str(answer["VersionId"])


def left_there(place: Place, folder: str, keys: set[str]) -> list[str]:
    """The keys below a folder that we wrote once and have no more."""
    pages = place.s3.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=folder)
    others = [item["Key"] for page in pages for item in page.get("Contents", ()) if item["Key"] not in keys]
    return [key for key in others if (found := look(place, key)) and found.marked]


def update(mwaa: Any, now: dict[str, Any], place: Place, versions: dict[str, str]) -> None:
    """Tell the environment of the versions that it does not have yet."""
    wanted: dict[str, str] = {}
    for file, word in VERSIONED.items():
        key = f"{place.prefix}{file}"
        if (now.get(f"{word}S3Path"), now.get(f"{word}S3ObjectVersion")) != (key, versions[key]):
            wanted |= {f"{word}S3Path": key, f"{word}S3ObjectVersion": versions[key]}
    if not wanted:
        print(f"The environment {now['Name']} has these versions: it reads new DAG files by itself.")
        return
    # running tasks may end first
    mwaa.update_environment(Name=now["Name"], WorkerReplacementStrategy="GRACEFUL", **wanted)
    print(f"The environment {now['Name']} is updating; that takes half an hour, and longer while tasks run.")


@contextmanager
def said() -> Iterator[None]:
    """An error of AWS is said in a sentence."""
    try:
        yield
    except ClientError as error:
        code, call = error.response["Error"]["Code"], error.operation_name
        raise LocalError(f"AWS refused {call} with {code}: is the name right, and may you do that?") from None
    except BotoCoreError as error:
        raise LocalError(f"AWS cannot be asked ({error}): check the region, and your credentials.") from None
