"""The dangerous faults of an upload and of a launch by Connect; and that the harness finds out what is there twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.sites import cases, dangerous

if TYPE_CHECKING:
    from tests.faults.harness import World

DESTINATION = "customer_profiles"


def test_a_launch_survives_the_dangerous_faults(world: World, survive: Any) -> None:
    chosen = dangerous(cases(world.sites), world.at.DANGEROUS)
    survive(chosen, "only the dangerous ones: make faults tries all")


def test_a_create_without_a_lookup_is_detected(survived: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from cohort_flywheel.destinations.customer_profiles.campaign.hook import ConnectCampaignsHook

    monkeypatch.setattr(ConnectCampaignsHook, "campaigns", lambda self, instance_id=None: iter(()))
    wrong = survived("launch_campaign: connectcampaignsv2 CreateCampaign #1 × answer lost, time-out")
    assert any("campaigns [" in sentence for sentence in wrong), wrong


def test_a_campaign_without_a_send_ledger_is_detected(survived: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from cohort_flywheel.destinations.customer_profiles.campaign.operators import ConnectLaunchCampaignOperator

    monkeypatch.setattr(ConnectLaunchCampaignOperator, "_put_ledger", lambda *_: None)
    wrong = survived("launch_campaign: connectcampaignsv2 StartCampaign #1 × killed after")
    assert any("the send ledger lacks a mailed player" in sentence for sentence in wrong), wrong
