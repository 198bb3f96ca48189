"""A mail template as Amazon Q in Connect has it."""

from __future__ import annotations

from typing import Any

import pytest

from cohort_flywheel.campaign.email_template import EmailTemplate
from cohort_flywheel.destinations.customer_profiles.campaign.message_template import (
    message_template,
    message_template_attributes,
    same_mail,
)
from cohort_flywheel.errors import FlywheelError

COLUMNS = ["FirstName", "LastName", "FavoriteRole", "Level"]
LINK = "{{amazonSESUnsubscribeUrl}}"
TEMPLATE = EmailTemplate(
    "at_risk",
    "To {{FirstName|you & me}}",
    f"<p>{{{{FirstName|you & me}}}} {{{{Level}}}} {{{{FavoriteRole|any}}}}</p><a href='{LINK}'>",
    f"{{{{LastName}}}} {LINK}",
)


def test_placeholders_become_variables_with_defaults() -> None:
    assert message_template(TEMPLATE, COLUMNS, "https://studio.example/?a&b") == {
        "content": {
            "email": {
                "subject": "To {{Attributes.Customer.FirstName}}",
                "body": {
                    "html": {
                        "content": "<p>{{Attributes.Customer.FirstName}} {{Attributes.Customer.Attributes.Level}}"
                        " {{Attributes.Customer.Attributes.FavoriteRole}}</p>"
                        "<a href='https://studio.example/?a&amp;b'>"
                    },
                    "plainText": {"content": "{{Attributes.Customer.LastName}} https://studio.example/?a&b"},
                },
            }
        },
        "defaultAttributes": {
            "customerProfileAttributes": {"firstName": "you & me", "custom": {"FavoriteRole": "any"}}
        },
    }


def test_placeholders_without_defaults_give_no_default_attributes() -> None:
    template = EmailTemplate("plain", "{{FirstName}}", LINK, LINK)
    assert message_template(template, COLUMNS, "https://studio.example")["defaultAttributes"] == {}


@pytest.mark.parametrize(
    "url",
    [
        "", "studio.example", "http://studio.example", "https://a b", 'https://"', "https://{{x}}", "https://",
        "https://studio.example:0/", "https://studio.example:65536/", "https://u:p@studio.example", "https://x/\n",
    ],
)  # fmt: skip
def test_an_invalid_unsubscribe_address_is_refused(url: str) -> None:
    with pytest.raises(FlywheelError, match="cohort_flywheel_unsubscribe_url is not a web address: write the https"):
        message_template(TEMPLATE, COLUMNS, url)


def test_values_without_a_text_are_left_out() -> None:
    values = {"FirstName": "", "LastName": "Li", "Level": "7", "other": "x"}
    assert message_template_attributes(values, COLUMNS) == {
        "customerProfileAttributes": {"lastName": "Li", "custom": {"Level": "7"}}
    }
    assert message_template_attributes({"FirstName": ""}, COLUMNS) == {}


def test_a_mail_is_the_same_by_what_is_read_and_by_its_defaults() -> None:
    wanted = message_template(TEMPLATE, COLUMNS, "https://studio.example")
    email = wanted["content"]["email"]
    assert same_mail(wanted | {"name": "at_risk"}, wanted)
    assert same_mail(
        {"content": {"email": email | {"headers": []}}} | {"defaultAttributes": wanted["defaultAttributes"]}, wanted
    )
    others: list[dict[str, Any]] = [
        {"content": {"email": email | {"subject": "Other"}}},
        {"content": {"email": email | {"headers": [{"name": "X", "value": "y"}]}}},
        {"content": {"email": email | {"body": {"html": email["body"]["html"]}}}},
        {"defaultAttributes": {}},
    ]
    for other in others:
        assert not same_mail(wanted | other, wanted)
