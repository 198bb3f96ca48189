"""The pattern that spares the library passes nothing that the library refuses, or would write otherwise."""

from __future__ import annotations

import email_validator
import pytest
from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES
from hypothesis import example, given
from hypothesis import strategies as st

from cohort_flywheel.segment.contacts import plain_address

LETTERS = "abcxyzABCXYZ0189"
SPECIAL = list(email_validator.SPECIAL_USE_DOMAIN_NAMES)


def library(raw: str) -> str | None:
    """What the library alone says, as contacts.plain_address asks it."""
    try:
        return email_validator.validate_email(
            raw, check_deliverability=False, allow_smtputf8=False, strict=True
        ).ascii_email
    except email_validator.EmailNotValidError:
        return None


def text(length: st.SearchStrategy[int], alphabet: str = LETTERS) -> st.SearchStrategy[str]:
    return length.flatmap(lambda n: st.text(alphabet, min_size=n, max_size=n))


short = st.integers(0, 8)
locals_ = st.one_of(
    text(short, LETTERS + ".-_+"),
    text(st.integers(60, 68), LETTERS),
    text(short, LETTERS + ".!#$%&'*/=?^`{|}~\" ,;:<>()[]\\\n\tßéK"),
    st.sampled_from(CASE_INSENSITIVE_MAILBOX_NAMES).flatmap(
        lambda name: st.sampled_from([name, name.upper(), name.title(), f"{name}1", f"{name}."])
    ),
    text(short).map(lambda inner: f'"{inner}"'),
)
labels = st.one_of(
    text(short, LETTERS + "-"),
    text(st.integers(61, 66)),
    st.sampled_from(
        ["xn--bcher-kva", "xn--a", "XN--80AK6AA92E", "ab--cd", "a--b", "-a", "a-", "1", "com", "co", "ſ", "K"]
    ),
    st.sampled_from(SPECIAL),
)
tops = st.one_of(
    st.sampled_from(["com", "COM", "co", "c", "c0m", "1", "123", "", "xn--p1ai", "museum", "com-", "example"]),
    st.sampled_from(SPECIAL).flatmap(lambda name: st.sampled_from([name, name.upper(), name + "s", "x" + name])),
    text(st.integers(61, 66), "abc"),
)
domains = st.builds(lambda parts, top: ".".join([*parts, top]), st.lists(labels, max_size=5), tops)
near = st.builds("{}@{}".format, locals_, domains)
plain = st.builds(
    "{}@{}".format,
    st.from_regex(r"\A[a-z0-9]{1,9}(\.[A-Z][a-z]{0,5})?\Z"),
    st.from_regex(r"\A([a-z0-9]{1,5}\.){1,3}[a-z]{2,4}\Z"),
)
ODD = ["", ".", "-", "--", "@", "\n", " ", '"', "xn--", "A", "É", "ı", "．", "\u00ad"]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """An address that was plain until something was put in, or in the place of something else."""
    raw = draw(plain)
    for _ in range(draw(st.integers(1, 3))):
        at, length = draw(st.integers(0, len(raw))), draw(st.integers(0, 2))
        raw = raw[:at] + draw(st.sampled_from(ODD)) + raw[at + length :]
    return raw


@example("a" * 64 + "@" + ".".join(["b" * 63] * 2) + "." + "c" * 57 + ".com")  # 254
@example("a" * 64 + "@" + ".".join(["b" * 63] * 2) + "." + "c" * 58 + ".com")  # 255
@example("a" * 65 + "@example.com")
@example("INFO@example.com")
@example("a@TEST.Test")
@example("a@b." + "c" * 63)
@example("a@b." + "c" * 64)
@example("a@" + "b" * 64 + ".com")
@example("a@b.com\n")
@example("a@exampIe.com.")
@given(st.one_of(plain, near, mutated(), st.emails(), st.text(max_size=12)))
def test_addresses_are_validated_as_by_the_library(raw: str) -> None:
    assert plain_address(raw) == library(raw)


@given(st.integers(1, 66), st.lists(st.integers(1, 65), min_size=1, max_size=5), st.sampled_from(["com", "c", "test"]))
def test_addresses_of_any_length_are_validated_as_by_the_library(local: int, parts: list[int], top: str) -> None:
    raw = "@".join(["a" * local, ".".join([*("b" * part for part in parts), top])])
    assert plain_address(raw) == library(raw)


@pytest.mark.parametrize("name", CASE_INSENSITIVE_MAILBOX_NAMES)
def test_a_role_is_written_as_the_library_writes_it(name: str) -> None:
    assert (
        plain_address(f"{name.title()}@Example.com") == library(f"{name.title()}@Example.com") == f"{name}@example.com"
    )


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("domain", ["{}", "a.{}", "a.b.{}", "A-B.{}"])
def test_a_special_use_domain_is_refused(name: str, domain: str) -> None:
    for each in (name, name.upper(), name.title()):
        assert plain_address("a@" + domain.format(each)) is None


@pytest.mark.parametrize(
    "raw",
    [
        "wayne@example.com", "wayne.johnson@mail.example.co.uk", "Wayne@Example.COM", "w+vip_1-2@a-b.example",
        "1@1.de", "success+p1@simulator.amazonses.com", "a@latest.com", "a@mylocal.io",
    ],
)  # fmt: skip
def test_an_ordinary_address_does_not_ask_the_library(raw: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the pattern would be for nothing."""
    expected = library(raw)
    monkeypatch.delattr(email_validator, "validate_email")
    assert plain_address(raw) == expected is not None
