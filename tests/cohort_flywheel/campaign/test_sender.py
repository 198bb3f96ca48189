"""The sender: what is written in the registry is what an approver reads and what a mail shows."""

from __future__ import annotations

from email.header import decode_header, make_header
from email.policy import default as email_policy
from email.utils import parseaddr
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.campaign.sender import mail_address, read_sender, sender_header, sender_of

ADDRESS = "play@studio.example"


def shown(header: str) -> tuple[str, str]:
    """Name and address as both of Python's parsers read a header, which has no defect."""
    read: Any = email_policy.header_factory("From", header)
    (address,) = read.addresses
    assert read.defects == ()
    assert read.groups[0].display_name is None
    name, addr_spec = parseaddr(header)
    assert (str(make_header(decode_header(name))), addr_spec) == (address.display_name, address.addr_spec)
    return address.display_name, address.addr_spec


@pytest.mark.parametrize(
    ("written", "name", "header"),
    [
        ("play@studio.example", "", "play@studio.example"),
        ("  <play@studio.example> ", "", "play@studio.example"),
        ("Studio <play@studio.example>", "Studio", "Studio <play@studio.example>"),
        ("Studio<play@studio.example>", "Studio", "Studio <play@studio.example>"),
        ("  Two   blanks <play@studio.example>", "Two blanks", "Two blanks <play@studio.example>"),
        ("Riftwars: Ascension <play@studio.example>", "Riftwars: Ascension", None),
        ('"Riftwars: Ascension" <play@studio.example>', "Riftwars: Ascension", None),
        ("Riftwars, Inc. <play@studio.example>", "Riftwars, Inc.", None),
        ("St. Jude <play@studio.example>", "St. Jude", '"St. Jude" <play@studio.example>'),
        ("A; B <play@studio.example>", "A; B", None),
        ("A @ B <play@studio.example>", "A @ B", None),
        ("a@b.example <play@studio.example>", "a@b.example", None),
        ("Studio (EU) <play@studio.example>", "Studio (EU)", None),
        ("Studio (EU <play@studio.example>", "Studio (EU", None),
        ('The "Best" Game <play@studio.example>', 'The "Best" Game', None),
        ('"The \\"Best\\" Game" <play@studio.example>', 'The "Best" Game', None),
        ('An odd " quote <play@studio.example>', 'An odd " quote', None),
        ("Back\\slash <play@studio.example>", "Back\\slash", None),
        ("We <3 games <play@studio.example>", "We <3 games", None),
        ("[Beta] Rift > Wars <play@studio.example>", "[Beta] Rift > Wars", None),
        ("Café Müller <play@studio.example>", "Café Müller", "=?utf-8?b?Q2Fmw6kgTcO8bGxlcg==?= <play@studio.example>"),
        ("リフト: 戦争 <play@studio.example>", "リフト: 戦争", None),
        ("🎮 Rift 👩‍🚀 <play@studio.example>", "🎮 Rift 👩‍🚀", None),
        ("Rift=3A <play@studio.example>", "Rift=3A", "Rift=3A <play@studio.example>"),
        ("O'Neill & Sons <play@studio.example>", "O'Neill & Sons", "O'Neill & Sons <play@studio.example>"),
        ("undisclosed:; <play@studio.example>", "undisclosed:;", None),
    ],
)
def test_a_name_is_shown_as_it_is_written(written: str, name: str, header: str | None) -> None:
    sender = read_sender(written)
    assert sender == (f"{name} <{ADDRESS}>" if name else ADDRESS), "as an approver reads it"
    assert sender_of(sender) == (name, ADDRESS)
    assert shown(sender_header(sender)) == (name, ADDRESS)
    assert header in (None, sender_header(sender))


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("Studio <Play@BÜCHER.example>", "Play@xn--bcher-kva.example"),
        ("Studio <play@straße.example>", "play@xn--strae-oqa.example"),
        ("play@xn--bcher-kva.example", "play@xn--bcher-kva.example"),
        ("Studio <no-reply@mail.studio.example>", "no-reply@mail.studio.example"),
    ],
)
def test_a_unicode_domain_is_written_as_punycode(written: str, address: str) -> None:
    sender = read_sender(written)
    assert sender_of(sender)[1] == shown(sender_header(sender))[1] == address
    assert address in sender, "as an approver reads it"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("", "write an address"),
        ("Studio", "write an address"),
        ("Studio <play@studio.example", "write an address"),
        ("Studio <play@studio.example> x", "write an address"),
        ("Studio play@studio.example", "write an address"),
        ("Studio <>", "write an address"),
        ("Studio <pläy@studio.example>", "write an address"),
        ("Studio <play @studio.example>", "write an address"),
        ("Studio <play@studio>", "write an address"),
        ("a@studio.example, b@studio.example", "write an address"),
        ("Studio <a@studio.example>, Other <b@studio.example", "write an address"),
        ("Studio\r\nBcc: x <play@studio.example>", r"the character '\\r'"),
        ("Stu\tdio <play@studio.example>", r"the character '\\t'"),
        ("\u202eoidutS <play@studio.example>", r"the character '\\u202e'"),
        ("Stu\u2028dio <play@studio.example>", r"the character '\\u2028'"),
        ("\ud83d <play@studio.example>", r"the character '\\ud83d'"),
        ("=?utf-8?q?Caf=C3=A9?= <play@studio.example>", r"is encoded \(=\?…\?=\)"),
        ("é" * 40 + " <play@studio.example>", "is too long for a mail's header"),
        ("x" * 257 + " <play@studio.example>", "is too long for a mail's header"),
    ],
)
def test_a_name_that_a_mail_would_show_differently_is_refused(written: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_sender(written)


@given(st.text(max_size=60))
def test_any_name_is_refused_or_shown(name: str) -> None:
    try:
        sender = read_sender(f"{name} <{ADDRESS}>")
    except ValueError:
        return
    assert shown(sender_header(sender)) == sender_of(sender)
    assert sender_of(sender)[1] == ADDRESS


@pytest.mark.parametrize("address", ["q a@x.example", "a@x.example;b@x.example", "<a@x.example>", "a@", "ä@x.example"])
def test_what_is_not_one_address(address: str) -> None:
    assert mail_address(address) is None
