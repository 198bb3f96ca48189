"""The outbound campaign of a launch: found by its name or created, and deleted long after it has ended.

An instance has 500 campaigns by default, of which 50 may be active [Connect administrator guide: outbound campaigns
service quotas].
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from botocore.exceptions import ClientError

from cohort_flywheel.campaign.launch_store import launch_folder
from cohort_flywheel.campaign.send_ledger import LASTS, ledger_key
from cohort_flywheel.campaign.send_ledger_store import find_ledger
from cohort_flywheel.campaign.sender import sender_of
from cohort_flywheel.common.failures import RetryableError, unconfirmed
from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.destinations.customer_profiles.campaign.hook import INITIALIZED, ConnectCampaignsHook
from cohort_flywheel.destinations.customer_profiles.profiles_outputs import ConnectPreparedCampaign
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, get_json
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.schedule import Clock

log = logging.getLogger(__name__)

#: A campaign's schedule ends this long after the campaign was created. The sensor waits longer.
RUNS_FOR = LASTS
#: A campaign of an earlier attempt is started only while this much of its schedule is left.
_ENOUGH_LEFT = timedelta(hours=12)
#: A campaign is deleted this long after its schedule has ended.
KEPT_FOR = timedelta(days=30)
#: The same when Connect refuses another campaign. By then follow_campaign has ended.
KEPT_AT_QUOTA = timedelta(days=2)

#: The tag by which this package, and its IAM policy, know a campaign: the S3 address of the launch's send ledger.
TAG = "cohort_flywheel"


def launch_key(name: str) -> str:
    """The key of the record of a result's campaign; no lifecycle rule may delete it."""
    return f"{launch_folder(name)}launch.json"


class Campaigns:
    """The campaigns of a run's name, and the ended ones of earlier launches.

    :param hook: the hook of the campaigns.
    :param s3: the hook of the send ledgers and launch records.
    :param plan: the output of CohortPlanOperator.
    :param instance_id: the Connect instance.
    :param prepared: the output of ConnectPrepareCampaignOperator.
    :param clock: gives the time, with its zone.
    """

    def __init__(
        self,
        hook: ConnectCampaignsHook,
        s3: S3Hook,
        plan: Plan,
        instance_id: str,
        prepared: ConnectPreparedCampaign,
        clock: Clock,
    ) -> None:
        self._hook = hook
        self._s3 = s3
        self._plan = plan
        self._instance_id = instance_id
        self._prepared = prepared
        self._clock = clock

    # --- this launch's campaign

    def find(self) -> list[tuple[AwsStructure, str]]:
        """Return each campaign of the run's name with its state; after a lost answer there are several."""
        found = []
        for summary in self._hook.campaigns(self._instance_id):
            if summary["name"] == self._plan.name:
                campaign, state = self._hook.campaign(summary["id"]), self._hook.state(summary["id"])
                if campaign and state:
                    found.append((campaign, state))
        return found

    def adopt(self, found: list[tuple[AwsStructure, str]], side_effects: list[str]) -> str | None:
        """Return the campaign of an earlier attempt that equals this launch's request, or None.

        Other campaigns of earlier attempts are deleted: they were not started. Raises FlywheelError for a campaign of
        this name that a user has created.
        """
        adopted = None
        for campaign, _ in found:
            campaign_id = campaign["id"]
            wrong = self._difference(campaign)
            if not wrong:
                adopted = adopted or campaign_id
            elif self._is_ours(campaign):
                self._hook.delete_campaign(campaign_id)
                side_effects.append(f"campaign {campaign_id}, which was never started, was deleted: {wrong}")
            else:
                raise FlywheelError(
                    f"campaign {campaign_id}, named {self._plan.name}, was not created by a launch, and {wrong}:"
                    f" delete it (aws connectcampaignsv2 delete-campaign --id {campaign_id}), then clear this task",
                    code=Code.NOT_OURS,
                )
        if adopted:
            side_effects.append(f"campaign {adopted}, named {self._plan.name}, was there")
        return adopted

    def delete_unstarted(self, side_effects: list[str]) -> bool:
        """Delete the campaigns that earlier attempts of a refused launch created: a user of Connect could start them.

        Returns whether a user has started one of them.
        """
        started = False
        for campaign, state in self.find():
            if not self._is_ours(campaign):
                continue
            if state == INITIALIZED:
                self._hook.delete_campaign(campaign["id"])
                side_effects.append(f"campaign {campaign['id']}, which was never started, was deleted")
            else:
                side_effects.append(f"campaign {campaign['id']} is {state}: a user of Connect has started it")
                started = True
        return started

    def create(self, side_effects: list[str]) -> str:
        """Create the campaign without starting it; return its id.

        At the quota of the instance, ended campaigns of this package are deleted first.
        """
        try:
            return self._create(side_effects)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ServiceQuotaExceededException":
                raise
        if self.delete_ended(KEPT_AT_QUOTA, side_effects):
            try:
                return self._create(side_effects)
            except ClientError as error:
                if error.response["Error"]["Code"] != "ServiceQuotaExceededException":
                    raise
        raise RetryableError(
            f"Amazon Connect instance {self._instance_id} has as many campaigns as its quota allows"
            " (ServiceQuotaExceededException): delete campaigns that have ended in its console (Outbound campaigns), or"
            " ask AWS for a higher quota (Total campaigns per instance, Active campaigns per instance). No player"
            " counts as mailed by this launch, and a later attempt continues",
            code=Code.QUOTA,
        )

    def _create(self, side_effects: list[str]) -> str:
        name = self._plan.name
        try:
            with unconfirmed(side_effects, f"a campaign named {name} may have been created"):
                campaign_id = self._hook.create_campaign(self._request())
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationException":
                raise
            raise FlywheelError(
                "Amazon Connect refuses the campaign (ValidationException): check that outbound campaigns are enabled"
                f" in instance {self._instance_id}, with its Customer Profiles domain and the knowledge base of message"
                " templates, and that the sender was added to it (Channels, Email addresses)",
                code=Code.SENDING_REFUSED,
            ) from None
        side_effects[-1] = f"campaign {campaign_id}, named {name}, was created and not started"
        return campaign_id

    def check_time_left(self, campaign_id: str, advice: str) -> None:
        """Raise FlywheelError if the schedule of a recorded campaign leaves too little time to mail."""
        campaign = self._hook.campaign(campaign_id)
        if campaign and not self._has_time(campaign):
            raise FlywheelError(
                f"the schedule of campaign {campaign_id}, which was not started, ends too soon, at {_end(campaign)}:"
                f" {advice}",
                code=Code.OUTDATED,
            )

    def _has_time(self, campaign: AwsStructure) -> bool:
        end = _end(campaign)
        return end is not None and end >= self._clock() + _ENOUGH_LEFT

    def _difference(self, campaign: AwsStructure) -> str:
        """Describe how an unstarted campaign differs from this launch's request; empty if it does not."""
        wanted = self._request()
        found = campaign.get("channelSubtypeConfig", {}).get("email", {}).get("defaultOutboundConfig")
        ours = wanted["channelSubtypeConfig"]["email"]["defaultOutboundConfig"]
        repeats = campaign.get("schedule", {}).get("refreshFrequency")
        if campaign.get("source") != wanted["source"] or found != ours or repeats:
            return "it has another segment, sender, template or refresh frequency"
        return "" if self._has_time(campaign) else f"its schedule ends too soon, at {_end(campaign)}"

    def _request(self) -> AwsStructure:
        """Return the request of CreateCampaign, without holdout and refresh: the segment file decides who is mailed."""
        name, address = sender_of(self._plan.require_campaign().sender)
        email = {"connectSourceEmailAddress": address, "wisdomTemplateArn": self._prepared.template_arn}
        starts = self._clock().astimezone(UTC).replace(microsecond=0)
        segment_arn = self._prepared.segment_id
        _, partition, _, region, account, _ = segment_arn.split(":", 5)
        bucket, ledger = self._plan.state_bucket, ledger_key(self._prepared.template, self._plan.name)
        return {
            "name": self._plan.name,
            "connectInstanceId": self._instance_id,
            "source": {"customerProfilesSegmentArn": segment_arn},
            "channelSubtypeConfig": {
                "email": {
                    "outboundMode": {"agentless": {}},
                    "defaultOutboundConfig": email | ({"sourceEmailAddressDisplayName": name} if name else {}),
                }
            },
            "schedule": {"startTime": starts, "endTime": starts + RUNS_FOR},
            "tags": {
                # without it Connect's console does not show the campaign [Connect API reference: CreateCampaign]
                "owner": f"arn:{partition}:connect:{region}:{account}:instance/{self._instance_id}",
                TAG: f"s3://{bucket}/{ledger}",
            },
        }

    # --- campaigns of earlier launches

    def delete_ended(self, kept_for: timedelta, side_effects: list[str]) -> int:
        """Delete campaigns of this package whose schedule ended more than `kept_for` ago; return their number.

        Deletes Completed campaigns, and unstarted ones that no launch has recorded. A Stopped or Failed one is kept,
        because only Connect knows which players it mailed. If Connect refuses a deletion, the campaign is kept.
        """
        before, deleted = self._clock() - kept_for, 0
        for summary in list(self._hook.campaigns(self._instance_id)):
            end = _end(summary)
            if end is None or end >= before:
                continue
            try:
                campaign = self._hook.campaign(summary["id"])
                if campaign and self._is_ours(campaign) and self._is_over(campaign):
                    self._hook.delete_campaign(summary["id"])
                    deleted += 1
            except ClientError as error:
                code = error.response["Error"]["Code"]
                log.warning("campaign %s is kept: AWS answered %s with %s", summary["id"], error.operation_name, code)
            except FlywheelError as error:  # the send ledger of its launch cannot be read
                log.warning("campaign %s is kept: %s", summary["id"], error)
        if deleted:
            side_effects.append(f"{deleted:,} campaigns that ended more than {kept_for.days} days ago were deleted")
        return deleted

    def _is_ours(self, campaign: AwsStructure) -> bool:
        """Whether a launch with this state bucket has created the campaign."""
        address = campaign.get("tags", {}).get(TAG, "")
        return bool(address == f"s3://{self._plan.state_bucket}/{ledger_key(_template(address), campaign['name'])}")

    def _is_over(self, campaign: AwsStructure) -> bool:
        state = self._hook.state(campaign["id"])
        if state != INITIALIZED:
            return state == "Completed"
        bucket, name = self._plan.state_bucket, campaign["name"]
        if record := get_json(self._s3, bucket, launch_key(name)):
            return bool(record[0].get("campaign_id") != campaign["id"])
        return find_ledger(self._s3, bucket, _template(campaign["tags"][TAG]), name) is None


def _template(address: str) -> str:
    """The template of a send ledger's S3 address: its folder."""
    return address.rpartition("/")[0].rpartition("/")[2]


def _end(campaign: AwsStructure) -> datetime | None:
    """When the schedule of a campaign ends; None for one without."""
    end: datetime | None = campaign.get("schedule", {}).get("endTime")
    return end.replace(tzinfo=UTC) if end and not end.tzinfo else end
