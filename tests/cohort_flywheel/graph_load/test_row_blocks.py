"""Rows keep their lines, over blocks, chunks and line breaks in cells."""

from __future__ import annotations

import csv
from io import BytesIO, StringIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohort_flywheel.graph_load import row_blocks
from cohort_flywheel.graph_load.row_blocks import RowBlocks


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
    found, found_lines = [], []
    for block in RowBlocks(Dripping(file.getvalue().encode()), "f.csv"):
        found += block.rows
        found_lines += list(block.lines)
        assert not block.misquoted
    assert (found, found_lines) == (rows, lines)


def test_many_blocks_keep_their_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_blocks, "ROWS", 3)
    text = "".join(f'{number},"x\ny"\n' if number % 4 == 0 else f'{number},a"b\n' for number in range(40))
    blocks = list(RowBlocks(Dripping(text.encode()), "f.csv"))
    lines = [line for block in blocks for line in block.lines]
    assert [text.split("\n")[line - 1].partition(",")[0] for line in lines] == [str(number) for number in range(40)]
    misquoted = [line for block in blocks for line in block.misquoted]
    assert misquoted == [line for number, line in enumerate(lines) if number % 4]
