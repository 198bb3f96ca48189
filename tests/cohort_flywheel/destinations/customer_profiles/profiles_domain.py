"""The emulated domain of a test: its profiles and segments, what it does next, and segment files to upload."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

from cohort_flywheel.destinations.customer_profiles.layout import player_key
from cohort_flywheel.destinations.customer_profiles.operators import (
    CustomerProfilesCreateUploadJobsOperator,
    CustomerProfilesVerifySegmentOperator,
)
from cohort_flywheel.destinations.customer_profiles.sensors import CustomerProfilesUploadJobsSensor
from local import seed
from local.config import PROFILES_DOMAIN, Config
from local.servers import Servers
from tests.cohort_flywheel.plans import plan_output
from tests.cohort_flywheel.task_outputs import segment_file

NEWEST = datetime(2026, 11, 22, tzinfo=UTC)
HEADER = ["emailAddress", "playerId", "FirstName", "LastName", "FavoriteRole"]


class Domain:
    """An empty domain, whose jobs and estimates take no time."""

    def __init__(self, servers: Servers, config: Config) -> None:
        self.url, self.config = servers.aws_url, config
        self.client, self.s3 = seed.client("customer-profiles", servers, config), seed.client("s3", servers, config)
        seed.make_profiles_domain(servers, config)
        self.control(reset=True, job_seconds=0, estimate_seconds=0)

    # --- the service

    def control(self, **settings: Any) -> Any:
        """Change what the service does next; gives its state."""
        body = json.dumps(settings).encode() if settings else None
        request = urllib.request.Request(f"{self.url}/cohort-flywheel/customer-profiles", data=body)  # noqa: S310 - our own server
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            return json.load(answer)

    @property
    def state(self) -> Any:
        return next(domain for domain in self.control()["domains"] if domain["name"] == PROFILES_DOMAIN)

    @property
    def calls(self) -> Any:
        return self.control()["calls"]

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """All upload jobs, in their order."""
        return list(self.state["upload_jobs"])

    @property
    def statuses(self) -> list[str]:
        return [job["Status"] for job in self.jobs]

    def attribute(self, *players: str, name: str = "ea_atrisk_2") -> dict[str, str | None]:
        """What the profile of each player says of the membership."""
        profiles = {profile["AccountNumber"]: profile for profile in self.state["profiles"]}
        return {player: profiles.get(player_key(player), {}).get("Attributes", {}).get(name) for player in players}

    def members(self, name: str = "ea_atrisk_2") -> set[str]:
        """The addresses of those who are in a segment, as the service evaluates it."""
        state = self.state
        segment = next(segment for segment in state["segments"] if segment["SegmentDefinitionName"] == name)
        return {profile["EmailAddress"] for profile in state["profiles"] if profile["ProfileId"] in segment["Members"]}

    # --- a run

    def plan(
        self,
        name: str = "cohort",
        as_of: datetime = NEWEST,
        threshold: int = 2,
        source: str = "auto",
        schedule: str = "0 0 * * *",
    ) -> dict[str, Any]:
        return plan_output(
            name, as_of, source=source, threshold=threshold, schedule=schedule, state_bucket=self.config.state_bucket
        )

    def segment(self, name: str, *parts: list[str], header: list[str] = HEADER) -> dict[str, Any]:
        """A released segment file, of as many parts as there are lists of players."""
        bucket, folder, made = self.config.import_bucket, f"segments/{name}/", []
        for index, players in enumerate(parts):
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(header)
            more = ["x"] * (len(header) - len(HEADER))
            writer.writerows([address(player), player, "Jo, Jr.", 'O"Neil', "", *more] for player in players)
            body, key = text.getvalue().encode(), f"{folder}{index:04d}.csv"
            self.s3.put_object(Bucket=bucket, Key=key, Body=body)
            made.append({"s3_key": key, "sha256": hashlib.sha256(body).hexdigest()})
        return segment_file(
            sum(map(len, parts)), s3_bucket=bucket, s3_key=folder, s3_url=f"s3://{bucket}/{folder}", parts=made,
            sha256=hashlib.sha256("".join(part["sha256"] for part in made).encode()).hexdigest(),
        )  # fmt: skip

    def create(self, segment: dict[str, Any], context: Any, hours: float = 15, **plan: Any) -> dict[str, Any]:
        """The first task of a run, `hours` after the newest as-of; gives what it returns."""
        return CustomerProfilesCreateUploadJobsOperator(
            task_id="create_import_job", plan=self.plan(**plan), segment=segment, domain=PROFILES_DOMAIN,
            data_expiry="30", clock=lambda: NEWEST + timedelta(hours=hours),
        ).execute(context)  # fmt: skip

    def wait(self, job_ids: list[str]) -> None:
        CustomerProfilesUploadJobsSensor(
            task_id="wait", domain=PROFILES_DOMAIN, job_ids=job_ids, poke_interval=0.1, max_attempts=200,
            deferrable=False,
        ).execute({})  # fmt: skip

    def verify(self, segment: dict[str, Any], context: Any, job_ids: list[str], **plan: Any) -> dict[str, Any]:
        return CustomerProfilesVerifySegmentOperator(
            task_id="verify", plan=self.plan(**plan), segment=segment, domain=PROFILES_DOMAIN, job_ids=job_ids
        ).execute(context)

    def run(self, segment: dict[str, Any], context: Any, hours: float = 15, **plan: Any) -> dict[str, Any]:
        """All three tasks."""
        job_ids = self.create(segment, context, hours, **plan)["job_ids"]
        self.wait(job_ids)
        return self.verify(segment, context, job_ids, **plan)

    def record(self, name: str = "ea_atrisk_2") -> tuple[dict[str, Any], list[str]]:
        """The recorded memberships by player."""
        key = f"memberships/customer_profiles/{PROFILES_DOMAIN}/{name}.txt"
        body = self.s3.get_object(Bucket=self.config.state_bucket, Key=key)["Body"].read().decode()
        first, *players = body.splitlines()
        return json.loads(first), players


def address(player: str) -> str:
    return f"{hashlib.sha256(player.encode()).hexdigest()[:8]}@example.com"


def addresses(*players: str) -> set[str]:
    return set(map(address, players))
