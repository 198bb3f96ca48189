"""Wait for an outbound campaign of Amazon Connect in the triggerer."""

from __future__ import annotations

from typing import Any, ClassVar

from cohort_flywheel.common.waiting.triggers import WaitingTrigger
from cohort_flywheel.destinations.customer_profiles.campaign.hook import ConnectCampaignsHook


class ConnectCampaignTrigger(WaitingTrigger):
    """Fires when a campaign has ended, successfully or not; see WaitingTrigger.

    :param campaign_id: the campaign.
    :param waiter_delay: the seconds between two requests.
    :param waiter_max_attempts: the maximum number of requests.
    """

    hook_class = ConnectCampaignsHook
    label = "campaign"
    waiter = "campaign_complete"
    status_query = "state"
    arguments: ClassVar = {"campaign_id": "id"}

    def __init__(self, *, waiter_delay: int = 60, waiter_max_attempts: int = 1560, **kwargs: Any) -> None:
        super().__init__(waiter_delay=waiter_delay, waiter_max_attempts=waiter_max_attempts, **kwargs)
