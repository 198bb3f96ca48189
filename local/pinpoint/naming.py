"""Identifiers and timestamps; identifiers are deterministic, so a seeded environment always has the same ones."""

import hashlib
import time
from datetime import UTC, datetime


def derived_id(*parts: object) -> str:
    """32 hex characters, as Pinpoint's own identifiers have, from the parts alone."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:32]


def iso(instant: float) -> str:
    """[shape ImportJobResponse.CreationDate] "in ISO 8601 format"."""
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_now() -> str:
    return iso(time.time())
