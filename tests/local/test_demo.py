"""`make demo`, as a stranger would run it: it says what came of the run, and leaves nothing running."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable

import psutil  # type: ignore[import-untyped,unused-ignore]  # Airflow brings it
import pytest

from local import demo
from local.config import ROOT, LocalError

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


@pytest.mark.parametrize(
    ("destination", "where", "facts"),
    [
        pytest.param(
            "customer_profiles",
            "in the segment",
            ["segment name: ea_atrisk_2", "created: 3", "updated: 0"],
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            "ses",
            "on the list",
            ["contact list: players", "new contacts: 3", "already on list: 0"],
            marks=pytest.mark.nightly,
        ),
        pytest.param("pinpoint", "in the segment", [], marks=pytest.mark.nightly),  # .ci/run runs it twice
    ],
)
def test_the_demo_imports_three_players_and_leaves_nothing_running(
    destination: str, where: str, facts: list[str], figure: Callable[[str], None]
) -> None:
    value = uuid.uuid4().hex
    environ = {key: text for key, text in os.environ.items() if key not in ("COHORT", "THRESHOLD")}
    environ |= {MARK: value, "DESTINATION": destination}
    with subprocess.Popen(
        [sys.executable, "-m", "local", "demo"],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        lines = [process.stdout.readline()]
        assert marked(value), "the mark is not seen, so the end of this test would prove nothing"
        lines += process.stdout.readlines()
        code = process.wait(timeout=60)
    output = "".join(lines)
    assert code == 0, output[-4000:]
    assert re.findall(r"^  (vertices|members|contacts|rows|in the segment|on the list) +(\d+) ", output, re.M) == [
        ("vertices", "3"),
        ("members", "3"),
        ("contacts", "3"),
        ("rows", "3"),
        (where, "3"),
    ]
    assert [fact for fact in facts if f"\n  {fact}\n" not in output] == []
    assert "rejects: none" in output
    files = re.findall(r"^  (\.local/demo/\S+)$", output, re.M)
    assert len(files) >= 5  # extract, segment file, rejects, report, log
    assert [file for file in files if not (ROOT / file).is_file()] == []
    assert marked(value) == []
    figure(f"the demo: {output.rstrip().splitlines()[-2]}")


def test_an_unknown_destination_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DESTINATION", "pinpont")
    with pytest.raises(
        LocalError, match="Unknown destination 'pinpont': write .* one of customer_profiles, ses, pinpoint"
    ):
        demo.main()


def test_the_demo_knows_every_destination() -> None:
    files = (ROOT / "plugins" / "cohort_flywheel" / "destinations").glob("*/destination.py")
    assert {file.parent.name for file in files} == set(demo.SERVICES)
