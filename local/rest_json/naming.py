"""Deterministic identifiers: a seeded environment always has the same ones."""

import hashlib
import uuid


def hex_id(*parts: object) -> str:
    """32 hex characters from the parts alone."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:32]


def uuid_id(*parts: object) -> str:
    """A UUID, written with hyphens, from the parts alone."""
    return str(uuid.UUID(hex_id(*parts)))
