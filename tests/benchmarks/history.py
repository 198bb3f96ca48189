"""A day's tasks after a day, a quarter and a year of history: `python -m tests.benchmarks.history --days 1 90 365`

The history is that of `make up` (`local/history.py`): three daily cohorts, a launch every 31 days, and events that are
counted every day. What a task of the next day asks AWS for does not depend on the machine; its CPU does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local import config, history, history_runs, seed, servers
from tests.benchmarks import results
from tests.benchmarks.day import newest_as_of, run

#: The launches are these days apart, and the newest is so many days ago: its players may be mailed again.
APART, NEWEST = 31, 31


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, nargs="+", default=[1, 90, 365])
    parser.add_argument("--into", type=Path, help="the folder of results.json and RESULTS.md; without it, only print")
    arguments = parser.parse_args()
    results.show("history", section([measured(days) for days in arguments.days]), arguments.into)
    return 0


def measured(days: int) -> dict[str, Any]:
    """What each task of the day after so many days costs."""
    settings, newest = config.load(environ={}), newest_as_of()
    with (
        tempfile.TemporaryDirectory(prefix="history-") as place,
        servers.running(Path(place, "servers"), config=settings) as addresses,
    ):
        folder = Path(place)
        seeded = seed.seed(addresses, settings)
        variables = servers.airflow_environment(addresses, settings, *seeded)
        print(f"{days} days: writing the history ...", flush=True)
        history.write(
            addresses, settings, variables, now=newest, days=days, launched=tuple(range(NEWEST, days, APART)),
            is_counted_daily=True, cache=config.CACHE / "history-of-benchmarks" / str(days),
        )  # fmt: skip
        s3, event_bucket = seed.client("s3", addresses, settings), "events-of-the-next-day"
        s3.create_bucket(Bucket=event_bucket)
        seed.make_configuration_sets(addresses, settings)
        servers.control(addresses, "sesv2", {"max_send_rate": 10_000, "template_seconds": 0, "import_seconds": 0})
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=settings.state_bucket)
        objects = [item["Size"] for page in pages for item in page.get("Contents", ())]
        registry = history_runs.registry() | {"engagement": {"read_events": True}}
        found = run(folder, registry, variables, newest, event_bucket)
    return {"days": days, "objects": len(objects), "mb": sum(objects) / 1e6, **found}


def section(found: list[dict[str, Any]]) -> dict[str, Any]:
    """A row for each task."""
    header = [
        "task",
        *(f"{each['days']} days: requests" for each in found),
        *(f"{each['days']} days: CPU s" for each in found),
    ]
    rows = []
    for name in found[0]["tasks"]:
        costs = [each["tasks"][name] for each in found]
        requests = [str(sum(cost["requests"].values())) for cost in costs]
        rows.append([name, *requests, *(f"{cost['cpu_s']:.2f}" for cost in costs)])
    objects = ", ".join(
        f"{each['objects']:,} objects of {each['mb']:.0f} MB after {each['days']} days" for each in found
    )
    peaks = ", ".join(f"{each['peak_mb']:.0f}" for each in found)
    machine = results.machine()
    text = (
        f"The tasks of one day, on {objects} in the state bucket; {datetime.now(UTC):%Y-%m-%d},"
        f" {machine['cores']} cores of {machine['cpu']}. Before this day the figures were counted, and what was"
        f" older than 90 days was cleaned up. All tasks run in one process, whose peak is {peaks} MB."
        " All objects are of the day of the benchmark, so a launch opens each ledger, and on AWS those of its"
        " `not_again_days`."
    )
    return {"text": text, "header": header, "rows": rows, "raw": found}


if __name__ == "__main__":
    sys.exit(main())
