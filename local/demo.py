"""`make demo`: one run of the daily DAG on local servers and sample players, and what came of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local import airflow, config, seed, servers

HERE = config.RUN_DIR / "demo"


def main() -> int:
    """Run the demo; 0 only if a segment was imported and its size agrees with the report."""
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {text}", flush=True)

    conf: dict[str, str | int] = {"cohort": os.environ.get("COHORT", "ea_atrisk")}
    if os.environ.get("THRESHOLD"):
        try:
            conf["threshold"] = int(os.environ["THRESHOLD"])
        except ValueError:
            raise config.LocalError("THRESHOLD is no whole number: write, say, make demo THRESHOLD=1") from None
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir(parents=True)
    settings = config.load()

    say("starting Gremlin Server, DynamoDB Local, the AWS endpoint (moto with Pinpoint), and Airflow ...")
    log = HERE / "run.log"
    with _airflow(log) as run, servers.running(run_dir=HERE / "servers") as addresses:
        say("loading the sample: 1,000 player vertices and their contacts ...")
        seeded = seed.seed(addresses, settings)
        say(f"running the DAG cohort_to_segment with {json.dumps(conf)} ...")
        told = {"conf": conf, "environment": servers.airflow_environment(addresses, settings, *seeded)}
        code = _run(run, json.dumps(told), log, say)
        files = _save_buckets(seed.client("s3", addresses, settings), settings)
        report = next((json.loads(file.read_text()) for file in files if "reports" in file.parts), None)
        agrees = report is not None and _size_agrees(report, seeded.application_id, addresses, settings)
    say("what happened to every player:")
    print(_funnel(report) if report else "  (no report was written)")
    print("\nEach artefact, copied from the emulated S3, which has ended with the other servers:")
    for file in [*files, log]:
        print(f"  {file.relative_to(config.ROOT)}")
    if code or not agrees:
        print("\nThe demo FAILED: read the end of the log above.")
        return 1
    print(f"\nThe segment was imported, and its size agrees. {time.monotonic() - started:.0f} s in all.")
    print("Next: `make up` for the Airflow UI on the same sample.")
    return 0


@contextmanager
def _airflow(log: Path) -> Iterator[subprocess.Popen[str]]:
    """The process that runs the DAG, getting ready while the servers start; it ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "local.run_dag", "cohort_to_segment"],
        cwd=config.ROOT,
        env=airflow.environment(HERE / "airflow", {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _run(process: subprocess.Popen[str], told: str, log: Path, say: Callable[[str], None]) -> int:
    """Let the run begin; say each task as it begins, and keep the whole log."""
    assert process.stdin and process.stdout  # noqa: S101 - both are pipes
    process.stdin.write(told + "\n")
    process.stdin.flush()
    with log.open("w") as file:
        for line in process.stdout:
            file.write(line)
            if match := re.search(r"\[DAG TEST\] (?:starting|running trigger).*?(?:task_id=|task=)(\w+)", line):
                say(f"  {match[1]}")
    return process.wait(timeout=60)


def _size_agrees(
    report: dict[str, Any], application_id: str, addresses: servers.Servers, settings: config.Config
) -> bool:
    """Ask Pinpoint itself: the segment is there, and as large as the report's rows."""
    if not report["imported"]:
        return False
    segment = seed.client("pinpoint", addresses, settings).get_segment(
        ApplicationId=application_id, SegmentId=report["imported"]["segment_id"]
    )["SegmentResponse"]
    return bool(segment["ImportDefinition"]["Size"] == report["segment"]["rows"] > 0)


def _save_buckets(s3: Any, settings: config.Config) -> list[Path]:
    """Copy every object of the three buckets to .local/demo, as the emulated S3 ends with the demo."""
    files = []
    for bucket in (settings.export_bucket, settings.import_bucket, settings.state_bucket):
        for item in s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
            file = HERE / bucket / item["Key"]
            file.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, item["Key"], str(file))
            files.append(file)
    return files


def _funnel(report: dict[str, Any]) -> str:
    """The report as a picture of bars: how many players came through each room."""
    extract, segment, imported = report["extract"], report["segment"], report["imported"]
    steps: list[tuple[str, int]] = []
    if extract:
        steps += [("vertices", extract["vertices"]), ("members", extract["members"])]
    if segment:
        contacts = segment["members"] - segment["rejects"].get("no_record", 0)
        steps += [("contacts", contacts), ("rows", segment["rows"])]
    if imported:
        steps.append(("in the segment", imported["segment_size"]))
    most = max([number for _name, number in steps], default=0) or 1
    lines = [f"  {name:<16}{number:>6,}  {'█' * round(40 * number / most)}" for name, number in steps]
    if extract:
        lines.append(f"  merged {extract['merged']}, without a playerId {extract['vertices_without_playerId']}")
    if segment:
        rejects = ", ".join(f"{reason} {number}" for reason, number in segment["rejects"].items()) or "none"
        lines.append(f"  rejects: {rejects}")
    if imported:
        lines.append(f"  segment {imported['segment_id']}, import job {imported['job_id']}")
    return "\n".join(lines)
