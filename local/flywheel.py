"""`make flywheel`: three days of a cohort on local servers, from its e-mail to a cohort of those who clicked.

The real DAGs run, each with a holdout, SES's events, suppressions, the graph and the effect. Then each figure that they
report is compared with what the emulated SES and the graph know.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import yaml
from gremlin_python.driver.driver_remote_connection import DriverRemoteConnection
from gremlin_python.driver.serializer import GraphBinarySerializersV1
from gremlin_python.process.anonymous_traversal import traversal
from gremlin_python.process.graph_traversal import __

from local import airflow, config, seed, servers
from local.flywheel_sums import Turned, checks
from local.flywheel_text import describe

SHIPPED = config.ROOT / "include" / "cohorts.yaml"
#: The share of the players of the launch that it does not mail.
HOLDOUT_PERCENT = 20
LINK = '<p><a href="https://studio.example/safety">How to stay safe</a></p>\n'
NUMBERS = ("eng_clicks_30d", "eng_opens_30d", "eng_last_click_day")


def main(here: Path = config.RUN_DIR / "flywheel") -> int:
    """Run the three days; return 0 only if all tasks succeeded and all sums hold.

    :param here: the folder of the DAG files, the logs and copies of all that was written.
    """
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {text}", flush=True)

    settings = config.load()
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir(parents=True)
    _write_dags(here)
    say("starting Gremlin Server, DynamoDB Local, the AWS endpoint (moto with extensions), and Airflow ...")
    log = here / "run.log"
    with _days(here, log) as days, servers.running(run_dir=here / "servers") as addresses:
        say("loading the sample: 1,000 player vertices and their contacts ...")
        seeded = seed.seed(addresses, settings)
        seed.make_configuration_sets(addresses, settings)
        event_bucket = f"{settings.state_bucket}-events"
        seed.client("s3", addresses, settings).create_bucket(Bucket=event_bucket)
        variables = servers.airflow_environment(addresses, settings, *seeded)
        request = {
            "environment": variables | _more_variables(variables, event_bucket),
            "gremlin_url": addresses.gremlin_url,
            "aws_url": addresses.aws_url,
            "event_bucket": event_bucket,
            "truth": str(here / "truth"),
        }
        code = _run(days, json.dumps(request), say)
        buckets = (settings.export_bucket, settings.import_bucket, settings.state_bucket, event_bucket)
        _save(addresses, settings, buckets, here)
    place = here.relative_to(config.ROOT) if here.is_relative_to(config.ROOT) else here
    if code:
        print(f"\nThe flywheel FAILED: see the end of {place / log.name}.")
        return 1
    turned = Turned.read(here, settings.state_bucket)
    print(f"\n{describe(turned)}\n")
    found = checks(turned)
    wrong = [check for check in found if check.expected != check.found]
    for check in wrong:
        print(f"DIFFERENT: {check.what}: {check.expected} by the emulation, {check.found} by the DAGs")
    if wrong:
        print(f"\nThe flywheel FAILED: {len(wrong)} of {len(found)} figures are not what the emulation kept.")
        return 1
    print(f"All {len(found)} figures agree with what the emulated SES and the graph kept.")
    print(f"{time.monotonic() - started:.0f} s in all. The reports, events and effects are in {place}/.")
    print("Next: docs/how-to/effect.md says how to read the effect; `make up` starts Airflow's UI with 30 such days.")
    return 0


def _write_dags(here: Path) -> None:
    """Copy the DAG files, with a registry of two cohorts and an e-mail that has a link to click."""
    for folder in ("dags", "include"):
        shutil.copytree(config.ROOT / folder, here / folder, ignore=shutil.ignore_patterns("__pycache__"))
    at_risk = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))["cohorts"]["ea_atrisk"]
    campaign = at_risk["campaign"] | {"holdout_percent": HOLDOUT_PERCENT, "effect_days": 1}
    clicked = {
        "description": "Players who clicked a link of an e-mail in the last 30 days.", "property": "eng_clicks_30d",
        "direction": "above", "threshold": 0, "threshold_range": {"min": 0, "max": 1000}, "limits": at_risk["limits"],
        "daily": True, "attributes": {}, "score_as": "Clicks", "consent": at_risk["consent"],
    }  # fmt: skip
    registry = {
        "default_cohort": "ea_atrisk", "schedule": "0 0 * * *", "destination": "ses", "opt_outs": "none",
        "approval": {"approvers": ["ann"]}, "engagement": {"read_events": True, "write_graph": True},
        "cohorts": {"ea_atrisk": at_risk | {"threshold": 0, "campaign": campaign}, "clicked": clicked},
    }  # fmt: skip
    (here / "include" / SHIPPED.name).write_text(yaml.safe_dump(registry, sort_keys=False), encoding="utf-8")
    body = here / "include" / "email" / "at_risk" / "body.html"
    before, mark, after = body.read_text(encoding="utf-8").partition("<p>If something worries you")
    body.write_text(before + LINK + mark + after, encoding="utf-8")


@contextmanager
def _days(here: Path, log: Path) -> Iterator[subprocess.Popen[str]]:
    """Start the process of the three days while the servers start; it ends with the block."""
    environ = airflow.environment(here / "airflow", {}, dags=here / "dags")
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.flywheel_days"],
            cwd=config.ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _more_variables(variables: dict[str, str], event_bucket: str) -> dict[str, str]:
    """The Airflow Variables of events, and the connections of the role that writes to the graph."""
    return {
        "AIRFLOW_VAR_COHORT_FLYWHEEL_EVENT_BUCKET": event_bucket,
        "AIRFLOW_VAR_COHORT_FLYWHEEL_SES_CONFIGURATION_SET": config.CONFIGURATION_SET,
        "AIRFLOW_CONN_NEPTUNE_ENGAGEMENT": variables["AIRFLOW_CONN_NEPTUNE_DEFAULT"],
        "AIRFLOW_CONN_AWS_NEPTUNE_ENGAGEMENT": variables["AIRFLOW_CONN_AWS_DEFAULT"],
    }


def _run(process: subprocess.Popen[str], request: str, say: Callable[[str], None]) -> int:
    assert process.stdin and process.stdout  # noqa: S101 - both are pipes
    try:
        process.stdin.write(request + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        return process.wait(timeout=60) or 1
    for line in process.stdout:
        say(line.rstrip())
    return process.wait(timeout=60)


def _save(addresses: servers.Servers, settings: config.Config, buckets: tuple[str, ...], here: Path) -> None:
    """Copy the objects of the buckets and our part of the graph, because the servers end with the command."""
    s3 = seed.client("s3", addresses, settings)
    for bucket in buckets:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for item in page.get("Contents", ()):
                file = here / bucket / item["Key"]
                file.parent.mkdir(parents=True, exist_ok=True)
                s3.download_file(bucket, item["Key"], str(file))
    (here / "graph.json").write_text(json.dumps(_graph(addresses.gremlin_url)), encoding="utf-8")


def _graph(url: str) -> dict[str, Any]:
    connection = DriverRemoteConnection(url, "g", message_serializer=GraphBinarySerializersV1())
    with closing(connection):
        g = traversal().with_(connection)
        names = ("playerId", "ea_atrisk", *NUMBERS)
        steps = g.V().has_label("player").project("id", *names).by(__.id_())
        for name in names:
            steps = steps.by(__.values(name).fold())
        edges = g.E().has_label("eng_clicked").project("from", "to").by(__.out_v().id_()).by(__.in_v().id_())
        return {
            "players": steps.to_list(),
            "campaigns": g.V().has_label("campaign").has("eng_launch").value_map().to_list(),
            "edges": edges.to_list(),
        }
