"""Contact lists, the account, identities, templates and sends: what a client of the emulated SES meets."""

import gzip
import json
import time
from collections.abc import Iterator
from email.utils import formataddr
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local.sesv2 import shapes
from tests.aws_session_cache import wait_fully
from tests.local.pinpoint_service import REGION, code_of, process
from tests.local.sesv2_service import BUCKET, HEADER, LIST, SENDER, TOPICS, Service, people

BAD_REQUEST = ("BadRequestException", 400)
NOT_FOUND = ("NotFoundException", 404)
EXISTS = ("AlreadyExistsException", 400)
REJECTED = ("MessageRejected", 400)
THROTTLED = ("TooManyRequestsException", 429)
ANN = "ann@example.com"


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with process() as (_, url):
        yield Service(url)


@pytest.fixture
def service(server: Service) -> Service:
    server.fresh()
    return server


def refused(call: Any, **request: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as error:
        call(**request)
    return code_of(error)


def until_throttled(service: Service) -> int:
    """Mails sent as fast as they go, until the service asks for a pause."""
    for sent in range(50):
        try:
            service.send("ann")
        except ClientError as error:
            assert error.response["Error"]["Code"] == THROTTLED[0]
            return sent
    raise AssertionError("Fifty mails were sent without a pause.")


# --- the contact list


def test_an_account_has_one_list(service: Service) -> None:
    for name in (LIST, "others"):
        assert refused(service.ses.create_contact_list, ContactListName=name) == BAD_REQUEST
    assert [found["ContactListName"] for found in service.ses.list_contact_lists()["ContactLists"]] == [LIST]
    assert service.ses.get_contact_list(ContactListName=LIST)["Topics"] == TOPICS
    assert refused(service.ses.get_contact_list, ContactListName="others") == NOT_FOUND


def test_a_list_has_twenty_topics_at_most(service: Service) -> None:
    topics = [TOPICS[0] | {"TopicName": f"t{n}"} for n in range(21)]
    assert refused(service.ses.update_contact_list, ContactListName=LIST, Topics=topics) == BAD_REQUEST
    assert refused(service.ses.update_contact_list, ContactListName=LIST, Topics=TOPICS * 2) == BAD_REQUEST
    service.ses.update_contact_list(ContactListName=LIST, Topics=topics[:20])
    assert len(service.ses.get_contact_list(ContactListName=LIST)["Topics"]) == 20
    service.ses.update_contact_list(ContactListName=LIST, Topics=TOPICS)
    assert "Description" not in service.ses.get_contact_list(ContactListName=LIST)


@pytest.mark.parametrize("name", ["no spaces", "x" * 65, ""])
def test_names_have_their_characters(service: Service, name: str) -> None:
    topic = TOPICS[0] | {"TopicName": name}
    assert refused(service.ses.update_contact_list, ContactListName=LIST, Topics=[topic]) == BAD_REQUEST
    assert refused(service.ses.create_contact_list, ContactListName=name) == BAD_REQUEST


def test_contacts_come_and_go(service: Service) -> None:
    service.add("ann", AttributesData='{"FirstName": "Ann"}')
    ann = service.contact("ann")
    assert (ann["UnsubscribeAll"], ann["TopicPreferences"]) == (False, [])
    assert ann["TopicDefaultPreferences"] == [{"TopicName": "News", "SubscriptionStatus": "OPT_IN"}]
    one = {"ContactListName": LIST, "EmailAddress": ANN}
    assert refused(service.ses.create_contact, **one) == EXISTS
    assert refused(service.ses.create_contact, **(one | {"EmailAddress": "ANN@example.com"})) == EXISTS
    assert refused(service.ses.create_contact, **(one | {"EmailAddress": "jürgen@example.com"})) == BAD_REQUEST
    offers = [{"TopicName": "Offers", "SubscriptionStatus": "OPT_IN"}]
    assert refused(service.ses.update_contact, **one, TopicPreferences=offers) == BAD_REQUEST
    service.ses.delete_contact(**one)
    for call in (service.ses.get_contact, service.ses.update_contact, service.ses.delete_contact):
        assert refused(call, **one) == NOT_FOUND
    assert refused(service.ses.list_contacts, ContactListName="others") == NOT_FOUND


def test_an_update_loses_what_it_does_not_repeat(service: Service) -> None:
    preferences = [{"TopicName": "News", "SubscriptionStatus": "OPT_OUT"}]
    service.add("ann", UnsubscribeAll=True, TopicPreferences=preferences, AttributesData="{}")
    service.ses.update_contact(ContactListName=LIST, EmailAddress=ANN)
    ann = service.contact("ann")
    assert (ann["UnsubscribeAll"], ann["TopicPreferences"], "AttributesData" in ann) == (False, [], False)
    assert ann["LastUpdatedTimestamp"] > ann["CreatedTimestamp"]


def test_contacts_are_listed_by_pages(service: Service) -> None:
    names = [f"p{n:02d}" for n in range(25)]
    service.run(people(*names))
    assert len(service.ses.list_contacts(ContactListName=LIST)["Contacts"]) == 10
    assert service.addresses(PageSize=7) == [f"{name}@example.com" for name in names]
    first = service.ses.list_contacts(ContactListName=LIST, PageSize=10)
    assert "AttributesData" not in first["Contacts"][0]
    service.ses.delete_contact(ContactListName=LIST, EmailAddress="p03@example.com")
    rest = service.addresses(PageSize=10, NextToken=first["NextToken"])
    assert rest == [f"{name}@example.com" for name in names[10:]], "A deleted contact does not shift the pages."
    for wrong in ({"PageSize": 0}, {"PageSize": 1001}, {"NextToken": "x"}):
        assert refused(service.ses.list_contacts, ContactListName=LIST, **wrong) == BAD_REQUEST


def test_a_page_of_a_filter_may_be_empty_and_be_followed_by_others(service: Service) -> None:
    service.run(people("a", "b", "c") + people("d", unsubscribed="true").removeprefix(HEADER))
    chosen = {"FilteredStatus": "OPT_OUT"}
    page = service.ses.list_contacts(ContactListName=LIST, PageSize=2, Filter=chosen)
    assert page["Contacts"] == []
    assert page["NextToken"]
    assert service.addresses(PageSize=2, Filter=chosen) == ["d@example.com"]


def test_filters_by_topic(service: Service) -> None:
    service.add("in", TopicPreferences=[{"TopicName": "News", "SubscriptionStatus": "OPT_IN"}])
    service.add("out", TopicPreferences=[{"TopicName": "News", "SubscriptionStatus": "OPT_OUT"}])
    service.add("unset")
    service.add("gone", UnsubscribeAll=True)

    def found(status: str, default: bool) -> list[str]:
        topic = {"TopicName": "News", "UseDefaultIfPreferenceUnavailable": default}
        addresses = service.addresses(Filter={"FilteredStatus": status, "TopicFilter": topic})
        return [address.partition("@")[0] for address in addresses]

    assert (found("OPT_IN", False), found("OPT_IN", True)) == (["in"], ["in", "unset"])
    assert found("OPT_OUT", False) == found("OPT_OUT", True) == ["out", "gone"]
    assert service.addresses(Filter={"FilteredStatus": "OPT_OUT"}) == ["gone@example.com"]


# --- the account-level suppression list


def test_addresses_are_suppressed_listed_by_pages_and_removed(service: Service) -> None:
    names = [f"p{n:02d}@example.com" for n in range(12)]
    for name in names:
        service.ses.put_suppressed_destination(EmailAddress=name, Reason="BOUNCE")
    service.ses.put_suppressed_destination(EmailAddress="Ann+1@example.com", Reason="COMPLAINT")
    first = service.ses.list_suppressed_destinations()
    assert [each["EmailAddress"] for each in first["SuppressedDestinationSummaries"]] == names[:10]
    rest = service.ses.list_suppressed_destinations(NextToken=first["NextToken"])
    assert [each["Reason"] for each in rest["SuppressedDestinationSummaries"]] == ["BOUNCE", "BOUNCE", "COMPLAINT"]
    assert "NextToken" not in rest
    only = service.ses.list_suppressed_destinations(Reasons=["COMPLAINT"], PageSize=100)
    assert [each["EmailAddress"] for each in only["SuppressedDestinationSummaries"]] == ["Ann+1@example.com"]
    last = only["SuppressedDestinationSummaries"][0]["LastUpdateTime"]
    after = service.ses.list_suppressed_destinations(StartDate=last, PageSize=100)
    assert after["SuppressedDestinationSummaries"] == [], "added after the date, by whole seconds or not"
    one = {"EmailAddress": "ann+1@example.com"}
    assert service.ses.get_suppressed_destination(**one)["SuppressedDestination"]["Reason"] == "COMPLAINT"
    service.ses.delete_suppressed_destination(**one)
    assert refused(service.ses.delete_suppressed_destination, **one) == NOT_FOUND
    assert refused(service.ses.get_suppressed_destination, **one) == NOT_FOUND
    for wrong in ({"EmailAddress": "ann", "Reason": "BOUNCE"}, {"EmailAddress": ANN, "Reason": "DISLIKE"}):
        assert refused(service.ses.put_suppressed_destination, **wrong) == BAD_REQUEST
    assert refused(service.ses.list_suppressed_destinations, NextToken="x") == BAD_REQUEST


# --- the account and its identities


def test_the_account_has_its_quota(service: Service) -> None:
    service.template()
    service.send("ann")
    account = service.ses.get_account()
    assert (account["ProductionAccessEnabled"], account["SendingEnabled"]) == (True, True)
    assert account["SendQuota"] == {"Max24HourSend": 50_000.0, "MaxSendRate": 1000.0, "SentLast24Hours": 1.0}


def test_production_access_is_granted_by_a_review(service: Service) -> None:
    service.control(production_access=False)
    details = {"MailType": "MARKETING", "WebsiteURL": "https://example.com", "ProductionAccessEnabled": True}
    assert refused(service.ses.put_account_details, MailType="MARKETING") == BAD_REQUEST
    service.ses.put_account_details(**details)
    account = service.ses.get_account()
    assert (account["ProductionAccessEnabled"], account["Details"]["ReviewDetails"]) == (False, {"Status": "PENDING"})
    assert refused(service.ses.put_account_details, **details) == ("ConflictException", 409)
    service.control(production_access=True)
    assert service.ses.get_account()["Details"]["ReviewDetails"] == {"Status": "GRANTED"}


def test_a_sandbox_mails_verified_addresses_only_and_slowly(service: Service) -> None:
    service.control(production_access=False)
    quota = service.ses.get_account()["SendQuota"]
    assert (quota["Max24HourSend"], quota["MaxSendRate"]) == (200.0, 1.0)
    service.template()
    with pytest.raises(ClientError, match=ANN) as error:
        service.send("ann")
    assert code_of(error) == REJECTED
    service.ses.create_email_identity(EmailIdentity=ANN)
    try:
        assert refused(service.send, name="ann") == REJECTED
        service.control(verify=[ANN])
        until_throttled(service)
        assert [mail["delivered"] for mail in service.mails][:1] == [[ANN]]
    finally:
        service.ses.delete_email_identity(EmailIdentity=ANN)


def test_a_sandbox_mails_the_simulator(service: Service) -> None:
    service.control(production_access=False)
    service.template()
    service.send("", Destination={"ToAddresses": ["success@simulator.amazonses.com"]})
    assert len(service.mails) == 1


def test_a_sender_must_be_verified(service: Service) -> None:
    service.template()
    for sender in ("others@example.com", "Studio <others@example.com>", "studio@sub.example.org"):
        assert refused(service.send, name="ann", FromEmailAddress=sender) == REJECTED
    assert refused(service.send, name="ann", FromEmailAddress=None) == BAD_REQUEST
    service.send("ann", FromEmailAddress=f"The Studio <{SENDER}>")
    service.control(unverify=[SENDER])
    identity = service.ses.get_email_identity(EmailIdentity=SENDER)
    assert (identity["VerifiedForSendingStatus"], identity["VerificationStatus"]) == (False, "PENDING")
    assert refused(service.send, name="ann") == REJECTED
    assert len(service.mails) == 1


def test_a_domain_verifies_its_addresses(service: Service) -> None:
    made = service.ses.create_email_identity(EmailIdentity="example.net")
    try:
        assert (made["IdentityType"], made["VerifiedForSendingStatus"]) == ("DOMAIN", False)
        assert refused(service.ses.create_email_identity, EmailIdentity="example.net") == EXISTS
        listed = {i["IdentityName"]: i for i in service.ses.list_email_identities()["EmailIdentities"]}
        assert (listed["example.net"]["SendingEnabled"], listed[SENDER]["SendingEnabled"]) == (False, True)
        service.template()
        assert refused(service.send, name="ann", FromEmailAddress="a@mail.example.net") == REJECTED
        service.control(verify=["example.net"])
        service.send("ann", FromEmailAddress="a@mail.example.net")
    finally:
        service.ses.delete_email_identity(EmailIdentity="example.net")
    for call in (service.ses.get_email_identity, service.ses.delete_email_identity):
        assert refused(call, EmailIdentity="example.net") == NOT_FOUND


def test_an_account_whose_sending_is_paused_sends_nothing(service: Service) -> None:
    service.template()
    service.ses.put_account_sending_attributes(SendingEnabled=False)
    assert service.ses.get_account()["SendingEnabled"] is False
    assert refused(service.send, name="ann") == ("SendingPausedException", 400)
    service.ses.put_account_sending_attributes(SendingEnabled=True)
    service.send("ann")


# --- templates


def test_a_template_is_made_read_changed_and_deleted(service: Service) -> None:
    service.template(Html="<p>1</p>")
    found = service.ses.get_email_template(TemplateName="hello")
    assert found["TemplateContent"] == {"Subject": "Hi {{FirstName}}", "Html": "<p>1</p>"}
    content = {"Subject": "New", "Text": "2"}
    assert refused(service.ses.create_email_template, TemplateName="hello", TemplateContent=content) == EXISTS
    service.ses.update_email_template(TemplateName="hello", TemplateContent=content)
    assert service.ses.get_email_template(TemplateName="hello")["TemplateContent"]["Text"] == "2"
    assert service.ses.list_email_templates()["TemplatesMetadata"][0]["TemplateName"] == "hello"
    service.ses.delete_email_template(TemplateName="hello")
    assert refused(service.ses.get_email_template, TemplateName="hello") == NOT_FOUND
    assert refused(service.ses.delete_email_template, TemplateName="hello") == NOT_FOUND
    assert refused(service.ses.update_email_template, TemplateName="hello", TemplateContent=content) == NOT_FOUND


@pytest.mark.parametrize(
    "content",
    [{}, {"Subject": "Hi"}, {"Text": "Hi"}, {"Subject": "Hi", "Text": "x" * 500 * 1024}],
)
def test_a_template_needs_its_parts(service: Service, content: dict[str, str]) -> None:
    assert refused(service.ses.create_email_template, TemplateName="hello", TemplateContent=content) == BAD_REQUEST


def test_templates_are_listed_by_pages(service: Service) -> None:
    for n in range(12):
        service.template(f"t{n}")
    first = service.ses.list_email_templates()
    rest = service.ses.list_email_templates(NextToken=first["NextToken"])
    assert (len(first["TemplatesMetadata"]), len(rest["TemplatesMetadata"])) == (10, 2)
    assert refused(service.ses.list_email_templates, PageSize=101) == BAD_REQUEST


def test_templates_are_called_for_once_a_second(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    wait_fully(monkeypatch)
    assert service.control(reset=True)["settings"]["template_seconds"] == 1
    service.control(template_seconds=60)
    service.template()
    assert refused(service.template, name="other") == THROTTLED
    service.ses.list_email_templates()  # each operation has its own second
    service.ses.get_email_template(TemplateName="hello")
    service.ses.get_email_template(TemplateName="hello")
    service.control(template_seconds=1)
    patient = service.client("sesv2", attempts=8)
    patient.create_email_template(TemplateName="other", TemplateContent={"Subject": "x", "Text": "x"})
    assert set(service.state()["templates"]) == {"hello", "other"}


def test_every_call_but_a_send_may_be_slowed(service: Service) -> None:
    service.template()
    service.control(seconds_between_calls=60)
    assert refused(service.ses.get_contact_list, ContactListName=LIST) == THROTTLED
    service.send("ann")
    service.send("ann")
    service.control(seconds_between_calls=0.1)
    time.sleep(0.1)
    service.ses.get_contact_list(ContactListName=LIST)


# --- sends


def test_a_mail_is_rendered_and_kept(service: Service) -> None:
    service.add("ann")
    service.template()
    tags = [{"Name": "cohort", "Value": "ea_atrisk"}]
    message_id = service.send("ann", EmailTags=tags)
    (mail,) = service.mails
    assert (mail["message_id"], mail["sender"], mail["to"], mail["delivered"]) == (message_id, SENDER, [ANN], [ANN])
    assert (mail["template"], mail["contact_list"], mail["tags"]) == ("hello", LIST, tags)
    assert (mail["subject"], mail["html"], mail["text"]) == ("Hi First", "<p>First</p>", "First")


@pytest.mark.parametrize("name", ["Riftwars: Ascension", "Riftwars, Inc.", "A;B", "A@B", "St. Jude", "Café"])
def test_a_name_of_the_sender_that_a_mail_would_show_otherwise_is_refused(service: Service, name: str) -> None:
    service.template()
    assert refused(service.send, name="ann", FromEmailAddress=f"{name} <{SENDER}>") == BAD_REQUEST
    service.send("ann", FromEmailAddress=formataddr((name, SENDER)))
    (mail,) = service.mails
    assert (mail["sender_name"], mail["sender"]) == (name, SENDER)


def test_a_reply_to_address_is_checked_as_the_sender_is_and_needs_no_verification(service: Service) -> None:
    service.template()
    for wrong in ("A: B <help@others.example>", "Café <help@others.example>", "help", "a@b.example, c@d.example", ""):
        assert refused(service.send, name="ann", ReplyToAddresses=["ok@others.example", wrong]) == BAD_REQUEST
    service.send("ann", ReplyToAddresses=["help@others.example", formataddr(("Café", "help@others.example"))])
    (mail,) = service.mails
    assert mail["reply_to"] == ["help@others.example", "Café <help@others.example>"]


def test_two_calls_are_two_mails(service: Service) -> None:
    service.template()
    assert service.send("ann") != service.send("ann")
    assert len(service.mails) == 2


def test_values_are_not_escaped(service: Service) -> None:
    service.template()
    data = json.dumps({"FirstName": "<b>&"})
    service.send("ann", Content={"Template": {"TemplateName": "hello", "TemplateData": data}})
    assert service.mails[0]["html"] == "<p><b>&</p>"


def test_lists_conditions_and_numbers_are_rendered(service: Service) -> None:
    service.template(Text="{{#if Level}}L{{Level}}{{else}}new{{/if}}:{{#each Items}} {{Name}}{{/each}}")
    data = json.dumps({"FirstName": "Ann", "Level": 7, "Items": [{"Name": "a"}, {"Name": "b"}]})
    service.send("ann", Content={"Template": {"TemplateName": "hello", "TemplateData": data}})
    assert service.mails[0]["text"] == "L7: a b"


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("{{LastName}}", {"FirstName": "Ann"}),
        ("{{FirstName}}", {"FirstName": None}),
        ("{{FirstName", {"FirstName": "Ann"}),
        ("{{Player.Name}}", {"FirstName": "Ann", "Player": {"Name": "Ann"}}),
        ("{{amazonSESUnsubscribeUrl}}", {"FirstName": "Ann"}),
        ("x", {"FirstName": "Ann\r\nBcc: all@example.com"}),
    ],
)
def test_a_mail_that_cannot_be_rendered_is_accepted_and_never_sent(
    service: Service, text: str, data: dict[str, Any]
) -> None:
    service.template(Text=text)
    content = {"Template": {"TemplateName": "hello", "TemplateData": json.dumps(data)}}
    assert service.send("ann", Content=content, ListManagementOptions=None)
    (mail,) = service.mails
    assert (mail["delivered"], mail["bounced"]) == ([], [])
    assert mail["failure"].startswith("Rendering failed")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({"Template": {"TemplateName": "none"}}, NOT_FOUND),
        ({"Template": {"TemplateName": "hello", "TemplateData": "{"}}, BAD_REQUEST),
        ({"Template": {"TemplateName": "hello", "TemplateData": "[]"}}, BAD_REQUEST),
        ({"Template": {"TemplateData": "{}"}}, BAD_REQUEST),
        ({"Template": {"TemplateName": "hello", "TemplateContent": {"Subject": "x", "Text": "x"}}}, BAD_REQUEST),
        ({"Template": {"TemplateContent": {"Subject": "x", "Text": "{{#if a}}x{{/if}}"}}}, BAD_REQUEST),
        ({"Simple": {"Subject": {"Data": "x"}, "Body": {}}}, BAD_REQUEST),
        ({"Simple": {"Subject": {"Data": "x\nBcc: y"}, "Body": {"Text": {"Data": "x"}}}}, BAD_REQUEST),
        ({"Simple": {"Body": {"Text": {"Data": "x"}}}}, BAD_REQUEST),
        ({"Raw": {"Data": "eA=="}, "Template": {"TemplateName": "hello"}}, BAD_REQUEST),
        ({}, BAD_REQUEST),
    ],
)
def test_missing_content_is_refused(service: Service, content: dict[str, Any], error: tuple[str, int]) -> None:
    service.template()
    assert refused(service.send, name="ann", Content=content) == error
    assert service.mails == []


def test_content_may_come_with_the_request(service: Service) -> None:
    given = {"TemplateContent": {"Subject": "Hi {{N}}", "Text": "{{N}}"}, "TemplateData": '{"N": "Ann"}'}
    service.send("ann", Content={"Template": given})
    simple = {"Subject": {"Data": "Hi"}, "Body": {"Text": {"Data": "{{N}}"}, "Html": {"Data": "<p>"}}}
    service.send("ann", Content={"Simple": simple})
    assert [(m["subject"], m["text"], m["html"]) for m in service.mails] == [
        ("Hi Ann", "Ann", ""),
        ("Hi", "{{N}}", "<p>"),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"Destination": {}},
        {"Destination": {"ToAddresses": ["not-an-address"]}},
        {"Destination": {"ToAddresses": ["jürgen@example.com"]}},
        {"Destination": {"ToAddresses": [f"p{n}@example.com" for n in range(40)], "BccAddresses": [ANN] * 11}},
        {"EmailTags": [{"Name": "cohort", "Value": "ea atrisk"}]},
        {"EmailTags": [{"Name": "x" * 257, "Value": "x"}]},
        {"ListManagementOptions": {"ContactListName": LIST, "TopicName": "Offers"}},
        {"ListManagementOptions": {"TopicName": "News"}},
    ],
)
def test_a_send_is_held_against_the_rules(service: Service, change: dict[str, Any]) -> None:
    service.template()
    assert refused(service.send, name="ann", **change) == BAD_REQUEST
    assert service.mails == []


def test_what_a_send_names_must_be_there(service: Service) -> None:
    service.template()
    assert refused(service.send, name="ann", ListManagementOptions={"ContactListName": "others"}) == NOT_FOUND
    assert refused(service.send, name="ann", ConfigurationSetName="none") == NOT_FOUND
    service.ses.create_configuration_set(ConfigurationSetName="campaigns")
    service.send("ann", ConfigurationSetName="campaigns")
    assert service.mails[0]["configuration_set"] == "campaigns"


def test_a_configuration_set_has_event_destinations_and_may_be_paused(service: Service) -> None:
    ours, place = {"ConfigurationSetName": "paused"}, {"IamRoleArn": "arn:role", "DeliveryStreamArn": "arn:stream"}
    to_firehose = {"Enabled": True, "MatchingEventTypes": ["SEND"], "KinesisFirehoseDestination": place}
    destination = {"EventDestinationName": "all", "EventDestination": to_firehose}
    get, create = (
        service.ses.get_configuration_set_event_destinations,
        (service.ses.create_configuration_set_event_destination),
    )
    assert [refused(call, **ours) for call in (service.ses.get_configuration_set, get)] == [NOT_FOUND] * 2
    assert refused(create, **ours, **destination) == NOT_FOUND
    service.ses.create_configuration_set(**ours)
    assert service.ses.get_configuration_set(**ours)["SendingOptions"] == {"SendingEnabled": True}
    assert get(**ours)["EventDestinations"] == []
    create(**ours, **destination)
    assert refused(create, **ours, **destination) == EXISTS
    assert refused(create, **ours, EventDestinationName="more", EventDestination={"Enabled": True}) == BAD_REQUEST
    update = service.ses.update_configuration_set_event_destination
    assert refused(update, **ours, EventDestinationName="none", EventDestination=to_firehose) == NOT_FOUND
    update(**ours, EventDestinationName="all", EventDestination=to_firehose | {"MatchingEventTypes": ["OPEN"]})
    assert get(**ours)["EventDestinations"] == [{"Name": "all"} | to_firehose | {"MatchingEventTypes": ["OPEN"]}]
    service.template()
    service.ses.put_configuration_set_sending_options(**ours, SendingEnabled=False)
    assert refused(service.send, name="ann", **ours) == ("SendingPausedException", 400)
    assert service.mails == []


def publishing(service: Service, name: str, *types: str) -> None:
    """A configuration set that publishes these types to Data Firehose."""
    ours, place = {"ConfigurationSetName": name}, {"IamRoleArn": "arn:role", "DeliveryStreamArn": "arn:stream"}
    service.ses.create_configuration_set(**ours)
    destination = {"Enabled": True, "MatchingEventTypes": list(types), "KinesisFirehoseDestination": place}
    service.ses.create_configuration_set_event_destination(
        **ours, EventDestinationName="all", EventDestination=destination
    )


def test_a_mail_of_a_configuration_set_has_events(service: Service) -> None:
    """Of the mailbox simulator's addresses what SES documents; of readers what the seed decides."""
    link = '<a href="https://studio.example/a?b=c">a</a>'
    publishing(service, "all", "SEND", "DELIVERY", "BOUNCE", "COMPLAINT", "OPEN", "CLICK", "RENDERING_FAILURE")
    service.template(Html=f'<a ses:no-track href="https://studio.example/untracked">x</a>{link}', Text="x")
    service.send("no-set")
    tags = [{"Name": "launch", "Value": "x"}]
    for name in ("bounce", "suppressionlist", "complaint", "ooto", "success+1"):
        to = {"ToAddresses": [f"{name}@simulator.amazonses.com"]}
        service.send(name, ConfigurationSetName="all", Destination=to, EmailTags=tags)
    for number in range(40):
        service.send(f"p{number}", ConfigurationSetName="all", EmailTags=tags)
    events = service.state()["events"]
    kinds: dict[str, list[str]] = {}
    for each in events:
        assert (each["mail"]["tags"]["launch"], len(each["mail"]["destination"])) == (["x"], 1)
        kinds.setdefault(each["mail"]["destination"][0].partition("@")[0], []).append(each["eventType"])
    assert (kinds["bounce"], kinds["suppressionlist"]) == (["Send", "Bounce"], ["Send", "Bounce"])
    assert (kinds["complaint"], kinds["success+1"][:2]) == (["Send", "Delivery", "Complaint"], ["Send", "Delivery"])
    assert kinds["ooto"] == ["Send", "Delivery", "Bounce"]
    assert "no-set" not in kinds
    bounces = [each["bounce"] for each in events if each["eventType"] == "Bounce"]
    details = [f"{each['bounceType']}:{each['bounceSubType']}" for each in bounces]
    assert details == ["Permanent:General", "Permanent:Suppressed", "Transient:General"]
    links = {each["click"]["link"] for each in events if each["eventType"] == "Click"}
    assert links == {"https://studio.example/a?b=c"}
    flags = {each["open"].get("isBotEvent") for each in events if each["eventType"] == "Open"}
    assert flags == {"Likely", "Unlikely", None}


def test_the_link_to_unsubscribe_is_tracked_unless_it_is_marked(service: Service) -> None:
    publishing(service, "clicks", "CLICK")
    link = "<a {}href='{{{{amazonSESUnsubscribeUrl}}}}'>stop</a>"
    for name, mark in (("hello", ""), ("marked", "ses:no-track ")):
        service.template(name, Html=link.format(mark), Text="{{amazonSESUnsubscribeUrl}}")
        before = len(service.state()["events"])
        for player in range(40):
            content = {"Template": {"TemplateName": name, "TemplateData": '{"FirstName": "Ann"}'}}
            service.send(f"p{player}", ConfigurationSetName="clicks", Content=content)
        clicks = service.state()["events"][before:]
        assert bool(clicks) == (not mark)
        for each in clicks:
            headers = {header["name"]: header["value"] for header in each["mail"]["headers"]}
            assert headers["List-Unsubscribe"] == f"<{each['click']['link']}>"


def test_a_change_of_subscriptions_is_an_event_of_the_last_mail(service: Service) -> None:
    publishing(service, "subscriptions", "SUBSCRIPTION")
    service.template()
    service.add("ann")
    service.send("ann")
    last = service.send("ann", ConfigurationSetName="subscriptions")
    service.control(unsubscribe=[{"EmailAddress": ANN, "TopicName": "News"}])
    service.control(unsubscribe=[{"EmailAddress": ANN}])
    service.control(subscribe=[{"EmailAddress": ANN, "TopicName": "News"}])
    events = service.state()["events"]
    assert {(each["eventType"], each["mail"]["messageId"]) for each in events} == {("Subscription", last)}
    found = [each["subscription"]["newTopicPreferences"] for each in events]
    opted_out, opted_in = ([{"topicName": "News", "subscriptionStatus": each}] for each in ("OptOut", "OptIn"))
    assert found == [
        {"unsubscribeAll": False, "topicSubscriptionStatus": opted_out},
        {"unsubscribeAll": True, "topicSubscriptionStatus": opted_out},
        {"unsubscribeAll": False, "topicSubscriptionStatus": opted_in},
    ]
    assert [each["subscription"]["oldTopicPreferences"] for each in events[1:]] == found[:2]
    assert service.ses.get_contact(ContactListName=LIST, EmailAddress=ANN)["UnsubscribeAll"] is False


def test_events_are_written_as_firehose_does(service: Service) -> None:
    publishing(service, "some", "SEND", "DELIVERY")
    service.template()
    for name in ("ann", "bob", "cyd"):
        service.send(name, ConfigurationSetName="some")
    service.control(write_events={"bucket": BUCKET, "arrived": "2026-11-22T00:10:00+00:00"})
    listed = service.s3.list_objects_v2(Bucket=BUCKET, Prefix="events/2026/")["Contents"]
    keys = [each["Key"] for each in listed]
    assert [key.rpartition("/")[0] for key in keys] == ["events/2026/11/21/23", "events/2026/11/22/00"]
    late, first = [gzip.decompress(service.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()) for key in keys]
    assert [json.loads(line)["eventType"] for line in first.splitlines()] == ["Send", "Delivery", "Send"]
    together, unreadable, *rest = late.splitlines()
    assert together.count(b'"eventType"') == 2
    with pytest.raises(ValueError, match="Unterminated string"):
        json.loads(unreadable)
    assert rest[-1] == first.splitlines()[0], "delivery is at least once"
    service.control(write_events={"bucket": BUCKET, "arrived": "2026-11-22T00:20:00+00:00"})
    assert len(service.s3.list_objects_v2(Bucket=BUCKET, Prefix="events/2026/")["Contents"]) == 2, "nothing is new"


def test_some_events_are_written_late_under_the_hour_in_which_they_arrived(service: Service) -> None:
    publishing(service, "late", "SEND", "DELIVERY")
    service.template()
    for name in ("ann", "eve", "kim"):
        service.send(name, ConfigurationSetName="late")
    service.control(
        write_events={"bucket": BUCKET, "arrived": "2025-11-20T20:00:00+00:00", "faults": False, "late": True}
    )
    late = service.state()["late_events"]
    service.control(write_events={"bucket": BUCKET, "arrived": "2025-11-21T05:00:00+00:00"})
    listed = service.s3.list_objects_v2(Bucket=BUCKET, Prefix="events/2025/11/2")["Contents"]
    keys = [each["Key"] for each in listed if each["Key"].startswith("events/2025/11/20/20/")]
    bodies = [gzip.decompress(service.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()) for key in keys]
    on_time, after = [[json.loads(line)["eventType"] for line in body.splitlines()] for body in bodies]
    assert on_time == ["Send", "Delivery", "Delivery"]
    assert after == [each["eventType"] for each in late] == ["Send", "Delivery", "Send"]
    assert late[-1]["mail"]["destination"] == ["kim@example.com"], "a Send may come after its Delivery"
    assert service.state()["late_events"] == []


def test_the_events_of_a_mail_have_the_time_that_the_control_plane_sets(service: Service) -> None:
    publishing(service, "timed", "SEND", "DELIVERY", "SUBSCRIPTION")
    service.template()
    service.control(mailed_at=1_700_000_000)
    service.send("ann", ConfigurationSetName="timed")
    service.control(mailed_at=1_700_003_600, unsubscribe=[{"EmailAddress": ANN}])
    (sent, delivered, changed) = service.state()["events"]
    assert sent["mail"]["timestamp"] == "2023-11-14T22:13:20.000Z"
    assert delivered["delivery"]["timestamp"] == "2023-11-14T22:13:22.000Z"
    assert changed["subscription"]["timestamp"] == "2023-11-14T23:13:20.000Z"


def test_an_unsubscribed_contact_is_not_mailed_and_the_answer_is_the_same(service: Service) -> None:
    service.template()
    service.add("ann", UnsubscribeAll=True)
    assert service.send("ann")
    assert [(m["delivered"], m["bounced"]) for m in service.mails] == [([], [ANN])]
    service.control(unsubscribed_answer="reject")
    assert refused(service.send, name="ann") == REJECTED
    service.send("ann", ListManagementOptions=None)
    assert service.mails[-1]["delivered"] == [ANN], "Without the list nothing holds the mail back."


def test_a_mail_to_a_suppressed_address_is_accepted_and_not_attempted(service: Service) -> None:
    service.template()
    service.ses.put_suppressed_destination(EmailAddress=ANN, Reason="BOUNCE")
    service.ses.put_suppressed_destination(EmailAddress="bob@example.com", Reason="COMPLAINT")
    assert service.send("ann")
    assert service.send("bob")
    found = [(mail["delivered"], mail["suppressed"]) for mail in service.mails]
    assert found == [([], {ANN: "BOUNCE"}), ([], {"bob@example.com": "COMPLAINT"})]
    service.ses.delete_suppressed_destination(EmailAddress=ANN)
    service.send("ann")
    assert service.mails[-1]["delivered"] == [ANN]


def test_a_topic_is_unsubscribed_by_itself(service: Service) -> None:
    service.template()
    service.add("ann")
    service.control(unsubscribe=[{"EmailAddress": ANN, "TopicName": "News"}])
    service.send("ann", ListManagementOptions={"ContactListName": LIST, "TopicName": "News"})
    service.send("ann")
    assert [mail["delivered"] for mail in service.mails] == [[], [ANN]]


def test_a_topic_s_default_counts(service: Service) -> None:
    service.template()
    service.ses.update_contact_list(ContactListName=LIST, Topics=[TOPICS[0] | {"DefaultSubscriptionStatus": "OPT_OUT"}])
    try:
        service.send("ann", ListManagementOptions={"ContactListName": LIST, "TopicName": "News"})
        assert service.mails[0]["bounced"] == [ANN]
    finally:
        service.ses.update_contact_list(ContactListName=LIST, Topics=TOPICS)


def test_a_send_adds_the_recipient_to_the_list(service: Service) -> None:
    service.template()
    service.send("ann")
    assert (service.addresses(), service.contact("ann")["UnsubscribeAll"]) == ([ANN], False)
    service.send("bob", ListManagementOptions=None)
    assert service.addresses() == [ANN]


def test_two_unsubscribe_links_are_put_into_a_mail_to_one(service: Service) -> None:
    link = "{{amazonSESUnsubscribeUrl}}"
    service.template(Html=f"<a href='{link}'>", Text=f"{link} {link}")
    service.send("ann")
    service.send("", Destination={"ToAddresses": [ANN, "bob@example.com"]})
    one, two = service.mails
    assert one["html"].startswith("<a href='https://")
    assert one["text"].startswith("https://")
    assert one["text"].endswith(link), "Only the first two occurrences are replaced."
    assert [h["Name"] for h in one["headers"]] == ["List-Unsubscribe", "List-Unsubscribe-Post"]
    assert link in two["html"], "A mail to more than one gets no link."
    assert two["headers"] == []


def test_the_rate_is_kept_by_recipients_and_what_is_refused_is_not_sent(service: Service) -> None:
    service.template()
    service.control(max_send_rate=3)
    four = {"ToAddresses": [f"p{n}@example.com" for n in range(4)]}
    with pytest.raises(ClientError, match="Maximum sending rate exceeded") as error:
        service.send("", Destination=four)
    assert code_of(error) == THROTTLED
    assert (service.mails, service.addresses()) == ([], [])
    sent = until_throttled(service)
    instants = [mail["at"] for mail in service.mails]
    assert len(instants) == sent
    assert all(later - earlier >= 1 for earlier, later in zip(instants, instants[3:], strict=False))
    time.sleep(1.05)
    service.send("ann")


def test_the_day_s_quota_ends(service: Service) -> None:
    service.template()
    service.control(max_24_hour_send=2)
    service.send("ann")
    service.send("bob")
    with pytest.raises(ClientError, match="Daily message quota exceeded") as error:
        service.send("cat")
    assert code_of(error) == THROTTLED
    assert service.ses.get_account()["SendQuota"]["SentLast24Hours"] == 2.0


def test_a_raw_mail_is_kept_too(service: Service) -> None:
    service.send("ann", Content={"Raw": {"Data": b"Subject: x\r\n\r\nx"}})
    assert service.mails[0]["delivered"] == [ANN]
    assert service.mails[0]["raw"]


def test_boto3_sends_what_the_server_reads(service: Service) -> None:
    """With parameter validation on, as by default."""
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local-only"}
    strict = boto3.client("sesv2", endpoint_url=service.url, region_name=REGION, **keys)
    service.template()
    sent = strict.send_email(
        FromEmailAddress=SENDER,
        Destination={"ToAddresses": [ANN]},
        Content={"Template": {"TemplateName": "hello", "TemplateData": '{"FirstName": "Ann"}'}},
        EmailTags=[{"Name": "cohort", "Value": "ea_atrisk"}],
        ListManagementOptions={"ContactListName": LIST, "TopicName": "News"},
    )
    assert service.mails[0]["message_id"] == sent["MessageId"]
    created = strict.get_contact(ContactListName=LIST, EmailAddress=ANN)["CreatedTimestamp"]
    assert abs(created.timestamp() - time.time()) < 60


def test_a_request_with_a_member_that_the_model_lacks_is_found() -> None:
    body = {"Content": {}, "ClientToken": "x"}
    assert shapes.problems_of("SendEmail", "input", body) == ["body.ClientToken is not a member of SendEmailRequest."]


@pytest.mark.parametrize(
    ("operation", "body", "sentence"),
    [
        ("CreateImportJob", {"JobId": 1}, "body.JobId is a int and must be a string."),
        ("CreateImportJob", {"JobId": ""}, "body.JobId is too short."),
        ("GetImportJob", {"JobStatus": "DONE"}, "body.JobStatus must be one of"),
        ("GetImportJob", {"CreatedTimestamp": "2026-11-23"}, "body.CreatedTimestamp is a str and must be a timestamp."),
        ("GetImportJob", {"FailureInfo": None}, "body.FailureInfo is a NoneType and must be a structure."),
        ("GetContact", {"Name": "x"}, "body.Name is not a member of GetContactResponse."),
        ("GetEmailTemplate", {"TemplateName": "x"}, "body lacks TemplateContent, which is required."),
        ("ListContacts", {"Contacts": [{"TopicPreferences": [{}]}]}, "TopicPreferences[0] lacks TopicName"),
        ("GetEmailIdentity", {"Policies": {"p": 1}}, "body.Policies.p is a int"),
    ],
)
def test_the_check_of_answers_finds_what_is_wrong(operation: str, body: dict[str, Any], sentence: str) -> None:
    assert any(sentence in problem for problem in shapes.problems_of(operation, "output", body))


def test_every_operation_was_held_against_the_model(server: Service) -> None:
    """Last: what the tests above called."""
    expected = """CreateContactList GetContactList ListContactLists UpdateContactList CreateContact GetContact
        ListContacts UpdateContact DeleteContact CreateImportJob GetImportJob GetAccount PutAccountDetails
        PutAccountSendingAttributes CreateEmailIdentity GetEmailIdentity ListEmailIdentities DeleteEmailIdentity
        CreateEmailTemplate GetEmailTemplate UpdateEmailTemplate ListEmailTemplates DeleteEmailTemplate SendEmail"""
    assert set(expected.split()) <= server.answers
