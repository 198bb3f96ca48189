"""Validation of files that are given as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from cohort_flywheel.graph_load.findings import FindingKind, Validation
from cohort_flywheel.graph_load.graph_file import GraphFile
from cohort_flywheel.graph_load.validation import validate

Check = Callable[..., Validation]


def validated(folder: Path, files: dict[str, str | bytes], **options: Any) -> Validation:
    """Validate files by name, in a new folder below `folder`."""
    datas = {name: data if isinstance(data, bytes) else data.encode() for name, data in files.items()}
    graph = [GraphFile(name, partial(BytesIO, data)) for name, data in datas.items()]
    found = validate(graph, folder=Path(mkdtemp(dir=folder)), **options)
    assert Validation.model_validate(json.loads(found.model_dump_json())) == found
    return found


def places(found: Validation) -> list[tuple[FindingKind, str | None, int | None, str | None]]:
    """The kind, file, line and column of each listed finding."""
    return [(each.kind, each.file, each.line, each.column) for each in found.findings]


def one(found: Validation) -> tuple[FindingKind, int | None, str | None]:
    """The kind, line and column of the only finding."""
    assert len(found.findings) == 1, [str(each) for each in found.findings]
    each = found.findings[0]
    return each.kind, each.line, each.column
