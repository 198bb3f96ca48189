"""Validation of the CSV files of a graph load before anything is loaded: streaming, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cohort_flywheel.graph_load.findings import Validation


@dataclass(frozen=True)
class GraphFile:
    """A file to load.

    name: how findings call it, such as its object key; `.gz` and `.bz2` are compressed, as for the loader. open: gives
    the file's bytes from the start; it is called again where ids repeat.
    """

    name: str
    open: Callable[[], BinaryIO]


def validate(
    files: Sequence[GraphFile],
    *,
    folder: Path,
    single: Sequence[str] = (),
    self_contained: bool = False,
    in_order: bool = True,
    find_in_graph: Callable[[list[str]], Iterable[str]] | None = None,
    max_findings: int = 20,
    memory_mb: int = 128,
) -> Validation:
    """Validate files as Neptune's bulk loader would read them; nothing is raised for a fault of a file.

    folder: an empty folder on local disk for ids; it takes at most the size of the files. single: names or globs of the
    properties whose headers will get `(single)`. self_contained: both ends of each edge must be in the files.
    in_order: each file is a load of its own, so vertices must come before their edges. find_in_graph: takes at most
    1,000 vertex ids and returns those that the graph has; it is asked for ends that are not in the files, unless
    self_contained. memory_mb: the limit of DuckDB, in MiB.
    """
    raise NotImplementedError
