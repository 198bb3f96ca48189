"""A mail's template: what is refused, what a player reads, and that names never become markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cohort_flywheel.campaign.email_template import (
    UNSUBSCRIBE,
    EmailTemplate,
    check_template,
    first_missing_column,
    is_blank,
    placeholders,
    read_template,
    render,
    resolve_placeholders,
    samples,
    template_digest,
)
from cohort_flywheel.config.data_schema import NAME_COLUMNS, DataSchema
from cohort_flywheel.config.registry import read_registry
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.segment.contacts import Contact, classify_member
from cohort_flywheel.segment.members import Member

SHIPPED = Path(__file__).parents[3] / "include" / "email"
FILES = {"subject.txt": "Hi {{FirstName|there}}\n", "body.html": "<p>{{FirstName|there}}</p>", "body.txt": "{{Level}}"}


def write(folder: Path, **files: str) -> Path:
    (folder / "at_risk").mkdir(exist_ok=True)
    for name, text in (FILES | {key.replace("_", "."): text for key, text in files.items()}).items():
        (folder / "at_risk" / name).write_text(text, encoding="utf-8")
    return folder


def template(subject: str = "s", html: str = "h", text: str = "t") -> EmailTemplate:
    return EmailTemplate("at_risk", subject, html, text)


# --- reading


def test_a_template_is_its_three_files(tmp_path: Path) -> None:
    read = read_template(write(tmp_path), "at_risk")
    assert read == ("at_risk", "Hi {{FirstName|there}}", "<p>{{FirstName|there}}</p>", "{{Level}}")
    assert placeholders(read) == {"FirstName": "there", "Level": None}


def test_a_byte_order_mark_is_not_part_of_the_mail(tmp_path: Path) -> None:
    assert read_template(write(tmp_path, subject_txt="\ufeffHi"), "at_risk").subject == "Hi"


@pytest.mark.parametrize("name", ["toxic", "../at_risk", "at_risk/", "", "a" * 41, "at risk"])
def test_a_template_that_is_not_there_is_named_with_those_that_are(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        FlywheelError, match=rf"no mail template {re.escape(repr(name))} in include/email \(found: at_risk\)"
    ):
        read_template(write(tmp_path), name)


def test_without_any_template(tmp_path: Path) -> None:
    with pytest.raises(FlywheelError, match=r"in include/email \(found: none\)"):
        read_template(tmp_path, "at_risk")


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"subject_txt": "one\ntwo"}, "at_risk/subject.txt has several lines"),
        ({"subject_txt": "one\u2028two"}, "at_risk/subject.txt has several lines"),
        ({"body_html": " \n"}, "at_risk/body.html is empty"),
        ({"body_txt": "{{ FirstName }}"}, "at_risk/body.txt has braces that are not a placeholder"),
        ({"body_txt": "{{FirstName"}, "at_risk/body.txt has braces"),
        ({"body_txt": "FirstName}}"}, "at_risk/body.txt has braces"),
        ({"body_html": "{{{FirstName}}}"}, "at_risk/body.html has braces"),
        ({"body_html": "{{#if FirstName}}x{{/if}}"}, "at_risk/body.html has braces"),
        ({"subject_txt": "{{contact.name}}"}, "at_risk/subject.txt has braces"),
        (
            {"body_txt": "{{FirstName}}"},
            "placeholder FirstName of template at_risk has different defaults, or a default",
        ),
        ({"body_txt": "{{FirstName|you}}"}, "placeholder FirstName of template at_risk has different defaults"),
        ({"body_txt": f"{{{{{UNSUBSCRIBE}|x}}}}"}, "leave its default out"),
    ],
)
def test_a_file_that_is_wrong_is_named(tmp_path: Path, files: dict[str, str], sentence: str) -> None:
    with pytest.raises(FlywheelError, match=sentence):
        read_template(write(tmp_path, **files), "at_risk")


def test_a_file_that_is_missing_or_no_utf_8_is_named(tmp_path: Path) -> None:
    (write(tmp_path) / "at_risk" / "body.txt").write_bytes(b"\xff")
    with pytest.raises(FlywheelError, match="at_risk/body.txt is not UTF-8"):
        read_template(tmp_path, "at_risk")
    (tmp_path / "at_risk" / "body.txt").unlink()
    with pytest.raises(FlywheelError, match="mail template at_risk has no body.txt"):
        read_template(tmp_path, "at_risk")


@pytest.mark.parametrize("part", [1, 2, 3])
def test_other_content_has_another_digest(part: int) -> None:
    parts = list(template())
    parts[part] += "!"
    assert template_digest(EmailTemplate(*parts)) != template_digest(template())
    assert template_digest(template()._replace(name="toxic")) == template_digest(template()), "of the content alone"


def test_the_digest_distinguishes_the_parts() -> None:
    assert template_digest(template("ab", "c")) != template_digest(template("a", "bc"))


# --- against a segment


def test_a_placeholder_that_the_segment_does_not_carry_is_refused() -> None:
    asks = template(html="{{Level}} {{FirstName}} {{Rank|none}}")
    check_template(asks, ["FirstName", "Level", "Rank", "other"])
    with pytest.raises(FlywheelError, match="names Level, Rank, which is not a column of the segment"):
        check_template(asks, ["FirstName"])


def test_ses_own_placeholder_is_not_a_column() -> None:
    check_template(template(html=f"{{{{{UNSUBSCRIBE}}}}}"), [])


@pytest.mark.parametrize(
    ("attributes", "column"),
    [({"Level": "3", "FirstName": ""}, None), ({"Level": ""}, "Level"), ({}, "Level"), ({"Level": "0"}, None)],
)
def test_the_first_missing_value_without_a_default(attributes: dict[str, str], column: str | None) -> None:
    asked = {"FirstName": "there", "Level": None}
    assert first_missing_column(asked, attributes) == column
    if column:
        with pytest.raises(FlywheelError, match="the mail needs a value of Level"):
            resolve_placeholders(asked, attributes)
    else:
        assert resolve_placeholders(asked, attributes) == {"FirstName": "there", "Level": attributes["Level"]}


# --- what a player reads


def test_values_are_escaped_only_in_html() -> None:
    mail = render(template("{{A}}", "<b>{{A}}</b>", "{{A}}"), {"A": "<i>\"Tom\" & 'Jo'</i>", "B": "of no use"})
    assert mail.subject == mail.text == "<i>\"Tom\" & 'Jo'</i>"
    assert mail.html == "<b>&lt;i&gt;&quot;Tom&quot; &amp; &#x27;Jo&#x27;&lt;/i&gt;</b>"


def test_an_empty_value_takes_the_default_which_may_be_empty() -> None:
    assert render(template("{{A|x}}{{B|}}", "{{A|x}}", "{{A|x}}"), {"A": "", "B": ""}) == ("x", "x", "x")


def test_line_breaks_in_values_do_not_reach_the_subject() -> None:
    assert render(template("Hi {{A}}"), {"A": "a\r\nBcc: b\u2028c"}).subject == "Hi a Bcc: b c"


def test_a_value_is_not_read_as_a_template() -> None:
    assert render(template(text="{{A}} {{B}}"), {"A": "{{B}}", "B": "b"}).text == "{{B}} b"


def test_ses_own_placeholder_is_not_replaced() -> None:
    place = f"{{{{{UNSUBSCRIBE}}}}}"
    assert render(template(html=place, text=place), {UNSUBSCRIBE: "x"})[1:] == (place, place)


class _Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@example("\xad")  # a soft hyphen: nothing to see, so the default is used
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_values_never_become_markup(value: str) -> None:
    seen = _Seen()
    seen.feed(render(template(html="<p>{{A|player}}</p>"), {"A": value}).html)
    seen.close()
    assert (seen.text, seen.tags) == ("player" if is_blank(value) else value, ["p"])


# --- the one that is shipped


def test_the_shipped_mail_renders_for_every_sample() -> None:
    shipped = read_template(SHIPPED, "at_risk")
    check_template(shipped, NAME_COLUMNS)
    assert first_missing_column(placeholders(shipped), {}) is None, "no player is rejected for a missing value"
    for part in (shipped.html, shipped.text):
        assert part.count(f"{{{{{UNSUBSCRIBE}}}}}") == 1
    full, bare, odd = (render(shipped, values) for values in samples(placeholders(shipped)))
    assert full.subject == bare.subject == "Stay safe in chat: personal data and scams"
    assert full.text.startswith("Hello Sam,")
    assert bare.text.startswith("Hello player,")
    assert "<p>Hello Sam &lt;&amp;&gt; Åsa,</p>" in odd.html


def test_the_mail_for_players_at_risk_explains_the_risk() -> None:
    """In the seeds they shared personal data or joined a channel known for scams; the mail says what the risk is."""
    registry = read_registry(SHIPPED.parent / "cohorts.yaml")
    (cohort,) = (c for c in registry.cohorts.values() if c.campaign and c.campaign.template == "at_risk")
    assert (cohort.name, cohort.property) == ("ea_atrisk", "ea_atrisk")
    for words in ("shared personal data", "channel known for scams"):
        assert words in cohort.description
    mail = render(read_template(SHIPPED, "at_risk"), {})
    seen = _Seen()
    seen.feed(mail.html)
    html_text, text = (" ".join(each.split()) for each in (seen.text, mail.text.replace("- ", "")))
    for words in (
        "They ask for personal data in chat, or invite players to channels that are known for scams.",
        "You may have shared something personal, or have been in such a channel.",
        "you are not in trouble",
        "What you write in chat can be read, kept and passed on",
        "We never ask for a password or a card number.",
        "block and report anyone who asks you for personal data or money",
    ):
        assert words in text
        assert words in html_text
    for words in (
        "missed you",
        "come back",
        "coming back",
        "play with you again",
        "your fault",
        "warning",
        "FavoriteRole",
    ):
        assert words.lower() not in f"{mail.subject} {text} {html_text}".lower()


BLANKS = [
    "", " ", "   ", "\t\r\n", "\xa0", "\u2003\u3000", "\u200b", "\u200d\ufeff", "\u2060", "\xad", "\u180e", "\u3164",
    "\u115f", "\u2800", "\x00", "\ufe0f", "\u034f", "\u202e", " \u200b\xa0", "\ud83d",
]  # fmt: skip


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
def test_a_value_of_blanks_takes_the_default_everywhere(blank: str) -> None:
    asked = {"FirstName": "player", "Level": None}
    assert resolve_placeholders(asked, {"FirstName": blank, "Level": "3"}) == {"FirstName": "player", "Level": "3"}
    assert first_missing_column(asked, {"FirstName": "Jo", "Level": blank}) == "Level"
    assert render(template("{{A|you}}", "{{A|you}}", "{{A|you}}"), {"A": blank}) == ("you", "you", "you")
    # and the segment file, of which Connect takes its profiles, has an empty cell
    record = {"email": "jo@example.com", "firstName": blank, "lastName": "O'Neil", "level": blank}
    contact = classify_member(
        Member("jo", 3), record, columns=DataSchema().name_columns | {"Level": "level"}, score_column=None,
        consent=None, do_not_contact=lambda _: False,
    )  # fmt: skip
    assert isinstance(contact, Contact)
    assert contact.attributes == {"FirstName": "", "LastName": "O'Neil", "FavoriteRole": "", "Level": ""}


@pytest.mark.parametrize(
    "value", ["Jo", " Jo ", "0", "-", ".", "\u200bJo", "王", "👩\u200d🚀", "Ö", "\u0e01\u0e33", "'"]
)
def test_a_value_that_a_reader_sees_is_kept_as_it_is(value: str) -> None:
    assert resolve_placeholders({"FirstName": "player"}, {"FirstName": value}) == {"FirstName": value}


def test_the_samples_show_every_default_and_every_value() -> None:
    full, bare, odd = samples({"FirstName": "there", "Level": None})
    assert full == {"FirstName": "Sam", "Level": "(Level)"}
    assert bare == {"Level": "(Level)"}
    assert all("<&>" in value for value in odd.values())
