"""Launches by the emulated SES, for the tests of this folder."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

from cohort_flywheel.destinations.ses.campaign.ses_launch_operator import SesLaunchCampaignOperator
from cohort_flywheel.destinations.ses.campaign.ses_prepare_operator import SesPrepareCampaignOperator
from local import seed
from local.config import CONTACT_LIST, TOPIC
from tests.cohort_flywheel.campaign.campaigns import APPROVAL, approved, planned, record
from tests.cohort_flywheel.destinations.ses.ses_account import NEWEST, Account
from tests.cohort_flywheel.task_outputs import segment_file

SENDER, UNSUBSCRIBE = "Studio <play@studio.example>", "{{amazonSESUnsubscribeUrl}}"
FILES = {
    "subject.txt": "We miss you, {{FirstName|friend}}",
    "body.html": f"<p>Dear {{{{FirstName|friend}}}} {{{{LastName}}}}</p><a ses:no-track href='{UNSUBSCRIBE}'>stop</a>",
    "body.txt": f"Dear {{{{FirstName|friend}}}} {{{{LastName}}}}. Stop: {UNSUBSCRIBE}",
}
CONSENT = {"attribute": "marketing", "opted_in": ["yes"], "opted_out": ["no"], "silence": "opted_out"}


class Killed(BaseException):
    """A worker that is gone: nothing in the house catches it."""


class Campaign(Account):
    """An account whose sender is verified, with contacts for the players of a segment file."""

    def __init__(self, servers: Any, config: Any, folder: Path) -> None:
        super().__init__(servers, config)
        self.servers, self.templates = servers, folder
        if "studio.example" not in self.state["identities"]:
            self.client.create_email_identity(EmailIdentity="studio.example")
        self.control(verify=["studio.example"], template_seconds=0, max_send_rate=100_000, max_24_hour_send=1_000_000)
        self.write_template()

    def write_template(self, name: str = "at_risk", **files: str) -> None:
        (self.templates / name).mkdir(exist_ok=True)
        for file, text in (FILES | {key.replace("_", "."): text for key, text in files.items()}).items():
            (self.templates / name / file).write_text(text, encoding="utf-8")

    # --- what there is

    @property
    def mails(self) -> list[dict[str, Any]]:
        return list(self.state["mails"])

    @property
    def mailed(self) -> Counter[str]:
        """How often each player was mailed, by what SES accepted."""
        return Counter(mail["to"][0].partition("@")[0] for mail in self.mails)

    def state_keys(self, prefix: str = "launches/") -> list[str]:
        found = self.s3.list_objects_v2(Bucket=self.config.state_bucket, Prefix=prefix)
        names = [item["Key"].rpartition("/")[2] for item in found.get("Contents", ())]
        return [name for name in names if not name.startswith("approval_")]

    def read(self, key: str) -> str:
        return str(self.s3.get_object(Bucket=self.config.state_bucket, Key=key)["Body"].read().decode())

    def do_not_contact(self, *entries: str) -> None:
        body = "".join(f"{entry}\n" for entry in entries).encode()
        self.s3.put_object(Bucket=self.config.state_bucket, Key="do_not_contact.txt", Body=body)

    # --- a run

    def players(self, number: int, **changes: Any) -> list[str]:
        names = [f"p{each:03d}" for each in range(number)]
        self.records(*names, **changes)
        return names

    def records(self, *names: str, **changes: Any) -> None:
        """Contacts as they were when the segment file was made, but for the changes; "" removes the attribute."""
        defaults = {"firstName": "Jo", "lastName": "O'Neil", "marketing": "yes"}
        records = [{"playerId": name, "email": f"{name}@example.com"} | defaults | changes for name in names]
        seed.load_contacts(self.servers, self.config, [{k: v for k, v in each.items() if v} for each in records])

    def forget(self, name: str) -> None:
        dynamodb = seed.client("dynamodb", self.servers, self.config)
        dynamodb.delete_item(TableName=self.config.contacts_table, Key={"playerId": {"S": name}})

    def launch_plan(self, mode: str = "launch", **changes: Any) -> dict[str, Any]:
        campaign = {
            "mode": mode, "template": "at_risk", "from": SENDER, "not_again_days": 30,
            "test_addresses": ["qa@studio.example", "boss@studio.example"], "approvers": ["ann"],
            "self_approval": False,
        }  # fmt: skip
        ours = {name: changes.pop(name) for name in list(changes) if name in campaign}
        kept = {name: changes.pop(name) for name in ("name", "as_of") if name in changes}
        return self.plan(**kept) | {
            "campaign": campaign | ours, "source": "auto", "dry_run": False, "consent": CONSENT,
            "contacts_table": self.config.contacts_table, "do_not_contact_key": None,
        } | changes  # fmt: skip

    def released(
        self, name: str, *parts: list[str], first_name: str = "Jo", last_name: str = "O'Neil"
    ) -> dict[str, Any]:
        """A segment file as CohortLimitsOperator released it."""
        bucket, folder, made = self.config.import_bucket, f"segments/{name}/", []
        for index, names in enumerate(parts):
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(["emailAddress", "playerId", "FirstName", "LastName", "FavoriteRole"])
            writer.writerows([f"{each}@example.com", each, first_name, last_name, ""] for each in names)
            body, key = text.getvalue().encode(), f"{folder}{index:04d}.csv"
            self.s3.put_object(Bucket=bucket, Key=key, Body=body)
            made.append({"s3_key": key, "sha256": hashlib.sha256(body).hexdigest()})
        return segment_file(
            sum(map(len, parts)), s3_bucket=bucket, s3_key=folder, s3_url=f"s3://{bucket}/{folder}", parts=made,
            sha256=hashlib.sha256("".join(f"{part['sha256']}\n" for part in made).encode()).hexdigest(),
        )  # fmt: skip

    def prepare(self, plan: dict[str, Any], segment: dict[str, Any], context: Any) -> dict[str, Any]:
        made = SesPrepareCampaignOperator(
            task_id="prepare_campaign", plan=planned(plan, self.templates), segment=segment,
            segment_id=segment["s3_url"], templates=self.templates,
        ).execute(context)  # fmt: skip
        return dict(json.loads(json.dumps(made)))  # as it comes back from the database

    def launch(
        self, plan: dict[str, Any], segment: dict[str, Any], prepared: dict[str, Any], context: Any, hours: float = 15,
        **changes: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Run the launch; ann has approved by default."""
        answer = changes.pop("answer", approved(prepared))
        record(self.s3, self.config.state_bucket, plan["name"], prepared, answer)
        arguments: dict[str, Any] = {"approval": APPROVAL, "clock": lambda: NEWEST + timedelta(hours=hours)}
        return SesLaunchCampaignOperator(
            task_id="launch_campaign", plan=plan, segment=segment, prepared=prepared, contact_list=CONTACT_LIST,
            topic=TOPIC, **(arguments | changes),
        ).execute(context)  # fmt: skip


def total(counts: dict[str, Any]) -> int:
    """All players that a launch accounts for."""
    return int(
        counts["sent"] + counts["in_doubt"] + sum(counts["withdrawn"].values()) + sum(counts["refused"].values())
    )


class Launch:
    """A prepared and approved launch, of two parts and three batches of ten players."""

    def __init__(self, account: Campaign, context: Any, number: int = 25, **plan: Any) -> None:
        self.account, self.context = account, context
        self.names = account.players(number)
        self.plan = account.launch_plan(**plan)
        self.segment = account.released(self.plan["name"], self.names[:13], self.names[13:])
        self.prepared = account.prepare(self.plan, self.segment, context())

    def run(self, **changes: Any) -> dict[str, Any]:
        return self.account.launch(self.plan, self.segment, self.prepared, self.context(), **changes)
