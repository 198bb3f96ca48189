"""A launch of 100,000 e-mails by SES: `python -m tests.benchmarks.launch --players 10000 100000`

A cohort of so many players becomes a segment, which SES mails, one `SendEmail` for each player. The emulated SES takes
most of the wall time, so the figures are the CPU and the memory of our own process.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local import config, history_runs, seed, servers
from tests.benchmarks import data, results
from tests.benchmarks.day import newest_as_of, run

LAUNCH = ("prepare_campaign", "approve_campaign", "launch_campaign", "follow_campaign")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--players", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--into", type=Path, help="the folder of results.json and RESULTS.md; without it, only print")
    arguments = parser.parse_args()
    results.show("launch", section([measured(players) for players in arguments.players]), arguments.into)
    return 0


def say(text: str) -> None:
    print(text, flush=True)


def measured(players: int) -> dict[str, Any]:
    """What each task of a launch to so many players costs."""
    settings, cohort = config.load(environ={}), history_runs.COHORTS[0]
    with (
        tempfile.TemporaryDirectory(prefix="launch-") as place,
        servers.running(Path(place, "servers"), config=settings) as addresses,
    ):
        seeded = seed.seed(addresses, settings)
        quick = {"template_seconds": 0, "import_seconds": 0}
        servers.control(addresses, "sesv2", {"max_send_rate": 10_000, "max_24_hour_send": 10 * players, **quick})
        seed.make_configuration_sets(addresses, settings)
        say(f"{players:,} players")
        data.load_table(addresses, settings, players, say)
        data.load_graph(addresses.gremlin_url, players, cohort, say)
        registry = history_runs.registry()
        mailed = registry["cohorts"][cohort]
        mailed["limits"] |= {"max_members": 10 * players, "max_change_percent": 1_000_000, "max_reject_percent": 100}
        for entry in (mailed, mailed["campaign"]):
            del entry["holdout_percent"]
        del mailed["campaign"]["effect_days"]
        variables = servers.airflow_environment(addresses, data.with_table(settings, players), *seeded)
        return {"players": players, **run(Path(place), registry, variables, newest_as_of(), "no-events")}


def section(found: list[dict[str, Any]]) -> dict[str, Any]:
    """A row for each task of the launch."""
    columns = [f"{each['players']:,} players" for each in found]
    header = ["task", *(f"{each}: CPU s" for each in columns), *(f"{each}: CPU µs a player" for each in columns)]
    rows = []
    for name in [name for name in found[0]["tasks"] if name.endswith(LAUNCH)]:
        seconds = [each["tasks"][name]["cpu_s"] for each in found]
        each_player = [f"{s / each['players'] * 1e6:.0f}" for s, each in zip(seconds, found, strict=True)]
        rows.append([name.partition(": ")[2], *(f"{s:.2f}" for s in seconds), *each_player])
    peaks = ", ".join(f"{each['peak_mb']:.0f} MB with {column}" for each, column in zip(found, columns, strict=True))
    machine = results.machine()
    text = (
        f"{datetime.now(UTC):%Y-%m-%d}, {machine['cores']} cores of {machine['cpu']}. All tasks of the run are in one"
        f" process, whose peak is {peaks}."
    )
    return {"text": text, "header": header, "rows": rows, "raw": found}


if __name__ == "__main__":
    sys.exit(main())
