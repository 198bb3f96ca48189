"""Message templates: made, changed, versioned and rendered, and what is refused."""

import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from tests.local.connect_service import Service
from tests.local.pinpoint_service import code_of, process

BAD = ("ValidationException", 400)
QUOTA = ("ServiceQuotaExceededException", 402)
CONFLICT = ("ConflictException", 409)
MISSING = ("ResourceNotFoundException", 404)
NOBODY = "00000000-0000-0000-0000-000000000000"
HELLO = "Hello {{Attributes.Customer.FirstName}}"


def email(text: str = HELLO, subject: str = "News", html: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {"plainText": {"content": text}}
    return {"email": {"subject": subject, "body": body | ({"html": {"content": html}} if html else {})}}


class Templates(Service):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        request = {"name": "templates", "knowledgeBaseType": "MESSAGE_TEMPLATES"}
        self.base = self.templates.create_knowledge_base(**request)["knowledgeBase"]["knowledgeBaseId"]

    def template(self, name: str = "hello", **changes: Any) -> dict[str, Any]:
        request = {"knowledgeBaseId": self.base, "name": name, "channelSubtype": "EMAIL", "content": email()} | changes
        request = {key: value for key, value in request.items() if value is not None}
        return dict(self.templates.create_message_template(**request)["messageTemplate"])

    def get(self, identifier: str) -> dict[str, Any]:
        asked = {"knowledgeBaseId": self.base, "messageTemplateId": identifier}
        return dict(self.templates.get_message_template(**asked)["messageTemplate"])

    def version(self, identifier: str, **more: Any) -> dict[str, Any]:
        asked = {"knowledgeBaseId": self.base, "messageTemplateId": identifier} | more
        return dict(self.templates.create_message_template_version(**asked)["messageTemplate"])

    def update(self, identifier: str, **changes: Any) -> dict[str, Any]:
        asked = {"knowledgeBaseId": self.base, "messageTemplateId": identifier} | changes
        return dict(self.templates.update_message_template(**asked)["messageTemplate"])

    def render(self, identifier: str, **attributes: Any) -> dict[str, Any]:
        asked = {"knowledgeBaseId": self.base, "messageTemplateId": identifier, "attributes": attributes}
        return dict(self.templates.render_message_template(**asked))


@pytest.fixture(scope="module")
def server() -> Iterator[Templates]:
    with process() as (_, url):
        yield Templates(url)


@pytest.fixture
def service(server: Templates) -> Templates:
    server.control("qconnect", reset=True)
    return server


def refused(call: Callable[[], Any]) -> tuple[str, int]:
    with pytest.raises(ClientError) as error:
        call()
    return code_of(error)


def test_a_template_is_made_and_read(service: Templates) -> None:
    made = service.template(description="A greeting", language="en_US", tags={"by": "us"})
    assert made["messageTemplateArn"].endswith(f":message-template/{service.base}/{made['messageTemplateId']}:$LATEST")
    assert (made["name"], made["content"], made["attributeTypes"]) == ("hello", email(), ["CUSTOMER_PROFILE"])
    read = service.get(made["messageTemplateId"])
    assert read == made
    assert "versionNumber" not in read and "isActive" not in read
    assert service.get(f"{made['messageTemplateId']}:$LATEST") == read


def test_a_name_is_had_once_and_a_client_token_answers_again(service: Templates) -> None:
    made = service.template(clientToken="one")
    assert service.template(clientToken="one") == made, "A retry of boto3's sends the same token."
    assert refused(lambda: service.template(clientToken="two")) == CONFLICT
    assert refused(lambda: service.template(name="other", clientToken="one")) == CONFLICT
    assert len(service.control("qconnect")["knowledge_bases"][0]["templates"]) == 1


def test_boto3_retries_a_create_under_its_own_token(service: Templates) -> None:
    service.control("qconnect", lose_next_answers=1)
    retrying = service.client("qconnect", attempts=3)
    request = {"knowledgeBaseId": service.base, "name": "hello", "channelSubtype": "EMAIL", "content": email()}
    made = retrying.create_message_template(**request)["messageTemplate"]
    assert service.get(made["messageTemplateId"])["name"] == "hello"
    assert service.control("qconnect")["calls"]["CreateMessageTemplate"] == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"name": None},
        {"name": ""},
        {"name": "n" * 256},
        {"content": None},
        {"content": {}},
        {"content": email() | {"sms": {}}},
        {"content": {"sms": {"body": {"plainText": {"content": "Hi"}}}}},
        {"content": {"email": {"subject": "News"}}},
        {"content": {"email": {"body": {"plainText": {"content": "Hi"}}}}},
        {"content": email(text="")},
        {"content": {"email": {"subject": "News", "body": {"html": {}}}}},
        {"content": email(text="{{#if Attributes.Customer.FirstName}}Hi{{/if}}")},
        {"content": email(text="Hello {{FirstName}}")},
        {"channelSubtype": "SMS"},
        {"channelSubtype": "PIGEON"},
        {"language": "e"},
    ],
)
def test_a_template_that_is_wrong_is_refused(service: Templates, changes: dict[str, Any]) -> None:
    assert refused(lambda: service.template(**changes)) == BAD
    assert service.control("qconnect")["knowledge_bases"][0]["templates"] == []


def test_what_is_not_there_is_not_found(service: Templates) -> None:
    made = service.template()["messageTemplateId"]
    calls: list[Callable[[], Any]] = [
        lambda: service.get(NOBODY),
        lambda: service.get(f"{made}:1"),
        lambda: service.get(f"{made}:$ACTIVE_VERSION"),
        lambda: service.version(NOBODY),
        lambda: service.update(NOBODY, content=email()),
        lambda: service.template(knowledgeBaseId=NOBODY),
        lambda: service.templates.get_knowledge_base(knowledgeBaseId=NOBODY),
        lambda: service.templates.list_message_templates(knowledgeBaseId=NOBODY),
        lambda: service.templates.activate_message_template(
            knowledgeBaseId=service.base, messageTemplateId=made, versionNumber=1
        ),
    ]
    for call in calls:
        assert refused(call) == MISSING


def test_an_update_changes_the_draft_and_no_version(service: Templates) -> None:
    made = service.template(language="en_US")
    template_id = made["messageTemplateId"]
    first = service.version(template_id)
    assert (first["versionNumber"], first["isActive"]) == (1, False)
    assert first["messageTemplateArn"] == made["messageTemplateArn"].replace("$LATEST", "1")
    changed = service.update(template_id, content=email("Goodbye"))
    assert changed["messageTemplateContentSha256"] != made["messageTemplateContentSha256"]
    assert changed["language"] == "en_US", "What an update leaves out stays."
    assert service.get(f"{template_id}:1")["content"] == email()
    assert service.get(template_id)["content"] == email("Goodbye")
    assert refused(lambda: service.update(f"{template_id}:1", content=email())) == BAD
    assert refused(lambda: service.update(template_id, content=email("{{#each}}"))) == BAD
    back = service.update(template_id, content=email())
    assert back["messageTemplateContentSha256"] == made["messageTemplateContentSha256"]


def test_a_version_is_made_of_what_was_seen_and_once(service: Templates) -> None:
    made = service.template()
    template_id, sha256 = made["messageTemplateId"], made["messageTemplateContentSha256"]
    assert service.version(template_id, messageTemplateContentSha256=sha256)["versionNumber"] == 1
    assert service.version(template_id)["versionNumber"] == 1, "The content is the same."
    service.update(template_id, content=email("Goodbye"))
    stale = {"messageTemplateContentSha256": sha256}
    assert refused(lambda: service.version(template_id, **stale)) == CONFLICT
    assert service.version(template_id)["versionNumber"] == 2
    assert refused(lambda: service.version(f"{template_id}:1")) == BAD


def test_templates_and_versions_are_listed_a_page_at_a_time(service: Templates) -> None:
    made = [service.template(f"t{n:02}")["messageTemplateId"] for n in range(11)]
    place = {"knowledgeBaseId": service.base}
    first = service.templates.list_message_templates(**place)
    second = service.templates.list_message_templates(**place, nextToken=first["nextToken"])
    found = first["messageTemplateSummaries"] + second["messageTemplateSummaries"]
    assert [item["messageTemplateId"] for item in found] == made and "nextToken" not in second
    for text in "abc":
        service.update(made[0], content=email(text))
        service.version(made[0])
    place |= {"messageTemplateId": made[0], "maxResults": 2}
    first = service.templates.list_message_template_versions(**place)
    second = service.templates.list_message_template_versions(**place, nextToken=first["nextToken"])
    versions = first["messageTemplateVersionSummaries"] + second["messageTemplateVersionSummaries"]
    assert [version["versionNumber"] for version in versions] == [1, 2, 3]
    assert (
        refused(lambda: service.templates.list_message_templates(knowledgeBaseId=service.base, maxResults=101)) == BAD
    )


def test_the_active_version_cannot_be_deleted(service: Templates) -> None:
    template_id = service.template()["messageTemplateId"]
    service.version(template_id)
    service.update(template_id, content=email("Goodbye"))
    service.version(template_id)
    place = {"knowledgeBaseId": service.base, "messageTemplateId": template_id}
    service.templates.activate_message_template(**place, versionNumber=1)
    active = service.get(f"{template_id}:$ACTIVE_VERSION")
    assert (active["versionNumber"], active["isActive"], active["content"]) == (1, True, email())
    (summary,) = service.templates.list_message_templates(knowledgeBaseId=service.base)["messageTemplateSummaries"]
    assert summary["activeVersionNumber"] == 1
    first = place | {"messageTemplateId": f"{template_id}:1"}
    assert refused(lambda: service.templates.delete_message_template(**first)) == CONFLICT
    service.templates.delete_message_template(**place | {"messageTemplateId": f"{template_id}:2"})
    assert refused(lambda: service.get(f"{template_id}:2")) == MISSING
    assert service.version(template_id)["versionNumber"] == 3, "Versions are monotonically increasing."
    service.templates.delete_message_template(**place)
    assert refused(lambda: service.get(template_id)) == MISSING


def test_a_template_has_twenty_versions_and_those_that_were_deleted_do_not_count(service: Templates) -> None:
    template_id = service.template()["messageTemplateId"]
    for number in range(20):
        service.update(template_id, content=email(f"Edit {number}"))
        assert service.version(template_id)["versionNumber"] == number + 1
    assert service.version(template_id)["versionNumber"] == 20, "The content is the same."
    service.update(template_id, content=email("Edit 20"))
    assert refused(lambda: service.version(template_id)) == QUOTA
    place = {"knowledgeBaseId": service.base, "messageTemplateId": f"{template_id}:3"}
    service.templates.delete_message_template(**place)
    assert service.version(template_id)["versionNumber"] == 21


def test_a_knowledge_base_has_two_hundred_templates(service: Templates) -> None:
    assert service.control("qconnect")["settings"]["templates_per_knowledge_base"] == 200
    service.control("qconnect", templates_per_knowledge_base=1)
    service.template()
    assert refused(lambda: service.template(name="other")) == QUOTA


def test_a_template_is_rendered_with_values_defaults_and_what_is_left(service: Templates) -> None:
    text = (
        "{{Attributes.Customer.FirstName}} of {{ Attributes.Customer.Attributes.team }}: {{Attributes.Customer.City}}"
    )
    defaults = {"customerProfileAttributes": {"firstName": "player", "custom": {"team": "none"}}}
    content = email(text, subject="For {{Attributes.Customer.FirstName}}", html=f"<p>{text}</p>")
    template_id = service.template(content=content, defaultAttributes=defaults)["messageTemplateId"]
    rendered = service.render(template_id, customerProfileAttributes={"firstName": "A&B", "custom": {"team": "<red>"}})
    mail = rendered["content"]["email"]
    assert mail["subject"] == "For A&B"
    assert mail["body"]["plainText"]["content"] == "A&B of <red>: {{Attributes.Customer.City}}"
    assert mail["body"]["html"]["content"] == "<p>A&amp;B of &lt;red&gt;: {{Attributes.Customer.City}}</p>"
    assert rendered["attributesNotInterpolated"] == ["Attributes.Customer.City"]
    assert service.render(template_id)["content"]["email"]["subject"] == "For player"


def test_knowledge_bases(service: Templates) -> None:
    create = service.templates.create_knowledge_base
    assert refused(lambda: create(name="templates", knowledgeBaseType="MESSAGE_TEMPLATES")) == CONFLICT
    assert refused(lambda: create(name="other", knowledgeBaseType="CUSTOM")) == BAD
    base = service.templates.get_knowledge_base(knowledgeBaseId=service.base)["knowledgeBase"]
    assert (base["name"], base["status"]) == ("templates", "ACTIVE")
    (summary,) = service.templates.list_knowledge_bases()["knowledgeBaseSummaries"]
    assert summary["knowledgeBaseId"] == service.base
    arn = base["knowledgeBaseArn"]
    assert refused(lambda: service.templates.get_knowledge_base(knowledgeBaseId=arn)) == MISSING


def test_an_answer_is_lost_and_a_call_is_refused_by_order(service: Templates) -> None:
    service.control("qconnect", lose_next_answers=1, lose_operations=["CreateMessageTemplateVersion"])
    template_id = service.template()["messageTemplateId"]
    with pytest.raises(ConnectionClosedError):
        service.version(template_id)
    assert service.version(template_id)["versionNumber"] == 1
    refusal = {"code": "ThrottlingException", "status": 400, "operations": ["GetMessageTemplate"], "times": 1}
    service.control("qconnect", refuse=refusal)
    assert refused(lambda: service.get(template_id)) == ("ThrottlingException", 400)
    service.get(template_id)


def test_a_reset_keeps_the_knowledge_base_and_moto_s_reset_does_not(server: Templates) -> None:
    server.control("qconnect", reset=True)
    first = server.template()["messageTemplateId"]
    server.control("qconnect", reset=True)
    assert server.template()["messageTemplateId"] == first, "A seeded environment has the same ids each time."
    urllib.request.urlopen(f"{server.url}/moto-api/reset", b"", timeout=10).close()  # noqa: S310 - ours
    assert server.control("qconnect")["knowledge_bases"] == []
    again = server.templates.create_knowledge_base(name="templates", knowledgeBaseType="MESSAGE_TEMPLATES")
    assert again["knowledgeBase"]["knowledgeBaseId"] == server.base


def test_every_operation_was_answered_by_its_model(server: Templates) -> None:
    """The clients of these tests hold each answer against the model; here each operation answered at least once."""
    assert server.answers >= {
        "CreateKnowledgeBase",
        "GetKnowledgeBase",
        "ListKnowledgeBases",
        "CreateMessageTemplate",
        "GetMessageTemplate",
        "UpdateMessageTemplate",
        "DeleteMessageTemplate",
        "RenderMessageTemplate",
        "ListMessageTemplates",
        "CreateMessageTemplateVersion",
        "ListMessageTemplateVersions",
        "ActivateMessageTemplate",
    }
