"""A walk over all objects of a deployment: an erasure knows each, and searches those that may hold a player."""

from __future__ import annotations

from typing import Any

from cohort_flywheel.governance.erasure import kind_of
from cohort_flywheel.governance.erasure_operator import FOLDERS
from local.config import Config


def check_all_keys(s3: Any, config: Config) -> None:
    """Raise an error for an object of an unknown kind, and for one with players in a folder that is not searched."""
    for setting in ("export_bucket", "import_bucket", "state_bucket"):
        searched = tuple(prefix for bucket, prefix in FOLDERS if bucket == setting)
        bucket = getattr(config, setting)
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            for item in page.get("Versions", ()):
                assert not kind_of(bucket, item["Key"]) or item["Key"].startswith(searched), item["Key"]
