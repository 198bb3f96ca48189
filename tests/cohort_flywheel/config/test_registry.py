"""The registry: what it gives, and the sentence and the line for everything that can be written wrongly in it."""

import re
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohort_flywheel.config.data_schema import NAME_COLUMNS
from cohort_flywheel.config.registry import Registry, parse_registry, read_registry
from cohort_flywheel.config.registry_head import Engagement, Tuning
from cohort_flywheel.errors import FlywheelError

SHIPPED = Path(__file__).parents[3] / "include" / "cohorts.yaml"
PATH = Path("cohorts.yaml")

#: A registry of two sound cohorts; the faults below replace one of its numbered lines.
LINES = """\
default_cohort: calm
schedule: "0 0 * * *"
destination: pinpoint
cohorts:
  calm:
    description: Players who stay calm.
    property: ea_calm
    direction: above
    threshold: 2
    threshold_range: {min: 0, max: 9}
    daily: true
    attributes: {Level: level}
    score_as:
    consent:
      attribute: emailConsent
      opted_in: ["yes", true]
      opted_out: ["no", false]
      silence: opted_out
    limits: {min_members: 1, max_members: 90, max_change_percent: 50, max_reject_percent: 30}
  wild:
    description: Players who do not.
    property: ea_wild
    direction: below
    threshold: -3
    threshold_range: {min: -9, max: 0}
    daily: false
    attributes: {}
    score_as: Wildness
    limits: {min_members: 1, max_members: 90, max_change_percent: 50, max_reject_percent: 30}
    consent: none
""".splitlines()


def edited(**lines: str) -> str:
    """The text with some lines replaced: `line_9="    threshold: 3"`."""
    return "\n".join(lines.get(f"line_{number}", line) for number, line in enumerate(LINES, start=1)) + "\n"


def parse(**lines: str) -> Registry:
    return parse_registry(edited(**lines), PATH)


def line_of(sentence: str) -> int:
    match = re.search(r"cohorts\.yaml, line (\d+): ", sentence)
    assert match, sentence
    return int(match[1])


CALM = parse().cohort("calm")


# --- the shipped file ------------------------------------------------------------------------------------

#: Each cohort with its direction, its threshold and the middle score of the modeler's 1,000 sample players.
SHIPPED_COHORTS = {
    "ea_atrisk": ("above", 2, 0),
    "ea_reputation": ("below", -75, 1),
    "ea_altruism": ("above", 25, 6),
    "ea_duty": ("above", 6, 2),
    "ea_mischief": ("above", 2, 0),
    "ea_malice": ("above", 1, 0),
}


def test_the_shipped_registry_has_the_modelers_six() -> None:
    registry = read_registry(SHIPPED)
    assert registry.broken == {}
    assert registry.default_cohort == "ea_atrisk"
    assert registry.daily == ("ea_atrisk",)
    shipped = {name: (c.property, c.direction, c.threshold) for name, c in registry.cohorts.items()}
    assert shipped == {name: (name, *rest[:2]) for name, rest in SHIPPED_COHORTS.items()}


@pytest.mark.parametrize("name", SHIPPED_COHORTS)
def test_no_allowed_threshold_selects_nearly_all_players(name: str) -> None:
    direction, _, middle = SHIPPED_COHORTS[name]
    allowed = read_registry(SHIPPED).cohort(name).threshold_range
    assert allowed.min >= middle if direction == "above" else allowed.max < middle


@pytest.mark.parametrize("name", SHIPPED_COHORTS)
def test_every_shipped_cohort_requires_consent_and_treats_silence_as_opted_out(name: str) -> None:
    consent = read_registry(SHIPPED).cohort(name).consent
    assert consent != "none"
    assert consent.silence == "opted_out"
    assert (consent.opted_in, consent.opted_out) == (["yes", True], ["no", False])


def test_a_threshold_above_the_range_of_a_below_cohort_is_refused() -> None:
    with pytest.raises(FlywheelError, match="2 is outside the range of cohort ea_reputation, which looks below"):
        read_registry(SHIPPED).cohort("ea_reputation").check_threshold(2)


# --- thresholds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0, 2, 9, 2.0, 0.0])
def test_a_whole_number_within_the_range_is_taken(threshold: float) -> None:
    taken = CALM.check_threshold(threshold)
    assert taken == threshold
    assert type(taken) is int


@pytest.mark.parametrize("threshold", [0.75, 8.999999, 0.000001])
def test_a_number_with_decimals_within_the_range_is_taken(threshold: float) -> None:
    assert CALM.check_threshold(threshold) == threshold


@pytest.mark.parametrize(
    "threshold", ["2", "", None, 2.0000001, float("nan"), float("inf"), float("-inf"), True, False, [2], {}]
)
def test_other_than_numbers_are_refused_with_advice(threshold: object) -> None:
    words = "is not a whole number or one with at most six decimals: give one from 0 to 9, or leave it empty"
    with pytest.raises(FlywheelError, match=words):
        CALM.check_threshold(threshold)


@pytest.mark.parametrize("threshold", [-1, 10, 9.000001, 1e300])
def test_outside_the_range_is_refused_with_the_range(threshold: float) -> None:
    with pytest.raises(FlywheelError, match="outside the range of cohort calm, which looks above.* from 0 to 9"):
        CALM.check_threshold(threshold)


@given(st.one_of(st.floats(), st.integers(), st.text(), st.booleans(), st.none(), st.binary()))
def test_any_threshold_is_within_the_range_or_an_error(threshold: object) -> None:
    try:
        taken = CALM.check_threshold(threshold)
    except FlywheelError:
        return
    assert 0 <= taken <= 9
    assert taken == threshold
    assert not isinstance(threshold, bool | str)


# --- a sound file ----------------------------------------------------------------------------------------


def test_a_sound_file() -> None:
    registry = parse()
    assert registry.names == ["calm", "wild"]
    assert registry.daily == ("calm",)
    assert (registry.schedule, registry.destination) == ("0 0 * * *", "pinpoint")
    assert registry.cohort("wild").consent == "none"
    assert registry.cohort("calm").attributes == {"Level": "level"}


def test_the_file_is_read_as_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "cohorts.yaml"
    path.write_text(edited(line_6="    description: Spieler über der Schwelle 🎮"), encoding="utf-8")
    assert read_registry(path).cohort("calm").description.endswith("über der Schwelle 🎮")
    path.write_bytes(edited(line_6="    description: ü").encode("latin-1"))
    with pytest.raises(FlywheelError, match=r"^CF-REG-02: cohorts.yaml is not UTF-8 on line 6: save it as UTF-8$"):
        read_registry(path)
    with pytest.raises(FlywheelError, match=r"cannot be read \(FileNotFoundError\): put cohorts.yaml there"):
        read_registry(tmp_path / "nowhere.yaml")


def test_an_unknown_cohort_is_an_error() -> None:
    with pytest.raises(FlywheelError, match=r"has no cohort 'clam' \(did you mean calm\?\): choose one of calm, wild"):
        parse().cohort("clam")


def test_every_column_of_the_segment_file_is_kept_from_the_registry() -> None:
    for column in NAME_COLUMNS:
        broken = parse(line_12=f"    attributes: {{{column}: nickname}}").broken
        assert f"{column!r}" in broken["calm"]


# --- one cohort's fault ----------------------------------------------------------------------------------

GREMLIN = "x').drop().V('"

FAULTS = {
    # an unknown key
    "unknown key": ({"line_12": "    attributes: {}\n    colour: red"}, 13, "colour is not a known key"),
    "typo": ({"line_9": "    treshold: 2"}, 9, "treshold is not a .*did you mean threshold.*the keys are desc"),
    "typo in a range": ({"line_10": "    threshold_range: {min: 0, maxx: 9}"}, 10, "did you mean max"),
    "typo in consent": ({"line_18": "      silense: opted_out"}, 18, "consent.silense.*did you mean silence"),
    "name as a key": ({"line_6": "    description: Calm.\n    name: wild"}, 7, "name is not a key of a cohort"),
    # a key twice: YAML keeps the last without an error
    "twice": ({"line_9": "    threshold: 2\n    threshold: 3"}, 10, r"threshold .*second time \(first on line 9\)"),
    "twice in a range": ({"line_10": "    threshold_range: {min: 0, max: 9, min: 1}"}, 10, "min occurs a second time"),
    "twice in attributes": ({"line_12": "    attributes: {A: a, A: b}"}, 12, "A occurs a second time"),
    "twice in consent": ({"line_18": "      silence: opted_out\n      silence: opted_in"}, 19, "first on line 18"),
    # a campaign
    "campaign misspelt": ({"line_12": "    attributes: {}\n    campain: {template: back, from: a@x.example}"}, 13,
        "did you mean campaign"),
    "typo in a campaign": ({"line_12": "    attributes: {}\n    campaign: {template: back, form: a@x.example}"}, 13,
        "campaign.form is not a known key.*did you mean from.*the keys are mode, template, from, reply_to"),
    "a campaign without a sender": ({"line_12": "    attributes: {}\n    campaign: {template: back, from: Studio}"}, 13,
        "campaign.from: 'Studio' is not a sender: write an address"),
    "a mode that there is not": (
        {"line_12": "    attributes: {}\n    campaign: {mode: send, template: back, from: a@x.example}"}, 13,
        "campaign.mode: .*'none', 'draft', 'test' or 'launch'"),
    "no template": ({"line_12": "    attributes: {}\n    campaign: {from: a@x.example}"}, 13,
        "the key campaign.template is missing"),
    "a test to nowhere": (
        {"line_12": "    attributes: {}\n    campaign: {template: b, from: a@x.io, test_addresses: [Q <q@x.example>]}"},
        13, "campaign.test_addresses: 'Q <q@x.example>' is not an address"),
    "never again": (
        {"line_12": "    attributes: {}\n    campaign: {template: b, from: a@x.example, not_again_days: 0}"}, 13,
        "campaign.not_again_days"),
    "a holdout that is never measured": (
        {"line_12": "    attributes: {}\n    campaign: {template: b, from: a@x.example, holdout_percent: 10}"}, 13,
        "campaign: .*holdout_percent needs effect_days"),
    "a holdout that may be mailed before it is measured": (
        {"line_12": "    attributes: {}\n    campaign: {template: b, from: a@x.io, not_again_days: 6, effect_days: 7}"},
        13, "campaign: .*effect_days 7 needs not_again_days of 7 or more"),
    "everybody held out": ({"line_12": "    attributes: {}\n    holdout_percent: 100"}, 13, "holdout_percent"),
    # a value of the wrong kind
    "threshold as text": ({"line_9": '    threshold: "2"'}, 9, "threshold: .*a whole number"),
    "threshold of seven decimals": ({"line_9": "    threshold: 2.0000001"}, 9, "threshold: .*six decimals"),
    "threshold as yes": ({"line_9": "    threshold: yes"}, 9, "threshold: .*a whole number"),
    "threshold left empty": ({"line_9": "    threshold:"}, 9, "threshold: .*a whole number"),
    "range of truths": ({"line_10": "    threshold_range: {min: false, max: 9}"}, 10, "range.min: .*a whole number"),
    "range as a list": ({"line_10": "    threshold_range: [0, 9]"}, 10, "threshold_range: "),
    "daily": ({"line_11": "    daily: sometimes"}, 11, "daily: .*boolean"),
    "score_as": ({"line_13": "    score_as: 2"}, 13, "score_as: .*string"),
    "a score with a dash": ({"line_13": "    score_as: my-score"}, 13, "score_as must begin with a letter"),
    "a score as an attribute": ({"line_13": "    score_as: Level"}, 5,
        "score_as Level is the column of another value: write another name"),
    "a score as a name": ({"line_13": "    score_as: LastName"}, 5, "score_as LastName is the column of another"),
    "a range of decimals": ({"line_10": "    threshold_range: {min: 0, max: 1.5}"}, 9,
        "threshold: 2 is outside threshold_range: write a number from 0 to 1.5, or widen"),
    "attributes as a list": ({"line_12": "    attributes: [level]"}, 12, "attributes: "),
    "attribute without a name": ({"line_12": '    attributes: {Level: ""}'}, 12, "attributes.Level: .*1 character"),
    "a path to an attribute": ({"line_12": "    attributes: {Level: stats.level}"}, 12,
        r"attributes.Level: 'stats.level' is not .* write a path into a map as a list, as in \[stats, level\]"),
    "a path into a list": ({"line_12": '    attributes: {Level: "levels[0]"}'}, 12,
        "attributes.Level: .* an item of a list is not read: copy the value to an attribute of its own"),
    "a path with a dot": ({"line_12": "    attributes: {Level: [a, b.c]}"}, 12, r"attributes.Level.1: .* \[b, c\]"),
    "a path with a number": ({"line_12": "    attributes: {Level: [levels, 0]}"}, 12, "attributes.Level.1: .*string"),
    "a path of nothing": ({"line_12": "    attributes: {Level: []}"}, 12, "attributes.Level: .* at least 1 item"),
    "an attribute with a blank at its end": ({"line_12": '    attributes: {Level: "level "}'}, 12,
        "attributes.Level: 'level ' has a blank at an end, .* write the attribute's name as the contacts table has it"),
    "an attribute with an invisible character": ({"line_12": '    attributes: {Level: "level\\u200b"}'}, 12,
        "attributes.Level: .* an invisible character"),
    "an attribute of blanks": ({"line_12": '    attributes: {Level: " "}'}, 12, "attributes.Level: .* a blank at an"),
    "description left empty": ({"line_6": '    description: ""'}, 6, "description: .*1 character"),
    "a value that holds itself": ({"line_6": "    description: &a [*a]"}, 6, "description: .*string"),
    # a value that cannot be
    "direction": ({"line_8": "    direction: beyond"}, 8, "direction: .*'above' or 'below'"),
    "threshold outside": ({"line_9": "    threshold: 10"}, 9, "threshold.* 10 is outside.* from 0 to 9"),
    "range upside down": ({"line_10": "    threshold_range: {min: 9, max: 0}"}, 10, "min 9 is above max 0: swap them"),
    "a column of ours": ({"line_12": "    attributes: {FirstName: nick}"}, 12, "FirstName.*already: leave them out"),
    "Gremlin as a cohort": ({"line_5": f'  "{GREMLIN}":'}, 5, "must begin with a letter.*rename"),
    "Gremlin as a property": ({"line_7": f'    property: "{GREMLIN}"'}, 7, "property must begin with a letter"),
    "property with a line break": ({"line_7": '    property: "ea_calm\\n"'}, 7, "property must begin with a letter"),
    "property too long": ({"line_7": f"    property: {'a' * 51}"}, 7, "property: .*50 characters"),
    "column with a dash": ({"line_12": "    attributes: {a-b: c}"}, 12, "attributes.a-b must begin with a letter"),
    # consent
    "consent as another word": ({"line_14": "    consent: maybe", **dict.fromkeys(
        ("line_15", "line_16", "line_17", "line_18"), "")}, 14, "^consent(:| must).*none"),
    "consent left empty": ({"line_14": "    consent:", **dict.fromkeys(
        ("line_15", "line_16", "line_17", "line_18"), "")}, 14, "^consent(:| must).*none"),
    "a path to the consent": ({"line_15": "      attribute: preferences.email"}, 15,
        r"^consent.attribute: 'preferences.email' is not .* as a list, as in \[preferences, email\]"),
    "a path to the consent, in brackets": ({"line_15": "      attribute: \"preferences['email']\""}, 15,
        r"^consent.attribute: .* write a path into a map as a list"),
    "a consent attribute that begins with a blank": ({"line_15": '      attribute: " emailConsent"'}, 15,
        "^consent.attribute: .* a blank at an end"),
    "a consent attribute with a no-break space": ({"line_15": '      attribute: "email\\xa0Consent"'}, 15,
        "^consent.attribute: .* an invisible character"),
    "yes is not a list": ({"line_16": "      opted_in: yes"}, 16, "^consent.opted_in: .*list"),
    "nothing means yes": ({"line_16": "      opted_in: []"}, 16, "^consent.opted_in: .*1 item"),
    "nothing means no": ({"line_17": "      opted_out: []"}, 17, "^consent.opted_out: .*1 item"),
    "silence": ({"line_18": "      silence: golden"}, 18, "^consent.silence: .*'opted_in' or 'opted_out'"),
    # a threshold's history
    "a history in another order": ({"line_9": "    threshold:\n      - {from: 2026-11-02, threshold: 2}\n"
        "      - {from: 2026-06-01, threshold: 3}"}, 9, "threshold: the entries must be in the order of their dates"),
    "a date twice": ({"line_9": "    threshold:\n      - {from: 2026-11-02, threshold: 2}\n"
        "      - {from: 2026-11-02, threshold: 3}"}, 9, "threshold: .* each date once: sort them"),
    "a history of nothing": ({"line_9": "    threshold: []"}, 9, "threshold: .*1 item"),
    "a date in quotes": ({"line_9": "    threshold:\n      - {from: 2026-06-01, threshold: 3}\n"
        '      - {from: "2026-11-02", threshold: 2}'}, 11, "threshold.1.from is not a date: write it as 2026-11-02"),
    "a date with a time": ({"line_9": "    threshold:\n      - from: 2026-11-02 07:30:00\n        threshold: 2"}, 10,
        "threshold.0.from is not a date: write it as 2026-11-02, without quotes and without a time"),
    "midnight is a time": ({"line_9": "    threshold:\n      - from: 2026-11-02 00:00:00\n        threshold: 2"}, 10,
        "threshold.0.from is not a date"),
    "an entry without a date": ({"line_9": "    threshold:\n      - threshold: 2"}, 10, "threshold.0.from is missing"),
    "an entry without a number": ({"line_9": "    threshold:\n      - from: 2026-11-02"}, 10,
        "threshold.0.threshold is missing"),
    "an entry that is a number": ({"line_9": "    threshold: [2, 3]"}, 9, "threshold.0: "),
    "a typo in an entry": ({"line_9": "    threshold:\n      - {form: 2026-11-02, threshold: 2}"}, 10,
        "threshold.0.form is not a known key.*did you mean from.*the keys are from, threshold"),
    "an entry outside the range": ({"line_9": "    threshold:\n      - {from: 2026-11-02, threshold: 10}"}, 9,
        "threshold.* 10 is outside.* from 0 to 9"),
    # limits
    "limits upside down": ({"line_19": "    limits: {min_members: 9, max_members: 8, max_change_percent: 1,"
        " max_reject_percent: 1}"}, 19, "limits: min_members 9 is above max_members 8: swap them"),
    "a limit below zero": ({"line_19": "    limits: {min_members: -1, max_members: 8, max_change_percent: 1,"
        " max_reject_percent: 1}"}, 19, "limits.min_members: .*greater than or equal to 0"),
    "more than all rejected": ({"line_19": "    limits: {min_members: 1, max_members: 8, max_change_percent: 1,"
        " max_reject_percent: 101}"}, 19, "limits.max_reject_percent: .*less than or equal to 100"),
    "a typo in limits": ({"line_19": "    limits: {min_member: 1, max_members: 8, max_change_percent: 1,"
        " max_reject_percent: 1}"}, 19, "limits.min_member is not a known key.*did you mean min_members"),
    "a limit left out": ({"line_19": "    limits: {min_members: 1, max_members: 8, max_change_percent: 1}"}, 19,
        "limits.max_reject_percent is missing"),
    "a limit twice": ({"line_19": "    limits: {min_members: 1, min_members: 2, max_members: 8,"
        " max_change_percent: 1, max_reject_percent: 1}"}, 19, "min_members occurs a second time"),
    # required properties
    "the id is required": ({"line_12": "    attributes: {}\n    where: {playerId: {equals: wayne96}}"}, 5,
        r"where names \['playerId'\], which is the id or the score: leave it out"),
    "the score is required": ({"line_12": "    attributes: {}\n    where: {ea_calm: {above: 3}}"}, 5,
        "where names.*ea_calm"),
    "one of nothing": ({"line_12": "    attributes: {}\n    where: {status: {one_of: []}}"}, 13,
        "where.status.one_of: .*1 item"),
    "an empty text": ({"line_12": '    attributes: {}\n    where: {status: {equals: ""}}'}, 13,
        "where.status.equals: input should be true, false, a text that is not empty, or a number"),
    "a date as a value": ({"line_12": "    attributes: {}\n    where: {born: {equals: 2026-11-02}}"}, 13,
        "where.born.equals: input should be true"),
    "a property with a dash": ({"line_12": "    attributes: {}\n    where: {a-b: {equals: c}}"}, 13,
        "where.a-b must begin with a letter"),
    "where as a list": ({"line_12": "    attributes: {}\n    where: [status]"}, 13, "where: "),
    "a word as a condition": ({"line_12": "    attributes: {}\n    where: {status: Active}"}, 13,
        r"where.status: a condition is a mapping: write, for example, \{equals: Active\}"),
    "a condition of nothing": ({"line_12": "    attributes: {}\n    where:\n      status: {}"}, 14,
        "where.status: it needs above, below or both, or equals, or one_of: write one of these"),
    "two conditions": ({"line_12": "    attributes: {}\n    where: {level: {equals: 3, above: 2}}"}, 13,
        "where.level: it needs above, below or both"),
    "above as text": ({"line_12": '    attributes: {}\n    where: {level: {above: "3"}}'}, 13,
        "where.level.above: input should be a whole number"),
    "no number between": ({"line_12": "    attributes: {}\n    where: {level: {above: 2.5, below: 2.5}}"}, 13,
        "where.level: no number is above 2.5 and below 2.5: correct one of them"),
    "a typo in a condition": ({"line_12": "    attributes: {}\n    where:\n      level: {abov: 2}"}, 14,
        "where.level.abov is not a known key.*did you mean above.*the keys are above, below, equals, one_of"),
    "a consent under both": ({"line_17": '      opted_out: ["no", "yes"]'}, 14, "^consent: .*'yes'.* under both"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_one_cohort_has_its_line_and_leaves_the_other_as_it_is(fault: str) -> None:
    lines, number, words = FAULTS[fault]
    if "line_5" in lines:
        lines = lines | {"line_1": "default_cohort: wild"}
    registry = parse(**lines)
    ((name, sentence),) = registry.broken.items()
    start, said = re.split(r"line \d+: ", sentence, maxsplit=1)
    assert start == f"cohort {name} in cohorts.yaml, "
    assert re.search(words, said), sentence
    assert line_of(sentence) == number
    assert "function-" not in sentence, "pydantic's marks are no words for a studio"
    assert registry.names == ["wild", name]
    assert registry.cohort("wild") == parse().cohort("wild")
    with pytest.raises(FlywheelError) as error:
        registry.cohort(name)
    assert str(error.value) == f"CF-REG-02: {sentence}"


KEYS = {
    **{line.strip().split(":")[0]: f"line_{n}" for n, line in enumerate(LINES[5:12], start=6)},
    "consent.attribute": "line_15",
    "consent.opted_in": "line_16",
    "consent.opted_out": "line_17",
    "consent.silence": "line_18",
    "limits": "line_19",
}


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key_is_named_with_a_line_of_its_cohort(key: str) -> None:
    sentence = parse(**{KEYS[key]: ""}).broken["calm"]
    assert sentence.endswith(f": the key {key} is missing: add it")
    assert line_of(sentence) in ((14,) if "." in key else (5, 6, 7))


def test_consent_cannot_be_left_out() -> None:
    sentence = parse(**dict.fromkeys((f"line_{n}" for n in range(14, 19)), "")).broken["calm"]
    assert sentence.endswith("the key consent is missing: add it")


@pytest.mark.parametrize("name", ["Email Consent", "e-mail/consent", "consent:email", "Zustimmung_Ä", "$consent"])
def test_any_other_name_may_be_an_attribute_of_the_table(name: str) -> None:
    registry = parse(line_12=f'    attributes: {{Level: "{name}"}}', line_15=f'      attribute: "{name}"')
    assert registry.cohort("calm").attributes == {"Level": name}
    consent = registry.cohort("calm").consent
    assert not isinstance(consent, str)
    assert consent.attribute == name


def test_the_column_of_the_score_has_a_name_of_its_own() -> None:
    registry = parse(line_27="    attributes: {ea_wild: feral}")
    assert registry.cohort("wild").columns() == [*NAME_COLUMNS, "ea_wild", "Wildness"]
    assert registry.cohort("calm").columns() == [*NAME_COLUMNS, "Level"]


@pytest.mark.parametrize("body", ["", " 5", " [a, b]", " calm"])
def test_a_cohort_that_is_not_a_mapping(body: str) -> None:
    registry = parse_registry(edited() + f"  odd:{body}\n", PATH)
    assert registry.names == ["calm", "wild", "odd"]
    assert registry.broken["odd"] == "cohort odd in cohorts.yaml, line 31: a cohort is a mapping of keys:" \
        " write its keys below it"  # fmt: skip


def test_a_cohort_defined_twice_is_broken() -> None:
    registry = parse_registry(edited() + "\n".join(["", *LINES[4:19]]).replace("threshold: 2", "threshold: 0"), PATH)
    assert registry.names == ["wild", "calm"]
    assert "line 32: calm occurs a second time (first on line 5): remove one of the two" in registry.broken["calm"]


@pytest.mark.parametrize("name", ["2024", "1.5", "2026-11-22", "on", "null"])
def test_a_name_that_yaml_reads_as_another_type_affects_only_that_cohort(name: str) -> None:
    registry = parse(line_20=f"  {name}:")
    assert "calm" in registry.cohorts
    assert registry.names == ["calm", name]
    if not name.isalpha():
        assert line_of(registry.broken[name]) == 20


def test_a_duplicate_in_a_shared_consent_breaks_every_cohort_that_shares_it() -> None:
    """Without the error, the teams that share it would get the last of two values, and not know it."""
    registry = parse(
        line_14="    consent: &consent",
        line_18="      silence: opted_out\n      silence: opted_in",
        line_30="    consent: *consent",
    )
    assert set(registry.broken) == {"calm", "wild"}


@pytest.mark.parametrize(
    ("yes", "no"),
    [("yes", '"yes"'), ("true", '"true"'), ('"true"', "true"), ('"False"', '"False"'), ("1", '"1"'), ("false", "no")],
)
def test_no_answer_means_both_opted_in_and_opted_out(yes: str, no: str) -> None:
    """A record's true and its "true" are one answer, so the registry's are as well."""
    if yes == "yes":
        yes = '"yes"'
    registry = parse(line_16=f"      opted_in: [{yes}]", line_17=f"      opted_out: [{no}]")
    assert "under both opted_in and opted_out: leave each in one" in registry.broken["calm"]


# --- thresholds with a history ---------------------------------------------------------------------------

HISTORY = """    threshold:
      - {from: 2026-06-01, threshold: 3}
      - {from: 2026-11-02, threshold: 2}
      - {from: 2026-11-20, threshold: 5}"""
MIDNIGHT = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("as_of", "threshold"),
    [
        (datetime(2026, 6, 1, tzinfo=UTC), 3),
        (MIDNIGHT - timedelta(microseconds=1), 3),
        (MIDNIGHT, 2),
        (MIDNIGHT.astimezone(timezone(timedelta(hours=-5))), 2),
        (MIDNIGHT.replace(tzinfo=timezone(timedelta(hours=5))), 3),  # of the 2nd there, of the 1st in UTC
        (datetime(2026, 11, 19, 23, 59, tzinfo=UTC), 2),
        (datetime(2026, 11, 20, tzinfo=UTC), 5),
        (datetime(2036, 1, 1, tzinfo=UTC), 5),
    ],
)
def test_an_entry_is_in_force_from_the_first_as_of_at_or_after_its_date(as_of: datetime, threshold: int) -> None:
    assert parse(line_9=HISTORY).cohort("calm").threshold_at(as_of, UTC) == threshold


@pytest.mark.parametrize(
    ("as_of", "threshold"),
    [
        (datetime(2026, 11, 1, 23, tzinfo=UTC), 2),  # midnight of the 2nd in Berlin, in winter
        (datetime(2026, 11, 1, 22, 59, tzinfo=UTC), 3),
        (datetime(2026, 5, 31, 22, tzinfo=UTC), 3),  # midnight of the 1st in Berlin, in summer
    ],
)
def test_the_date_of_an_entry_is_of_the_zone(as_of: datetime, threshold: int) -> None:
    calm = parse(line_9=HISTORY).cohort("calm")
    assert calm.threshold_at(as_of, ZoneInfo("Europe/Berlin")) == threshold
    with pytest.raises(FlywheelError, match="no threshold in force at 2026-05-31 23:59 Europe/Berlin, as its history"):
        calm.threshold_at(datetime(2026, 5, 31, 21, 59, tzinfo=UTC), ZoneInfo("Europe/Berlin"))


def test_the_timezone_is_utc_by_default() -> None:
    assert parse().timezone == "UTC"
    assert parse(line_3="destination: ses\ntimezone: Europe/Berlin").timezone == "Europe/Berlin"
    with pytest.raises(FlywheelError, match="cohorts.yaml, line 4: timezone: 'Berlin' is not a time zone: write UTC"):
        parse(line_3="destination: ses\ntimezone: Berlin")


def test_before_its_history_a_cohort_has_no_threshold() -> None:
    early = datetime(2026, 5, 31, 23, 59, tzinfo=UTC)
    with pytest.raises(FlywheelError, match=r"calm has no threshold in force at 2026-05-31 23:59 UTC.* 2026-06-01:"):
        parse(line_9=HISTORY).cohort("calm").threshold_at(early, UTC)


def test_a_threshold_without_a_history_was_always_in_force() -> None:
    assert CALM.threshold_at(datetime(1970, 1, 1, tzinfo=UTC), UTC) == 2
    assert CALM.thresholds() == [2]


days = st.lists(st.dates(date(2026, 1, 1), date(2026, 3, 1)), min_size=1, unique=True).map(sorted)


@given(days, st.datetimes(datetime(2025, 12, 1), datetime(2026, 4, 1)))
def test_the_one_in_force_is_the_last_that_has_begun(dates: list[date], naive: datetime) -> None:
    history = "".join(f"\n      - {{from: {day}, threshold: {n % 10}}}" for n, day in enumerate(dates))
    cohort, as_of = parse(line_9=f"    threshold:{history}").cohort("calm"), naive.replace(tzinfo=UTC)
    begun = [n % 10 for n, day in enumerate(dates) if day <= naive.date()]
    if begun:
        assert cohort.threshold_at(as_of, UTC) == begun[-1]
    else:
        with pytest.raises(FlywheelError, match="no threshold in force"):
            cohort.threshold_at(as_of, UTC)


# --- the floor of a snapshot -----------------------------------------------------------------------------


def test_the_floor_is_the_loosest_of_the_history_by_default() -> None:
    assert CALM.snapshot_floor() == 2
    assert parse(line_9=HISTORY).cohort("calm").snapshot_floor() == 2
    assert parse(line_9=HISTORY + "\n    floor: 0").cohort("calm").snapshot_floor() == 0
    below = "    threshold:\n      - {from: 2026-06-01, threshold: -2}\n      - {from: 2026-11-02, threshold: -3}"
    assert parse(line_24=below).cohort("wild").snapshot_floor() == -2
    assert parse(line_24=below + "\n    floor: -1").cohort("wild").snapshot_floor() == -1


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ({"line_9": HISTORY + "\n    floor: 3"}, "floor: 3 is stricter than the threshold 2.*write 2 or a looser"),
        ({"line_9": "    threshold: 2\n    floor: 3"}, "floor: 3 is stricter than the threshold 2"),
        ({"line_24": "    threshold: -3\n    floor: -4"}, "floor: -4 is stricter than the threshold -3"),
        ({"line_9": "    threshold: 2\n    floor: -1"}, "floor: -1 is outside threshold_range"),
        ({"line_9": '    threshold: 2\n    floor: "0"'}, "floor: .*a whole number"),
    ],
)
def test_a_floor_stricter_than_the_thresholds_is_refused(lines: dict[str, str], words: str) -> None:
    (sentence,) = parse(**lines).broken.values()
    assert re.search(words, sentence), sentence


def test_a_floor_equal_to_the_threshold_is_taken() -> None:
    assert parse(line_9="    threshold: 2\n    floor: 2").cohort("calm").snapshot_floor() == 2
    assert parse(line_24="    threshold: -3\n    floor: -3").cohort("wild").snapshot_floor() == -3


# --- required properties, notifiers and the pool ---------------------------------------------------------


def test_conditions_on_other_properties() -> None:
    where = "{status: {equals: Active}, level: {above: 1, below: 2.5}, beta: {one_of: [true, 2.0]}}"
    found = parse(line_12=f"    attributes: {{}}\n    where: {where}").cohort("calm").where
    assert {name: condition.to_mapping() for name, condition in found.items()} == {
        "status": {"equals": "Active"}, "level": {"above": 1, "below": 2.5}, "beta": {"one_of": [True, 2]},
    }  # fmt: skip
    assert CALM.where == {}


NOTIFY = """destination: pinpoint
graph_pool: neptune
notify:
  on_call:
    - notifier: airflow.providers.amazon.aws.notifications.sns.SnsNotifier
      target_arn: arn:aws:sns:us-east-1:123456789012:on-call
  producers:
    - {notifier: some.Module, to: ["a", "b"]}"""


def test_notifiers_and_the_pool_of_the_graph() -> None:
    registry = parse(line_3=NOTIFY)
    assert registry.graph_pool == "neptune"
    assert [t["target_arn"] for t in registry.notify.on_call] == ["arn:aws:sns:us-east-1:123456789012:on-call"]
    assert registry.notify.producers == [{"notifier": "some.Module", "to": ["a", "b"]}]


def test_notifications_and_pool_are_empty_by_default() -> None:
    assert parse().graph_pool is None
    assert parse().opt_outs is None
    assert parse(line_3="destination: ses\nopt_outs: none").opt_outs == "none"
    assert parse().notify.model_dump() == {"on_call": [], "producers": [], "approvers": [], "success": []}
    assert (read_registry(SHIPPED).graph_pool, read_registry(SHIPPED).notify.on_call) == (None, [])


def test_approvers_are_empty_by_default() -> None:
    assert parse().approval.model_dump() == {"approvers": [], "own_runs": False, "hours": 12}
    registry = parse(line_3="destination: ses\napproval: {approvers: [ann, bo], hours: 3, own_runs: true}")
    assert (registry.approval.approvers, registry.approval.hours, registry.approval.own_runs) == (
        ["ann", "bo"],
        3,
        True,
    )


def test_a_cohort_has_campaign_and_holdout_settings() -> None:
    calm = parse(line_11="    daily: true\n    holdout_percent: 10\n    campaign: {template: back, from: a@x.example}")
    found = calm.cohort("calm")
    assert (found.holdout_percent, found.campaign and found.campaign.mode) == (10, "none")
    assert parse().cohort("calm").holdout_percent == 0
    assert parse().cohort("calm").campaign is None


@pytest.mark.parametrize("name", SHIPPED_COHORTS)
def test_every_shipped_cohort_has_limits_and_only_ea_atrisk_may_be_empty(name: str) -> None:
    limits = read_registry(SHIPPED).cohort(name).limits
    assert limits.min_members == (0 if name == "ea_atrisk" else 1)
    assert limits.max_members < 10**7
    assert limits.max_change_percent > 0
    assert 0 < limits.max_reject_percent < 100


# --- which cohorts run every day -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "daily"),
    [
        ("    daily: true", True),
        ("    daily: false", False),
        ("    daily: no", False),
        ("    daily: fasle", True),
        ("    dayly: false", True),
        ("    daily:", True),
        ("    daily: 0", True),
        ("    daily: true\n    daily: false", True),
        ("    daily: false\n    daily: true", True),
        ("", True),
    ],
)
def test_a_broken_cohort_keeps_its_daily_dag_unless_daily_is_clearly_false(line: str, daily: bool) -> None:
    registry = parse(line_11=line, line_8="    direction: broken")
    assert "calm" in registry.broken
    assert registry.daily == (("calm",) if daily else ())


def test_a_cohort_that_is_not_a_mapping_keeps_its_daily_dag() -> None:
    assert parse_registry(edited() + "  odd: 5\n", PATH).daily == ("calm", "odd")


def test_a_duplicate_cohort_keeps_its_daily_dag() -> None:
    copy = "\n".join(["", *LINES[4:19]]).replace("daily: true", "daily: false")
    assert parse_registry(edited() + copy, PATH).daily == ("calm",)


# --- the file's fault ------------------------------------------------------------------------------------

FILE_FAULTS = {
    "default of another kind": ({"line_1": "default_cohort: 5"}, 1, "default_cohort: .*string"),
    "typo": ({"line_3": "destinaton: pinpoint"}, 3, "destinaton is not a known key.*did you mean destination"),
    "unknown key": ({"line_3": "destination: pinpoint\nsplines: 1"}, 4, "splines is not a known key"),
    "a number for a key": ({"line_3": "destination: pinpoint\n5: x"}, 4, "5"),
    "twice": ({"line_3": "destination: pinpoint\ndestination: ses"}, 4, r"second time \(first on line 3\)"),
    "cohorts twice": ({"line_20": "cohorts:\n  wild:"}, 20, r"cohorts occurs a second time \(first on line 4\)"),
    "destination": ({"line_3": "destination: ../evil"}, 3, "destination must begin with a letter"),
    "opt-outs that are not none": ({"line_3": "destination: ses\nopt_outs: all"}, 4, "opt_outs: .*'none'"),
    "an empty name": ({"line_3": 'destination: ses\napproval: {approvers: [""]}'}, 4, "approval.approvers"),
    "an approval of no time": ({"line_3": "destination: ses\napproval: {hours: 0}"}, 4, "approval.hours"),
    "approvals misspelt": ({"line_3": "destination: ses\napproval: {aprovers: []}"}, 4, "did you mean approvers"),
    "a pool without a name": ({"line_3": 'destination: pinpoint\ngraph_pool: ""'}, 4, "graph_pool: .*1 character"),
    "a misspelt group": ({"line_3": "destination: pinpoint\nnotify: {oncall: []}"}, 4,
        "notify.oncall.*did you mean on_call"),
    "a target without a class": ({"line_3": "destination: pinpoint\nnotify:\n  producers:\n    - {to: ana}"}, 5,
        "notify.producers: each target needs the key notifier"),
    "a target that is a word": ({"line_3": "destination: pinpoint\nnotify:\n  on_call: [slack]"}, 5,
        "notify.on_call.0"),
    "a path without a class": ({"line_3": "destination: pinpoint\nnotify:\n  on_call: [{notifier: some.module}]"}, 5,
        "notify.on_call: each target needs the key notifier"),
    "bad YAML": ({"line_21": "    description: a: b"}, 21, "not YAML"),
    "an open quote": ({"line_30": '    consent: "none'}, 31, "not YAML"),
    "a tab": ({"line_21": "\tdescription: x"}, 21, "not YAML"),
    "a control character": ({"line_21": "    description: a\x07b"}, 21, "not YAML"),
    "a second document": ({"line_30": "    consent: none\n---\na: b"}, 31, "not YAML"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_a_fault_of_the_file_is_an_error_with_its_line(fault: str) -> None:
    lines, number, words = FILE_FAULTS[fault]
    with pytest.raises(FlywheelError, match=words) as error:
        parse(**lines)
    assert line_of(str(error.value)) == number


@pytest.mark.parametrize("missing", ["default_cohort", "schedule", "destination", "cohorts"])
def test_a_missing_key_of_the_file_is_named(missing: str) -> None:
    number = next(n for n, line in enumerate(LINES, start=1) if line.startswith(missing))
    lines = dict.fromkeys((f"line_{n}" for n in (range(4, 31) if missing == "cohorts" else [number])), "")
    with pytest.raises(FlywheelError, match=f"the key {missing} is missing: add it"):
        parse(**lines)


@pytest.mark.parametrize("text", ["", "# nothing", "[]", "calm", "- calm", "---\n"])
def test_a_file_that_is_not_a_mapping(text: str) -> None:
    with pytest.raises(FlywheelError, match="line 1: the file must be a mapping with the keys default_cohort, sched"):
        parse_registry(text, PATH)


@pytest.mark.parametrize("cohorts", ["{}", "[]", "", "calm"])
def test_a_file_without_cohorts(cohorts: str) -> None:
    with pytest.raises(FlywheelError, match="line 4: cohorts: "):
        parse(line_4=f"cohorts: {cohorts}", **dict.fromkeys((f"line_{n}" for n in range(5, 31)), ""))


def test_a_default_cohort_that_the_file_does_not_have_leaves_the_others(tmp_path: Path) -> None:
    """A renamed cohort leaves `default_cohort` behind: the main DAG says so, and each other cohort runs."""
    registry = parse(line_1="default_cohort: clam")
    assert set(registry.cohorts) == {"calm", "wild"}
    assert (registry.default_cohort, registry.names, registry.daily) == ("clam", ["calm", "wild", "clam"], ("calm",))
    with pytest.raises(FlywheelError, match="'clam' is not a cohort.*did you mean calm.*one of calm, wild") as error:
        registry.cohort("clam")
    assert line_of(str(error.value)) == 1


@given(st.data())
def test_any_edit_of_one_line_gives_a_registry_or_an_error(data: st.DataObject) -> None:
    number = data.draw(st.integers(1, len(LINES)))
    indent = re.match(r" *", LINES[number - 1])
    assert indent
    typed = data.draw(
        st.one_of(
            st.text(max_size=20),
            st.text(alphabet="{}[]:,&*!|>-? #'\"\n\tayz019.~", max_size=20),
            st.sampled_from(LINES).map(str.strip),
        )
    )
    try:
        registry = parse(**{f"line_{number}": indent[0] + typed})
    except FlywheelError as error:
        assert "cohorts.yaml, line " in str(error)
        return
    assert registry.default_cohort in registry.names
    assert set(registry.daily) <= set(registry.names)
    for name, cohort in registry.cohorts.items():
        assert cohort.name == name
        assert re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII)
        assert [cohort.check_threshold(threshold) for threshold in cohort.thresholds()] == cohort.thresholds()


# --- the studio's own names ------------------------------------------------------------------------------

NAMES = """\
schema:
  vertex_label: customer
  player_id: customer id
  contacts_key: player_id
  address: [profile, email]
  last_name: [surname]
"""


def test_the_names_are_the_modelers_by_default() -> None:
    names = parse().data_schema
    assert (names.vertex_label, names.player_id, names.contacts_key) == ("player", "playerId", "playerId")
    assert names.name_columns == {"FirstName": "firstName", "LastName": "lastName", "FavoriteRole": "favoriteRole"}
    assert names.address == "email"


def test_a_studio_has_names_of_its_own_and_a_cohort_a_label() -> None:
    registry = parse(
        line_3=f"destination: pinpoint\n{NAMES}",
        line_7="    property: ea_calm\n    vertex_label: guest\n    connection: neptune_reader\n    may_be_empty: true",
        line_12="    attributes: {Level: [stats, level]}",
        line_15="      attribute: [profile, emailConsent]",
    )
    names = registry.data_schema
    assert (names.vertex_label, names.player_id, names.contacts_key) == ("customer", "customer id", "player_id")
    assert (names.address, names.last_name, names.first_name) == (("profile", "email"), "surname", "firstName")
    calm, wild = registry.cohort("calm"), registry.cohort("wild")
    assert (calm.schema_of(names).vertex_label, wild.schema_of(names)) == ("guest", names)
    assert (calm.attributes, calm.connection, calm.may_be_empty) == (
        {"Level": ("stats", "level")}, "neptune_reader", True,
    )  # fmt: skip
    assert not isinstance(calm.consent, str)
    assert calm.consent.attribute == ("profile", "emailConsent")


@pytest.mark.parametrize(
    ("lines", "number", "words"),
    [
        ("schema: {label: x}", 4, "schema.label is not a known key.*: the keys are vertex_label, player_id"),
        ("schema:\n  address: profile.email", 5, r"schema.address: 'profile.email' .* \[profile, email\]"),
        ("schema:\n  address:\n    - profile\n    - a.b", 7, r"schema.address.1: 'a.b' is not"),
        ("schema: {player_id: ~id}", 4, "schema.player_id: '~id' is a name of Neptune's load format"),
        ('schema: {vertex_label: "player "}', 4, "schema.vertex_label: 'player ' has a blank at an end"),
        ("schema: {contacts_key: [a, b]}", 4, "schema.contacts_key: .*string"),
        ("schema:", 4, "schema: .*dictionary"),
    ],
)
def test_a_fault_of_the_names_is_an_error_with_its_line(lines: str, number: int, words: str) -> None:
    with pytest.raises(FlywheelError, match=words) as error:
        parse(line_3=f"destination: pinpoint\n{lines}")
    assert line_of(str(error.value)) == number


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("    property: pid", "property pid is the players' id: name the score"),
        ("    property: playerId", "property playerId is the players' id"),
        ("    property: ea_calm\n    where: {pid: {equals: a}}", "where names pid, which is the id: leave it out"),
        (
            "    property: ea_calm\n    connection: reader",
            "connection: 'reader' is not the id of an Airflow connection",
        ),
    ],
)
def test_a_cohort_cannot_use_the_id_as_its_score(line: str, words: str) -> None:
    sentence = parse(line_3="destination: pinpoint\nschema: {player_id: pid}", line_7=line).broken["calm"]
    assert words in sentence
    assert line_of(sentence) == (8 if "ea_calm" not in line else 9)


def test_the_names_of_a_cohort_fit_into_the_header_of_a_snapshot() -> None:
    """S3 takes 2 KB of metadata with an object, in ASCII: `ü` is 6 characters."""
    names = [f"n{number:02}".ljust(48, "x") for number in range(28)]
    sentence = "characters long together, and the header of a snapshot holds 1,400: name fewer properties"

    def calm(*names: str, label: str = "player") -> str | None:
        where = "".join(f"\n      {name}: {{equals: a}}" for name in names)
        schema = f"destination: pinpoint\nschema: {{vertex_label: {label}}}"
        return parse(line_3=schema, line_7=f"    property: ea_calm\n    where: {where or '{}'}").broken.get("calm")

    assert calm(*names[:25]) is None
    assert sentence in (calm(*names) or "")
    assert calm(label="ü" * 200) is None
    assert sentence in (calm(label="ü" * 250) or "")


# --- tuning ----------------------------------------------------------------------------------------------


def test_the_tuning_is_optional_and_within_its_limits() -> None:
    assert parse().tuning == Tuning()
    keys = "shard_members: 2000, lookups_in_flight: 9, memory_mb: 128"
    tuned = parse(line_3=f"destination: pinpoint\ntuning: {{{keys}}}").tuning
    assert tuned == Tuning(shard_members=2000, lookups_in_flight=9, memory_mb=128)
    with pytest.raises(FlywheelError, match=r"line 4: tuning.shard_members: input should be greater than or equal"):
        parse(line_3="destination: pinpoint\ntuning: {shard_members: 10}")
    with pytest.raises(FlywheelError, match=r"line 4: tuning.shards is not a known key.*: the keys are lookups_in"):
        parse(line_3="destination: pinpoint\ntuning: {shards: 10}")


# --- engagement ------------------------------------------------------------------------------------------


def test_the_events_are_read_only_if_switched_on_and_limits_need_them() -> None:
    assert (parse().engagement, parse().engagement.read_events) == (Engagement(), False)
    head = "destination: pinpoint\nengagement: "
    limits = parse(line_3=f"{head}{{read_events: true, max_bounce_rate: 0.05, min_sends: 10}}").engagement
    assert (limits.max_bounce_rate, limits.max_complaint_rate, limits.min_sends) == (0.05, None, 10)
    with pytest.raises(FlywheelError, match=r"line 4: engagement: max_bounce_rate and .* need read_events: true"):
        parse(line_3=f"{head}{{max_bounce_rate: 0.05}}")
    with pytest.raises(FlywheelError, match=r"line 4: engagement.max_complaint_rate: input should be less than or eq"):
        parse(line_3=f"{head}{{read_events: true, max_complaint_rate: 5}}")
    with pytest.raises(FlywheelError, match=r"line 4: engagement: campaign_counts needs read_events: true"):
        parse(line_3=f"{head}{{campaign_counts: true}}")
    with pytest.raises(FlywheelError, match=r"line 4: engagement.tracing is not a known key \(did you mean tracking"):
        parse(line_3=f"{head}{{tracing: all}}")


@pytest.mark.parametrize("schedule", ["0 0 * * 1-5", "@weekly", "30 5 1 * *", "0 0 * 1 *"])
def test_events_are_read_only_by_a_schedule_that_fires_every_day(schedule: str) -> None:
    """An as-of reads the objects of 48 hours: those between two as-ofs further apart would be lost."""
    switch = "destination: pinpoint\nengagement: {read_events: true}"
    with pytest.raises(FlywheelError, match=r"engagement.read_events needs a schedule that fires every day"):
        parse(line_2=f'schedule: "{schedule}"', line_3=switch)
    assert parse(line_2='schedule: "15 */6 * * *"', line_3=switch).engagement.read_events


def test_what_is_tracked_may_need_a_consent_of_its_own() -> None:
    head = "destination: pinpoint\nengagement: "
    consent = (
        "tracking_consent: {attribute: [profile, tracking], opted_in: ['yes'], opted_out: ['no'], silence: opted_out}"
    )
    found = parse(line_3=f"{head}{{tracking: clicks, {consent}}}").engagement
    assert (found.tracking, found.tracking_consent and found.tracking_consent.attribute) == (
        "clicks",
        ("profile", "tracking"),
    )
    assert (Engagement().tracking, Engagement().tracking_consent) == ("all", None)
    for line, sentence in (
        (f"tracking: none, {consent}", "engagement: tracking: none tracks no player: remove tracking_consent"),
        ("tracking: opens", "engagement.tracking: input should be 'none', 'clicks' or 'all'"),
        ("tracking_consent: {atribute: a}", r"tracking_consent.atribute is not a known key \(did you mean attribute"),
    ):
        with pytest.raises(FlywheelError, match=f"line 4: .*{sentence}"):
            parse(line_3=f"{head}{{{line}}}")
