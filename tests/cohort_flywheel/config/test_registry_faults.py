"""Whatever is wrong in one cohort of the shipped registry, every other cohort stays as it is."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cohort_flywheel.config.registry import Registry, parse_registry, read_registry
from cohort_flywheel.errors import FlywheelError

SHIPPED = Path(__file__).parents[3] / "include" / "cohorts.yaml"
PATH = Path("cohorts.yaml")
TEXT = SHIPPED.read_text(encoding="utf-8")
DATA: dict[str, Any] = yaml.safe_load(TEXT)
SOUND = read_registry(SHIPPED).cohorts

#: A cohort with every key that there is.
FULL: dict[str, Any] = copy.deepcopy(DATA["cohorts"]["ea_atrisk"]) | {
    "threshold": [{"from": date(2026, 6, 1), "threshold": 3}, {"from": date(2026, 11, 2), "threshold": 2}],
    "where": {"status": {"equals": "Active"}, "level": {"one_of": [1, True]}, "age": {"above": 17, "below": 90.5}},
    "attributes": {"Level": "level", "Guild": ["profile", "guild"]},
    "vertex_label": "customer",
    "connection": "neptune_reader",
    "may_be_empty": False,
    "score_as": "Risk",
    "campaign": DATA["cohorts"]["ea_atrisk"]["campaign"] | {"holdout_percent": 10, "effect_days": 7},
}
#: For any key; which of them a key may have, `ACCEPTED` says.
WRONG: list[Any] = [
    None, True, False, 0, -1, 3, 10**30, -(10**30), 2.5, float("nan"), float("inf"), "", " ", "under", "2", "0x10",
    "none", "a\0b", "\N{ZERO WIDTH SPACE}", "x" * 300, date(2026, 11, 2), datetime(2026, 11, 2, tzinfo=UTC),
    [], [None], [[]], [{}], ["x"], [1, 1], {}, {"a": 1}, {"min": None}, {1: 2}, {None: None}, {"a": {"b": {"c": []}}},
    {"from": "x", "threshold": None}, [{"from": "x"}], [{"from": date(2026, 1, 1), "threshold": 10**30}],
]  # fmt: skip
DELETE = object()

Path_ = tuple[Any, ...]


def paths(value: Any, above: Path_ = ()) -> Iterator[Path_]:
    """Each key and each item of a value, at every level."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield (*above, key)
        yield from paths(inner, (*above, key))


def changed(value: Any, path: Path_, new: Any) -> Any:
    value = copy.deepcopy(value)
    at = value
    for key in path[:-1]:
        at = at[key]
    if new is DELETE:
        del at[path[-1]]
    else:
        at[path[-1]] = new
    return value


class _Dumper(yaml.CSafeDumper):
    """Without anchors of its own: equal values of the test are not one node."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def dump(data: Any) -> str:
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


#: Beside ea_atrisk in a registry that is parsed thousands of times.
FEW = ("ea_reputation", "ea_altruism")
#: The shipped registry before and after ea_atrisk, its first cohort.
BEFORE = dump({key: value for key, value in DATA.items() if key != "cohorts"}) + "cohorts:\n"
AFTER = "".join(f"  {line}\n" for line in dump({name: DATA["cohorts"][name] for name in FEW}).splitlines())


def registry_of(cohort: Any) -> tuple[Registry, int, int]:
    """The shipped registry with another ea_atrisk and the FEW, and between which lines ea_atrisk is."""
    block = dump({"ea_atrisk": cohort}).replace("\n", "\n  ").rstrip(" ")
    return parse_registry(f"{BEFORE}  {block}{AFTER}", PATH), BEFORE.count("\n") + 1, (BEFORE + block).count("\n")


def check_others(
    registry: Registry, first: int = 1, last: int = 10**6, beside: Collection[str] = SOUND.keys() - {"ea_atrisk"}
) -> str | None:
    """The sentence of ea_atrisk, if it has a fault; the cohorts `beside` it are as they are shipped."""
    others = {name: cohort for name, cohort in registry.cohorts.items() if name in SOUND and name != "ea_atrisk"}
    assert others == {name: SOUND[name] for name in beside}
    sentences = {name: text for name, text in registry.broken.items() if name not in others}
    for sentence in sentences.values():
        found = re.search(r"cohorts\.yaml, line (\d+): .{10}", sentence)
        assert found, sentence
        assert first <= int(found[1]) <= last, sentence
        assert "\0" not in sentence
    return next(iter(sentences.values()), None)


def test_the_full_cohort_is_sound() -> None:
    assert check_others(registry_of(FULL)[0], beside=FEW) is None


@pytest.mark.parametrize("path", paths(FULL), ids=lambda path: ".".join(map(str, path)))
def test_a_key_that_is_missing_or_has_any_wrong_value_leaves_the_others(path: Path_) -> None:
    for new in [DELETE, *WRONG]:
        registry, first, last = registry_of(changed(FULL, path, new))
        sentence = check_others(registry, first, last, FEW)
        if sentence is None:
            value = registry.cohorts["ea_atrisk"].model_dump(by_alias=True, mode="json")
            assert is_sound(path, new), (path, new, value)


#: Keys that may be left out, or left empty.
OPTIONAL = {
    "vertex_label",
    "connection",
    "may_be_empty",
    "floor",
    "where",
    "above",
    "below",
    "score_as",
    "holdout_percent",
    "campaign",
    "mode",
    "not_again_days",
    "effect_days",
    "test_addresses",
}


def is_sound(path: Path_, new: Any) -> bool:
    """Whether a value that was accepted is one that the key may have."""
    key, kind = path[-1], type(new)
    if new is DELETE:
        return (
            key in OPTIONAL
            or (len(path) > 1 and path[0] == "attributes")
            or (len(path) == 2 and path[0] == "where")
            or isinstance(key, int)
        )
    if new is None:
        return (
            key in {"floor", "campaign", "not_again_days", "score_as", "vertex_label", "connection"}
            or path[0] == "where"
        )
    if path[0] == "threshold" and key == "from":
        return kind is date
    if key in ("daily", "may_be_empty"):
        return kind is bool
    if key in ("threshold", "floor", "min", "max") and new == 2.5:
        return True
    numbers = ("threshold", "floor", "min", "max", "holdout_percent", "not_again_days", "effect_days")
    if key in numbers or path[0] == "limits":
        return kind is int and abs(new) < 2**53
    if path[0] == "where":
        return is_sound_condition(path, new)
    if path[:2] in (("consent", "opted_in"), ("consent", "opted_out")):
        answers = new if kind is list else [new]
        return all(isinstance(each, str | bool) or (isinstance(each, int) and abs(each) < 2**53) for each in answers)
    if key == "attributes":
        return kind is dict
    if path[0] == "attributes" or path == ("consent", "attribute"):  # a name, or a path
        return new not in ("", " ", []) and all(isinstance(name, str) for name in new)
    if key in ("test_addresses", "consent"):
        return new in ([], "none")
    return kind is str and new != ""


def is_sound_condition(path: Path_, new: Any) -> bool:
    """The same of a key of `where`."""
    if len(path) < 3:
        return new == {}
    if path[2] in ("above", "below"):
        return new is None or (type(new) in (int, float) and abs(new) < 90)
    values = new if isinstance(new, list) else [new]
    return all(isinstance(each, str | bool | int | float) and each != "" for each in values)


@pytest.mark.parametrize("pair", itertools.combinations(FULL, 2), ids=".".join)
def test_two_faults_leave_the_others(pair: tuple[str, str]) -> None:
    """A validator that reads another field meets one that has a fault of its own, or none."""
    for one, two in itertools.product([DELETE, "x"], repeat=2):
        registry, first, last = registry_of(changed(changed(FULL, (pair[0],), one), (pair[1],), two))
        check_others(registry, first, last, FEW)


def test_a_direction_that_is_not_one_leaves_the_others_beside_a_floor() -> None:
    sentence = check_others(parse_registry(TEXT.replace("direction: above", "direction: under", 1), PATH))
    assert sentence == (
        f"cohort ea_atrisk in cohorts.yaml, line {line_of('direction: above')}: direction: input should be 'above' or"
        " 'below'"
    )
    assert check_others(parse_registry(TEXT.replace("    direction: above\n", "", 1), PATH)) == (
        f"cohort ea_atrisk in cohorts.yaml, line {line_of('  ea_atrisk:')}: the key direction is missing: add it"
    )


def line_of(words: str) -> int:
    return next(n for n, line in enumerate(TEXT.splitlines(), start=1) if words in line and not line.startswith("#"))


#: What stands in the place of one line of ea_atrisk, and what the sentence says; None: the cohort is sound.
ODD_LINES: dict[str, tuple[str, str, str | None]] = {
    "an alias without its anchor": ("floor: 0", "floor: *zero", r"\*zero has no &zero above it"),
    "an alias as a key": ("floor: 0", "*zero : 0", r"\*zero has no &zero above it"),
    "a list as a key": ("floor: 0", "? [a]\n    : 0", "unhashable key"),
    "a mapping as a key": ("floor: 0", "? {a: b}\n    : 0", "unhashable key"),
    "a number as a key": ("floor: 0", "5: 0", "5 is not a known key"),
    "a truth as a key": ("floor: 0", "on: 0", "on is not a known key"),
    "nothing as a key": ("floor: 0", "~: 0", "~ is not a known key"),
    "a date as a key": ("floor: 0", "2026-11-02: 0", "2026-11-02 is not a known key"),
    "NUL in a key": ("floor: 0", '"a\\0b": 0', r"'a\\x00b' is not a known key"),
    "a property called on": ("floor: 0", "floor: 0\n    where: {on: {equals: x}}", None),
    "an attribute called 5": ("attributes: {}", "attributes: {5: level}", "attributes.5 must begin with a letter"),
    "a merge": ("floor: 0", "<<: {floor: 1}", None),
    "a merge that is overridden": ("floor: 0", "<<: {threshold: 3, floor: 1}\n    floor: 0", None),
    "a merge of merges": ("floor: 0", "<<: [{floor: 1}, {floor: 0}]", None),
    "a merge of a word": ("floor: 0", "<<: none", "expected a mapping or list of mappings for merging"),
    "two merges": ("floor: 0", "<<: {floor: 0}\n    <<: {daily: true}", "<< occurs a second time"),
    "a merge of itself": ("floor: 0", "floor: 0\n    more: &more {<<: *more}", "more is not a known key"),
    "a key twice in a merge": ("floor: 0", "<<: {floor: 0, floor: 1}", "floor occurs a second time"),
    "an alias to itself": ("floor: 0", "floor: &floor [*floor]", "floor: "),
    "deep nesting": ("floor: 0", "floor: " + "[" * 5000 + "]" * 5000, "nested more than 20 levels deep"),
    "deep mappings": ("floor: 0", "floor: " + "{a: " * 500 + "}" * 500, "nested more than 20 levels deep"),
    "a huge number": ("floor: 0", "floor: 1" + "0" * 30, "floor: .*less than or equal to 9007199254740992"),
    "a number of 5,000 digits": ("floor: 0", "floor: " + "9" * 5000, "not a valid int"),
    "a huge range": ("max: 100}", "max: 99999999999999999999}", "threshold_range.max: .*less than or equal to 90"),
    "not a number": ("floor: 0", "floor: .nan", "floor: .*a whole number"),
    "infinity": ("floor: 0", "floor: -.inf", "floor: .*a whole number"),
    "an octal number": ("floor: 0", "floor: 010", "floor: .*a whole number"),
    "a hexadecimal number": ("floor: 0", "floor: 0x10", "floor: .*a whole number"),
    "a number of base 60": ("threshold: 2", "threshold: 1:30", "threshold: .*a whole number"),
    "a decimal of base 60": ("threshold: 2", "threshold: 1:30.5", "threshold: .*a whole number"),
    "a number with an underscore": ("floor: 0", "floor: 1_0", "floor: .*a whole number"),
    "a decimal with an underscore": ("threshold: 2", "threshold: 1_0.5", "threshold: .*a whole number"),
    "an exponent": ("threshold: 2", "threshold: 2.0e+0", "threshold: .*at most six decimals and 11 digits"),
    "a decimal": ("threshold: 2", "threshold: 2.5", None),
    "a whole number with decimals": ("threshold: 2", "threshold: 2.0", None),
    "six decimals": ("threshold: 2", "threshold: 0.000001", None),
    "seven decimals": ("threshold: 2", "threshold: 0.0000001", "threshold: .*at most six decimals and 11 digits"),
    "twelve digits": ("max: 100}", "max: 100000.000001}", "threshold_range.max: .*at most six decimals and 11 digits"),
    "a date as text": ("description: Players who", "description: 2026-11-02 #", "description: .*valid string"),
    "a number as text": ("description: Players who", "description: 2026 #", "description: .*valid string"),
    "NUL in a description": ("description: Players who", 'description: "a\\0b" #', "has the control character"),
    "a day that does not exist": ("floor: 0", "floor: 2026-02-30", "not a valid timestamp"),
    "a time that does not exist": ("floor: 0", "floor: 2026-11-02T25:00:00Z", "not a valid timestamp"),
    "a tagged int": ("floor: 0", "floor: !!int x", "not a valid int"),
    "a tagged bool": ("daily: true", "daily: !!bool maybe", "not a valid bool"),
    "a tagged timestamp": ("floor: 0", "floor: !!timestamp x", "not a valid timestamp"),
    "a tagged float": ("floor: 0", 'floor: !!float ""', "not a valid float"),
    "a tagged set": ("attributes: {}", "attributes: !!set {a, b}", "attributes: .*valid dictionary"),
    "a tagged list of pairs": ("attributes: {}", "attributes: !!pairs [a: b]", "attributes: .*valid dictionary"),
    "bytes that are not": ("property: ea_atrisk", "property: !!binary x", "decode"),
    "an unknown tag": ("floor: 0", "floor: !python/name:os.system x", "could not determine a constructor"),
    "Python's own tag": ("floor: 0", "floor: !!python/object/apply:os.system [x]", "could not determine a constructor"),
    "a tag on the cohort": ("  ea_atrisk:\n", "  ea_atrisk: !!set\n", "could not|mapping of keys|a cohort is"),
    "truth as a word": ("daily: true", 'daily: "true"', "daily: .*valid boolean"),
    "truth as a number": ("daily: true", "daily: 1", "daily: .*valid boolean"),
    "a limit that is true": ("min_members: 0", "min_members: true", "limits.min_members: .*valid integer"),
    "a limit as text": ("min_members: 0", 'min_members: "0"', "limits.min_members: .*valid integer"),
    "a limit as a float": ("min_members: 0", "min_members: 0.0", "limits.min_members: .*valid integer"),
    "a value of seven decimals": ("floor: 0", "floor: 0\n    where: {a: {equals: 0.1234567}}", "where.a.equals: input"),
    "a value of 65 bits": ("floor: 0", f"floor: 0\n    where: {{a: {{equals: {2**63}}}}}", "a.equals: .* 64 bits"),
    "a value of 64 bits": ("floor: 0", f"floor: 0\n    where: {{a: {{equals: {2**63 - 1}}}}}", None),
    "a condition on limits": (
        "floor: 0", "floor: 0\n    where: {limits: {abov: 1}}", "did you mean above.*: the keys are above, below"
    ),
    "a value of 1.0": ("floor: 0", "floor: 0\n    where: {a: {equals: 1.0}}", None),
    "a word as a condition": ("floor: 0", "floor: 0\n    where: {a: Active}", "where.a: a condition is a mapping"),
    "an empty line of everything": ("  ea_atrisk:\n", "  ea_atrisk:\n    <<: *consent\n", r"\*consent has no &consent"),
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD_LINES)
def test_unusual_yaml_affects_only_one_cohort(odd: str) -> None:
    before, after, words = ODD_LINES[odd]
    assert before in TEXT
    head, _, rest = TEXT.partition("\ncohorts:\n")
    last = line_of("  ea_reputation:") + after.count("\n")
    # the other cohorts share its consent by an alias, so it stays where it is
    registry = parse_registry(f"{head}\ncohorts:\n" + rest.replace(before, after, 1), PATH)
    sentence = check_others(registry, line_of("  ea_atrisk:"), last)
    assert sentence is None if words is None else sentence and re.search(words, sentence), sentence


def test_a_copied_cohort_with_its_anchor_breaks_only_the_copy() -> None:
    """The first cohort holds the anchor that the others use; PyYAML refuses a file with two."""
    rest = TEXT[TEXT.index("  ea_atrisk:\n") :]
    block = rest[: rest.index("  ea_reputation:")]
    registry = parse_registry(TEXT + block.replace("ea_atrisk:", "ea_copy:", 1), PATH)
    assert registry.cohorts == SOUND
    assert re.search(
        rf"line \d+: &consent occurs a second time \(first on line {line_of('&consent')}\): write \*consent here",
        registry.broken["ea_copy"],
    )
    assert registry.daily == ("ea_atrisk", "ea_copy")


def test_an_exponential_merge_is_refused_quickly() -> None:
    bomb = "".join(f"\n      - &b{n} {{<<: [{', '.join([f'*b{n - 1}'] * 9)}]}}" for n in range(1, 40))
    text = TEXT.replace("    floor: 0\n", f"    more:\n      - &b0 {{a: b}}{bomb}\n    <<: *b39\n", 1)
    sentence = check_others(parse_registry(text, PATH))
    assert sentence
    assert "is not a known key" in sentence


NAMES = {
    "a b": False, "ea-odd": True, "2024": True, "on": True, "~": False, '""': False, '"a\\0b"': False,
    "a..b": False, "a" * 300: False, "../evil": False, "[a]": False, "{a: b}": False, "müde": True, '"a\\nb"': False,
    "*missing ": False,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_an_invalid_name_affects_only_its_cohort_and_gives_no_invalid_dag_id(name: str) -> None:
    at = line_of("  ea_reputation:")
    lines = TEXT.splitlines()
    lines[at - 1 : at - 1] = [f"  ? {name}", "  : {}"]
    registry = parse_registry("\n".join(lines), PATH)
    (label,) = registry.broken
    sentence = check_others(registry, at, at)
    assert sentence
    assert label.isprintable()
    assert label.isascii() or label == name
    assert registry.daily == (("ea_atrisk", label) if NAMES[name] else ("ea_atrisk",))


@pytest.mark.parametrize(
    ("encode", "sentence"),
    [
        (lambda text: b"\xef\xbb\xbf" + text.encode(), None),
        (lambda text: text.replace("\n", "\r\n").encode(), None),
        (lambda text: text.replace("\n", "\r").encode(), None),
        (lambda text: text.encode("utf-16"), "cohorts.yaml is encoded as UTF-16 or UTF-32: save it as UTF-8"),
        (lambda text: text.encode("utf-16-be"), "cohorts.yaml is encoded as UTF-16 or UTF-32: save it as UTF-8"),
        (lambda text: text.encode("utf-32"), "cohorts.yaml is encoded as UTF-16 or UTF-32: save it as UTF-8"),
        (lambda text: b"# caf\xe9\n" + text.encode(), "cohorts.yaml is not UTF-8 on line 1: save it as UTF-8"),
    ],
)
def test_the_encodings_of_the_file(tmp_path: Path, encode: Any, sentence: str | None) -> None:
    path = tmp_path / "cohorts.yaml"
    path.write_bytes(encode(TEXT))
    if sentence is None:
        assert read_registry(path).cohorts == SOUND
    else:
        with pytest.raises(FlywheelError) as error:
            read_registry(path)
        assert str(error.value) == f"CF-REG-02: {sentence}"


# --- the keys beside the cohorts ----------------------------------------------------------------------------

HEAD = {
    **{key: value for key, value in DATA.items() if key != "cohorts"},
    "graph_pool": "neptune",
    "opt_outs": "none",
    "notify": {"on_call": [{"notifier": "some.Module", "to": ["a"]}], "producers": [], "approvers": []},
}


@pytest.mark.parametrize("path", [*paths(HEAD), ("cohorts",)], ids=lambda path: ".".join(map(str, path)))
def test_a_fault_outside_the_cohorts_is_an_error_with_a_line(path: Path_) -> None:
    whole = HEAD | {"cohorts": {name: DATA["cohorts"][name] for name in ("ea_atrisk", *FEW)}}
    for new in [DELETE, *WRONG]:
        text = dump(changed(whole, path, new))
        try:
            registry = parse_registry(text, PATH)
        except FlywheelError as error:
            assert re.match(r"CF-REG-02: cohorts\.yaml, line \d+: .{10}", str(error)), str(error)
        else:
            assert path[0] in (
                "graph_loads",
                "default_cohort",
                "graph_pool",
                "opt_outs",
                "notify",
                "approval",
                "destination",
                "cohorts",
            )
            assert registry.default_cohort in registry.names


@settings(max_examples=200)
@given(st.data())
def test_any_edit_of_the_shipped_file_gives_a_registry_or_an_error(data: st.DataObject) -> None:
    lines = TEXT.splitlines()
    number = data.draw(st.integers(line_of("default_cohort:"), len(lines)))
    indent = re.match(r" *", lines[number - 1])
    assert indent
    lines[number - 1] = indent[0] + data.draw(
        st.text(
            alphabet="{}[]:,&*!|>-?<% #'\"\n\tayz019.~\0\ufeff\u2028\xfc",
            max_size=30,
        )
    )
    try:
        registry = parse_registry("\n".join(lines), PATH)
    except FlywheelError as error:
        assert re.match(r"CF-REG-02: cohorts\.yaml, line \d+: ", str(error))
        return
    assert registry.default_cohort in registry.names
    for name, sentence in registry.broken.items():
        assert name.isprintable()
        assert re.search(r"cohorts\.yaml, line \d+: ", sentence)
