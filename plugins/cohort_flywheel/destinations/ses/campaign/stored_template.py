"""A mail template as SES stores it, named by its content, so that the samples have the text that the players get.

SES does not escape values, so the placeholders of the HTML part are separate ones with escaped values.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from cohort_flywheel.campaign.email_template import (
    UNSUBSCRIBE,
    EmailTemplate,
    placeholders,
    render,
    resolve_placeholders,
)
from cohort_flywheel.errors import Code, FlywheelError

if TYPE_CHECKING:
    pass


def ses_template(template: EmailTemplate) -> dict[str, str]:
    """Return the content for SES: `{{FirstName|there}}` is `{{FirstName}}`, and `{{_html_FirstName}}` in HTML.

    No column begins with an underscore. Defaults are in the data of each mail.
    """
    defaults = placeholders(template)
    plain = render(template, {name: f"{{{{{name}}}}}" for name in defaults})
    escaped = render(template, {name: f"{{{{_html_{name}}}}}" for name in defaults})
    return {"Subject": plain.subject, "Html": escaped.html, "Text": plain.text}


def ses_template_name(template: str, content: Mapping[str, str]) -> str:
    """Return the name of a template in SES: other content has another name, so a mail in progress never changes."""
    text = json.dumps(_bare(content), sort_keys=True)
    return f"{template}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def template_data(defaults: Mapping[str, str | None], attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the values of a stored template's placeholders; raise FlywheelError for a missing one without a default.

    Braces in values become parentheses, so that a value cannot contain SES's own placeholder, of which SES replaces the
    first two.
    """
    data = {}
    for name, value in resolve_placeholders(defaults, attributes).items():
        data[name] = value.translate({ord("{"): "(", ord("}"): ")"})
        data[f"_html_{name}"] = html.escape(data[name])
    return data


def check_unsubscribe(template: EmailTemplate, configuration_set: str | None = None) -> None:
    """Raise FlywheelError unless both bodies have the link once, and a configuration set does not track it.

    SES rewrites each link of the HTML for its Click events, also this one, unless it is marked.
    """
    place = f"{{{{{UNSUBSCRIBE}}}}}"
    for file, part in (("body.html", template.html), ("body.txt", template.text)):
        if part.count(place) != 1:
            raise FlywheelError(
                f"{template.name}/{file} has {place} {part.count(place)} times: write it once, where the link to"
                " unsubscribe belongs; SES fills in the first two of a mail",
                code=Code.MAIL_TEMPLATE,
            )
    anchor = re.search(rf"<a\b[^>]*{re.escape(place)}[^>]*>", template.html, re.IGNORECASE)
    if configuration_set and anchor and "ses:no-track" not in anchor[0].lower():
        raise FlywheelError(
            f"{template.name}/body.html lets configuration set {configuration_set} track the link to unsubscribe: mark"
            f' it, as in <a ses:no-track href="{place}">',
            code=Code.MAIL_TEMPLATE,
        )


def _bare(content: Mapping[str, str]) -> dict[str, str]:
    """Return the content without what SES may change when it stores a text: line endings and surrounding blanks."""
    return {part: "\n".join(text.strip().splitlines()) for part, text in content.items()}
