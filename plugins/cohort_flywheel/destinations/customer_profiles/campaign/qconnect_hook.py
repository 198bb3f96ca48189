"""Message templates of Amazon Q in Connect."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from botocore.config import Config

from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.hooks.shared_session import SharedSessionHook

#: The largest page that the model allows.
TEMPLATES_PER_PAGE = 100


class QConnectHook(SharedSessionHook):
    """Thin wrapper around boto3's `qconnect` client.

    Every call may be repeated: the name of a template is unique in a knowledge base, and a content has one version
    [qconnect: CreateMessageTemplate, CreateMessageTemplateVersion].

    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["client_type"] = "qconnect"
        super().__init__(*args, **kwargs)

    @cached_property
    def _patient(self) -> Any:
        return self.get_client_type(config=Config(retries={"mode": "standard", "total_max_attempts": 5}))

    def templates(self, knowledge_base_id: str) -> Iterator[AwsStructure]:
        """Every message template of a knowledge base, page by page (MessageTemplateSummary)."""
        pages = self._patient.get_paginator("list_message_templates")
        for page in pages.paginate(
            knowledgeBaseId=knowledge_base_id, PaginationConfig={"PageSize": TEMPLATES_PER_PAGE}
        ):
            yield from page["messageTemplateSummaries"]

    def versions(self, knowledge_base_id: str, template_id: str) -> Iterator[AwsStructure]:
        """Every version of a message template, page by page (MessageTemplateVersionSummary)."""
        pages = self._patient.get_paginator("list_message_template_versions")
        for page in pages.paginate(
            knowledgeBaseId=knowledge_base_id,
            messageTemplateId=template_id,
            PaginationConfig={"PageSize": TEMPLATES_PER_PAGE},
        ):
            yield from page["messageTemplateVersionSummaries"]

    def template(self, knowledge_base_id: str, template_id: str) -> AwsStructure:
        """The draft of a template ($LATEST) as it is now (ExtendedMessageTemplateData)."""
        found = self._patient.get_message_template(knowledgeBaseId=knowledge_base_id, messageTemplateId=template_id)
        return dict(found["messageTemplate"])

    def create_template(self, knowledge_base_id: str, name: str, email: AwsStructure) -> AwsStructure:
        """Create an e-mail template; boto3 sends a client token (MessageTemplateData)."""
        made = self._patient.create_message_template(
            knowledgeBaseId=knowledge_base_id, name=name, channelSubtype="EMAIL", **email
        )
        return dict(made["messageTemplate"])

    def update_template(self, knowledge_base_id: str, template_id: str, email: AwsStructure) -> AwsStructure:
        """Change the draft of a template, not its versions (MessageTemplateData)."""
        made = self._patient.update_message_template(
            knowledgeBaseId=knowledge_base_id, messageTemplateId=template_id, **email
        )
        return dict(made["messageTemplate"])

    def create_version(self, knowledge_base_id: str, template_id: str, sha256: str) -> AwsStructure:
        """Create the version of a template's draft if the draft has this digest (ExtendedMessageTemplateData)."""
        made = self._patient.create_message_template_version(
            knowledgeBaseId=knowledge_base_id, messageTemplateId=template_id, messageTemplateContentSha256=sha256
        )
        return dict(made["messageTemplate"])

    def delete_version(self, knowledge_base_id: str, template_id: str, version: int) -> None:
        """Delete one version; the same call without a version would delete the template."""
        try:
            self._patient.delete_message_template(
                knowledgeBaseId=knowledge_base_id, messageTemplateId=f"{template_id}:{version:d}"
            )
        except self._patient.exceptions.ResourceNotFoundException:
            return

    def render(
        self, knowledge_base_id: str, template_id: str, attributes: AwsStructure
    ) -> tuple[dict[str, str], list[str]]:
        """Return the subject, HTML and text of a template for some attributes, and the variables without a value.

        `attributes` are MessageTemplateAttributes; `template_id` may name a version (`<id>:3`).
        """
        made = self._patient.render_message_template(
            knowledgeBaseId=knowledge_base_id, messageTemplateId=template_id, attributes=attributes
        )
        email = made["content"]["email"]
        parts = {"subject": email["subject"]} | {name: part["content"] for name, part in email["body"].items()}
        return parts, list(made.get("attributesNotInterpolated", ()))
