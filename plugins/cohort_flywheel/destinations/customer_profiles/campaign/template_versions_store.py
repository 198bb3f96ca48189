"""The versions of a message template: a new one for each content; unused ones are deleted at the quota.

A message template has at most 20 versions, a fixed quota [Connect administrator guide: agent assist service quotas].
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from botocore.exceptions import ClientError

from cohort_flywheel.common.failures import RetryableError
from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.destinations.customer_profiles.campaign.hook import ENDED, ConnectCampaignsHook
from cohort_flywheel.destinations.customer_profiles.campaign.qconnect_hook import QConnectHook
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, get_json, put_json
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.schedule import Clock, planned_schedule

_WRITES = 5

#: By the name of a run: its `as_of`, and the `version` that its launch was prepared with.
type PreparedVersions = dict[str, dict[str, str]]


def prepared_key(template: str) -> str:
    """The key of the record of versions that launches of the newest as-of were prepared with."""
    return f"launches/message_templates/{template}.json"


class TemplateVersions:
    """The versions of one message template.

    :param hook: the hook of the knowledge base.
    :param campaigns: the hook of the campaigns, which refer to versions.
    :param s3: the hook of the state bucket.
    :param plan: the output of CohortPlanOperator.
    :param knowledge_base_id: the knowledge base.
    :param clock: gives the time, with its zone.
    """

    def __init__(
        self,
        hook: QConnectHook,
        campaigns: ConnectCampaignsHook,
        s3: S3Hook,
        plan: Plan,
        knowledge_base_id: str,
        clock: Clock,
    ) -> None:
        self._hook = hook
        self._campaigns = campaigns
        self._s3 = s3
        self._plan = plan
        self._base = knowledge_base_id
        self._clock = clock

    def create(self, latest: AwsStructure, side_effects: list[str]) -> AwsStructure:
        """Create the version of a template's draft (ExtendedMessageTemplateData).

        At the quota of versions, the oldest unused one is deleted first.
        """
        template_id, sha256, name = latest["messageTemplateId"], latest["messageTemplateContentSha256"], latest["name"]
        if version := self._create(template_id, sha256):
            return version
        for number in self._unused(template_id):
            self._hook.delete_version(self._base, template_id, number)
            side_effects.append(f"version {number} of message template {name}, which is not used, was deleted")
            if version := self._create(template_id, sha256):
                return version
        raise FlywheelError(
            f"message template {name} has as many versions as Amazon Q in Connect allows, and each is active, or a"
            " campaign that has not ended or a launch that waits for an approval uses it: end or delete such campaigns"
            " (Amazon Connect, Outbound campaigns), or give the mail another name (`template` in the registry)",
            code=Code.QUOTA,
        )

    def _create(self, template_id: str, sha256: str) -> AwsStructure | None:
        """Create the version; return None if the template has too many."""
        try:
            return self._hook.create_version(self._base, template_id, sha256)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ServiceQuotaExceededException":
                raise
            return None

    def _unused(self, template_id: str) -> Iterator[int]:
        """Yield the versions that may be deleted, oldest first: without the newest and those in use."""
        versions = sorted(self._hook.versions(self._base, template_id), key=lambda each: int(each["versionNumber"]))
        waiting = self._of_newest(self._prepared()[0]).values()
        used = {*self._of_campaigns(template_id), *(each["version"] for each in waiting)}
        for version in versions[:-1]:
            number = int(version["versionNumber"])
            if not version["isActive"] and f"{template_id}:{number}" not in used:
                yield number

    def _of_campaigns(self, template_id: str) -> Iterator[str]:
        """Yield the versions that the campaigns of the account use, without ended campaigns."""
        for summary in list(self._campaigns.campaigns()):
            campaign = self._campaigns.campaign(summary["id"]) or {}
            named = {version_of(each) for each in _template_arns(campaign)}
            of_ours = {version for version in named if version.startswith(f"{template_id}:")}
            if of_ours and self._campaigns.state(summary["id"]) not in ENDED:
                yield from of_ours

    def record_prepared(self, arn: str) -> None:
        """Record that this run's launch was prepared with a version, while its as-of is the newest."""
        plan, bucket, key = self._plan, self._plan.state_bucket, prepared_key(self._plan.require_campaign().template)
        for _ in range(_WRITES):
            found, condition = self._prepared()
            kept = self._of_newest(found) | {plan.name: {"as_of": plan.as_of.isoformat(), "version": version_of(arn)}}
            if kept == found or put_json(self._s3, bucket, key, kept, **condition):
                return
        raise RetryableError(
            f"other runs are changing s3://{bucket}/{key}: a later attempt records the version", code=Code.BUSY
        )

    def _prepared(self) -> tuple[PreparedVersions, dict[str, str]]:
        """Return the versions of prepared launches by run name, and the condition of the next write."""
        found = get_json(self._s3, self._plan.state_bucket, prepared_key(self._plan.require_campaign().template))
        return (found[0], {"IfMatch": found[1]}) if found else ({}, {"IfNoneMatch": "*"})

    def _of_newest(self, prepared: PreparedVersions) -> PreparedVersions:
        """Return the versions of launches that can still happen: not those of an older as-of."""
        newest = planned_schedule(self._plan).last(self._clock())
        return {name: each for name, each in prepared.items() if datetime.fromisoformat(each["as_of"]) >= newest}


def version_of(arn: str) -> str:
    """The id and the version that the ARN of a message template ends with: `<id>:3`."""
    return arn.rpartition("/")[2]


def _template_arns(campaign: AwsStructure) -> Iterator[str]:
    for channel in campaign.get("channelSubtypeConfig", {}).values():
        if arn := channel.get("defaultOutboundConfig", {}).get("wisdomTemplateArn"):
            yield arn
