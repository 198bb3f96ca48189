"""The state of message templates, account by account and region by region, in a backend for moto."""

from dataclasses import dataclass, field, replace
from typing import Any

from moto.core.base_backend import BackendDict, BaseBackend

from local.rest_json.errors import ServiceError
from local.rest_json.naming import uuid_id

from .control import control
from .templates import LATEST, Snapshot, Template, TemplateError, check


class ValidationError(ServiceError):
    def __init__(self, message: str) -> None:
        super().__init__("ValidationException", 400, message)


class ConflictError(ServiceError):
    def __init__(self, message: str) -> None:
        super().__init__("ConflictException", 409, message)


class QuotaError(ServiceError):
    def __init__(self, message: str) -> None:
        super().__init__("ServiceQuotaExceededException", 402, message)


class NotFoundError(ServiceError):
    def __init__(self, what: str) -> None:
        super().__init__("ResourceNotFoundException", 404, f"The {what} does not exist.")


@dataclass
class KnowledgeBase:
    id: str
    arn: str
    request: dict[str, Any]
    templates: dict[str, Template] = field(default_factory=dict)

    def item(self) -> dict[str, Any]:
        """[shape KnowledgeBaseSummary]"""
        kept = ("name", "knowledgeBaseType", "description", "tags")
        found = {name: self.request[name] for name in kept if name in self.request}
        return {"knowledgeBaseId": self.id, "knowledgeBaseArn": self.arn, "status": "ACTIVE"} | found


class QConnectBackend(BaseBackend):
    """Call every method under control.lock."""

    def __init__(self, region_name: str, account_id: str):
        super().__init__(region_name, account_id)
        self.knowledge_bases: dict[str, KnowledgeBase] = {}
        self._tokens: dict[tuple[str, str], tuple[dict[str, Any], Any]] = {}

    def reset(self) -> None:
        """Called by moto's reset on every backend."""
        with control.lock:
            super().reset()
            control.reset()

    def forget(self) -> None:
        """Reset all but the seeded knowledge bases."""
        self._tokens = {}
        for base in self.knowledge_bases.values():
            base.templates = {}

    # --- knowledge bases

    def create_knowledge_base(self, request: dict[str, Any]) -> KnowledgeBase:
        known = self._answered("base", request)
        if known is not None:
            return known
        if request["knowledgeBaseType"] != "MESSAGE_TEMPLATES":
            raise ValidationError("Only knowledge bases of the type MESSAGE_TEMPLATES are emulated.")
        if any(base.request["name"] == request["name"] for base in self.knowledge_bases.values()):
            raise ConflictError("A knowledge base with this name already exists.")
        new_id = uuid_id(self.account_id, self.region_name, "knowledge base", request["name"])
        made = KnowledgeBase(new_id, self._arn(f"knowledge-base/{new_id}"), request)
        self.knowledge_bases[new_id] = made
        return self._remember("base", request, made)

    def knowledge_base(self, base_id: str) -> KnowledgeBase:
        found = self.knowledge_bases.get(base_id)  # [shape UuidOrArn] "URLs cannot contain the ARN"
        if found is None:
            raise NotFoundError("knowledge base")
        return found

    # --- templates

    def create_template(self, base_id: str, request: dict[str, Any]) -> Template:
        base = self.knowledge_base(base_id)
        known = self._answered(base_id, request)
        if known is not None:
            return known
        if request["channelSubtype"] != "EMAIL" or "sourceConfiguration" in request:
            raise ValidationError("Only the channel subtype EMAIL is emulated.")
        if "name" not in request or "content" not in request:
            raise ValidationError("A template requires a name and content.")  # [strict]
        # [shape CreateMessageTemplate] "The name of the message template has to be unique for each knowledge base."
        if any(template.name == request["name"] for template in base.templates.values()):
            raise ConflictError("A message template with this name already exists.")
        if len(base.templates) >= control.settings.templates_per_knowledge_base:
            raise QuotaError("The knowledge base has reached its limit of message templates.")
        snapshot = Snapshot(request["content"], request.get("language"), request.get("defaultAttributes", {}))
        _check(snapshot)
        now = control.now()
        new_id = uuid_id(base_id, "message template", request["name"])
        arn = self._arn(f"message-template/{base_id}/{new_id}")
        made = Template(new_id, arn, request["name"], request, now, now, snapshot)
        base.templates[new_id] = made
        return self._remember(base_id, request, made)

    def template(self, base_id: str, identifier: str) -> tuple[Template, str]:
        """The template and the qualifier that an identifier names: `<id>`, `<id>:3`, `<id>:$LATEST`."""
        base = self.knowledge_base(base_id)
        template_id, _, qualifier = identifier.partition(":")
        found = base.templates.get(template_id)
        if found is None:
            raise NotFoundError("message template")
        try:
            found.version_number(qualifier or LATEST)
        except KeyError:
            raise NotFoundError("message template version") from None
        # [shape GetMessageTemplate] "If it is not supplied, then $LATEST is assumed implicitly."
        return found, qualifier or LATEST

    def draft(self, base_id: str, identifier: str) -> Template:
        """A template to change: [shape UpdateMessageTemplateRequest] by its id without a qualifier."""
        found, qualifier = self.template(base_id, identifier)
        if qualifier != LATEST:
            raise ValidationError("The identifier must not name a version: versions are immutable.")
        return found

    def update_template(self, base_id: str, identifier: str, request: dict[str, Any]) -> Template:
        """[shape UpdateMessageTemplate] "Partial update is supported"; versions stay as they are."""
        found = self.draft(base_id, identifier)
        changes = {"content": "content", "language": "language", "defaultAttributes": "defaults"}
        snapshot = replace(found.latest, **{ours: request[name] for name, ours in changes.items() if name in request})
        _check(snapshot)
        found.latest, found.modified = snapshot, control.now()
        return found

    def create_version(self, base_id: str, identifier: str, sha256: str | None) -> tuple[Template, str]:
        found = self.draft(base_id, identifier)
        if sha256 is not None and sha256 != found.latest.sha256:
            # [shape CreateMessageTemplateVersion] "An error is displayed if the supplied […] is different".
            raise ConflictError("The content has a different checksum.")
        # [strict] A version that was deleted does not count, and its number is not given again. A content that is the
        # newest version is answered as before, however many there are.
        if found.is_new() and len(found.versions) >= control.settings.versions_per_template:
            raise QuotaError("The message template has reached its limit of versions.")
        return found, str(found.new_version())

    def activate(self, base_id: str, identifier: str, number: int) -> Template:
        found = self.draft(base_id, identifier)
        if number not in found.versions:
            raise NotFoundError("message template version")
        found.active = number
        return found

    def delete_template(self, base_id: str, identifier: str) -> None:
        found, qualifier = self.template(base_id, identifier)
        number = found.version_number(qualifier)
        if number is None:
            del self.knowledge_base(base_id).templates[found.id]
        elif number == found.active:
            raise ConflictError("The version is active.")  # [strict]
        else:
            del found.versions[number]

    def by_arn(self, arn: str) -> tuple[Template, str] | None:
        """The template and the qualifier of an ARN, if both exist; "" without a qualifier."""
        for base in self.knowledge_bases.values():
            for template in base.templates.values():
                if arn == template.arn:
                    return template, ""
                if arn.startswith(f"{template.arn}:"):
                    try:
                        template.version_number(qualifier := arn.removeprefix(f"{template.arn}:"))
                    except KeyError:
                        return None
                    return template, qualifier
        return None

    # --- idempotency [shape CreateMessageTemplateRequest.clientToken], which boto3 fills in by itself

    def _answered(self, scope: str, request: dict[str, Any]) -> Any:
        known = self._tokens.get((scope, request.get("clientToken", "")))
        if known is None:
            return None
        if known[0] != request:
            raise ConflictError("This client token was used with another request.")  # [strict]
        return known[1]

    def _remember(self, scope: str, request: dict[str, Any], made: Any) -> Any:
        if "clientToken" in request:
            self._tokens[scope, request["clientToken"]] = (request, made)
        return made

    def _arn(self, resource: str) -> str:
        return f"arn:{self.partition}:wisdom:{self.region_name}:{self.account_id}:{resource}"


def _check(snapshot: Snapshot) -> None:
    try:
        check(snapshot)
    except TemplateError as wrong:
        raise ValidationError(str(wrong)) from None


backends = BackendDict(QConnectBackend, "qconnect")


def forget() -> None:
    for regions in backends.values():
        for backend in regions.values():
            backend.forget()


def state() -> dict[str, Any]:
    """The whole state of the service, for assertions of tests."""
    return {
        "knowledge_bases": [
            base.item() | {"templates": [_template_state(template) for template in base.templates.values()]}
            for regions in backends.values()
            for backend in regions.values()
            for base in backend.knowledge_bases.values()
        ]
    }


def _template_state(template: Template) -> dict[str, Any]:
    return {
        "id": template.id,
        "arn": template.arn,
        "name": template.name,
        "latest": template.latest.content,
        "versions": {number: snapshot.content for number, snapshot in template.versions.items()},
        "active": template.active,
    }
