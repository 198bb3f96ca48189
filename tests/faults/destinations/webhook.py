"""Webhook: each batch applied once, and the members of the receiver are the rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from local.config import Config
from local.seed import Seeded
from local.servers import Servers, control
from tests.faults.leftovers import Leftovers, Place
from tests.faults.sites import Case

DESTINATION = "webhook"
CONF: dict[str, Any] = {}
HOLDOUT_PERCENT = 0
DANGEROUS = (
    "create_import_job: webhook POST batches #1 × killed after",
    "create_import_job: webhook POST batches #2 × killed before",
    "create_import_job: webhook POST batches #2 × answer lost, time-out",
    "create_import_job: webhook POST batches #2 × answer lost, connection closed",
    "create_import_job: webhook POST batches #2 × throttled once",
    "create_import_job: webhook POST batches #2 × 503 until cleared",
    "create_import_job: webhook POST batches #2 × 413",
    "create_import_job: webhook POST batches #2 × redirected until cleared",
    "verify_segment: webhook GET ea_atrisk_0 #1 × killed after",
    "verify_segment: s3 PutObject #2 × killed after",  # the record of members
)
#: After a 413 the batches are smaller, and so others.
OF_THE_BATCHES = re.compile(rb'"import_id": "\w+"|"batches": \d+|"upload": \d+')
TELLS_OF_THE_BATCHES = re.compile(r"(reports|results|memberships)/")


def make(servers: Servers, config: Config) -> Seeded:
    control(servers, "webhook", {"reset": True})
    return Seeded("none", "none", "none", "none")


def settle(servers: Servers, case: Case | None) -> None:
    """The receiver needs no setting for a case."""


def there(servers: Servers) -> dict[str, Any]:
    return dict(control(servers, "webhook"))


def comparable(objects: dict[Place, bytes], left: Leftovers) -> dict[Place, bytes]:
    return {
        place: OF_THE_BATCHES.sub(b"", body) if TELLS_OF_THE_BATCHES.match(place[1]) else body
        for place, body in objects.items()
    }


def differences(undisturbed: Leftovers, left: Leftovers, case: Case | None) -> Iterator[str]:
    if set(left.there["players"]) != set(left.rows):
        yield f"{len(left.there['players'])} players at the receiver, and the segment file has {len(left.rows)} rows"
    if left.there["players"] != undisturbed.there["players"]:
        yield "the receiver has other addresses or attributes"
    for name, segment in undisturbed.there["segments"].items():
        if left.there["segments"].get(name, {}).get("members") != segment["members"]:
            yield f"segment {name} has other members"
    if not (case and case.fault.kind == "413") and left.there["applied"] != undisturbed.there["applied"]:
        yield f"{left.there['applied']} batches were applied, not {undisturbed.there['applied']}"
