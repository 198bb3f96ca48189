"""A file of a graph load, wherever its bytes are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cohort_flywheel.graph_load.compression import ByteStream


@dataclass(frozen=True)
class GraphFile:
    """A file to load.

    name: how findings call it, such as its object key; `.gz` and `.bz2` are compressed, as for the loader. open: gives
    the file's bytes from the start; it is called again where ids repeat.
    """

    name: str
    open: Callable[[], ByteStream]
