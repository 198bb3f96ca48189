"""Customer Profiles and Connect: one upload of each content, one definition, one campaign, and a mail a player."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from cohort_flywheel.destinations.customer_profiles import layout
from cohort_flywheel.destinations.customer_profiles.layout import player_key
from cohort_flywheel.destinations.customer_profiles.segment_membership_store import SegmentMembershipRecord
from local import seed
from local.config import PROFILES_DOMAIN, Config
from local.seed import Seeded
from local.servers import Servers, control
from tests.faults.leftovers import Leftovers, Place
from tests.faults.sites import Case

DESTINATION = "customer_profiles"
CONF: dict[str, Any] = {"campaign": "launch"}
#: The player of yesterday's upload who is on the do-not-contact list today.
LEAVER, MEMBERSHIP = "xortiz", "ea_atrisk_0"
_YESTERDAY = SegmentMembershipRecord(
    {"name": "yesterday", "sha256": ""}, upload=1, set_in=1, set_out=0, job_ids=["yesterday"]
)
STATE = {
    layout.segment_membership_key(
        PROFILES_DOMAIN, MEMBERSHIP
    ): f"{json.dumps(_YESTERDAY._asdict())}\n{LEAVER}\n".encode()
}
#: As SES has it.
HOLDOUT_PERCENT = 60
DANGEROUS = (
    "create_import_job: customer-profiles CreateUploadJob #1 × answer lost, time-out",  # of who goes out
    "create_import_job: customer-profiles StartUploadJob #1 × job FAILED",
    "create_import_job: s3 presigned PUT #2 × upload cut in the middle",  # of who is in
    "create_import_job: customer-profiles StartUploadJob #2 × answer lost, time-out",
    "launch_campaign: s3 PutObject #7 × killed after",  # the send ledger
    "launch_campaign: connectcampaignsv2 CreateCampaign #1 × answer lost, time-out",
    "launch_campaign: connectcampaignsv2 StartCampaign #1 × killed after",
    "launch_campaign: connectcampaignsv2 StartCampaign #1 × answer lost, time-out",
)

#: How long an upload job takes, and a campaign: each ends before the first look, or only after it, for a trigger.
SECONDS, LONG_SECONDS = 0.0, 3.0
_WITH_THE_JOB, _WITH_THE_CAMPAIGN = ("create_import_job", "wait_for_import_job"), ("launch_campaign", "follow_campaign")
#: After a job that FAILED all is uploaded again, to profiles of which half are there.
TELLS_OF_THE_UPLOAD = re.compile(r"(reports|results|memberships)/")
OF_THE_UPLOAD = re.compile(rb'"job_ids": \[[^]]*\]|"(upload|created|updated)": \d+')


def make(servers: Servers, config: Config) -> Seeded:
    seed.make_profiles_domain(servers, config)
    seed.make_sender(servers, config)
    profiles = seed.client("customer-profiles", servers, config)
    profiles.create_profile(
        DomainName=PROFILES_DOMAIN, AccountNumber=player_key(LEAVER), Attributes={MEMBERSHIP: layout.IN}
    )
    instance_id, base_id = seed.make_connect_instance(servers, config), seed.make_knowledge_base(servers, config)
    return Seeded("none", "none", instance_id, base_id)


def settle(servers: Servers, case: Case | None) -> None:
    """Choose how long a job and a campaign take, for this case."""
    job, campaign = (
        LONG_SECONDS if case is None or (case.site.task.startswith(tasks) and case.site.service == service) else SECONDS
        for tasks, service in ((_WITH_THE_JOB, "customer-profiles"), (_WITH_THE_CAMPAIGN, "connectcampaignsv2"))
    )
    control(servers, "customer-profiles", {"job_seconds": job, "estimate_seconds": 0})
    control(servers, "connect-campaigns", {"campaign_seconds": campaign})


def there(servers: Servers) -> dict[str, Any]:
    (domain,) = control(servers, "customer-profiles")["domains"]
    (base,) = control(servers, "qconnect")["knowledge_bases"]
    return {
        **{name: domain[name] for name in ("profiles", "upload_jobs", "segments")},
        "templates": base["templates"],
        "campaigns": control(servers, "connect-campaigns")["campaigns"],
    }


def comparable(objects: dict[Place, bytes], left: Leftovers) -> dict[Place, bytes]:
    if not _failed(left):
        return objects
    return {
        place: OF_THE_UPLOAD.sub(b"", body) if TELLS_OF_THE_UPLOAD.match(place[1]) else body
        for place, body in objects.items()
    }


def _failed(left: Leftovers) -> bool:
    return any(job["Status"] == "FAILED" for job in left.there["upload_jobs"])


def differences(undisturbed: Leftovers, left: Leftovers, case: Case | None) -> Iterator[str]:
    names, wanted = (
        Counter(job["DisplayName"] for job in each.there["upload_jobs"] if job["Status"] == "SUCCEEDED")
        for each in (left, undisturbed)
    )
    yield from (f"{number} upload jobs {name}" for name, number in names.items() if number != 1)
    if names.keys() != wanted.keys() and not _failed(left):
        yield f"upload jobs that SUCCEEDED: {sorted(names)}"
    if unfinished := [
        job["Status"] for job in left.there["upload_jobs"] if job["Status"] not in ("SUCCEEDED", "FAILED")
    ]:
        yield f"upload jobs that are {unfinished}"
    profiles = _profiles(left)
    if profiles != _profiles(undisturbed):
        yield "profiles differ"
    membership = {key: profile["Attributes"].get(MEMBERSHIP) for key, profile in profiles.items()}
    if membership != dict.fromkeys(map(player_key, left.rows), layout.IN) | {player_key(LEAVER): layout.OUT}:
        yield f"{Counter(membership.values())} profiles, not the {len(left.rows)} rows in and the leaver out"
    if _segments(left) != _segments(undisturbed):
        yield f"{len(_segments(left))} segments, whose names or members differ"
    if left.there["templates"] != undisturbed.there["templates"]:
        yield "message templates, or their versions, differ"
    campaigns = [(each["name"], each["state"]) for each in left.there["campaigns"]]
    if campaigns != [(each["name"], "Completed") for each in undisturbed.there["campaigns"]]:
        yield f"campaigns {campaigns}"
    yield from _mails(undisturbed, left)


def _profiles(left: Leftovers) -> dict[str, dict[str, Any]]:
    """By our own key, without the service's and its clock."""
    return {
        profile["AccountNumber"]: {
            name: value for name, value in profile.items() if name not in ("ProfileId", "Expires")
        }
        for profile in left.there["profiles"]
    }


def _segments(left: Leftovers) -> list[tuple[str, set[str]]]:
    keys = {profile["ProfileId"]: profile["AccountNumber"] for profile in left.there["profiles"]}
    return [
        (segment["SegmentDefinitionName"], {keys[member] for member in segment["Members"]})
        for segment in left.there["segments"]
    ]


def _mails(undisturbed: Leftovers, left: Leftovers) -> Iterator[str]:
    mails = [mail for campaign in left.there["campaigns"] for mail in campaign["mails"]]
    times = Counter(mail["AccountNumber"] for mail in mails)
    if again := sum(number > 1 for number in times.values()):
        yield f"{again} players were mailed more than once"
    if times.keys() != set(map(player_key, undisturbed.rows)):
        yield f"{len(times)} players were mailed, and the segment file has {len(undisturbed.rows)} rows"
    if not times.keys() <= set(map(player_key, left.ledger)):
        yield "the send ledger lacks a mailed player"
    if any(mail["Missing"] for mail in mails):
        yield "a mail lacks a value"
