"""The operations of campaigns, version 2, as HTTP."""

from local.rest_json.responses import RestJsonResponse

from .control import control
from .models import FlywheelCampaignsBackend, backends


class ConnectCampaignsV2Response(RestJsonResponse):
    model = "connectcampaignsv2"
    invalid = ("ValidationException", 400)
    control = control

    @property
    def backend(self) -> FlywheelCampaignsBackend:
        return backends[self.current_account][self.region]

    def create_campaign(self) -> str:
        made = self.backend.create_campaign_v2(self.request)
        return self.answer(id=made.id, arn=made.arn, tags=made.request.get("tags"))

    def get_connect_instance_config(self) -> str:
        return self.answer(connectInstanceConfig=self.backend.instance_config(self.request["connectInstanceId"]))

    def describe_campaign(self) -> str:
        return self.answer(campaign=self.backend.campaign(self.request["id"]).document())

    def list_campaigns(self) -> str:
        """Oldest first [strict: the order is not documented]."""
        wanted = self.request.get("filters", {}).get("instanceIdFilter", {}).get("value")
        found = [
            campaign.summary()
            for campaign in self.backend.campaigns_v2.values()
            if wanted in (None, campaign.request["connectInstanceId"])
        ]
        page, token = self.page(found, "id", self.request.get("maxResults"), self.request.get("nextToken"))
        return self.answer(campaignSummaryList=page, nextToken=token)

    def start_campaign(self) -> str:
        self.backend.start(self.request["id"])
        return self.answer()

    def stop_campaign(self) -> str:
        self.backend.stop(self.request["id"])
        return self.answer()

    def get_campaign_state(self) -> str:
        """[shape GetCampaignStateResponse] the state, and no counts."""
        return self.answer(state=self.backend.campaign(self.request["id"]).state(control.now()))

    def delete_campaign(self) -> str:
        self.backend.delete(self.request["id"])
        return self.answer()
