"""Outbound campaigns of Amazon Connect (connectcampaignsv2)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from botocore.config import Config

from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.hooks.shared_session import SharedSessionHook

#: The largest page that the model allows.
CAMPAIGNS_PER_PAGE = 50

#: The state of a campaign that was never started [model: CampaignState].
INITIALIZED = "Initialized"
#: The states of a campaign that mails no more players, and None for one that is gone.
ENDED = ("Completed", "Stopped", "Failed", None)


class ConnectCampaignsHook(SharedSessionHook):
    """Thin wrapper around boto3's `connectcampaignsv2` client, with this package's waiters.

    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["client_type"] = "connectcampaignsv2"
        super().__init__(*args, **kwargs)

    @cached_property
    def waiter_path(self) -> Path:  # the provider looks only beside its own hooks
        return Path(__file__).with_name("waiters.json")

    @cached_property
    def _patient(self) -> Any:
        return self.get_client_type(config=Config(retries={"mode": "standard", "total_max_attempts": 5}))

    @cached_property
    def _once(self) -> Any:
        # requests that create or start have no client token, so the SDK must not retry them
        return self.get_client_type(config=Config(retries={"total_max_attempts": 1}))

    def check_instance(self, instance_id: str) -> None:
        """Raise ClientError (ResourceNotFoundException) unless the instance exists and has outbound campaigns."""
        self._patient.get_connect_instance_config(connectInstanceId=instance_id)

    def campaigns(self, instance_id: str | None = None) -> Iterator[AwsStructure]:
        """The campaigns of a Connect instance, or of all instances of the account and region (CampaignSummary)."""
        of_instance = {"filters": {"instanceIdFilter": {"value": instance_id, "operator": "Eq"}}} if instance_id else {}
        pages = self._patient.get_paginator("list_campaigns")
        for page in pages.paginate(**of_instance, PaginationConfig={"PageSize": CAMPAIGNS_PER_PAGE}):
            yield from page.get("campaignSummaryList", ())

    def campaign(self, campaign_id: str) -> AwsStructure | None:
        """Return a campaign, or None if it is gone: a listing may still have it."""
        try:
            return dict(self._patient.describe_campaign(id=campaign_id)["campaign"])
        except self._patient.exceptions.ResourceNotFoundException:
            return None

    def create_campaign(self, request: AwsStructure) -> str:
        """Send CreateCampaign exactly once; returns the id."""
        return str(self._once.create_campaign(**request)["id"])

    def start_campaign(self, campaign_id: str) -> None:
        """Send StartCampaign exactly once: a second request for a started campaign is refused."""
        self._once.start_campaign(id=campaign_id)

    def delete_campaign(self, campaign_id: str) -> None:
        """Delete a campaign that is not Running or Paused; a missing campaign is not an error."""
        try:
            self._patient.delete_campaign(id=campaign_id)
        except self._patient.exceptions.ResourceNotFoundException:
            return

    def state(self, campaign_id: str) -> str | None:
        """Return the state of a campaign, or None if it is gone."""
        try:
            return str(self._patient.get_campaign_state(id=campaign_id)["state"])
        except self._patient.exceptions.ResourceNotFoundException:
            return None
