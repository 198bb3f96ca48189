"""The sender of a campaign: in the registry, on the approval page and in the header of a mail.

`email.utils.parseaddr` and `email.policy` read `Riftwars: Ascension <play@studio.example>` as a group named Riftwars,
so they are not used to parse an address here.
"""

from __future__ import annotations

import re
import unicodedata
from email.utils import formataddr

import email_validator

from cohort_flywheel.errors import Code, FlywheelError

#: The maximum length of Amazon Connect's EmailDisplayName.
MAX_NAME = 256
#: The maximum length of an encoded word, the form of a name that is not ASCII [RFC 2047, section 2].
MAX_ENCODED_WORD = 75

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ENCODED_WORD = re.compile(r"=\?[^?\s]*\?[bBqQ]\?")
#: Characters that change the display order of others.
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def mail_address(written: str) -> str | None:
    """The address with its domain in Punycode, or None [Amazon SES: SMTPUTF8 is not supported]."""
    try:
        return email_validator.validate_email(
            written, check_deliverability=False, allow_smtputf8=False, strict=True
        ).ascii_email
    except email_validator.EmailNotValidError:
        return None


def read_sender(written: str, role: str = "sender") -> str:
    """Return `name <address>` or the address; raise ValueError for text that a mail would show differently.

    The last `<` separates name and address. A name may be in double quotes, as in the header of a mail.
    """
    name, bracket, rest = written.strip().rpartition("<")
    if bracket and not rest.endswith(">"):
        raise ValueError(f"{written!r} is not a {role}: write an address, as in Studio <play@studio.example>")
    address = mail_address(rest[:-1] if bracket else rest)
    if address is None:
        raise ValueError(f"{written!r} is not a {role}: write an address, as in Studio <play@studio.example>")
    name = name.strip()
    if quoted := _QUOTED.fullmatch(name):
        name = re.sub(r"\\(.)", r"\1", quoted[1])
    name = re.sub(r"[ \xa0]+", " ", name).strip(" ")  # as a mail program reads a header
    _check_name(name, address, role)
    return f"{name} <{address}>" if name else address


def _check_name(name: str, address: str, role: str) -> None:
    unseen = [c for c in name if c in _BIDI or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    if unseen:
        raise ValueError(f"the {role}'s name has the character {unseen[0]!a}, which is not shown: leave it out")
    if _ENCODED_WORD.search(name):
        raise ValueError(f"the {role}'s name is encoded (=?…?=): write it as a reader should see it")
    too_long = len(name) > MAX_NAME or (
        not name.isascii() and len(formataddr((name, address))) - len(f" <{address}>") > MAX_ENCODED_WORD
    )
    if too_long:
        raise ValueError(
            f"the {role}'s name is too long for a mail's header, which takes {MAX_NAME} characters of ASCII or some 45"
            " bytes of UTF-8: shorten it"
        )


def sender_of(sender: str) -> tuple[str, str]:
    """The display name and the address of a plan's sender; raises FlywheelError for what has no address."""
    name, bracket, rest = sender.rpartition("<")
    address = mail_address(rest.removesuffix(">"))
    if address is None:
        raise FlywheelError(
            f"from is {sender!r}: write an address, as in Studio <play@studio.example>",
            code=Code.CAMPAIGN_SETTINGS,
        )
    return (name.removesuffix(" ") if bracket else ""), address


def sender_header(sender: str) -> str:
    """Return the sender for the header of a mail, quoted or encoded if necessary [RFC 5322, RFC 2047]."""
    return formataddr(sender_of(sender))
