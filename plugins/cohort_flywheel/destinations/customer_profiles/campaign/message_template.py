"""Convert a mail template to a message template of Amazon Q in Connect, with the attributes of profiles as variables.

Sources: the Amazon Connect administrator guide, "Personalize message templates", for the names of variables;
botocore's model of `qconnect` for the rest.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter, ValidationError

from cohort_flywheel.campaign.email_template import UNSUBSCRIBE, EmailTemplate, placeholders, render
from cohort_flywheel.common.records import AwsStructure
from cohort_flywheel.config.setting_types import WebAddress
from cohort_flywheel.destinations.customer_profiles import layout
from cohort_flywheel.errors import Code, FlywheelError

_web_address = TypeAdapter(WebAddress)


def message_template_name(template: str) -> str:
    """The name in a knowledge base, which may have templates of users."""
    return f"cohort_flywheel_{template}"


def message_template(template: EmailTemplate, columns: Sequence[str], unsubscribe_url: str) -> AwsStructure:
    """Return the content and the defaults of a message template.

    A placeholder becomes the variable of a profile's attribute: `{{FirstName|there}}` becomes
    `{{Attributes.Customer.FirstName}}`, with the default beside the text. SES's placeholder of the unsubscribe link
    becomes the address of a page. Raises FlywheelError for an empty default, an invalid address, and a body without
    the link.
    """
    link = f"{{{{{UNSUBSCRIBE}}}}}"
    if without := [name for name, part in (("html", template.html), ("txt", template.text)) if link not in part]:
        raise FlywheelError(
            f"{template.name}/body.{without[0]} has no {link}: write it where the link to unsubscribe belongs",
            code=Code.MAIL_TEMPLATE,
        )
    try:
        _web_address.validate_python(unsubscribe_url)
    except ValidationError as error:
        advice = error.errors(include_url=False)[0]["ctx"]["error"]
        raise FlywheelError(
            f"cohort_flywheel_unsubscribe_url is not a web address: {advice}", code=Code.VARIABLE
        ) from None
    defaults = {name: default for name, default in placeholders(template).items() if default is not None}
    if empty := sorted(name for name, default in defaults.items() if not default):
        raise FlywheelError(
            f"the placeholder {empty[0]} of template {template.name} has an empty default, which a message template of"
            " Amazon Q in Connect cannot have: write a word",
            code=Code.MAIL_TEMPLATE,
        )
    variables = {column: f"{{{{Attributes.Customer.{target}}}}}" for column, target in _targets(columns).items()}
    mail = render(template, variables)
    body = {
        "html": {"content": mail.html.replace(link, html.escape(unsubscribe_url))},
        "plainText": {"content": mail.text.replace(link, unsubscribe_url)},
    }
    return {
        "content": {"email": {"subject": mail.subject, "body": body}},
        # also if empty: an update keeps the parts that it does not name
        "defaultAttributes": message_template_attributes(defaults, columns),
    }


def _targets(columns: Sequence[str]) -> dict[str, str]:
    """The attribute of a profile for each column: `FirstName`, `Attributes.Level`."""
    return {column: field["Target"].removeprefix("_profile.") for column, field in layout.fields(columns).items()}


def message_template_attributes(values: Mapping[str, str], columns: Sequence[str]) -> AwsStructure:
    """Return values by column as MessageTemplateAttributes [qconnect]."""
    attributes: dict[str, str] = {}
    custom: dict[str, str] = {}
    for column, target in _targets(columns).items():
        if value := values.get(column):
            if target.startswith("Attributes."):
                custom[target.removeprefix("Attributes.")] = value
            else:
                attributes[target[0].lower() + target[1:]] = value
    profile = attributes | ({"custom": custom} if custom else {})
    return {"customerProfileAttributes": profile} if profile else {}


def same_mail(latest: AwsStructure, wanted: AwsStructure) -> bool:
    email, ours = latest["content"]["email"], wanted["content"]["email"]
    return (
        (email.get("subject"), email.get("body")) == (ours["subject"], ours["body"])
        and latest.get("defaultAttributes", {}) == wanted["defaultAttributes"]
        and not email.get("headers")
    )
