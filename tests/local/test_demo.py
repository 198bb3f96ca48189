"""`make demo`, as a stranger would run it: it says what came of the run, and leaves nothing running."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable

import psutil  # type: ignore[import-untyped,unused-ignore]  # Airflow brings it

from local.config import ROOT

MARK = "COHORT_FLYWHEEL_TEST_OF_THE_DEMO"


def marked(value: str) -> list[str]:
    """The processes that inherited our mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline())[:200])
        except psutil.Error:  # another user's, or gone
            continue
    return found


def test_the_demo_imports_three_players_and_leaves_nothing_running(figure: Callable[[str], None]) -> None:
    value = uuid.uuid4().hex
    environ = {key: text for key, text in os.environ.items() if key not in ("COHORT", "THRESHOLD")} | {MARK: value}
    with subprocess.Popen(
        [sys.executable, "-m", "local", "demo"],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as demo:
        assert demo.stdout
        lines = [demo.stdout.readline()]
        assert marked(value), "the mark is not seen, so the end of this test would prove nothing"
        lines += demo.stdout.readlines()
        code = demo.wait(timeout=60)
    output = "".join(lines)
    assert code == 0, output[-4000:]
    assert re.findall(r"^  (vertices|members|contacts|rows|in the segment) +(\d+) ", output, re.MULTILINE) == [
        ("vertices", "3"),
        ("members", "3"),
        ("contacts", "3"),
        ("rows", "3"),
        ("in the segment", "3"),
    ]
    assert "rejects: none" in output
    files = re.findall(r"^  (\.local/demo/\S+)$", output, re.MULTILINE)
    assert len(files) >= 5  # extract, segment file, rejects, report, log
    assert [file for file in files if not (ROOT / file).is_file()] == []
    assert marked(value) == []
    figure(f"the demo: {output.rstrip().splitlines()[-2]}")
