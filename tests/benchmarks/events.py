"""Reading the events of e-mails: `python -m tests.benchmarks.events --events 1000000`

The tasks of the DAG `engagement` on generated objects of Data Firehose, beside DuckDB's own reading of the same
objects, each in a fresh process.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from local.config import ROOT
from tests.benchmarks import results
from tests.cohort_flywheel.engagement.ses_events import event

STAGES = {
    "read_events": "read_events: each event once, as Parquet",
    "count_launches": "report: the messages of each launch",
    "duckdb": "DuckDB counts the records by type and message, one thread",
}
AS_OF = datetime(2026, 11, 22, tzinfo=UTC)
#: The records of an object: some 2 MB before they are compressed.
OBJECT = 4_000
LAUNCHES = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--into", type=Path, help="the folder of results.json and RESULTS.md; without it, only print")
    arguments = parser.parse_args()
    found = [measured(events) for events in arguments.events]
    results.show("events", section(found), arguments.into)
    return 0


def measured(events: int) -> dict[str, Any]:
    """The stages of one size: MB of the objects, and wall, CPU and memory of each stage."""
    with tempfile.TemporaryDirectory(prefix="events-") as place:
        folder = Path(place)
        files, size = write(folder / "objects", events)
        found: dict[str, Any] = {"records": events, "mb": size / 1e6, "objects": len(files)}
        kept = folder / "kept"
        kept.mkdir()
        for stage in STAGES:
            own = folder / stage
            own.mkdir()
            job = {
                "peer": "events", "stages": [stage], "answer": str(own / "answer.json"), "folder": str(own),
                "files": [str(path) for path in files], "parquet": str(kept / "events.parquet"), "records": events,
                "as_of": AS_OF.isoformat(),
            }  # fmt: skip
            if stage == "read_events":
                job["parquet"] = str(own / "events.parquet")
            (own / "job.json").write_text(json.dumps(job), encoding="utf-8")
            path = os.pathsep.join([str(ROOT), str(ROOT / "plugins")])
            command = [sys.executable, "-m", "tests.benchmarks.child", str(own / "job.json")]
            subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": path})
            found[stage] = json.loads((own / "answer.json").read_text(encoding="utf-8"))[stage]
            if stage == "read_events":
                (own / "events.parquet").rename(kept / "events.parquet")
        found["parquet_mb"] = (kept / "events.parquet").stat().st_size / 1e6
    records = {found[stage]["outcome"]["records"] for stage in STAGES}
    assert records == {events}, records
    outcome = found["read_events"]["outcome"]
    assert outcome["events"] + outcome["repeated"] == events, outcome
    return found


def write(folder: Path, events: int) -> tuple[list[Path], int]:
    """Write objects of so many records; return them and their size before they were compressed."""
    folder.mkdir()
    files, size, records = list[Path](), 0, generated(events)
    while lines := b"".join(islice(records, OBJECT)):
        files.append(folder / f"{len(files):06d}.gz")
        files[-1].write_bytes(gzip.compress(lines, compresslevel=1))
        size += len(lines)
    return files, size


def generated(events: int) -> Iterator[bytes]:
    """Yield records: of each message Send and Delivery, of four in ten an Open, of one in ten a Click and a copy."""
    patterns = {kind: event(kind) for kind in ("Send", "Delivery", "Open", "Click", "Bounce")}
    number = message = 0
    while number < events:
        kinds = ["Send", "Bounce" if message % 50 == 0 else "Delivery"]
        kinds += ["Open"] * (message % 10 < 4) + ["Click", "Click"] * (message % 10 == 0)
        at = AS_OF - timedelta(hours=20) + timedelta(seconds=message % 3_600)
        for kind in kinds[: events - number]:
            record = copy.copy(patterns[kind])
            tags = {"launch": [f"launch-{message % LAUNCHES}"], "row": [f"{message // 100}-1-{message % 100}"]}
            about = {"messageId": f"0100018f{message:016x}-000000", "timestamp": at.isoformat(), "tags": tags}
            record["mail"] = record["mail"] | about
            if kind in ("Open", "Click"):
                flag = {"isBotEvent": "Likely" if message % 3 == 0 else "Unlikely"}
                record[kind.lower()] = record[kind.lower()] | flag
            yield orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)
            number += 1
        message += 1


def section(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The measurements, as RESULTS.md shows them."""
    rows = []
    for size in found:
        for stage, name in STAGES.items():
            one = size[stage]
            rows.append(
                [
                    f"{size['records']:,}",
                    name,
                    f"{one['wall_s']:.1f}",
                    f"{one['cpu_s']:.1f}",
                    f"{one['wall_s'] / size['records'] * 1e6:.1f}",
                    f"{one['cpu_s'] / size['records'] * 1e6:.1f}",
                    f"{one['base_mb']:.0f}",
                    f"{one['peak_mb']:.0f}",
                ]
            )
    machine = results.machine()
    sizes = "; ".join(
        f"{size['records']:,} records in {size['objects']:,} objects, {size['mb']:,.0f} MB before gzip,"
        f" {size['parquet_mb']:,.0f} MB as Parquet"
        for size in found
    )
    text = (
        f"Generated records of SES in objects of Data Firehose: {sizes}. Each in a fresh process, DuckDB with a limit"
        f" of 64 MiB (2 GiB for its own count), {datetime.now(UTC):%Y-%m-%d}, {machine['cores']} cores of"
        f" {machine['cpu']}, with other processes at work (load {machine['load_at_start'][0]}). MB is the peak of the"
        " process (VmHWM). `read_events` leaves out copies, addresses and queries of links; DuckDB counts the copies."
    )
    header = ["events", "", "wall s", "CPU s", "µs an event", "CPU µs an event", "MB of memory before", "and at most"]
    return {"text": text, "header": header, "rows": rows, "raw": found}


if __name__ == "__main__":
    sys.exit(main())
