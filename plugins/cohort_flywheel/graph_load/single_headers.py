"""Copies of vertex files whose headers say `(single)`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO


def with_single_headers(stream: BinaryIO, name: str, single: Sequence[str]) -> Iterator[bytes]:
    """Yield the bytes of a copy of the file in which the columns that `single` names have `(single)` in the header.

    name: as the loader reads it; `.gz` and `.bz2` are read and written compressed. single: property names or globs such
    as `ea_*`. The rows, and the header of an edge file, are copied as they are. Raises FlywheelError for a header that
    cannot be read and for a column that is an array.
    """
    raise NotImplementedError
