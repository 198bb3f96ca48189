"""Settings of campaigns that a test may change while the server runs."""

from dataclasses import dataclass
from typing import ClassVar

from local.rest_json.control import Control, Settings


@dataclass
class CampaignSettings(Settings):
    choices: ClassVar[dict[str, tuple[str, ...]]] = Settings.choices | {
        "same_name": ("another", "same", "conflict"),
        "failed_campaign_mails": ("half", "none"),
        "campaign_dimension": ("arn", "id"),
    }

    campaign_seconds: float = 2.0
    # [shape CreateCampaign] "This API is idempotent", while [shape CreateCampaignRequest] has no token: how two
    # requests are held to be one is not documented. [strict] They are two, and both campaigns can be started.
    same_name: str = "another"
    failed_campaign_mails: str = "half"
    # Of an answer of GetMetricDataV2 (local/connect).
    campaign_dimension: str = "arn"
    fail_next_campaigns: int = 0
    # [Connect guide: outbound campaigns service quotas] "Total campaigns per instance" and "Active campaigns per
    # instance"; an account may have others.
    total_campaigns: int = 500
    active_campaigns: int = 50


control = Control(CampaignSettings)
