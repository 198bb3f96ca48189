"""Rows keep their lines, over blocks, chunks and line breaks in cells."""

from __future__ import annotations

import csv
from io import BytesIO, StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohort_flywheel.graph_load import row_blocks
from cohort_flywheel.graph_load.row_blocks import RowBlocks, split_plain


class Dripping(BytesIO):
    """Gives a few bytes at a time, whatever is asked for."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(7)


CELL = st.text(st.sampled_from("ab\",\n '\t;é🐉\u2028\x0b"), max_size=6).map(lambda cell: cell.strip(" "))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(CELL, min_size=2, max_size=4), min_size=1, max_size=12), st.sampled_from(["\n", "\r\n"]))
def test_every_row_and_its_line(rows: list[list[str]], newline: str) -> None:
    file = StringIO(newline="")
    writer = csv.writer(file, lineterminator=newline)
    lines = []
    for row in rows:
        lines.append(file.getvalue().count("\n") + 1)
        writer.writerow(row)
    found: list[list[str]] = []
    found_lines: list[int] = []
    for block in RowBlocks(Dripping(file.getvalue().encode()), "f.csv"):
        found += map(list, block.rows)
        found_lines += list(block.lines)
        assert not block.misquoted
    assert (found, found_lines) == (rows, lines)


PLAIN = st.text(st.sampled_from("ab;é\x01 \t\u2028"), max_size=3)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.lists(PLAIN, min_size=0, max_size=3), min_size=1, max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_a_text_without_quotes_is_read_as_the_parser_reads_it(
    rows: list[list[str]], newline: str, ends_with_newline: bool
) -> None:
    text = newline.join(["a,b", *map(",".join, rows)]) + newline * ends_with_newline
    parsed = csv.reader(StringIO(text, newline=""), strict=True, skipinitialspace=True)
    expected = [(parsed.line_num, [cell.rstrip(" ") for cell in row]) for row in parsed]
    blocks = list(RowBlocks(Dripping(text.encode()), "f.csv"))
    found = [(line, list(row)) for block in blocks for line, row in zip(block.lines, block.rows, strict=True)]
    assert found == expected


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a,b\nc,d\n", [["a", "c"], ["b", "d"]]),
        ("a,b\r\n,d", [["a", ""], ["b", "d"]]),
        ("a\nb,c,d\n", None),
        ("a,b\n\nc,d\n", None),
        ('a,"b"\n', None),
        ("a, b\n", None),
        ("a,b \nc,d\n", None),
        ("a,b\rc\n", None),
        ("a,\x01b\n", None),
        ("a b,c\n", [["a b"], ["c"]]),
    ],
)
def test_what_is_split_without_a_parser(text: str, columns: list[list[str]] | None) -> None:
    assert split_plain(text, 2) == columns


def test_many_blocks_keep_their_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_blocks, "ROWS", 3)
    text = "".join(f'{number},"x\ny"\n' if number % 4 == 0 else f'{number},a"b\n' for number in range(40))
    blocks = list(RowBlocks(Dripping(text.encode()), "f.csv"))
    lines = [line for block in blocks for line in block.lines]
    assert [text.split("\n")[line - 1].partition(",")[0] for line in lines] == [str(number) for number in range(40)]
    misquoted = [line for block in blocks for line in block.misquoted]
    assert misquoted == [line for number, line in enumerate(lines) if number % 4]
