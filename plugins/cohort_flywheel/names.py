"""Every name that a run gives, derived from cohort, threshold and as-of alone: a repeated step gives it again."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime

DO_NOT_CONTACT_KEY = "do_not_contact.txt"
SEGMENT_FOLDER = "segments/"


def run_name(cohort: str, threshold: int, as_of: datetime) -> str:
    """`ea_atrisk_2_2026-11-22_00-00-00`: the seed's name of an extract, its time being the as-of in UTC."""
    return f"{cohort}_{threshold}_{as_of.astimezone(UTC):%Y-%m-%d_%H-%M-%S}"


def extract_key(name: str) -> str:
    return f"export/{name}.json"


def segment_file_name(name: str, digest: str) -> str:
    """The digest is that of the file's bytes: other bytes have another address, and so another import job."""
    return f"{name}_{digest[:16]}.csv"


def rejects_key(name: str) -> str:
    return f"rejects/{name}.csv"


def report_folder(name: str) -> str:
    return f"reports/{name}/"


def report_file_name(run_id: str) -> str:
    """One report a run; a run id holds characters that S3 advises against (`+` and `:`)."""
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', run_id)}.json"


def endpoint_id(channel: str, player_id: str) -> str:
    """The stable endpoint Id of one player on one channel, which tells nobody who the player is."""
    return hashlib.sha256(f"cohort-flywheel\0{channel}\0{player_id}".encode()).hexdigest()[:32]
