"""A suppression list for tests."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from cohort_flywheel.engagement.suppressions import Entry, Kind, suppression_key
from cohort_flywheel.engagement.suppressions_store import add_entries
from cohort_flywheel.governance.tombstones_store import make_salt
from cohort_flywheel.hooks.s3 import S3Hook


def suppress(
    bucket: str, kind: Kind, text: str, reason: str = "complained", state: str = "suppressed", at: str = "2026-11-21"
) -> None:
    """Add an address or a playerId to the list of a state bucket."""
    s3 = S3Hook()
    key = suppression_key(make_salt(s3, bucket), kind, text)
    with TemporaryDirectory() as folder:
        add_entries(s3, bucket, Path(folder), [Entry(kind, key, reason, at, state)])
