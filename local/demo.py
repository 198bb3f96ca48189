"""`make demo`: run the daily DAG once on local servers and sample players, and print the results.

The destination is that of the registry, or DESTINATION: then the run uses a copy of the DAG files and the registry.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from local import airflow, config, seed, servers
from local.webhook.receiver import TOKEN

REGISTRY = config.ROOT / "include" / "cohorts.yaml"
_DESTINATION = re.compile(r"""(?m)^destination: *["']?(\w+)["']?""")


def main() -> int:
    """Run the demo; return 0 only if a segment was imported and its size equals the report's."""
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {text}", flush=True)

    conf: dict[str, str | float] = {"cohort": os.environ.get("COHORT", "ea_atrisk")}
    if os.environ.get("THRESHOLD"):
        try:
            conf["threshold"] = json.loads(os.environ["THRESHOLD"])
        except ValueError:
            raise config.LocalError("THRESHOLD is not a number: write, for example, make demo THRESHOLD=1") from None
    destination = _destination()
    here = config.RUN_DIR / "demo" / destination  # one folder per destination
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir(parents=True)
    dags = _dags(destination, here)
    settings = config.load()

    say("starting Gremlin Server, DynamoDB Local, the AWS endpoint (moto with extensions), and Airflow ...")
    log = here / "run.log"
    with _airflow(here, dags) as run, servers.running(run_dir=here / "servers") as addresses:
        say("loading the sample: 1,000 player vertices and their contacts ...")
        seeded = seed.seed(addresses, settings)
        say(f"running the DAG cohort_to_segment with {json.dumps(conf)}, to {destination} ...")
        request = {"conf": conf, "environment": servers.airflow_environment(addresses, settings, *seeded)}
        code = _run(run, json.dumps(request), log, say)
        files = _save_buckets(seed.client("s3", addresses, settings), settings, here)
        report = next((json.loads(file.read_text()) for file in files if "reports" in file.parts), None)
        agrees = False
        if report and report["imported"]:  # count at the service itself
            service = seed.client(SERVICES[destination].client, addresses, settings)
            size = SERVICES[destination].size(service, report["imported"], seeded)
            agrees = size == report["segment"]["rows"] > 0
    say("players at each step:")
    print(_funnel(report, SERVICES[destination].where) if report else "  (no report was written)")
    print("\nEach artifact, copied from the emulated S3:")
    for file in [*files, log]:
        print(f"  {file.relative_to(config.ROOT)}")
    if code or not agrees:
        print("\nThe demo FAILED: see the end of the log above.")
        return 1
    took = f"{time.monotonic() - started:.0f} s in all"
    print(f"\nImported to {destination}, whose own count agrees with the rows. {took}.")
    print("Next: `make up` for the Airflow UI on the same sample.")
    return 0


def _destination() -> str:
    """DESTINATION, or the registry's; raises LocalError for a destination whose size the demo cannot read."""
    found = _DESTINATION.search(REGISTRY.read_text(encoding="utf-8"))
    name = os.environ.get("DESTINATION") or (found[1] if found else "")
    if name not in SERVICES:
        raise config.LocalError(
            f"Unknown destination {name!r}: write make demo DESTINATION= and one of {', '.join(SERVICES)}."
        )
    return name


def _dags(destination: str, here: Path) -> Path:
    """The DAG files with a registry that names the destination: the repository's, or a copy."""
    registry = REGISTRY.read_text(encoding="utf-8")
    # the sample's players were never mailed by another system
    found, opt_outs = _DESTINATION.search(registry), re.compile(r"(?m)^opt_outs:.*\n?")
    changed = _DESTINATION.sub(f"destination: {destination}\nopt_outs: none", opt_outs.sub("", registry), count=1)
    if found and found[1] == destination and (destination == "pinpoint" or opt_outs.search(registry)):
        return config.ROOT / "dags"
    for folder in ("dags", "include"):
        shutil.copytree(config.ROOT / folder, here / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (here / "include" / REGISTRY.name).write_text(changed, encoding="utf-8")
    return here / "dags"


@contextmanager
def _airflow(here: Path, dags: Path) -> Iterator[subprocess.Popen[str]]:
    """Start the process that runs the DAG while the servers start; it ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "local.run_dag", "cohort_to_segment"],
        cwd=config.ROOT,
        env=airflow.environment(here / "airflow", {}, dags=dags),
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


def _run(process: subprocess.Popen[str], request: str, log: Path, say: Callable[[str], None]) -> int:
    """Start the run; print each task as it begins, and keep the whole log."""
    assert process.stdin and process.stdout  # noqa: S101 - both are pipes
    process.stdin.write(request + "\n")
    process.stdin.flush()
    with log.open("w") as file:
        for line in process.stdout:
            file.write(line)
            if match := re.search(r"\[DAG TEST\] (?:starting|running trigger).*?(?:task_id=|task=)(\w+)", line):
                say(f"  {match[1]}")
    return process.wait(timeout=60)


def _pinpoint_size(pinpoint: Any, imported: Mapping[str, Any], seeded: seed.Seeded) -> int:
    segment = pinpoint.get_segment(ApplicationId=seeded.application_id, SegmentId=imported["segment_id"])
    return int(segment["SegmentResponse"]["ImportDefinition"]["Size"])


def _ses_size(ses: Any, imported: Mapping[str, Any], seeded: seed.Seeded) -> int:
    """The size of the whole list, which was empty before this run."""
    number = 0
    token: dict[str, str] = {}
    while True:
        page = ses.list_contacts(ContactListName=imported["contact_list"], **token)
        number += len(page["Contacts"])
        if not page.get("NextToken"):
            return number
        token = {"NextToken": page["NextToken"]}


def _customer_profiles_size(profiles: Any, imported: Mapping[str, Any], seeded: seed.Seeded) -> int:
    """The size of the segment by the service's estimate."""
    domain = {"DomainName": imported["domain"]}
    groups = profiles.get_segment_definition(**domain, SegmentDefinitionName=imported["segment_name"])["SegmentGroups"]
    estimate_id = profiles.create_segment_estimate(**domain, SegmentQuery=groups)["EstimateId"]
    for _ in range(60):
        estimate = profiles.get_segment_estimate(**domain, EstimateId=estimate_id)
        if estimate["Status"] == "SUCCEEDED":
            return int(estimate["Estimate"])
        time.sleep(0.5)
    raise config.LocalError(f"The estimate of segment {imported['segment_name']} has not ended: run it again.")


def _webhook_size(aws: Any, imported: Mapping[str, Any], seeded: seed.Seeded) -> int:
    """The receiver is on the AWS endpoint; it counts its members itself."""
    url = f"{aws.meta.endpoint_url}/webhook/segments/{imported['segment_id']}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})  # noqa: S310 - our own server
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own server
        return int(json.load(answer)["members"])


class Service(NamedTuple):
    """How to count the players at a destination: the client, the function, and the name of the container."""

    client: str
    size: Callable[[Any, Mapping[str, Any], seed.Seeded], int]
    where: str


SERVICES = {
    "customer_profiles": Service("customer-profiles", _customer_profiles_size, "in the segment"),
    "ses": Service("sesv2", _ses_size, "on the list"),
    "pinpoint": Service("pinpoint", _pinpoint_size, "in the segment"),
    "webhook": Service("s3", _webhook_size, "in the segment"),
}


def _save_buckets(s3: Any, settings: config.Config, here: Path) -> list[Path]:
    """Copy every object of the three buckets to a folder, because the emulated S3 ends with the demo."""
    files = []
    for bucket in (settings.export_bucket, settings.import_bucket, settings.state_bucket):
        for item in s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
            file = here / bucket / item["Key"]
            file.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, item["Key"], str(file))
            files.append(file)
    return files


def _funnel(report: dict[str, Any], where: str) -> str:
    """Draw the report as bars: the number of players after each step, and the destination's count."""
    extract, segment, imported = report["extract"], report["segment"], report["imported"]
    steps: list[tuple[str, int]] = []
    if extract:
        steps += [("vertices", extract["vertices"]), ("members", extract["members"])]
    if segment:
        contacts = segment["members"] - segment["rejects"].get("no_record", 0)
        steps += [("contacts", contacts), ("rows", segment["rows"])]
    if imported:
        steps.append((where, imported["segment_size"]))
    most = max([number for _name, number in steps], default=0) or 1
    lines = [f"  {name:<16}{number:>6,}  {'█' * round(40 * number / most)}" for name, number in steps]
    if extract:
        lines.append(f"  merged {extract['merged']}, without a playerId {extract['vertices_without_playerId']}")
    if segment:
        rejects = ", ".join(f"{reason} {number}" for reason, number in segment["rejects"].items()) or "none"
        lines.append(f"  rejects: {rejects}")
    for name, value in (imported or {}).items():
        if name != "segment_size":
            text = ", ".join(value) if isinstance(value, list) else value
            lines.append(f"  {name.replace('_', ' ')}: {text}")
    return "\n".join(lines)
