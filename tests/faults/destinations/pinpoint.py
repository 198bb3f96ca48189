"""Pinpoint: one import job of each content, one segment; it has no campaigns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from local import seed
from local.config import Config
from local.seed import Seeded
from local.servers import Servers, control
from tests.faults.leftovers import Leftovers, Place
from tests.faults.sites import Case

DESTINATION = "pinpoint"
CONF: dict[str, Any] = {}
HOLDOUT_PERCENT = 0
#: Never left out of a part: what must happen once, what is asked again by our own code, what breaks while it streams.
DANGEROUS = (
    "create_import_job: pinpoint CreateImportJob #1 × killed after",
    "create_import_job: pinpoint CreateImportJob #1 × answer lost, time-out",
    "create_import_job: pinpoint CreateImportJob #1 × job FAILED",
    "extract: s3 PutObject #1 × answer lost, time-out",  # the claim
    "check_limits: s3 PutObject #2 × answer lost, time-out",  # the final snapshot
    "check_limits: s3 PutObject #2 × killed after",
    "check_limits: s3 CopyObject #2 × killed after",
    "record_result: s3 DeleteObject #1 × killed after",  # the claim
    "enrich_0: dynamodb BatchGetItem #1 × 30 % of keys unprocessed",
    "enrich_1: dynamodb BatchGetItem #2 × killed before",
    "extract: graph traversal #1 × cut mid-batch",
    "extract: graph traversal #1 × killed mid-stream",
)

#: How long an import job takes: it ends before the first look, or is still under way when a try follows a fault at it.
IMPORT_SECONDS, LONG_IMPORT_SECONDS = 0.1, 1.0
#: After a job that FAILED another one has made the segment, and these name it; all other bytes are the same.
TELLS_OF_THE_JOB = re.compile(r"(reports|results)/")
IDS_OF_THE_JOB = re.compile(rb'"(job|segment)_id": "\w+"|"segment_version": \d+')


def make(servers: Servers, config: Config) -> Seeded:
    application_id = seed.make_application(servers, config)
    role_arn = seed.make_import_role(servers, config, application_id)
    return Seeded(application_id, role_arn, "none", "none")


def settle(servers: Servers, case: Case | None) -> None:
    """Choose how long a job takes, for this case."""
    long = case is not None and case.site.service == "pinpoint"
    control(servers, "pinpoint", {"import_seconds": LONG_IMPORT_SECONDS if long else IMPORT_SECONDS})


def there(servers: Servers) -> dict[str, Any]:
    (app,) = control(servers, "pinpoint")["applications"]
    return {name: app[name] for name in ("jobs", "segments", "endpoints")}


def comparable(objects: dict[Place, bytes], left: Leftovers) -> dict[Place, bytes]:
    if all(job["JobStatus"] != "FAILED" for job in left.there["jobs"]):
        return objects
    return {
        place: IDS_OF_THE_JOB.sub(b"", body) if TELLS_OF_THE_JOB.match(place[1]) else body
        for place, body in objects.items()
    }


def differences(undisturbed: Leftovers, left: Leftovers, case: Case | None) -> Iterator[str]:
    jobs = Counter(job["Definition"]["S3Url"] for job in left.there["jobs"] if job["JobStatus"] != "FAILED")
    yield from (f"{number} import jobs of {url}" for url, number in jobs.items() if number != 1)
    if jobs.keys() != {job["Definition"]["S3Url"] for job in undisturbed.there["jobs"]}:
        yield f"import jobs of {sorted(jobs)}"
    for what in ("Name", "Members"):
        theirs, wanted = ([segment[what] for segment in each.there["segments"]] for each in (left, undisturbed))
        if theirs != wanted:
            yield f"{len(theirs)} segments, whose {what} differ"
    theirs, wanted = (sorted(each["Id"] for each in those.there["endpoints"]) for those in (left, undisturbed))
    if theirs != wanted:
        yield f"{len(theirs)} endpoints, not the {len(wanted)}"
