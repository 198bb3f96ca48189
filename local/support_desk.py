"""What a person of the support desk may read: the buckets and the contacts table, with the person's own credentials."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import boto3
from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError

from local.config import ROOT, LocalError

_DENIED = ("AccessDenied", "AccessDeniedException", "403")
_GONE = ("NoSuchKey", "404", "NoSuchBucket", "ResourceNotFoundException")


class Place(NamedTuple):
    """What was found at a place. `status` is read, not read (no right), expired, or not found."""

    place: str
    status: str
    found: list[Any]


class Desk:
    """Read the buckets and the contacts table; the settings are those of the deployment's Airflow Variables."""

    def __init__(self, player: str, settings: Mapping[str, str]) -> None:
        if str(ROOT / "plugins") not in sys.path:
            sys.path.insert(0, str(ROOT / "plugins"))
        from cohort_flywheel.config.registry import read_registry

        registry = read_registry(ROOT / "include" / "cohorts.yaml")
        self.schema, self.zone = registry.data_schema, ZoneInfo(registry.timezone)
        self.player = player
        self.buckets = {role: settings[f"{role}_bucket"] for role in ("export", "import", "state")}
        self.table = settings["contacts_table"]
        self.s3, self.dynamodb = boto3.client("s3"), boto3.client("dynamodb")

    def body(self, role: str, key: str, **version: str) -> bytes:
        """The bytes of an object; raises ClientError."""
        return bytes(self.s3.get_object(Bucket=self.buckets[role], Key=key, **version)["Body"].read())

    def keys(self, role: str, prefix: str) -> Iterator[str]:
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.buckets[role], Prefix=prefix):
            yield from (item["Key"] for item in page.get("Contents", ()))

    def versions(self, role: str, prefix: str) -> Iterator[tuple[str, str]]:
        """The key and the id of each version that has bytes."""
        for page in self.s3.get_paginator("list_object_versions").paginate(Bucket=self.buckets[role], Prefix=prefix):
            yield from ((item["Key"], item["VersionId"]) for item in page.get("Versions", ()))

    def record(self) -> Place:
        """The player's record in the contacts table."""
        place = f"contacts table {self.table}"
        try:
            key = {self.schema.contacts_key: {"S": self.player}}
            item = self.dynamodb.get_item(TableName=self.table, Key=key).get("Item")
        except ClientError as error:
            return Place(place, status_of(error), [])
        read = TypeDeserializer().deserialize
        return Place(place, "read", [{name: read(value) for name, value in item.items()}] if item else [])

    def addresses(self, record: Place) -> set[str]:
        """The address of a record."""
        from cohort_flywheel.config.attribute_paths import value_at

        return {str(address) for each in record.found if (address := value_at(each, self.schema.address))}


def status_of(error: ClientError) -> str:
    code = error.response["Error"]["Code"]
    if code in _GONE:
        return "expired"
    if code in _DENIED:
        return "not read (no right)"
    raise LocalError(f"AWS answered {code}: check the credentials, the region and the names of the buckets.") from None
