"""Campaigns: creation, start, status and stop; their recipients and e-mails; and rejected requests."""

import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.local.connect_service import DOMAIN, HEADER, Service, code_and_members, people
from tests.local.pinpoint_service import code_of, process

BAD = ("ValidationException", 400)
QUOTA = ("ServiceQuotaExceededException", 402)
MISSING = ("ResourceNotFoundException", 404)
NOBODY = "00000000-0000-0000-0000-000000000000"
SENDER = "news@studio.email.connect.aws"
STATUS = "{{Attributes.Customer.Attributes.ea_atrisk}} {{Attributes.Customer.City}}"
HTML = f"<p>{{{{Attributes.Customer.FirstName}}}} is {STATUS}</p>"
CONTENT = {"email": {"subject": "For {{Attributes.Customer.FirstName}}", "body": {"html": {"content": HTML}}}}


class Campaigns(Service):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        made = self.client("connect").create_instance(
            IdentityManagementType="CONNECT_MANAGED", InboundCallsEnabled=True, OutboundCallsEnabled=True
        )
        self.instance = made["Id"]
        base = self.templates.create_knowledge_base(name="templates", knowledgeBaseType="MESSAGE_TEMPLATES")
        self.base = base["knowledgeBase"]["knowledgeBaseId"]

    def reset(self) -> None:
        super().reset()
        self.control("connect-campaigns", reset=True, campaign_seconds=0)
        self.control("qconnect", reset=True)
        self.segment = self.define("ea_atrisk_2")
        self.template = self.make_template("hello")

    def make_template(self, name: str) -> str:
        """The ARN of a template's first version."""
        place = {"knowledgeBaseId": self.base}
        made = self.templates.create_message_template(**place, name=name, channelSubtype="EMAIL", content=CONTENT)
        place["messageTemplateId"] = made["messageTemplate"]["messageTemplateId"]
        version = self.templates.create_message_template_version(**place)
        return str(version["messageTemplate"]["messageTemplateArn"])

    def request(self, **changes: Any) -> dict[str, Any]:
        now = datetime.now(UTC)
        sender = {"connectSourceEmailAddress": SENDER, "wisdomTemplateArn": self.template}
        request = {
            "name": "ea_atrisk-2026-11-23",
            "connectInstanceId": self.instance,
            "channelSubtypeConfig": {"email": {"outboundMode": {"agentless": {}}, "defaultOutboundConfig": sender}},
            "source": {"customerProfilesSegmentArn": self.segment},
            "schedule": {"startTime": now - timedelta(minutes=1), "endTime": now + timedelta(days=1)},
        } | changes
        return {name: value for name, value in request.items() if value is not None}

    def sending(self, **changes: Any) -> dict[str, Any]:
        """A channelSubtypeConfig whose defaultOutboundConfig is changed."""
        sender = {"connectSourceEmailAddress": SENDER, "wisdomTemplateArn": self.template} | changes
        sender = {name: value for name, value in sender.items() if value is not None}
        return {"email": {"outboundMode": {"agentless": {}}, "defaultOutboundConfig": sender}}

    def campaign(self, **changes: Any) -> str:
        return str(self.campaigns.create_campaign(**self.request(**changes))["id"])

    def launch(self, **changes: Any) -> str:
        campaign_id = self.campaign(**changes)
        self.campaigns.start_campaign(id=campaign_id)
        return campaign_id

    def state(self, campaign_id: str) -> str:
        return str(self.campaigns.get_campaign_state(id=campaign_id)["state"])

    def wait(self, campaign_id: str, wanted: str) -> None:
        deadline = time.monotonic() + 60
        while self.state(campaign_id) != wanted:
            assert time.monotonic() < deadline, f"The campaign is not {wanted} within 60 seconds."
            time.sleep(0.02)

    def kept(self, campaign_id: str) -> dict[str, Any]:
        """A campaign as the control plane shows it, with its mails."""
        found = self.control("connect-campaigns")["campaigns"]
        return dict(next(campaign for campaign in found if campaign["id"] == campaign_id))

    def mailed(self, campaign_id: str) -> list[str]:
        return [mail["AccountNumber"] for mail in self.kept(campaign_id)["mails"]]


@pytest.fixture(scope="module")
def server() -> Iterator[Campaigns]:
    with process() as (_, url):
        yield Campaigns(url)


@pytest.fixture
def service(server: Campaigns) -> Campaigns:
    server.reset()
    return server


def refused(call: Callable[[], Any]) -> tuple[str, int]:
    with pytest.raises(ClientError) as error:
        call()
    return code_of(error)


# --- from the creation to the end


def test_a_campaign_mails_its_segment_as_it_is_when_it_starts(service: Campaigns) -> None:
    service.run(people("ann", "bob"))
    campaign_id = service.campaign()
    assert service.state(campaign_id) == "Initialized"
    assert service.mailed(campaign_id) == []
    service.run(people("bob", cohort="out"))
    service.run(people("cat"))
    service.campaigns.start_campaign(id=campaign_id)
    service.wait(campaign_id, "Completed")
    service.run(people("dan"))
    kept = service.kept(campaign_id)
    assert service.mailed(campaign_id) == ["ann", "cat"]
    mail = kept["mails"][0]
    assert (mail["Address"], mail["From"]) == ("ann@example.com", SENDER)
    assert mail["TemplateArn"] == service.template
    assert (mail["subject"], mail["html"]) == ("For Ann", "<p>Ann is in {{Attributes.Customer.City}}</p>")
    assert mail["Missing"] == ["Attributes.Customer.City"]


def test_an_instance_says_how_its_campaigns_are_set_up_and_another_is_not_there(service: Campaigns) -> None:
    found = service.campaigns.get_connect_instance_config(connectInstanceId=service.instance)
    assert found["connectInstanceConfig"]["connectInstanceId"] == service.instance
    assert refused(lambda: service.campaigns.get_connect_instance_config(connectInstanceId=NOBODY)) == MISSING


def test_an_instance_has_so_many_campaigns_until_ended_ones_are_deleted(service: Campaigns) -> None:
    assert service.control("connect-campaigns")["settings"]["total_campaigns"] == 500
    service.control("connect-campaigns", total_campaigns=2)
    ended, _ = service.launch(name="one"), service.campaign(name="two")
    assert service.state(ended) == "Completed"
    assert refused(lambda: service.campaign(name="three")) == QUOTA
    service.campaigns.delete_campaign(id=ended)
    service.campaign(name="three")


def test_so_many_campaigns_are_active(service: Campaigns) -> None:
    assert service.control("connect-campaigns")["settings"]["active_campaigns"] == 50
    service.control("connect-campaigns", active_campaigns=1, campaign_seconds=100)
    waiting = service.campaign(name="two")
    running = service.launch(name="one")
    assert refused(lambda: service.campaigns.start_campaign(id=waiting)) == QUOTA
    assert refused(lambda: service.campaign(name="three")) == QUOTA
    assert refused(lambda: service.campaigns.delete_campaign(id=running)) == BAD
    service.campaigns.stop_campaign(id=running)
    service.campaigns.start_campaign(id=waiting)


def test_the_state_follows_the_time_and_the_mails_with_it(service: Campaigns) -> None:
    service.run(people("ann", "bob", "cat", "dan"))
    service.control("connect-campaigns", campaign_seconds=100)
    campaign_id = service.launch()
    assert service.state(campaign_id) == "Running"
    service.control("connect-campaigns", clock_ahead_seconds=50)
    assert service.state(campaign_id) == "Running" and len(service.mailed(campaign_id)) == 3
    service.control("connect-campaigns", clock_ahead_seconds=101)
    assert service.state(campaign_id) == "Completed" and len(service.mailed(campaign_id)) == 4


def test_the_state_has_no_counts(service: Campaigns) -> None:
    answer = service.campaigns.get_campaign_state(id=service.launch())
    assert set(answer) - {"ResponseMetadata"} == {"state"}


def test_a_start_in_the_future_waits_for_its_time(service: Campaigns) -> None:
    service.run(people("ann"))
    now = datetime.now(UTC)
    times = {"startTime": now + timedelta(seconds=8), "endTime": now + timedelta(days=1)}
    campaign_id = service.launch(schedule=times)
    assert service.state(campaign_id) == "Running" and service.mailed(campaign_id) == []
    service.run(people("bob"))
    service.wait(campaign_id, "Completed")
    assert service.mailed(campaign_id) == ["ann", "bob"]


def test_a_campaign_is_started_once(service: Campaigns) -> None:
    service.run(people("ann"))
    service.control("connect-campaigns", campaign_seconds=600)
    campaign_id = service.launch()
    with pytest.raises(ClientError) as error:
        service.campaigns.start_campaign(id=campaign_id)
    assert code_and_members(error) == ("InvalidCampaignStateException", 409, {"state": "Running"})
    service.control("connect-campaigns", clock_ahead_seconds=601)
    with pytest.raises(ClientError) as error:
        service.campaigns.start_campaign(id=campaign_id)
    assert code_and_members(error) == ("InvalidCampaignStateException", 409, {"state": "Completed"})
    assert service.mailed(campaign_id) == ["ann"]


def test_a_stopped_campaign_has_mailed_some(service: Campaigns) -> None:
    service.run(people("ann", "bob", "cat", "dan"))
    service.control("connect-campaigns", campaign_seconds=100)
    campaign_id = service.campaign()
    assert refused(lambda: service.campaigns.stop_campaign(id=campaign_id)) == ("InvalidCampaignStateException", 409)
    service.campaigns.start_campaign(id=campaign_id)
    service.control("connect-campaigns", clock_ahead_seconds=30)
    service.campaigns.stop_campaign(id=campaign_id)
    service.control("connect-campaigns", clock_ahead_seconds=200)
    assert service.state(campaign_id) == "Stopped"
    assert service.mailed(campaign_id) == ["ann", "bob"]
    assert refused(lambda: service.campaigns.start_campaign(id=campaign_id)) == ("InvalidCampaignStateException", 409)


def test_a_campaign_for_an_empty_segment_completes_without_mails(service: Campaigns) -> None:
    campaign_id = service.launch()
    service.wait(campaign_id, "Completed")
    assert service.kept(campaign_id)["mails"] == []


def test_a_profile_without_a_good_address_is_dropped_and_one_address_twice_is_two_mails(service: Campaigns) -> None:
    for player, address in (
        ("ann", {"EmailAddress": "jane.doe@abc!com"}),
        ("bob", {}),
        ("cat", {"PersonalEmailAddress": "both@example.com"}),
        ("dan", {"EmailAddress": "both@example.com", "BusinessEmailAddress": "dan@example.com"}),
    ):
        held = {"Attributes": {"ea_atrisk": "in"}}
        service.profiles.create_profile(DomainName=DOMAIN, AccountNumber=player, **held, **address)
    kept = service.kept(service.launch())
    assert [mail["Address"] for mail in kept["mails"]] == ["both@example.com", "both@example.com"]
    assert kept["dropped"] == 2


def test_the_version_that_was_chosen_is_the_one_that_is_sent(service: Campaigns) -> None:
    service.run(people("ann"))
    campaign_id = service.campaign()
    template_id = service.template.split("/")[-1].split(":")[0]
    changed = {"email": {"subject": "Changed", "body": {"plainText": {"content": "Hi"}}}}
    service.templates.update_message_template(
        knowledgeBaseId=service.base, messageTemplateId=template_id, content=changed
    )
    service.campaigns.start_campaign(id=campaign_id)
    assert service.kept(campaign_id)["mails"][0]["subject"] == "For Ann"


def test_an_expired_profile_is_not_mailed(service: Campaigns) -> None:
    service.run(people("ann"), DataExpiry=1)
    service.run(people("bob"), DataExpiry=30)
    service.control(clock_ahead_seconds=2 * 86_400)
    assert service.mailed(service.launch()) == ["bob"]


def test_values_are_escaped_in_html_only(service: Campaigns) -> None:
    service.run(HEADER + "ann,ann@example.com,A&B,in\n")
    (mail,) = service.kept(service.launch())["mails"]
    assert (mail["subject"], mail["html"][:16]) == ("For A&B", "<p>A&amp;B is in")


# --- creating


def test_a_campaign_is_described_as_it_was_made(service: Campaigns) -> None:
    request = service.request(tags={"by": "us"})
    made = service.campaigns.create_campaign(**request)
    assert made["tags"] == {"by": "us"} and made["arn"].endswith(f":campaign/{made['id']}")
    found = service.campaigns.describe_campaign(id=made["id"])["campaign"]
    assert found["source"] == request["source"]
    assert found["channelSubtypeConfig"] == request["channelSubtypeConfig"]
    assert found["schedule"]["endTime"] == request["schedule"]["endTime"]


def test_a_second_campaign_of_one_name_is_another_unless_told_otherwise(service: Campaigns) -> None:
    request = service.request()
    first, second = (service.campaigns.create_campaign(**request)["id"] for _ in range(2))
    assert first != second
    service.control("connect-campaigns", same_name="same")
    assert service.campaigns.create_campaign(**request)["id"] == first
    other = request | {"source": {"customerProfilesSegmentArn": service.define("other")}}
    assert refused(lambda: service.campaigns.create_campaign(**other)) == ("ConflictException", 409)
    service.control("connect-campaigns", same_name="conflict")
    assert refused(lambda: service.campaigns.create_campaign(**request)) == ("ConflictException", 409)


def test_campaigns_are_listed_by_instance_a_page_at_a_time(service: Campaigns) -> None:
    made = [service.campaign(name=f"c{n}") for n in range(11)]
    wanted = {"filters": {"instanceIdFilter": {"value": service.instance, "operator": "Eq"}}}
    first = service.campaigns.list_campaigns(**wanted)
    second = service.campaigns.list_campaigns(**wanted, nextToken=first["nextToken"])
    found = first["campaignSummaryList"] + second["campaignSummaryList"]
    assert [campaign["id"] for campaign in found] == made and "nextToken" not in second
    assert (found[0]["name"], found[0]["channelSubtypes"]) == ("c0", ["EMAIL"])
    elsewhere = {"filters": {"instanceIdFilter": {"value": "other", "operator": "Eq"}}}
    assert service.campaigns.list_campaigns(**elsewhere)["campaignSummaryList"] == []
    assert len(service.campaigns.list_campaigns(maxResults=50)["campaignSummaryList"]) == 11
    assert refused(lambda: service.campaigns.list_campaigns(maxResults=51)) == BAD


def test_what_a_campaign_names_must_be_there(service: Campaigns) -> None:
    gone = service.segment.replace("ea_atrisk_2", "gone")
    assert refused(lambda: service.campaign(source={"customerProfilesSegmentArn": gone})) == MISSING
    template = service.template.removesuffix(":1")
    assert refused(lambda: service.campaign(channelSubtypeConfig=service.sending(wisdomTemplateArn=template))) == BAD
    latest = service.sending(wisdomTemplateArn=f"{template}:$LATEST")
    assert refused(lambda: service.campaign(channelSubtypeConfig=latest)) == BAD
    for qualifier in ("2", "$ACTIVE_VERSION"):
        missing = service.sending(wisdomTemplateArn=f"{template}:{qualifier}")
        assert refused(partial(service.campaign, channelSubtypeConfig=missing)) == MISSING
    assert refused(lambda: service.campaign(connectInstanceId=NOBODY)) == MISSING
    calls = ("describe_campaign", "start_campaign", "stop_campaign", "get_campaign_state", "delete_campaign")
    for call in calls:
        assert refused(partial(getattr(service.campaigns, call), id=NOBODY)) == MISSING
    assert service.control("connect-campaigns")["campaigns"] == []


def test_the_active_version_is_an_alias(service: Campaigns) -> None:
    service.run(people("ann"))
    template_id = service.template.split("/")[-1].split(":")[0]
    service.templates.activate_message_template(
        knowledgeBaseId=service.base, messageTemplateId=template_id, versionNumber=1
    )
    alias = service.template.removesuffix("1") + "$ACTIVE_VERSION"
    assert service.mailed(service.launch(channelSubtypeConfig=service.sending(wisdomTemplateArn=alias))) == ["ann"]


def test_the_segment_must_still_be_there_at_the_start(service: Campaigns) -> None:
    campaign_id = service.campaign()
    service.profiles.delete_segment_definition(DomainName=DOMAIN, SegmentDefinitionName="ea_atrisk_2")
    assert refused(lambda: service.campaigns.start_campaign(id=campaign_id)) == MISSING
    assert service.state(campaign_id) == "Initialized"


def test_the_sender_must_be_verified(service: Campaigns) -> None:
    ours = service.sending(connectSourceEmailAddress="news@studio.example.com")
    assert refused(lambda: service.campaign(channelSubtypeConfig=ours)) == BAD
    service.client("sesv2").create_email_identity(EmailIdentity="studio.example.com")
    assert refused(lambda: service.campaign(channelSubtypeConfig=ours)) == BAD, "It is pending."
    service.control("sesv2", verify=["studio.example.com"])
    assert service.campaign(channelSubtypeConfig=ours)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "n" * 128},
        {"connectInstanceId": "a b"},
        {"source": None},
        {"source": {}},
        {"source": {"customerProfilesSegmentArn": "ea_atrisk_2"}},
        {"schedule": None},
        {"channelSubtypeConfig": None},
        {"channelSubtypeConfig": {}},
        {"type": "JOURNEY"},
        {"entryLimitsConfig": {"maxEntryCount": 1, "minEntryInterval": "P1D"}},
    ],
)
def test_a_campaign_that_is_described_wrongly_is_refused(service: Campaigns, changes: dict[str, Any]) -> None:
    assert refused(lambda: service.campaign(**changes)) == BAD
    assert service.control("connect-campaigns")["campaigns"] == []


@pytest.mark.parametrize("missing", ["connectSourceEmailAddress", "wisdomTemplateArn"])
def test_an_e_mail_needs_a_sender_and_a_template(service: Campaigns, missing: str) -> None:
    assert refused(lambda: service.campaign(channelSubtypeConfig=service.sending(**{missing: None}))) == BAD
    no_mode = service.sending()
    no_mode["email"]["outboundMode"] = {}
    assert refused(lambda: service.campaign(channelSubtypeConfig=no_mode)) == BAD


def test_a_schedule_has_an_end_that_is_to_come(service: Campaigns) -> None:
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    for schedule in (
        {"startTime": now},
        {"endTime": now + hour},
        {"startTime": now + hour, "endTime": now},
        {"startTime": now - 2 * hour, "endTime": now - hour},
        {"startTime": now, "endTime": now + hour, "refreshFrequency": "PT1H"},
    ):
        assert refused(partial(service.campaign, schedule=schedule)) == BAD
    campaign_id = service.campaign(schedule={"startTime": now, "endTime": now + hour})
    service.control("connect-campaigns", clock_ahead_seconds=3700)
    assert refused(lambda: service.campaigns.start_campaign(id=campaign_id)) == BAD


def test_a_running_campaign_is_not_deleted(service: Campaigns) -> None:
    service.control("connect-campaigns", campaign_seconds=600)
    campaign_id = service.launch()
    assert refused(lambda: service.campaigns.delete_campaign(id=campaign_id)) == BAD
    service.campaigns.stop_campaign(id=campaign_id)
    service.campaigns.delete_campaign(id=campaign_id)
    assert refused(lambda: service.state(campaign_id)) == MISSING


# --- faults by order


def test_campaigns_fail_by_order_and_may_have_mailed_some(service: Campaigns) -> None:
    service.run(people("ann", "bob", "cat", "dan"))
    service.control("connect-campaigns", fail_next_campaigns=1)
    failed = service.launch()
    assert service.state(failed) == "Failed" and service.mailed(failed) == ["ann", "bob"]
    service.control("connect-campaigns", fail_next_campaigns=1, failed_campaign_mails="none")
    failed = service.launch()
    assert service.state(failed) == "Failed" and service.mailed(failed) == []
    assert service.state(service.launch()) == "Completed"


@pytest.mark.parametrize("lose_by", ["drop", "error"])
@pytest.mark.parametrize("operation", ["CreateCampaign", "StartCampaign"])
def test_an_answer_is_lost_after_its_effect(service: Campaigns, operation: str, lose_by: str) -> None:
    service.run(people("ann"))
    service.control("connect-campaigns", lose_next_answers=1, lose_operations=[operation], lose_by=lose_by)
    with pytest.raises(ConnectionClosedError if lose_by == "drop" else ClientError):
        service.launch()
    (kept,) = service.control("connect-campaigns")["campaigns"]
    assert kept["state"] == ("Initialized" if operation == "CreateCampaign" else "Completed")
    assert len(kept["mails"]) == (0 if operation == "CreateCampaign" else 1)


def test_a_client_that_retries_by_itself_makes_a_second_campaign(service: Campaigns) -> None:
    service.control("connect-campaigns", lose_next_answers=1)
    service.client("connectcampaignsv2", attempts=3).create_campaign(**service.request())
    assert len(service.control("connect-campaigns")["campaigns"]) == 2


def test_a_refusal_is_for_its_operations_and_times(service: Campaigns) -> None:
    refusal = {"code": "ThrottlingException", "status": 429, "operations": ["StartCampaign"], "times": 1}
    service.control("connect-campaigns", refuse=refusal)
    campaign_id = service.campaign()
    assert refused(lambda: service.campaigns.start_campaign(id=campaign_id)) == ("ThrottlingException", 429)
    assert service.state(campaign_id) == "Initialized"
    service.campaigns.start_campaign(id=campaign_id)


def test_moto_s_own_campaigns_are_still_there_and_its_reset_takes_ours(server: Campaigns) -> None:
    server.reset()
    server.campaign()
    old = server.client("connectcampaigns")
    made = old.create_campaign(
        name="old",
        connectInstanceId=server.instance,
        dialerConfig={"agentlessDialerConfig": {}},
        outboundCallConfig={"connectContactFlowId": "flow"},
    )
    assert old.describe_campaign(id=made["id"])["campaign"]["name"] == "old"
    urllib.request.urlopen(f"{server.url}/moto-api/reset", b"", timeout=10).close()  # noqa: S310 - ours
    assert server.control("connect-campaigns")["campaigns"] == []


def test_every_operation_was_answered_by_its_model(server: Campaigns) -> None:
    """The clients of these tests hold each answer against the model; here each operation answered at least once."""
    assert server.answers >= {
        "CreateCampaign",
        "DescribeCampaign",
        "ListCampaigns",
        "StartCampaign",
        "StopCampaign",
        "GetCampaignState",
        "DeleteCampaign",
    }
