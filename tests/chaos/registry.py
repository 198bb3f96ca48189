"""The registry and the DAG files of the installation, and the edits that the driver makes in them."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from local.config import ROOT
from tests.chaos.plan import MINUTES

#: How often a task is tried again.
RETRIES = 8
#: Seconds between two looks of a sensor; each look starts a process.
POKE_SECONDS = 15
#: What the registry says there, line by line.
_LINES: Mapping[str, str] = {
    r'schedule: "0 0 \* \* \*"': f'schedule: "*/{MINUTES} * * * *"',
    r"destination: pinpoint": "destination: ses\nopt_outs: none\n"
    "engagement: {read_events: true, write_graph: true}\ntuning: {import_poll_seconds: 2}",
    r"approval: .*": "approval: {approvers: [ann, ana], hours: 12}",
    r"    limits: \{.*\}": "    limits: {min_members: 0, max_members: 100000, max_change_percent: 100000,"
    " max_reject_percent: 100}",
    r"    holdout_percent: 0": "    holdout_percent: 5",
    r"    consent: (\*consent)": "    campaign:\n      mode: none\n      template: at_risk\n"
    "      from: Studio <play@studio.example>\n      not_again_days: 30\n"
    "      test_addresses: [qa@studio.example]\n    holdout_percent: 5\n    consent: \\1",
}


def prepare(folder: Path, retry_seconds: int) -> None:
    """Copy dags/ and include/ into a folder, for a schedule of minutes, launches by SES and quick retries."""
    for name in ("dags", "include"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in sorted((folder / "dags").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        quick = f'DEFAULT_ARGS | {{"retry_delay": __import__("datetime").timedelta(seconds={retry_seconds}),'
        # a contact list takes one import at a time, so with retry delays of seconds a run needs more retries
        quick += f' "retries": {RETRIES}, "retry_exponential_backoff": False, "poke_interval": {POKE_SECONDS}}}'
        path.write_text(text.replace("default_args=DEFAULT_ARGS", f"default_args={quick}"), encoding="utf-8")
    path = folder / "include" / "cohorts.yaml"
    text = path.read_text(encoding="utf-8")
    for pattern, ours in _LINES.items():
        text, number = re.subn(f"(?m)^{pattern}$", ours, text)
        if not number:
            raise ValueError(f"cohorts.yaml has no line {pattern}")
    path.write_text(text, encoding="utf-8")


def edit(folder: Path, cohort: str, change: str) -> dict[str, JsonValue]:
    """Edit one cohort as a user does; return what was written.

    `template` gives the cohort a new template, of which no player was mailed yet; `holdout` holds out one percent
    more; `threshold` writes the threshold's number again with a decimal, which is the same number.
    """
    path = folder / "include" / "cohorts.yaml"
    text = path.read_text(encoding="utf-8")
    begin = text.index(f"\n  {cohort}:\n")
    following = re.compile(r"\n  \w+:\n").search(text, begin + 1)
    end = following.start() if following else len(text)
    part, written = text[begin:end], ""
    if change == "template":
        written = f"at_risk{len(list((folder / 'include' / 'email').iterdir())) + 1}"
        shutil.copytree(folder / "include" / "email" / "at_risk", folder / "include" / "email" / written)
        part = re.sub(r"(?m)^      template: \w+$", f"      template: {written}", part)
    elif change == "holdout":
        percent = int(re.findall(r"(?m)^    holdout_percent: (\d+)$", part)[0])
        written = str(min(percent + 1, 20))
        part = re.sub(r"(?m)^    holdout_percent: \d+$", f"    holdout_percent: {written}", part)
    else:
        found = re.findall(r"(?m)^    threshold: (-?\d+)(?:\.0)?$", part)[0]
        written = f"{found}.0"
        part = re.sub(r"(?m)^    threshold: .*$", f"    threshold: {written}", part)
    # at once, as a sync of the bucket does: a parse must not see half of it
    temporary = path.with_suffix(".new")
    temporary.write_text(text[:begin] + part + text[end:], encoding="utf-8")
    temporary.replace(path)
    touch(folder)
    return {"written": written}


def touch(folder: Path) -> None:
    """Have the DAG processor parse the DAG files at once: it does so with a file that is newer than its last parse.

    Two seconds newer, so that the end of a parse under way, which has read the files before, is not later.
    """
    newer = time.time() + 2
    for path in sorted((folder / "dags").glob("*.py")):
        os.utime(path, (newer, newer))
