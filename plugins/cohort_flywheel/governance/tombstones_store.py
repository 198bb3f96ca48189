"""The tombstones of erased players in the state bucket."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.governance.erasure import SALT_KEY, TOMBSTONES_FOLDER, Tombstones, tombstone
from cohort_flywheel.hooks.s3 import S3Hook, get_json, keys, put_json


def read_tombstones(s3: S3Hook, bucket: str) -> Tombstones | None:
    """Read the tombstones of a state bucket; return None, after one call, if there are none."""
    hashes = [key.removeprefix(TOMBSTONES_FOLDER) for key in keys(s3, bucket, TOMBSTONES_FOLDER)]
    return Tombstones(read_salt(s3, bucket), hashes) if hashes else None


def put_tombstones(s3: S3Hook, bucket: str, players: Iterable[str]) -> None:
    """Write one tombstone per player; later reads exclude the players."""
    salt = make_salt(s3, bucket)
    for player in players:
        s3.get_conn().put_object(Bucket=bucket, Key=TOMBSTONES_FOLDER + tombstone(salt, player), Body=b"")


def make_salt(s3: S3Hook, bucket: str) -> bytes:
    """Return the salt of tombstones and suppressions; create it unless it exists."""
    put_json(s3, bucket, SALT_KEY, {"salt": secrets.token_hex(32)}, IfNoneMatch="*")
    return read_salt(s3, bucket)


def read_salt(s3: S3Hook, bucket: str) -> bytes:
    """Return the salt; raise FlywheelError if it is gone."""
    found = get_json(s3, bucket, SALT_KEY)
    if found is None:
        raise FlywheelError(
            f"s3://{bucket}/{SALT_KEY} is gone, and without it erased players and suppressed addresses are not"
            " recognized: restore its earlier version",
            code=Code.STATE_DAMAGED,
        )
    return bytes.fromhex(found[0]["salt"])
