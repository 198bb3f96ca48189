"""The state of campaigns, account by account and region by region, as an extension of moto's own backend."""

from datetime import UTC, datetime
from threading import Timer
from typing import Any, cast

from moto.connect.models import connect_backends
from moto.connectcampaigns.models import ConnectCampaignServiceBackend, connectcampaigns_backends
from moto.core.base_backend import BackendDict

from local.customer_profiles.control import control as profiles_control
from local.customer_profiles.models import backends as profiles_backends
from local.qconnect.control import control as templates_control
from local.qconnect.models import backends as templates_backends
from local.qconnect.templates import Snapshot
from local.rest_json.errors import ServiceError
from local.rest_json.naming import uuid_id
from local.sesv2.models import backends as ses_backends

from .campaigns import Campaign
from .control import control

# Members of [shape CreateCampaignRequest] that are not emulated; refused, so that no caller relies on them.
_NOT_EMULATED = (
    "connectCampaignFlowArn",
    "communicationTimeConfig",
    "communicationLimitsOverride",
    "entryLimitsConfig",
)


class ValidationError(ServiceError):
    def __init__(self, message: str) -> None:
        super().__init__("ValidationException", 400, message)


class QuotaError(ServiceError):
    def __init__(self, message: str) -> None:
        super().__init__("ServiceQuotaExceededException", 402, message)


class NotFoundError(ServiceError):
    def __init__(self, what: str) -> None:
        super().__init__("ResourceNotFoundException", 404, f"The {what} does not exist.")


class InvalidStateError(ServiceError):
    def __init__(self, state: str, message: str) -> None:
        super().__init__("InvalidCampaignStateException", 409, message, state=state)


class FlywheelCampaignsBackend(ConnectCampaignServiceBackend):
    """moto's campaigns and, apart from them, those of version 2. Call its methods under control.lock.

    Locks are taken in one order: that of campaigns, then another service's.
    """

    def __init__(self, region_name: str, account_id: str):
        super().__init__(region_name, account_id)
        self.campaigns_v2: dict[str, Campaign] = {}
        self._made = 0

    def reset(self) -> None:
        """Called by moto's reset on every backend."""
        with control.lock:
            super().reset()
            control.reset()

    def forget(self) -> None:
        self.campaigns_v2 = {}
        self._made = 0

    def create_campaign_v2(self, request: dict[str, Any]) -> Campaign:
        starts, ends = self._check(request)
        name = (request["name"], request["connectInstanceId"])
        known = [c for c in self.campaigns_v2.values() if (c.request["name"], c.request["connectInstanceId"]) == name]
        if known and control.settings.same_name == "same" and known[0].request == request:
            return known[0]
        if known and control.settings.same_name != "another":
            raise ServiceError("ConflictException", 409, "A campaign with this name already exists.")
        self._check_quotas(request["connectInstanceId"])
        self._made += 1
        new_id = uuid_id(self.account_id, self.region_name, "campaign", self._made)
        arn = f"arn:{self.partition}:connect-campaigns:{self.region_name}:{self.account_id}:campaign/{new_id}"
        made = Campaign(new_id, arn, request, starts, ends)
        self.campaigns_v2[new_id] = made
        return made

    def _check_quotas(self, instance_id: str, starting: bool = False) -> None:
        """[Connect guide: outbound campaigns service quotas] Ended campaigns count until they are deleted.

        [strict] Which call the quota of active campaigns refuses is not documented, and StartCampaign has no such
        error in its model: it refuses both to create and to start one more.
        """
        settings, now = control.settings, control.now()
        states = [each.state(now) for each in self.campaigns_v2.values() if each.of_instance(instance_id)]
        if not starting and len(states) >= settings.total_campaigns:
            raise QuotaError("The instance has reached its limit of campaigns.")
        if states.count("Running") >= settings.active_campaigns:
            raise QuotaError("The instance has reached its limit of active campaigns.")

    def instance_config(self, instance_id: str) -> dict[str, Any]:
        """[shape InstanceConfig] Enabling outbound campaigns is not emulated: they are enabled in every instance."""
        self._check_instance(instance_id)
        role = f"arn:{self.partition}:iam::{self.account_id}:role/aws-service-role/connect-campaigns.amazonaws.com/none"
        return {
            "connectInstanceId": instance_id, "serviceLinkedRoleArn": role, "encryptionConfig": {"enabled": False},
        }  # fmt: skip

    def campaign(self, campaign_id: str) -> Campaign:
        found = self.campaigns_v2.get(campaign_id)
        if found is None:
            raise NotFoundError("campaign")
        return found

    def start(self, campaign_id: str) -> None:
        campaign, now = self.campaign(campaign_id), control.now()
        state = campaign.state(now)
        if state != "Initialized":
            raise InvalidStateError(state, "Only a campaign that is Initialized can be started.")
        if now >= campaign.ends:
            raise ValidationError("The campaign's schedule has ended.")  # [strict]
        self._check_quotas(campaign.request["connectInstanceId"], starting=True)
        self._segment(campaign.request)  # both may have been deleted since [strict: refused again]
        self._template(campaign.request)
        campaign.started, campaign.seconds = now, control.settings.campaign_seconds
        campaign.doomed = control.take("fail_next_campaigns")
        campaign.fails_with = control.settings.failed_campaign_mails
        # [Connect guide: create campaigns] "Recipients for the campaign will be determined at the campaign's scheduled
        # start time using the chosen segment."
        if now >= campaign.starts:
            self._expand(campaign)
        else:
            timer = Timer(campaign.starts - now, self._expand, (campaign,))
            timer.daemon = True
            timer.start()

    def stop(self, campaign_id: str) -> None:
        campaign, now = self.campaign(campaign_id), control.now()
        state = campaign.state(now)
        if state != "Running":
            raise InvalidStateError(state, "Only a campaign that is Running can be stopped.")
        campaign.stopped = now

    def delete(self, campaign_id: str) -> None:
        # [Connect API reference: DeleteCampaign] "Only campaigns in Initialized, Failed, Completed, or Stopped states"
        if self.campaign(campaign_id).state(control.now()) == "Running":
            raise ValidationError("A campaign that is Running cannot be deleted.")
        del self.campaigns_v2[campaign_id]

    # --- the parts of a campaign

    def _check(self, request: dict[str, Any]) -> tuple[float, float]:
        """Return the schedule of a valid request."""
        if request.get("type", "MANAGED") != "MANAGED" or any(name in request for name in _NOT_EMULATED):
            raise ValidationError(f"Journeys and {', '.join(_NOT_EMULATED)} are not emulated.")
        for name in ("source", "channelSubtypeConfig", "schedule"):
            if name not in request:
                raise ValidationError(f"A managed campaign needs {name}.")  # [strict] the model demands a name only
        self._check_instance(request["connectInstanceId"])
        config = request["channelSubtypeConfig"]
        if set(config) != {"email"}:
            raise ValidationError("Only the channel subtype email is emulated.")
        if "agentless" not in config["email"]["outboundMode"]:
            raise ValidationError("An e-mail campaign's outboundMode must be agentless.")  # its only member
        if not self._is_verified(config["email"]["defaultOutboundConfig"]["connectSourceEmailAddress"]):
            raise ValidationError("The source address is not verified.")
        self._segment(request)
        self._template(request)
        return self._schedule(request["schedule"])

    def _check_instance(self, instance_id: str) -> None:
        if instance_id not in connect_backends[self.account_id][self.region_name].instances:
            raise NotFoundError("Connect instance")

    def _schedule(self, schedule: dict[str, Any]) -> tuple[float, float]:
        if "refreshFrequency" in schedule:
            raise ValidationError("refreshFrequency is not emulated: it would mail players who join the segment later.")
        starts, ends = _instant(schedule["startTime"]), _instant(schedule["endTime"])
        if not starts < ends or ends <= control.now():
            raise ValidationError("endTime must be after startTime and in the future.")  # [strict]
        return starts, ends

    def _segment(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The domain's name and the groups of the source's segment."""
        if "customerProfilesSegmentArn" not in request["source"]:
            raise ValidationError("The source must be a segment; event triggers are not emulated.")
        with profiles_control.lock:
            found = profiles_backends[self.account_id][self.region_name].by_arn(
                request["source"]["customerProfilesSegmentArn"]
            )
        if found is None:
            raise NotFoundError("segment")
        return found[0], found[1].groups

    def _template(self, request: dict[str, Any]) -> Snapshot:
        """[Connect guide: create campaigns] "Select the Template Alias or Version number to use with the campaign." """
        arn = request["channelSubtypeConfig"]["email"]["defaultOutboundConfig"]["wisdomTemplateArn"]
        with templates_control.lock:
            found = templates_backends[self.account_id][self.region_name].by_arn(arn)
        if found is None:
            raise NotFoundError("message template or version")
        template, qualifier = found
        if not qualifier or template.version_number(qualifier) is None:
            raise ValidationError("wisdomTemplateArn must name a version: $LATEST can change.")  # [strict]
        return template.snapshot(qualifier)

    def _is_verified(self, address: str) -> bool:
        """[Connect guide: create campaigns] "one already added to your Amazon Connect Instance", which takes a domain
        that Amazon SES has verified, or the instance's own under email.connect.aws."""
        of_connect = address.lower().endswith(".email.connect.aws")
        return of_connect or ses_backends[self.account_id][self.region_name].is_verified(address)

    def _expand(self, campaign: Campaign) -> None:
        with control.lock:
            if campaign.stopped is not None or campaign.id not in self.campaigns_v2:
                return
            try:
                (domain, groups), template = self._segment(campaign.request), self._template(campaign.request)
            except ServiceError:
                campaign.doomed, campaign.expanded = True, control.now()
                return
            with profiles_control.lock:
                members = list(profiles_backends[self.account_id][self.region_name].members(domain, groups))
                campaign.expand(members, template, control.now())


def _instant(value: Any) -> float:
    """[shape TimeStamp] "Timestamp with no UTC offset or timezone", in ISO 8601; epoch seconds."""
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValidationError("A time must be in ISO 8601.") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


# moto's backends, one per account and region, created on demand; install() makes them instances of this class.
backends = cast(BackendDict[FlywheelCampaignsBackend], connectcampaigns_backends)


def install() -> None:
    """Replace moto's backend by this one."""
    backends.backend = FlywheelCampaignsBackend


def forget() -> None:
    for regions in backends.values():
        for backend in regions.values():
            backend.forget()


def state() -> dict[str, Any]:
    """The whole state of the service, for assertions of tests: campaigns with their e-mails."""
    now = control.now()
    return {
        "campaigns": [
            campaign.document()
            | {"state": campaign.state(now), "mails": campaign.sent(now), "dropped": campaign.dropped}
            for regions in backends.values()
            for backend in regions.values()
            for campaign in backend.campaigns_v2.values()
        ]
    }
