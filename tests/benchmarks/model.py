"""From the figures of results.json to cohorts that no laptop can hold: workers, hours, read units, jobs.

    python -m tests.benchmarks.model         prints the tables of docs/explanation/scale.md, and puts them there

A stage takes `fixed + players × slope`, which two measured sizes give. Only what ours adds is known from here: a real
Neptune and a real DynamoDB are other servers than those of the benchmark, on other machines than the client's.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.config import ROOT
from tests.benchmarks import results

DOCUMENT = ROOT / "docs" / "explanation" / "scale.md"
BEGIN, END = "<!-- begin: python -m tests.benchmarks.model -->", "<!-- end -->"

PLAYERS = (1_000_000, 10_000_000, 100_000_000)
WORKERS = (1, 2, 10, 25)

#: extract_file.SHARD_MEMBERS and MAX_SHARDS; a test holds them against each other.
SHARD_MEMBERS, MAX_SHARDS = 250_000, 1024
#: What Airflow takes to start one task and to end it: seconds of a slot. "The small case" has one second on a laptop;
#: MWAA's workers, with a queue between, were not measured.
TASK_SECONDS = 5.0
#: An eventually consistent read of an item up to 4 KB is half a read unit, each item of a batch for itself, and one
#: that is not there costs the same [DynamoDB developer guide, "Read and write operations"].
READ_UNITS_A_PLAYER = 0.5
#: On demand, us-east-1, since the cut of November 2024, by third parties' pages: LOOK IT UP before you rely on it.
DOLLARS_A_MILLION_READ_UNITS = 0.125
#: A table on demand takes this many read units a second unless its quota is raised [DynamoDB quotas: LOOK IT UP].
TABLE_READ_UNITS_A_SECOND = 40_000
#: Default neptune_query_timeout of a cluster, in seconds.
NEPTUNE_TIMEOUT_SECONDS = 120
GB = 1_000_000_000
#: Pinpoint 1 GB a job; Customer Profiles 1 GB an upload; SES 1,000,000 contacts a job [facts of the issue].
SES_CONTACTS = 1_000_000


@dataclass(frozen=True)
class Line:
    """What grows with the players."""

    fixed: float
    slope: float

    def at(self, players: float) -> float:
        return self.fixed + self.slope * players


def line(found: dict[str, Any], stage: str, figure: str, sizes: tuple[int, int]) -> Line:
    """Through two measured sizes; never with less than nothing as its fixed part."""
    small, large = sizes
    low, high = (found["sizes"][str(n)]["medians"]["ours"][stage][figure] for n in sizes)
    slope = (high - low) / (large - small)
    fixed = low - slope * small
    return Line(fixed, slope) if fixed >= 0 else Line(0.0, high / large)


def measured_sizes(found: dict[str, Any]) -> list[int]:
    """The sizes that have all of ours, in their order."""
    return sorted(
        int(n) for n, size in found.get("sizes", {}).items() if results.total(size, "ours", "wall_s") is not None
    )


@dataclass(frozen=True)
class Model:
    """The three stages of ours, in seconds on the wall, and the bytes of a row."""

    graph: Line
    enrich: Line
    release: Line
    row_bytes: float
    sizes: tuple[int, int]

    def seconds(self, players: int) -> float:
        """End to end on one worker, in one process a stage, as the benchmark measures it."""
        return sum(stage.at(players) for stage in (self.graph, self.enrich, self.release))

    def shards(self, players: int) -> int:
        return max(1, math.ceil(players / max(SHARD_MEMBERS, math.ceil(players / MAX_SHARDS))))

    def hours(self, players: int, workers: int) -> float:
        """Of a run: the graph in one stream, the shards over the workers' slots, the release in one task."""
        shards = self.shards(players)
        shard = TASK_SECONDS + self.enrich.at(players / shards)
        rounds = math.ceil(shards / workers)
        return (TASK_SECONDS + self.graph.at(players) + rounds * shard + TASK_SECONDS + self.release.at(players)) / 3600


def fit(found: dict[str, Any], sizes: tuple[int, int] | None = None, figure: str = "wall_s") -> Model:
    """The model of some results: through two of their sizes, the largest two unless told."""
    known = measured_sizes(found)
    if len(known) < 2:
        raise ValueError("results.json has fewer than two sizes: run `make bench`")
    sizes = sizes or (known[-2], known[-1])
    largest = found["sizes"][str(sizes[1])]
    return Model(
        graph=line(found, "graph", figure, sizes),
        enrich=line(found, "enrich", figure, sizes),
        release=line(found, "release", figure, sizes),
        row_bytes=largest["segment_bytes"] / largest["players"],
        sizes=sizes,
    )


def tables(found: dict[str, Any]) -> str:
    """The tables of docs/explanation/scale.md."""
    model = fit(found)
    sizes = f"{model.sizes[0]:,} and {model.sizes[1]:,}"
    header = ["players", "shards", "graph, one stream", *(f"{w} at once" for w in WORKERS)]
    rows = [
        [f"{n:,}", f"{model.shards(n):,} of {math.ceil(n / model.shards(n)):,}", _time(model.graph.at(n) / 3600),
         *(_time(model.hours(n, w)) for w in WORKERS)]
        for n in PLAYERS
    ]  # fmt: skip
    parts = [
        f"Measured {found['date'][:10]} on {found['machine']['cores']} cores of {found['machine']['cpu']}, which the"
        f" servers shared; extrapolated from {sizes} players; a member's graph {model.graph.slope * 1e6:.0f} µs, enrich"
        f" {model.enrich.slope * 1e6:.0f} µs, release {model.release.slope * 1e6:.1f} µs, {TASK_SECONDS:g} s a task for"
        " Airflow. *n at once* are the mapped tasks that run side by side, a core each.",
        results._table(header, rows),
    ]
    header = ["players", "read units", "on demand, $", "least seconds at the table's quota", "segment, GB",
              "Pinpoint, one import", "Customer Profiles uploads", "SES jobs"]  # fmt: skip
    rows = []
    for n in PLAYERS:
        units, size = n * READ_UNITS_A_PLAYER, n * model.row_bytes
        rows.append([
            f"{n:,}", f"{units:,.0f}", f"{units / 1e6 * DOLLARS_A_MILLION_READ_UNITS:,.2f}",
            f"{units / TABLE_READ_UNITS_A_SECOND:,.0f}", f"{size / GB:,.2f}",
            "fits" if size <= GB else "refused by `check_limits`", f"{math.ceil(size / GB)}",
            f"{math.ceil(n / SES_CONTACTS)}",
        ])  # fmt: skip
    parts.append(results._table(header, rows))
    parts.append(
        f"At {model.row_bytes:.0f} bytes a row one Pinpoint import takes {GB / model.row_bytes:,.0f} players. Neptune's"
        f" default time limit of {NEPTUNE_TIMEOUT_SECONDS} s ends a stream after"
        f" {max(0.0, NEPTUNE_TIMEOUT_SECONDS - model.graph.fixed) / model.graph.slope:,.0f} players at this rate."
    )
    return "\n\n".join(parts)


def _time(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min" if hours >= 1 / 30 else f"{hours * 3600:.0f} s"


def document(text: str, found: dict[str, Any]) -> str:
    """A document with the tables between its two marks."""
    made = f"{BEGIN}\n\n{tables(found)}\n\n{END}"
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: made, text, flags=re.DOTALL)


def write_document(found: dict[str, Any], path: Path = DOCUMENT) -> None:
    path.write_text(document(path.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    kept = results.read(results.FOLDER)
    print(tables(kept))
    write_document(kept)
