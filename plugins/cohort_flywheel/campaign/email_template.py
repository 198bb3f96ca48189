"""E-mail templates: their three files, their placeholders, and the mail for one player."""

from __future__ import annotations

import hashlib
import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from cohort_flywheel.common.encoding import decode_text
from cohort_flywheel.errors import Code, FlywheelError

#: SES's own placeholder, which SES fills in for each mail to a contact list [SES developer guide: subscription
#: management]. It is not a column of a segment, and `render` leaves it as it is.
UNSUBSCRIBE = "amazonSESUnsubscribeUrl"

_FILES = {"subject": "subject.txt", "html": "body.html", "text": "body.txt"}
#: Safe as the name of a folder, in an S3 key and in the name of an SES template, before a digest [at most 64
#: characters].
TEMPLATE_NAME = "[A-Za-z][A-Za-z0-9_]{0,39}"
_PLACEHOLDER = re.compile(r"(?<!\{)\{\{([A-Za-z][A-Za-z0-9_]*)(?:\|([^{}|\r\n]*))?\}\}(?!\})")

#: Categories of invisible characters: controls, formats, half surrogate pairs, separators, and marks, which need a
#: letter before them.
_UNSEEN = ("Cc", "Cf", "Cs", "Mn", "Me", "Zl", "Zp", "Zs")
#: Invisible letters and an invisible symbol: the Hangul fillers and Braille's empty cell.
_FILLERS = "\u115f\u1160\u3164\uffa0\u2800"

_HREF = re.compile(r"""<a\s[^>]*?href\s*=\s*["'](https?://[^"'\s]+)["']""", re.IGNORECASE)
#: The maximum number of links whose clicks are counted apart.
MAX_LINKS = 50

_MADE_UP = {"FirstName": "Sam", "LastName": "Sample", "FavoriteRole": "Healer"}


class EmailTemplate(NamedTuple):
    """The parts of a mail, with placeholders: `{{FirstName}}`, or `{{FirstName|there}}` where it has a default."""

    name: str
    subject: str
    html: str
    text: str


class Mail(NamedTuple):
    """The mail for one player."""

    subject: str
    html: str
    text: str


def read_template(folder: Path, name: str) -> EmailTemplate:
    """Read `<folder>/<name>/` with subject.txt, body.html and body.txt.

    Raises FlywheelError where a file is missing, empty or not UTF-8, where the subject has several lines, for braces
    that are not a placeholder, and for a placeholder with two defaults.
    """
    if not re.fullmatch(TEMPLATE_NAME, name) or not (folder / name).is_dir():
        there = ", ".join(sorted(each.name for each in folder.glob("*/"))) or "none"
        raise FlywheelError(
            f"no mail template {name!r} in include/email (found: {there}): correct `template` in the registry, or"
            " make the folder (its name: a letter, then at most 39 letters, digits and underscores)",
            code=Code.MAIL_TEMPLATE,
        )
    template = EmailTemplate(name, **{part: _read(folder / name / file) for part, file in _FILES.items()})
    template = template._replace(subject=template.subject.strip())
    if len(template.subject.splitlines()) > 1:
        raise FlywheelError(f"{name}/subject.txt has several lines: a subject is one", code=Code.MAIL_TEMPLATE)
    for part, file in _FILES.items():
        rest = _PLACEHOLDER.sub("", getattr(template, part))
        if "{{" in rest or "}}" in rest:
            raise FlywheelError(
                f"{name}/{file} has braces that are not a placeholder: write {{{{Column}}}} or {{{{Column|default}}}},"
                " without spaces around the name",
                code=Code.MAIL_TEMPLATE,
            )
    placeholders(template)
    return template


def _read(path: Path) -> str:
    place = f"{path.parent.name}/{path.name}"
    try:
        content = decode_text(path.read_bytes(), place, Code.MAIL_TEMPLATE)
    except FileNotFoundError:
        raise FlywheelError(
            f"mail template {path.parent.name} has no {path.name}: put the file beside the others",
            code=Code.MAIL_TEMPLATE,
        ) from None
    if not content.strip():
        raise FlywheelError(f"{place} is empty: write what the mail says", code=Code.MAIL_TEMPLATE)
    return content


def template_digest(template: EmailTemplate) -> str:
    """SHA-256, in hex, of the content."""
    return hashlib.sha256(json.dumps(template[1:]).encode()).hexdigest()


def placeholders(template: EmailTemplate) -> dict[str, str | None]:
    """Each column that the template names, with its default or None, without SES's own placeholder.

    Raises FlywheelError for a placeholder with different defaults, or with a default only in some places.
    """
    found: dict[str, str | None] = {}
    for match in _PLACEHOLDER.finditer("\n".join(template[1:])):
        name, default = match[1], match[2]
        if name == UNSUBSCRIBE and default is not None:
            raise FlywheelError(
                f"{{{{{UNSUBSCRIBE}}}}} of template {template.name} is SES's: leave its default out",
                code=Code.MAIL_TEMPLATE,
            )
        if found.setdefault(name, default) != default:
            raise FlywheelError(
                f"placeholder {name} of template {template.name} has different defaults, or a default only in some"
                " places: write it the same everywhere",
                code=Code.MAIL_TEMPLATE,
            )
    found.pop(UNSUBSCRIBE, None)
    return found


def check_template(template: EmailTemplate, columns: Iterable[str]) -> None:
    """Raise FlywheelError for a placeholder that is not a column of the segment."""
    known = list(columns)
    if unknown := sorted(placeholders(template).keys() - set(known)):
        raise FlywheelError(
            f"template {template.name} names {', '.join(unknown)}, which is not a column of the segment (the columns"
            f" are {', '.join(known) or 'none'}): correct the placeholder, or add the attribute to the cohort in the"
            " registry",
            code=Code.MAIL_TEMPLATE,
        )


def is_blank(value: str | None) -> bool:
    """Whether a value has no visible character."""
    if not value or (value[0].isalnum() and value[0] not in _FILLERS):  # nearly every value
        return not value
    return all(c in _FILLERS or unicodedata.category(c) in _UNSEEN for c in value)


def first_missing_column(placeholders: Mapping[str, str | None], attributes: Mapping[str, str]) -> str | None:
    """The first placeholder without a default that has no value in a player's attributes, or None."""
    return next(
        (name for name, default in placeholders.items() if default is None and is_blank(attributes.get(name))), None
    )


def resolve_placeholders(placeholders: Mapping[str, str | None], attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the value of each placeholder: the player's or the default; raises FlywheelError if both are missing."""
    if column := first_missing_column(placeholders, attributes):
        raise FlywheelError(
            f"the mail needs a value of {column}: give its placeholder a default, {{{{{column}|…}}}}",
            code=Code.MAIL_TEMPLATE,
        )
    return {
        name: (default or "") if is_blank(attributes.get(name)) else attributes[name]
        for name, default in placeholders.items()
    }


def render(template: EmailTemplate, values: Mapping[str, str]) -> Mail:
    """Render a template with these values, which are escaped in the HTML part only; the subject is one line.

    SES's own placeholder is not replaced. Raises FlywheelError for a missing value without a default.
    """
    known = resolve_placeholders(placeholders(template), values)
    return Mail(
        subject=" ".join(_with(template.subject, known, str).splitlines()),
        html=_with(template.html, known, html.escape),
        text=_with(template.text, known, str),
    )


def _with(part: str, values: Mapping[str, str], escape: Callable[[str], str]) -> str:
    return _PLACEHOLDER.sub(lambda match: escape(values[match[1]]) if match[1] in values else match[0], part)


def fixed_links(template: EmailTemplate) -> list[str]:
    """Return the links of the HTML part that are the same for all players, without their queries, at most MAX_LINKS.

    A placeholder in the query does not matter; a link with one before it is left out, as it may have a player's name.
    """
    found = dict.fromkeys(re.split(r"[?#]", html.unescape(link))[0] for link in _HREF.findall(template.html))
    return [link for link in found if "{{" not in link][:MAX_LINKS]


def samples(defaults: Mapping[str, str | None]) -> list[dict[str, str]]:
    """Three made-up players: with every value, only with values without a default, and with HTML special characters."""
    return [
        {name: _MADE_UP.get(name, f"({name})") for name in defaults},
        {name: _MADE_UP.get(name, f"({name})") for name, default in defaults.items() if default is None},
        {name: f"{_MADE_UP.get(name, name)} <&> \u00c5sa" for name in defaults},
    ]
