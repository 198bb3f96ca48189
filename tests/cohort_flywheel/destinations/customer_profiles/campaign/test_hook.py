"""The pages of campaigns and of templates are read to their end, and what has no client token is sent once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, HTTPClientError

from cohort_flywheel.destinations.customer_profiles.campaign.hook import ConnectCampaignsHook
from cohort_flywheel.destinations.customer_profiles.campaign.qconnect_hook import QConnectHook
from tests.cohort_flywheel.destinations.customer_profiles.connect_account import Connect

CONTENT = {"email": {"subject": "Hi", "body": {"plainText": {"content": "Hi {{Attributes.Customer.FirstName}}"}}}}


@pytest.fixture
def connect(airflow_env: Any, servers: Any, fresh_config: Any, tmp_path: Path) -> Any:
    made = Connect(servers, fresh_config, tmp_path)
    yield made
    made.control(reset=True)
    made.campaign_control(reset=True)
    made.template_control(reset=True)


def test_page_sizes_are_within_the_limits_of_the_service(connect: Connect) -> None:
    """A greater page is refused, and these are the greatest."""
    assert list(ConnectCampaignsHook().campaigns(connect.instance)) == []
    assert list(QConnectHook().templates(connect.base)) == []


def test_every_page_of_templates_is_read(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cohort_flywheel.destinations.customer_profiles.campaign.qconnect_hook.TEMPLATES_PER_PAGE", 2)
    hook, names = QConnectHook(), [f"t{number}" for number in range(5)]
    for name in names:
        hook.create_template(connect.base, name, {"content": CONTENT})
    assert [template["name"] for template in hook.templates(connect.base)] == names
    assert connect.template_control()["calls"]["ListMessageTemplates"] == 3


def test_a_template_is_created_once_though_its_answer_is_lost(connect: Connect) -> None:
    """boto3's own client token: the SDK's second try gets the answer of the first."""
    connect.template_control(lose_next_answers=1, lose_operations=["CreateMessageTemplate"])
    made = QConnectHook().create_template(connect.base, "one", {"content": CONTENT})
    assert [each["id"] for each in connect.message_templates] == [made["messageTemplateId"]]
    assert connect.template_control()["calls"]["CreateMessageTemplate"] == 2


def test_placeholders_without_a_value_are_reported(connect: Connect) -> None:
    hook = QConnectHook()
    made = hook.create_template(connect.base, "one", {"content": CONTENT})["messageTemplateId"]
    parts, left = hook.render(connect.base, made, {})
    assert (parts["plainText"], left) == (
        "Hi {{Attributes.Customer.FirstName}}", ["Attributes.Customer.FirstName"],
    )  # fmt: skip
    parts, left = hook.render(connect.base, made, {"customerProfileAttributes": {"firstName": "Sam"}})
    assert (parts, left) == ({"subject": "Hi", "plainText": "Hi Sam"}, [])


@pytest.mark.parametrize("lose_by", ["drop", "error"])
def test_a_start_request_is_sent_once_even_if_its_answer_is_lost(connect: Connect, context: Any, lose_by: str) -> None:
    plan, run = connect.launch_plan("draft"), context()
    segment = connect.imported(plan, run, "ann")
    campaign_id, hook = connect.made_before(plan, connect.prepare(plan, segment, run)), ConnectCampaignsHook()
    assert hook.state(campaign_id) == "Initialized"
    connect.campaign_control(lose_next_answers=1, lose_operations=["StartCampaign"], lose_by=lose_by)
    with pytest.raises((ClientError, HTTPClientError)):
        hook.start_campaign(campaign_id)
    assert connect.campaign_control()["calls"]["StartCampaign"] == 1
    assert hook.state(campaign_id) == "Completed"
    connect.campaigns.delete_campaign(id=campaign_id)
    assert hook.state(campaign_id) is None
