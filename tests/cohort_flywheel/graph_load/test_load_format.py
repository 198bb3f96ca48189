"""Headers and values of Neptune's load format are read as its documentation says."""

from __future__ import annotations

import pytest

from cohort_flywheel.graph_load.findings import FindingKind
from cohort_flywheel.graph_load.load_format import (
    Column,
    invalid_cells,
    labels_of,
    matches,
    not_boolean,
    parse_header,
    stored_form,
    values_of,
)


def faults(*cells: str) -> list[tuple[FindingKind, str | None]]:
    return [(fault.kind, fault.column) for fault in parse_header(cells)[1]]


def test_every_documented_column() -> None:
    header, found = parse_header(
        [
            *("~id", "~label", "name", "a:Int", "b:int[]", "c:STRING(single)", "d:Date(set)", "e:Long(set)[]"),
            *("f\\:g:Bool", "h:boolean", " i:Datetime ", "é-1:Double"),
        ]
    )
    assert header is not None
    assert (found, header.elements) == ([], "vertices")
    assert header.columns == (
        Column("~id"),
        Column("~label"),
        Column("name"),
        Column("a", "int"),
        Column("b", "int", is_array=True),
        Column("c", "string", "single"),
        Column("d", "date", "set"),
        Column("e", "long", "set", is_array=True),
        Column("f:g", "bool"),
        Column("h", "bool"),
        Column("i", "datetime"),
        Column("é-1", "double"),
    )


def test_a_label_column_is_optional_and_edges_have_ends() -> None:
    header, found = parse_header(["~id", "~from", "~to", "weight:Double(single)"])
    assert header is not None
    assert (header.elements, found, header.names) == ("edges", [], ["~id", "~from", "~to", "weight"])


@pytest.mark.parametrize(
    "cell",
    [
        *(
            "~what",
            "a b:Int",
            "a:Integer",
            "a:Int(list)",
            "a:Int[](set)",
            "a:Int(SINGLE)",
            "a,b:Int",
            "a\nb",
            ":Int",
            "",
        ),
        *("a:b:Int", "a:", "a:Int()"),
    ],
)
def test_a_malformed_column_is_named_by_its_number(cell: str) -> None:
    assert faults("~id", "~label", cell) == [(FindingKind.HEADER_COLUMN, "#3")]
    assert parse_header(["~id", "~label", cell])[0] is None


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (["~id", "~label", "a:Int", "a:Long"], [(FindingKind.REPEATED_COLUMN, "a")]),
        (["~id", "~id"], [(FindingKind.REPEATED_COLUMN, "~id")]),
        (["~label", "a:Int"], [(FindingKind.MISSING_COLUMN, None)]),
        (["~id", "~label", "~from"], [(FindingKind.MISSING_COLUMN, None)]),
        (["~id", "a:Int(single)[]"], [(FindingKind.SINGLE_ARRAY, "a")]),
        (["~id", "~from", "~to", "a:Int[]", "b:Int(set)"], [(FindingKind.EDGE_CARDINALITY, c) for c in "ab"]),
    ],
)
def test_other_faults_of_a_header(cells: list[str], found: list[tuple[FindingKind, str | None]]) -> None:
    assert faults(*cells) == found


def test_a_first_line_of_data_is_not_quoted() -> None:
    header, found = parse_header(["p-1", "player", "jo@example.com", "Jo", "Jo"])
    assert header is None
    assert found
    assert not [each for each in found if "Jo" in f"{each.column} {each.text}" or "jo@" in each.text]


@pytest.mark.parametrize(
    ("kind", "valid", "invalid"),
    [
        ("byte", "-128 127 +5 007", "-129 128 1.0 ١ 1_0 0x1"),
        ("short", "-32768 32767", "-32769 32768"),
        ("int", "-2147483648 2147483647", "-2147483649 2147483648 many 1e3 5L"),
        ("long", "-9223372036854775808 9223372036854775807", f"9223372036854775808 {'9' * 5000}"),
        ("float", "0.5 -.5 5. 1e-3 +1E5 Infinity -Infinity NaN", "INF -INF inf nan 1,5 1f 0x1p3 1_0 e5 ."),
        ("double", "1e400 -0", "-NaN one"),
        (
            "date",
            "2021-07-25 2021-07-25T10:30 2021-07-25T10:30:59 2021-07-25T10:30:59Z 2021-07-25T10:30:59+0200",
            "25.07.2021 2021-7-25 2021-02-30 2021-07-25T25:00 2021-07-25T10:30:59.123Z 20210725 1627171200",
        ),
        ("datetime", "2020-02-29", "2021-02-29"),
        ("string", "anything", ""),
        ("bool", "true perhaps", ""),
    ],
)
def test_values_of_each_type(kind: str, valid: str, invalid: str) -> None:
    for array in (False, True):
        column = Column("x", kind, is_array=array)
        assert invalid_cells(column, {*valid.split(), *invalid.split()}) == set(invalid.split())


def test_arrays_and_labels_are_separated_by_semicolons() -> None:
    whole, text = Column("x", "int", is_array=True), Column("x", is_array=True)
    assert invalid_cells(whole, {"1;2", "1;x", "1;", "1; 2"}) == {"1;x", "1;", "1; 2"}
    assert values_of(text, r"a\;b;c;;d") == ["a;b", "c", "d"]
    assert values_of(text, "") == []
    assert values_of(Column("x"), "a;b") == ["a;b"]
    assert labels_of("player;person") == ["player", "person"]


def test_a_boolean_is_true_or_false_in_lower_case() -> None:
    cells = {"true", "false", "TRUE", "no", "1"}
    assert not_boolean(Column("x", "bool"), cells) == {"TRUE", "no", "1"}
    assert not_boolean(Column("x", "string"), cells) == set()


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [("int", "3", "+03"), ("double", "1", "1.0"), ("bool", "no", "FALSE"), ("string", "a", "a"), ("int", "x", "x")],
)
def test_equal_values_have_one_stored_form(kind: str, one: str, other: str) -> None:
    assert stored_form(Column("x", kind), one) == stored_form(Column("x", kind), other)
    assert stored_form(Column("x", kind), one) != stored_form(Column("x", kind), "true" if kind == "bool" else "7")


def test_single_takes_names_and_globs() -> None:
    assert matches("ea_atrisk", ["ea_*"])
    assert matches("playerId", ["playerId"])
    assert not matches("ea_atrisk", ["EA_*", "ea_", "a*"])
