"""A member's record becomes exactly one contact or one reject, and each reject has its reason."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.config.cohorts import Consent
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.errors import FlywheelError
from cohort_flywheel.segment.contacts import (
    REASONS,
    Contact,
    RecordCounts,
    Reject,
    as_text,
    classify_member,
    exclusion_reason,
    is_held_out,
    lookup_paths,
    normalize_entry,
    plain_address,
    player_forms,
    projection,
    read_do_not_contact,
)
from cohort_flywheel.segment.members import Member

CONSENT = Consent(attribute="emailConsent", opted_in=["yes", True], opted_out=["no", False], silence="opted_out")
SILENCE_IS_A_YES = CONSENT.model_copy(update={"silence": "opted_in"})
RECORD = {
    "playerId": "wayne96",
    "email": "wayne@example.com",
    "firstName": "Wayne",
    "lastName": "O'Neil",
    "favoriteRole": "healer",
    "emailConsent": "yes",
}
MEMBER = Member("wayne96", 3)


def listed(*lines: str) -> Callable[[str], bool]:
    return set(read_do_not_contact([line.encode() for line in lines])).__contains__


def ask(
    record: dict[str, Any] | None,
    *,
    member: Member = MEMBER,
    attributes: dict[str, str] | None = None,
    score_column: str | None = None,
    consent: Consent | None = CONSENT,
    do_not_contact: Callable[[str], bool] = listed(),  # noqa: B008  # a function that says no
    suppressed: dict[tuple[str, str], str] | None = None,
) -> Contact | Reject:
    return classify_member(
        member,
        record,
        columns={**DataSchema().name_columns, **(attributes or {})},
        score_column=score_column,
        consent=consent,
        do_not_contact=do_not_contact,
        suppressed=lambda kind, text: (suppressed or {}).get((kind, text)),
    )


# --- a contact -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["bounced", "complained", "unsubscribed"])
def test_a_suppressed_player_and_a_suppressed_address_are_rejected(reason: str) -> None:
    assert reason in REASONS
    by_player, by_address = {("player", "wayne96"): reason}, {("address", "wayne@example.com"): reason}
    assert ask(RECORD, suppressed=by_player) == ask(None, suppressed=by_player) == Reject("wayne96", reason)
    assert ask(RECORD, suppressed=by_address, consent=None) == Reject("wayne96", reason, "email")
    on_the_list = ask(RECORD, suppressed=by_player | by_address, do_not_contact=listed("wayne96"))
    assert on_the_list == Reject("wayne96", "do_not_contact")


def test_a_player_with_a_corrected_address_is_not_suppressed_by_the_former_ones_bounce() -> None:
    """What a player has decided stays with the player; a former address that another player gets stays suppressed."""
    former = {("address", "wayne@example.com"): "bounced"}
    assert isinstance(ask(RECORD | {"email": "wayne@example.net"}, suppressed=former), Contact)
    decided = former | {("player", "wayne96"): "complained"}
    assert ask(RECORD | {"email": "wayne@example.net"}, suppressed=decided) == Reject("wayne96", "complained")
    assert ask(RECORD, member=Member("ann", 3), suppressed=former) == Reject("ann", "bounced", "email")


def test_a_record_becomes_a_contact() -> None:
    names = {"FirstName": "Wayne", "LastName": "O'Neil", "FavoriteRole": "healer"}
    assert ask(RECORD) == Contact("wayne96", "wayne@example.com", names)


def test_attributes_and_the_score_are_in_the_order_of_the_registry() -> None:
    record = RECORD | {"lvl": Decimal(12), "guild": "Ünion"}
    contact = ask(record, attributes={"Level": "lvl", "Guild": "guild"}, score_column="ea_atrisk")
    assert isinstance(contact, Contact)
    assert list(contact.attributes.items())[3:] == [("Level", "12"), ("Guild", "Ünion"), ("ea_atrisk", "3")]


def test_what_a_record_does_not_have_is_an_empty_cell() -> None:
    contact = ask({"email": "a@example.com", "emailConsent": True, "lastName": None}, attributes={"Level": "lvl"})
    assert contact == Contact(
        "wayne96", "a@example.com", {"FirstName": "", "LastName": "", "FavoriteRole": "", "Level": ""}
    )


def test_no_attribute_is_read_that_is_not_needed() -> None:
    assert projection({}, None) == ["email", "firstName", "lastName", "favoriteRole"]
    assert projection({"Level": "lvl", "Nick": "firstName"}, CONSENT) == [
        "email", "firstName", "lastName", "favoriteRole", "lvl", "emailConsent",
    ]  # fmt: skip


def test_where_silence_means_opted_in_the_map_with_the_consent_is_read_whole() -> None:
    """DynamoDB answers a path below a text or a list as one that does not exist."""
    modelers = ["email", "firstName", "lastName", "favoriteRole"]
    for silence, more in (("opted_in", ["profile"]), ("opted_out", [])):
        consent = CONSENT.model_copy(update={"attribute": ("profile", "mail", "ok"), "silence": silence})
        assert lookup_paths({}, consent) == [*modelers, ("profile", "mail", "ok"), *more]
    assert lookup_paths({}, CONSENT.model_copy(update={"silence": "opted_in"})) == [*modelers, "emailConsent"]
    assert lookup_paths({}, None) == modelers


@pytest.mark.parametrize(
    "profile", [None, {}, {"mail": None}, {"mail": {}}, {"mail": {"ok": ""}}, {"mail": {"ok": "yes"}}]
)
def test_a_map_without_the_consent_is_silent(profile: object) -> None:
    consent = CONSENT.model_copy(update={"attribute": ("profile", "mail", "ok"), "silence": "opted_in"})
    assert isinstance(ask(RECORD | {"profile": profile}, consent=consent), Contact)


@pytest.mark.parametrize("profile", ['{"mail": {"ok": false}}', "", 0, ["x"], {"mail": "no"}, {"mail": [{"ok": "no"}]}])
def test_a_value_that_is_not_a_map_above_the_consent_is_not_silent(profile: object) -> None:
    consent = CONSENT.model_copy(update={"attribute": ("profile", "mail", "ok"), "silence": "opted_in"})
    assert ask(RECORD | {"profile": profile}, consent=consent) == Reject("wayne96", "opted_out", "profile.mail.ok")


# --- rejects, and the order of the checks ----------------------------------------------------------------

#: In the order of the checks: each entry makes the record fail that check and passes all before it.
REJECTS: list[tuple[str, str, dict[str, Any]]] = [
    ("opted_out", "emailConsent", {"emailConsent": "no"}),
    ("no_address", "email", {"email": ""}),
    ("bad_address", "email", {"email": "wayne at example.com"}),
    ("do_not_contact", "email", {"email": "listed@example.com"}),
    ("bad_value", "FirstName", {"firstName": ["Wayne"]}),
    ("bad_value", "LastName", {"lastName": {"a": 1}}),
    ("bad_value", "FavoriteRole", {"favoriteRole": b"healer"}),
]
LISTED = listed("listed@example.com", "listed96")


@pytest.mark.parametrize(("reason", "column", "change"), REJECTS, ids=[f"{r}-{c}" for r, c, _ in REJECTS])
def test_each_reason_names_the_attribute_at_fault(reason: str, column: str, change: dict[str, Any]) -> None:
    assert ask(RECORD | change, do_not_contact=LISTED) == Reject("wayne96", reason, column)


def test_a_player_without_a_record() -> None:
    assert ask(None) == Reject("wayne96", "no_record")
    assert ask({}) == Reject("wayne96", "opted_out", "emailConsent")
    assert ask({}, consent=None) == Reject("wayne96", "no_address", "email")


def test_the_do_not_contact_list_is_checked_first() -> None:
    member = Member("listed96", 3)
    assert ask(None, member=member, do_not_contact=LISTED) == Reject("listed96", "do_not_contact")
    assert ask(RECORD, member=member, do_not_contact=LISTED) == Reject("listed96", "do_not_contact")


@pytest.mark.parametrize("first", range(len(REJECTS)))
def test_of_several_faults_the_first_check_gives_the_reason(first: int) -> None:
    record = dict(RECORD)
    for _, _, change in reversed(REJECTS[first:]):
        record |= change
    reason, column, _ = REJECTS[first]
    assert ask(record, do_not_contact=LISTED) == Reject("wayne96", reason, column)


def test_a_column_of_the_registry_is_checked_as_well() -> None:
    assert ask(RECORD | {"lvl": {1, 2}}, attributes={"Level": "lvl"}) == Reject("wayne96", "bad_value", "Level")


@pytest.mark.parametrize(
    "line",
    [b'"",""', b"*@example.com", b"@example.com", b"jo@gmail,com", b"a@example.com, jo@gmail,com", b"\x00j\x00o"],
)
def test_a_line_that_cannot_match_is_rejected_with_its_number(line: bytes) -> None:
    with pytest.raises(
        FlywheelError, match="line 8 of the do-not-contact list is not an address or a playerId: write one of them"
    ) as error:
        read_do_not_contact([b"fine@example.com\n", line], first_line=7)
    assert "jo" not in str(error.value)
    assert "example" not in str(error.value)


# --- consent ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["yes", True, "true"])
def test_opted_in_values(value: object) -> None:
    assert isinstance(ask(RECORD | {"emailConsent": value}), Contact)


@pytest.mark.parametrize(
    "value", ["no", False, "false", "maybe", "Yes", " yes", "1", 1, Decimal(1), ["yes"], {"yes"}, b"yes", {"yes": True}]
)
@pytest.mark.parametrize("consent", [CONSENT, SILENCE_IS_A_YES], ids=["silence is a no", "silence is a yes"])
def test_other_values_mean_opted_out(value: object, consent: Consent) -> None:
    assert ask(RECORD | {"emailConsent": value}, consent=consent) == Reject("wayne96", "opted_out", "emailConsent")


@pytest.mark.parametrize("silent", [{}, {"emailConsent": None}, {"emailConsent": ""}], ids=["missing", "null", "empty"])
def test_silence_follows_the_registry(silent: dict[str, Any]) -> None:
    record = {key: value for key, value in RECORD.items() if key != "emailConsent"} | silent
    assert ask(record) == Reject("wayne96", "opted_out", "emailConsent")
    assert isinstance(ask(record, consent=SILENCE_IS_A_YES), Contact)


@pytest.mark.parametrize(
    ("means_yes", "value"),
    [(1, Decimal(1)), (1, 1), (1, "1"), ("1", Decimal(1)), (True, True), (True, "true"), ("true", True)],
)
def test_opted_in_values_are_recognized_in_each_type(means_yes: str | bool | int, value: object) -> None:
    """DynamoDB's numbers arrive as Decimal; a table written by hand has text where another has a truth."""
    consent = Consent(attribute="emailConsent", opted_in=[means_yes], opted_out=["no"], silence="opted_out")
    assert isinstance(ask(RECORD | {"emailConsent": value}, consent=consent), Contact)


def test_an_empty_text_listed_as_opted_out() -> None:
    """Or is refused when the registry is read; it must not become a yes because silence is one."""
    try:
        consent = Consent(attribute="emailConsent", opted_in=["yes"], opted_out=[""], silence="opted_in")
    except ValueError:
        return
    assert isinstance(ask(RECORD | {"emailConsent": ""}, consent=consent), Reject)


def test_consent_none_skips_the_consent_check() -> None:
    assert isinstance(ask(RECORD | {"emailConsent": "no"}, consent=None), Contact)


# --- addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "address"),
    [
        ("wayne@example.com", "wayne@example.com"),
        ("o'brien+vip@mail.example.co.uk", "o'brien+vip@mail.example.co.uk"),
        ("Wayne@EXAMPLE.com", "Wayne@example.com"),
        ("wayne@bücher.example.com", "wayne@xn--bcher-kva.example.com"),
        ("wayne@xn--bcher-kva.example.com", "wayne@xn--bcher-kva.example.com"),
    ],
)
def test_an_address_in_the_form_that_every_service_takes(raw: str, address: str) -> None:
    assert plain_address(raw) == address
    contact = ask(RECORD | {"email": raw})
    assert isinstance(contact, Contact)
    assert contact.address == address


@pytest.mark.parametrize(
    "raw",
    [
        "wayne", "@example.com", "wayne@", "wayne@localhost", "a@b@example.com", "a b@example.com", "a,b@example.com",
        "wayne@example.com\n", "wayne@example.com,x@example.com", "Wayne <wayne@example.com>", "wayne@[127.0.0.1]",
        "wäyne@example.com", '"a b"@example.com', "wayne@example..com", "wayne@host.invalid", "a" * 65 + "@example.com",
        " ", "\ud800@example.com", "a@\ud800.com", 5, True, ["wayne@example.com"], b"wayne@example.com",
    ],
)  # fmt: skip
def test_invalid_addresses(raw: object) -> None:
    assert plain_address(raw) is None
    assert ask(RECORD | {"email": raw}) == Reject("wayne96", "bad_address", "email")


# --- the do-not-contact list -----------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["wayne96", "  wayne96 \r\n", "\ufeffwayne96"])
def test_a_player_is_listed_by_id(line: str) -> None:
    assert ask(RECORD, do_not_contact=listed(line)) == Reject("wayne96", "do_not_contact")


def test_an_id_is_compared_whole() -> None:
    assert isinstance(ask(RECORD, do_not_contact=listed("wayne9", "wayne961", "xwayne96")), Contact)


@pytest.mark.parametrize(
    ("line", "raw"),
    [
        ("wayne@example.com", "wayne@example.com"),
        ("WAYNE@EXAMPLE.COM", "wayne@example.com"),
        ("wayne@example.com", "Wayne@Example.COM"),
        ("wayne@bücher.example.com", "wayne@xn--bcher-kva.example.com"),
        ("wayne@xn--bcher-kva.example.com", "wayne@bücher.example.com"),
        ("Wayne@BÜCHER.example.com", "wayne@bücher.example.com"),
        (" wayne@example.com\r\n", "wayne@example.com"),
        ("\ufeffwayne@example.com", "wayne@example.com"),
    ],
)
def test_a_player_is_listed_by_address_in_any_writing_of_it(line: str, raw: str) -> None:
    assert ask(RECORD | {"email": raw}, do_not_contact=listed(line)) == Reject("wayne96", "do_not_contact", "email")


@given(
    st.from_regex(r"[A-Za-z0-9]{1,8}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9]{1,8}(\.[A-Za-z0-9]{1,8})?", fullmatch=True),
    st.data(),
)
def test_a_listed_address_matches_in_any_case(local: str, domain: str, data: st.DataObject) -> None:
    letters = f"{local}@{domain}.com"
    upper = data.draw(st.lists(st.booleans(), min_size=len(letters), max_size=len(letters)))
    other = "".join(letter.upper() if up else letter.lower() for letter, up in zip(letters, upper, strict=True))
    outcome = ask(RECORD | {"email": other}, do_not_contact=listed(letters))
    assert outcome[1:] in (("do_not_contact", "email"), ("bad_address", "email"))


@pytest.mark.parametrize(
    ("line", "player_id"),
    [
        ('"wayne96"', "wayne96"), ("wayne96,unsubscribed", "wayne96"), ("wayne96\u200b", "wayne96"),
        ("wayne96", "wayne96\u200b"), ("wayne96", "'wayne96'"), ("[GG]wayne", "[GG]wayne"), ("a,b", "a,b"),
        ("Zoe\u0308", "Zo\u00eb"), ("Zo\u00eb", "Zoe\u0308"), (" The Boss ", "The\u00a0Boss"),
        ("wayne96", "ｗａｙｎｅ９６"), ("...wayne", "...wayne"),
        ("Wayne@Example.com", "wayne@example.com"), ("wayne@example.com", "WAYNE@example.com"),
        ("WAYNE96", "wayne96"), ("wayne96", "Wayne96"), ('"WAYNE96",no', "wayne96"), ("STRASSE", "straße"),
    ],
)  # fmt: skip
def test_a_player_is_listed_by_id_in_what_looks_like_it(line: str, player_id: str) -> None:
    player = Member(player_id, 3)
    assert ask(RECORD, member=player, do_not_contact=listed(line)) == Reject(player_id, "do_not_contact")


@pytest.mark.parametrize(
    ("line", "raw"),
    [
        ('"wayne@example.com"', "wayne@example.com"), ("'WAYNE@example.com'", "wayne@example.com"),
        ("Wayne <wayne@example.com>", "Wayne@Example.com"), ("wayne@example.com\u200b", "wayne@example.com"),
        ("mailto:wayne@example.com", "wayne@example.com"), ("wayne@example.com,2026,no", "wayne@example.com"),
        ("wayne@example.com.", "wayne@example.com"),
        ("wayne@bu\u0308cher.example.com", "wayne@b\u00fccher.example.com"),
        ("x, <wayne@b\u00fccher.example.com>", "wayne@xn--bcher-kva.example.com"),
        ("ｗａｙｎｅ＠ｅｘａｍｐｌｅ．ｃｏｍ", "wayne@example.com"),
        ("o\u2019brien@example.com", "o'brien@example.com"), ("wayne@example.com", "'wayne@example.com"),
        ("'wayne@example.com", "wayne@example.com"), ("'wayne@example.com", "'wayne@example.com"),
    ],
)  # fmt: skip
def test_a_player_is_listed_by_address_in_what_looks_like_it(line: str, raw: str) -> None:
    assert ask(RECORD | {"email": raw}, do_not_contact=listed(line)) == Reject("wayne96", "do_not_contact", "email")


def test_a_player_may_be_named_by_id_and_by_address_at_once() -> None:
    forms = player_forms("wayne96", {"email": "Wayne@EXAMPLE.com"})
    assert {"wayne96", "wayne@example.com"} <= forms
    assert player_forms("wayne96", None) == player_forms("wayne96", {"email": 5}) == {"wayne96"}


def test_records_without_a_value_are_counted_by_attribute() -> None:
    counts = RecordCounts(["email", "lastName", "emailConsent"])
    without: list[object] = [None, "", {"email": True}, ["yes"], {"yes"}, b"yes", {}]
    counts.add([{"email": "a@example.com", "emailConsent": value} for value in without])
    answers = ("yes", "no", True, False, Decimal(0), 0, " ")
    counts.add([{"email": "a@example.com", "emailConsent": answer, "lastname": "Smith"} for answer in answers])
    counts.add([])
    assert (counts.records, counts.without) == (14, {"email": 0, "lastName": 14, "emailConsent": 7})


def test_blank_lines_are_ignored() -> None:
    assert read_do_not_contact([b"", b"\n", b"  \r\n"]) == []
    assert isinstance(ask(RECORD | {"firstName": ""}, do_not_contact=listed("", "  ")), Contact)


@pytest.mark.parametrize("line", [b"w\xe4yne96\n", b"\xff\xfew\x00a\x00"])
def test_a_list_that_is_not_utf_8_is_refused_without_its_text(line: bytes) -> None:
    with pytest.raises(FlywheelError, match=r"not UTF-8 on line \d: save it as UTF-8") as error:
        read_do_not_contact([b"xortiz\n", line])
    assert "yne96" not in str(error.value)
    assert error.value.__suppress_context__


# --- values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), ("", ""), ("a", "a"), (" a ", " a "), (True, "true"), (False, "false"), (0, "0"), (-3, "-3"),
        (2.5, "2.5"), (Decimal(12), "12"), (Decimal("1E+3"), "1000"), (Decimal("1E-3"), "0.001"),
        (Decimal("2.50"), "2.50"), ('a "b", c\n🎮', 'a "b", c\n🎮'),
        ([], None), (["a"], None), ({"a"}, None), ({}, None), (b"a", None), ((1,), None), (object(), None),
    ],
)  # fmt: skip
def test_a_value_as_the_text_of_a_cell(value: object, text: str | None) -> None:
    assert as_text(value) == text


anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(), st.decimals(allow_nan=False, allow_infinity=False, places=3),
    st.binary(max_size=3), st.lists(st.text(max_size=2), max_size=2), st.sets(st.integers(), max_size=2),
)  # fmt: skip
records = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "email": anything | st.emails() | st.sampled_from(["listed@example.com", "a@example.com", "a@\ud800"]),
        "firstName": anything,
        "lastName": anything,
        "favoriteRole": anything,
        "lvl": anything,
        "emailConsent": anything | st.sampled_from(["yes", "no"]),
    },
)


@given(st.text(min_size=1) | st.just("listed96"), records, st.sampled_from([CONSENT, SILENCE_IS_A_YES, None]))
def test_any_record_has_exactly_one_outcome(
    player_id: str, record: dict[str, Any] | None, consent: Consent | None
) -> None:
    outcome = ask(
        record,
        member=Member(player_id, 3),
        attributes={"Level": "lvl"},
        score_column="ea_atrisk",
        consent=consent,
        do_not_contact=LISTED,
    )
    assert outcome.player_id == player_id
    if isinstance(outcome, Reject):
        assert outcome.reason in REASONS
        assert outcome.column in {"", "email", "FirstName", "LastName", "FavoriteRole", "Level", "emailConsent"}
        return
    assert record is not None
    assert player_id != "listed96"
    assert normalize_entry(outcome.address) != "listed@example.com"
    assert outcome.address.isascii()
    assert list(outcome.attributes) == ["FirstName", "LastName", "FavoriteRole", "Level", "ea_atrisk"]
    meant = [record.get(name) for name in ("firstName", "lastName", "favoriteRole", "lvl")]
    assert [v for v in meant if isinstance(v, str)] == [
        text for text, v in zip(outcome.attributes.values(), meant, strict=False) if isinstance(v, str)
    ]
    if consent:
        said = record.get("emailConsent")
        assert said in ("yes", True, "true") or (said in (None, "") and consent.silence == "opted_in")
        assert type(said) in (str, bool, type(None))


# --- members that are excluded ----------------------------------------------------------------------------

PLAYERS = [f"player-{number}" for number in range(2_000)]


def why(contact: Contact, **about: Any) -> Reject | None:
    defaults: dict[str, Any] = {"defaults": {}, "recently_mailed": lambda _: False, "holdout_percent": 0}
    return exclusion_reason(contact, **(defaults | about))


def test_a_record_without_a_template_column_is_a_reject() -> None:
    contact = Contact("ann", "ann@example.com", {"FirstName": "Ann", "LastName": ""})
    assert why(contact) is None
    assert why(contact, defaults={"FirstName": None, "LastName": "of ours"}) is None
    assert why(contact, defaults={"LastName": None}) == Reject("ann", "missing_value", "LastName")


def test_a_recently_mailed_player_is_excluded() -> None:
    contact = Contact("ann", "ann@example.com", {})
    assert why(contact, recently_mailed={"bob"}.__contains__) is None
    assert why(contact, recently_mailed={"ann"}.__contains__) == Reject("ann", "recently_mailed")


def test_the_holdout_is_its_share_and_the_same_players_always() -> None:
    held = {player for player in PLAYERS if is_held_out(player, 20)}
    assert 300 < len(held) < 500, "a fifth of two thousand, by a hash"
    assert held == {player for player in reversed(PLAYERS) if is_held_out(player, 20)}
    assert {player for player in PLAYERS if is_held_out(player, 10)} < held
    assert not any(is_held_out(player, 0) for player in PLAYERS)
    someone = next(iter(held))
    assert why(Contact(someone, "a@example.com", {}), holdout_percent=20) == Reject(someone, "holdout")
    # known values: another hash would hold out others than the runs before
    assert [player for player in PLAYERS[:40] if is_held_out(player, 10)] == [
        "player-9",
        "player-12",
        "player-29",
        "player-30",
        "player-34",
        "player-35",
    ]


def test_the_holdout_of_a_launch_is_drawn_by_its_name_alone() -> None:
    """Otherwise the same players would be held out of each launch, or a launch would depend on the global holdout."""
    launches = [f"ea_atrisk_2_2026-11-{day:02d}_00-00-00" for day in (1, 2)]
    one, other = ({player for player in PLAYERS if is_held_out(player, 20, launch)} for launch in launches)
    never = {player for player in PLAYERS if is_held_out(player, 20)}
    assert one == {player for player in reversed(PLAYERS) if is_held_out(player, 20, launches[0])}
    for group in (one, other, never):
        assert 300 < len(group) < 500
    for first, second in ((one, other), (one, never), (other, never)):
        assert 40 < len(first & second) < 120, "a fifth of a fifth, if neither decides the other"
    held = min(one - never)
    about = {"holdout_percent": 20, "launch_holdout_percent": 20, "launch": launches[0]}
    assert why(Contact(held, "a@example.com", {}), **about) == Reject(held, "launch_holdout")
    both = min(one & never)
    assert why(Contact(both, "a@example.com", {}), **about) == Reject(both, "holdout"), "the global one comes first"


def test_the_holdout_is_a_share_of_the_recipients() -> None:
    held = next(player for player in PLAYERS if is_held_out(player, 20))
    contact = Contact(held, "a@example.com", {"LastName": ""})
    assert why(contact, defaults={"LastName": None}, holdout_percent=20) == Reject(held, "missing_value", "LastName")
    mailed = why(contact, recently_mailed={held}.__contains__, holdout_percent=20)
    assert mailed == Reject(held, "recently_mailed")
