"""The emulated Amazon Connect of a test: its instance, templates and campaigns, and the tasks of a launch."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cohort_flywheel.destinations.customer_profiles.campaign.connect_campaigns_store import Campaigns
from cohort_flywheel.destinations.customer_profiles.campaign.connect_prepare_operator import (
    ConnectPrepareCampaignOperator,
)
from cohort_flywheel.destinations.customer_profiles.campaign.hook import ConnectCampaignsHook
from cohort_flywheel.destinations.customer_profiles.campaign.operators import ConnectLaunchCampaignOperator
from cohort_flywheel.destinations.customer_profiles.layout import player_key
from cohort_flywheel.destinations.customer_profiles.profiles_outputs import ConnectPreparedCampaign
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.plan import Plan
from local import seed
from local.config import PROFILES_DOMAIN, Config
from local.servers import Servers
from tests.cohort_flywheel.campaign.campaigns import APPROVAL, approved, planned, record
from tests.cohort_flywheel.destinations.customer_profiles.profiles_domain import HEADER, Domain, address

#: A campaign's schedule is held against the machine's clock, so its runs are of today.
NOW = datetime.now(UTC)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)

SENDER = "Riftwars: Ascension <play@studio.email.connect.aws>"
TEMPLATE = {
    "subject.txt": "We miss you, {{FirstName|friend}}\n",
    "body.html": "<p>Dear {{FirstName|friend}} {{LastName|of ours}}, play {{FavoriteRole|anything}} again!</p>\n"
    '<a href="{{amazonSESUnsubscribeUrl}}">No more</a>\n',
    "body.txt": "Dear {{FirstName|friend}} {{LastName|of ours}}, play {{FavoriteRole|anything}} again!\n"
    "No more: {{amazonSESUnsubscribeUrl}}\n",
}
NO_MORE = "https://studio.example/no-more?a=1&b=2"


class Connect(Domain):
    """An instance without campaigns and templates; a campaign mails all its players at once."""

    def __init__(self, servers: Servers, config: Config, folder: Path) -> None:
        super().__init__(servers, config)
        self.servers, self.templates = servers, folder
        self.campaigns = seed.client("connectcampaignsv2", servers, config)
        self.qconnect = seed.client("qconnect", servers, config)
        self.ses = seed.client("sesv2", servers, config)
        self.instance = seed.client("connect", servers, config).create_instance(
            IdentityManagementType="CONNECT_MANAGED", InboundCallsEnabled=True, OutboundCallsEnabled=True
        )["Id"]
        seed.make_sender(servers, config)
        self.campaign_control(reset=True, campaign_seconds=0)
        self.template_control(reset=True)
        self.base = self._knowledge_base()
        self.write_template()
        self.do_not_contact()

    def _knowledge_base(self) -> str:
        for base in self.qconnect.list_knowledge_bases()["knowledgeBaseSummaries"]:
            return str(base["knowledgeBaseId"])
        made = self.qconnect.create_knowledge_base(name="templates", knowledgeBaseType="MESSAGE_TEMPLATES")
        return str(made["knowledgeBase"]["knowledgeBaseId"])

    def write_template(self, name: str = "at_risk", **files: str) -> None:
        folder = self.templates / name
        folder.mkdir(exist_ok=True)
        for file, text in (TEMPLATE | {key.replace("_", "."): text for key, text in files.items()}).items():
            (folder / file).write_text(text, encoding="utf-8")

    # --- the services

    def campaign_control(self, **settings: Any) -> Any:
        return self._control("connect-campaigns", settings)

    def template_control(self, **settings: Any) -> Any:
        return self._control("qconnect", settings)

    def _control(self, service: str, settings: dict[str, Any]) -> Any:
        body = json.dumps(settings).encode() if settings else None
        request = urllib.request.Request(f"{self.url}/cohort-flywheel/{service}", data=body)  # noqa: S310 - our own server
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            return json.load(answer)

    @property
    def made(self) -> list[dict[str, Any]]:
        """Every campaign, with its e-mails."""
        return list(self.campaign_control()["campaigns"])

    @property
    def states(self) -> list[str]:
        return [campaign["state"] for campaign in self.made]

    @property
    def mailed(self) -> list[str]:
        """Who was mailed, by key, as often as it happened."""
        return sorted(mail["AccountNumber"] for campaign in self.made for mail in campaign["mails"])

    @property
    def message_templates(self) -> list[dict[str, Any]]:
        return list(self.template_control()["knowledge_bases"][0]["templates"])

    # --- a run

    def contacts(self, *players: str, **changes: Any) -> None:
        """Records as the segment files of `segment` have them; a value of "" removes the attribute."""
        defaults = {"firstName": "Jo, Jr.", "lastName": 'O"Neil', "marketing": "yes"}
        records = [{"playerId": player, "email": address(player)} | defaults | changes for player in players]
        seed.load_contacts(
            self.servers, self.config, [{name: text for name, text in each.items() if text} for each in records]
        )

    def forget(self, player: str) -> None:
        seed.client("dynamodb", self.servers, self.config).delete_item(
            TableName=self.config.contacts_table, Key={"playerId": {"S": player}}
        )

    def launch_plan(self, mode: str = "launch", **changes: Any) -> dict[str, Any]:
        campaign = {
            "mode": mode, "template": "at_risk", "from": SENDER, "not_again_days": 30,
            "test_addresses": ["qa@studio.example"], "approvers": ["ann"], "self_approval": False,
        }  # fmt: skip
        ours = {name: changes.pop(name) for name in list(changes) if name in campaign}
        name = changes.get("name", "ea_atrisk_2_today")
        return self.plan(name, TODAY) | {
            "campaign": campaign | ours, "source": "auto", "dry_run": False,
            "contacts_table": self.config.contacts_table, "do_not_contact_key": "do_not_contact.txt",
            "consent": {"attribute": "marketing", "opted_in": ["yes"], "opted_out": ["no"], "silence": "opted_out"},
        } | changes  # fmt: skip

    def segment(self, name: str, *parts: list[str], header: list[str] = HEADER) -> dict[str, Any]:
        """With the digest that a released segment file has: a launch reads what was approved, byte by byte."""
        made = super().segment(name, *parts, header=header)
        digests = "".join(f"{part['sha256']}\n" for part in made["parts"])
        return made | {"sha256": hashlib.sha256(digests.encode()).hexdigest()}

    def imported(self, plan: dict[str, Any], context: Any, *players: str) -> dict[str, Any]:
        """The segment file of a run whose segment was verified."""
        segment = self.segment(plan["name"], list(players))
        self.contacts(*players)
        self.run(segment, context, name=plan["name"], as_of=TODAY, threshold=plan["threshold"])
        return segment

    def prepare(self, plan: dict[str, Any], segment: dict[str, Any], context: Any) -> dict[str, Any]:
        arn = f"arn:aws:profile:us-east-1:123456789012:domains/{PROFILES_DOMAIN}/segment-definitions/ea_atrisk_2"
        return ConnectPrepareCampaignOperator(
            task_id="prepare_campaign", plan=planned(plan, self.templates), segment=segment, segment_id=arn,
            knowledge_base_id=self.base, unsubscribe_url=NO_MORE, templates=self.templates,
        ).execute(context)  # fmt: skip

    def launch(
        self, plan: dict[str, Any], segment: dict[str, Any], prepared: dict[str, Any], context: Any, **changes: Any
    ) -> dict[str, Any]:
        """Run the launch; ann has approved by default."""
        answer = changes.pop("answer", approved(prepared))
        record(self.s3, self.config.state_bucket, plan["name"], prepared, answer)
        arguments: dict[str, Any] = {"approval": APPROVAL, "clock": lambda: NOW} | changes
        return ConnectLaunchCampaignOperator(
            task_id="launch_campaign", plan=plan, segment=segment, prepared=prepared, domain=PROFILES_DOMAIN,
            instance_id=self.instance, **arguments,
        ).execute(context)  # fmt: skip

    def made_before(self, plan: dict[str, Any], prepared: dict[str, Any]) -> str:
        """The id of a campaign of this run that a try before has made, and not started."""
        campaigns = self._campaigns(plan, prepared)
        return campaigns.adopt(campaigns.find(), []) or campaigns.create([])

    def request(self, plan: dict[str, Any], prepared: dict[str, Any]) -> dict[str, Any]:
        """What a launch of this run sends to create its campaign."""
        return self._campaigns(plan, prepared)._request()

    def _campaigns(self, plan: dict[str, Any], prepared: dict[str, Any]) -> Campaigns:
        return Campaigns(
            ConnectCampaignsHook(),
            S3Hook(),
            Plan.model_validate(plan),
            self.instance,
            ConnectPreparedCampaign.model_validate(prepared),
            lambda: NOW,
        )

    def ledger(self, name: str = "ea_atrisk_2_today", template: str = "at_risk") -> list[str] | None:
        """The players in the send ledger of a launch, or None if it does not exist."""
        found = self.s3.list_objects_v2(Bucket=self.config.state_bucket, Prefix=f"sends/{template}/{name}.jsonl")
        if not found.get("Contents"):
            return None
        body = self.s3.get_object(Bucket=self.config.state_bucket, Key=found["Contents"][0]["Key"])["Body"].read()
        return sorted(map(str, body.decode().splitlines()[1:]))

    def do_not_contact(self, *entries: str) -> None:
        body = "".join(f"{entry}\n" for entry in entries).encode()
        self.s3.put_object(Bucket=self.config.state_bucket, Key="do_not_contact.txt", Body=body)


def keys_of(players: Iterable[str]) -> list[str]:
    """As `Connect.mailed` has them."""
    return sorted(map(player_key, players))


def later(days: float) -> Any:
    return lambda: NOW + timedelta(days=days)
