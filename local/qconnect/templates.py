"""A message template, its versions, and rendering with a customer's attributes."""

import hashlib
import html
import json
import re
from dataclasses import dataclass, field
from typing import Any

LATEST, ACTIVE = "$LATEST", "$ACTIVE_VERSION"

# [Pinpoint docs: end of support] "{{Attributes.Customer.Attributes.PurchaseHistory}}"; [Connect guide: personalize
# templates] "{{Attributes.Customer.FirstName}}".
_VARIABLE = re.compile(r"\{\{\s*(Attributes\.[A-Za-z0-9_.-]+)\s*\}\}")
_TYPES = {"Customer": "CUSTOMER_PROFILE", "Agent": "AGENT", "System": "SYSTEM", "Custom": "CUSTOM"}


class TemplateError(ValueError):
    """An invalid template; the text says why."""


@dataclass(frozen=True)
class Snapshot:
    """The immutable content of a version."""

    content: dict[str, Any]
    language: str | None
    defaults: dict[str, Any]

    @property
    def sha256(self) -> str:
        """[shape MessageTemplateData] "calculated by content, language, defaultAttributes and Attachments"."""
        whole = json.dumps([self.content, self.language, self.defaults], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()

    def parts(self) -> dict[str, str]:
        """The parts that exist of subject, text and HTML."""
        email = self.content["email"]
        found = {"subject": email["subject"]}
        for name in ("plainText", "html"):
            if name in email["body"]:
                found[name] = email["body"][name]["content"]
        return found

    def variables(self) -> list[str]:
        """The distinct names of variables, in order."""
        return list(dict.fromkeys(name for text in self.parts().values() for name in _VARIABLE.findall(text)))

    def attribute_types(self) -> list[str]:
        kinds = {name.split(".")[1] for name in self.variables()}
        return sorted(_TYPES[kind] for kind in kinds if kind in _TYPES)

    def render(self, values: dict[str, str]) -> dict[str, str]:
        """The parts with each variable's value, or its default.

        [shape RenderMessageTemplate] "the rendered message content will keep the variable placeholder as it is".
        """
        known = attribute_values(self.defaults) | values

        def put(text: str, escaped: bool) -> str:
            def value(match: re.Match[str]) -> str:
                found = known.get(match[1])
                if found is None:
                    return match[0]
                # [Pinpoint docs: end of support] "the same message rendering engine (Handlebars)", which escapes.
                return html.escape(found) if escaped else found

            return _VARIABLE.sub(value, text)

        return {name: put(text, escaped=name == "html") for name, text in self.parts().items()}

    def missing(self, values: dict[str, str]) -> list[str]:
        known = attribute_values(self.defaults) | values
        return [name for name in self.variables() if name not in known]


def attribute_values(attributes: dict[str, Any]) -> dict[str, str]:
    """[shape MessageTemplateAttributes] as variables call them: `customerProfileAttributes.firstName` is
    `Attributes.Customer.FirstName`, and what is under `custom` there `Attributes.Customer.Attributes.<its key>`."""
    found: dict[str, str] = {}
    for group, prefix in (("customerProfileAttributes", "Customer"), ("agentAttributes", "Agent")):
        for name, value in attributes.get(group, {}).items():
            if name == "custom":
                found |= {f"Attributes.{prefix}.Attributes.{key}": text for key, text in value.items()}
            else:
                found[f"Attributes.{prefix}.{name[0].upper()}{name[1:]}"] = value
    return found | {f"Attributes.Custom.{key}": text for key, text in attributes.get("customAttributes", {}).items()}


def check(snapshot: Snapshot) -> None:
    """Raise TemplateError for content that cannot be rendered or is not emulated."""
    email = snapshot.content.get("email")
    if email is None:
        raise TemplateError("The content must be that of an e-mail; other channels are not emulated.")
    if "subject" not in email or not email.get("body"):
        raise TemplateError("An e-mail needs a subject and a body.")  # [strict]
    if any("content" not in part for part in email["body"].values()):
        raise TemplateError("A body needs its content.")  # [strict]
    for text in snapshot.parts().values():
        if "{{" in _VARIABLE.sub("", text):
            raise TemplateError("A placeholder must be {{Attributes.…}}; other Handlebars is not emulated.")


@dataclass
class Template:
    id: str
    arn: str
    name: str
    request: dict[str, Any]
    created: float
    modified: float
    latest: Snapshot
    versions: dict[int, Snapshot] = field(default_factory=dict)
    versions_made: int = 0
    active: int | None = None

    def version_number(self, qualifier: str) -> int | None:
        """The number of the version that a qualifier names; None for $LATEST, KeyError for an unknown version."""
        if qualifier == LATEST:
            return None
        number = self.active if qualifier == ACTIVE else int(qualifier) if qualifier.isdecimal() else None
        if number is None or number not in self.versions:
            raise KeyError(qualifier)
        return number

    def snapshot(self, qualifier: str) -> Snapshot:
        """Return the content for a qualifier; raises KeyError for an unknown version."""
        number = self.version_number(qualifier)
        return self.latest if number is None else self.versions[number]

    def is_new(self) -> bool:
        """Whether the draft is not the newest version."""
        return not self.versions or self.versions[max(self.versions)] != self.latest

    def new_version(self) -> int:
        """[shape CreateMessageTemplateVersion] "while the message template remains the same, only the first
        invocation creates a new version and the succeeding requests will return the same response"."""
        if self.is_new():
            self.versions_made += 1
            self.versions[self.versions_made] = self.latest
        return max(self.versions)
