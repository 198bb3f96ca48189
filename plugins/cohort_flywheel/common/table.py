"""A table of text for a log or a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def format_table(rows: Sequence[Sequence[str]], aligned: str = "") -> str:
    """Return the rows in columns that are two blanks apart.

    `aligned` has `<` or `>` for each of the first columns; the others are aligned to the left.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ways = aligned.ljust(len(widths), "<")
    return "\n".join(
        "  ".join(f"{cell:{way}{width}}" for cell, way, width in zip(row, ways, widths, strict=True)).rstrip()
        for row in rows
    )
