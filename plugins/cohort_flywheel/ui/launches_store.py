"""The launches of the page Campaigns, from the reports of runs and of the DAG `engagement`.

They are kept in `results/launches.json`, so that what was counted stays once a report is gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from cohort_flywheel.campaign.send_ledger import run_of_ledger
from cohort_flywheel.common.records import read_kept
from cohort_flywheel.engagement.events_store import newest_report
from cohort_flywheel.hooks.s3 import S3Hook, get_json, keys, put_json
from cohort_flywheel.runs import names
from cohort_flywheel.runs.report import Report
from cohort_flywheel.ui.figures import MAX_LAUNCHES, Launch, Launches, add_engagement, launch_of

LAUNCHES_KEY = "results/launches.json"
#: A launch may still change for so long: its report is read again.
LAUNCH_CHANGES = timedelta(days=7)


def read_launches(s3: S3Hook, bucket: str) -> Launches:
    """Read the reports of launches that are new or may have changed, keep the launches, and return them.

    A launch keeps its counts and its effect where no report has them, or the newest one is of another version.
    """
    kept = read_kept(Launches, _get(s3, bucket, LAUNCHES_KEY)) or Launches()
    known = {each.name: each for each in kept.launches}
    newest = max((each.reported for each in known.values()), default=None)
    for name in sorted(_launched(s3, bucket)):
        if name in known and newest and known[name].reported < newest - LAUNCH_CHANGES:
            continue
        if found := list(_launches_of(s3, bucket, name)):
            launch, before = max(found, key=lambda each: each.reported), known.get(name)
            counted = {"engagement": before.engagement, "effect": before.effect} if before else {}
            known[name] = launch.model_copy(update=counted)
    report = newest_report(s3, bucket)
    if report:
        known |= add_engagement(known, report)
    latest = sorted(known.values(), key=lambda each: (each.reported, each.name), reverse=True)
    launches = Launches(launches=latest[:MAX_LAUNCHES], pooled=report.effects.pooled if report else kept.pooled)
    put_json(s3, bucket, LAUNCHES_KEY, launches.model_dump(mode="json"))
    return launches


def _launched(s3: S3Hook, bucket: str) -> set[str]:
    """The names of the runs that have a send ledger: `sends/<template>/<name>.jsonl`."""
    found = (key.split("/") for key in keys(s3, bucket, "sends/"))
    return {run_of_ledger(parts[2]) for parts in found if len(parts) == 3}


def _launches_of(s3: S3Hook, bucket: str, name: str) -> Iterator[Launch]:
    for key in keys(s3, bucket, names.report_folder(name)):
        report = read_kept(Report, _get(s3, bucket, key)) if key.endswith(".json") else None
        launch = launch_of(report, name) if report else None
        if launch:
            yield launch


def _get(s3: S3Hook, bucket: str, key: str) -> object:
    found = get_json(s3, bucket, key)
    return found[0] if found else None
