"""The operations of message templates as HTTP."""

from typing import Any

from local.rest_json.responses import RestJsonResponse

from .control import control
from .models import KnowledgeBase, QConnectBackend, backends
from .templates import LATEST, Template, attribute_values


class QConnectResponse(RestJsonResponse):
    model = "qconnect"
    invalid = ("ValidationException", 400)
    control = control

    @property
    def backend(self) -> QConnectBackend:
        return backends[self.current_account][self.region]

    @property
    def base(self) -> KnowledgeBase:
        return self.backend.knowledge_base(self.request["knowledgeBaseId"])

    @property
    def place(self) -> tuple[str, str]:
        return self.request["knowledgeBaseId"], self.request["messageTemplateId"]

    # --- knowledge bases

    def create_knowledge_base(self) -> str:
        return self.answer(knowledgeBase=self.backend.create_knowledge_base(self.request).item())

    def get_knowledge_base(self) -> str:
        return self.answer(knowledgeBase=self.base.item())

    def list_knowledge_bases(self) -> str:
        bases = [base.item() for base in self.backend.knowledge_bases.values()]
        return self._listed("knowledgeBaseSummaries", bases, "knowledgeBaseId")

    # --- templates

    def create_message_template(self) -> str:
        made = self.backend.create_template(self.request["knowledgeBaseId"], self.request)
        return self.answer(messageTemplate=self._document(made, LATEST))

    def update_message_template(self) -> str:
        found = self.backend.update_template(*self.place, self.request)
        return self.answer(messageTemplate=self._document(found, LATEST))

    def create_message_template_version(self) -> str:
        sha256 = self.request.get("messageTemplateContentSha256")
        return self.answer(messageTemplate=self._extended(*self.backend.create_version(*self.place, sha256)))

    def get_message_template(self) -> str:
        return self.answer(messageTemplate=self._extended(*self.backend.template(*self.place)))

    def activate_message_template(self) -> str:
        found = self.backend.activate(*self.place, self.request["versionNumber"])
        arn = f"{found.arn}:{found.active}"
        return self.answer(messageTemplateArn=arn, messageTemplateId=found.id, versionNumber=found.active)

    def delete_message_template(self) -> tuple[int, dict[str, int], str]:
        self.backend.delete_template(*self.place)
        return 204, {"status": 204}, ""

    def render_message_template(self) -> str:
        found, qualifier = self.backend.template(*self.place)
        snapshot, values = found.snapshot(qualifier), attribute_values(self.request["attributes"])
        parts = snapshot.render(values)
        body = {name: {"content": text} for name, text in parts.items() if name != "subject"}
        return self.answer(
            content={"email": snapshot.content["email"] | {"subject": parts["subject"], "body": body}},
            attributesNotInterpolated=snapshot.missing(values),
        )

    def list_message_templates(self) -> str:
        found = [
            self._summary(template) | ({"activeVersionNumber": template.active} if template.active else {})
            for template in self.base.templates.values()
        ]
        return self._listed("messageTemplateSummaries", found, "messageTemplateId")

    def list_message_template_versions(self) -> str:
        """Oldest first [strict: the order is not documented]."""
        found = self.backend.draft(*self.place)
        kept = ("messageTemplateId", "knowledgeBaseArn", "knowledgeBaseId", "name", "channel", "channelSubtype")
        whole = self._summary(found)
        versions = [
            {name: whole[name] for name in kept}
            | {
                "messageTemplateArn": f"{found.arn}:{number}",
                "versionNumber": number,
                "isActive": number == found.active,
            }
            for number in found.versions
        ]
        return self._listed("messageTemplateVersionSummaries", versions, "versionNumber")

    # --- documents

    def _summary(self, template: Template) -> dict[str, Any]:
        """[shape MessageTemplateSummary]"""
        kept = {name: template.request[name] for name in ("description", "tags") if name in template.request}
        return {
            # [shape ArnWithQualifier] [strict] The draft's has its qualifier, so that it is not taken for a version's.
            "messageTemplateArn": f"{template.arn}:{LATEST}",
            "messageTemplateId": template.id,
            "knowledgeBaseArn": self.base.arn,
            "knowledgeBaseId": self.base.id,
            "name": template.name,
            "channel": "EMAIL",
            "channelSubtype": "EMAIL",
            "createdTime": template.created,
            "lastModifiedTime": template.modified,
            "lastModifiedBy": f"arn:{self.backend.partition}:iam::{self.current_account}:user/local",
        } | kept

    def _document(self, template: Template, qualifier: str) -> dict[str, Any]:
        """[shape MessageTemplateData] of the draft or of a version."""
        snapshot, number = template.snapshot(qualifier), template.version_number(qualifier)
        found = self._summary(template) | {
            "content": snapshot.content,
            "attributeTypes": snapshot.attribute_types(),
            "messageTemplateContentSha256": snapshot.sha256,
        }
        if number is not None:
            found["messageTemplateArn"] = f"{template.arn}:{number}"
        if snapshot.language is not None:
            found["language"] = snapshot.language
        if snapshot.defaults:
            found["defaultAttributes"] = snapshot.defaults
        return found

    def _extended(self, template: Template, qualifier: str) -> dict[str, Any]:
        """[shape ExtendedMessageTemplateData]"""
        number, found = template.version_number(qualifier), self._document(template, qualifier)
        if number is None:
            return found
        return found | {"versionNumber": number, "isActive": number == template.active}

    def _listed(self, member: str, items: list[dict[str, Any]], key: str) -> str:
        page, token = self.page(items, key, self.request.get("maxResults"), self.request.get("nextToken"))
        return self.answer(**{member: page, "nextToken": token})
