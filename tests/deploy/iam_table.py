"""The table of include/iam/README.md: each action and resource of a policy, and what is refused without it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from local.config import ROOT
from tests.deploy import stack
from tests.deploy.iam_checker import statements

DOCUMENT = ROOT / "include" / "iam" / "README.md"

#: Policy, statement, action or resource as its file has it, and the call that is refused without it or a page.
Row = tuple[str, str, str, str]


def as_written(name: str, resolved: Any) -> dict[str, str]:
    """The actions and resources of a resolved policy, as its file has them, with the template's names in them."""
    found: dict[str, str] = {}
    for there, here in zip(statements(resolved), statements(stack.policy(name)), strict=True):
        for kind in ("Action", "Resource"):
            pair = [each if isinstance(each, list) else [each] for each in (there.get(kind, []), here.get(kind, []))]
            found |= dict(zip(*pair, strict=True))
    return {there: f"`{here.removeprefix('arn:${AWS::Partition}:')}`" for there, here in found.items()}


def assert_is_kept(of: str, rows: Iterable[Row]) -> None:
    """The page must have exactly this table between the two marks of `of`; WRITE_IAM_TABLE=1 puts it there."""
    head = "| policy | statement | action or resource | refused without it, or the page that demands it |"
    lines = [f"| {name} | {sid} | {what} | {f'<{why}>' if '://' in why else why} |" for name, sid, what, why in rows]
    table = "\n".join([head, "| --- | --- | --- | --- |", *lines])
    begin, end = f"<!-- begin: {of} -->", "<!-- end -->"
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(begin)
    kept, _, after = rest.partition(end)
    if os.environ.get("WRITE_IAM_TABLE"):
        DOCUMENT.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}", encoding="utf-8")
        kept = table
    assert kept.strip() == table, "include/iam/README.md has other policies: run this test once with WRITE_IAM_TABLE=1"
