"""The objects of events in their bucket, and what is kept of them in the state bucket."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from cohort_flywheel.campaign.mail_tags import TRACKING_FILE, launch_tag, row_tag
from cohort_flywheel.engagement import event_objects as objects
from cohort_flywheel.engagement.engagement_outputs import EngagementPlan, EngagementReport
from cohort_flywheel.engagement.event_counts import EventCounts
from cohort_flywheel.engagement.event_objects import Manifest
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook, download, folders, get_json, keys, put_if, put_json

_LAUNCHES = "launches/"
#: No object of events is older than the bucket's 7 days, so that no older manifest names one.
_OBJECTS_LIVE = timedelta(days=10)


def fix_manifest(s3: S3Hook, plan: EngagementPlan) -> Manifest:
    """Return the manifest of an as-of, written before its objects are read: a later attempt reads the same."""
    key = objects.manifest_key(plan.as_of)
    if found := get_json(s3, plan.state_bucket, key):
        return Manifest.model_validate(found[0])
    first: datetime | None = None
    read = set[str]()
    for other in keys(s3, plan.state_bucket, objects.MANIFESTS_FOLDER):
        as_of = objects.manifest_as_of(other)
        if as_of is None:
            continue
        first = first or as_of  # names sort in the order of time
        if as_of >= plan.as_of - _OBJECTS_LIVE and (manifest := get_json(s3, plan.state_bucket, other)):
            read.update(Manifest.model_validate(manifest[0]).keys)
    there = keys(s3, plan.event_bucket, objects.EVENTS_FOLDER)
    chosen = objects.choose(there, plan.as_of, read, first, plan.event_bucket)
    if not put_json(s3, plan.state_bucket, key, chosen.model_dump(), IfNoneMatch="*"):
        return fix_manifest(s3, plan)  # an attempt whose answer was lost, or another one
    return chosen


def why_gone(plan: EngagementPlan, key: str) -> FlywheelError:
    return FlywheelError(
        f"s3://{plan.event_bucket}/{key} is gone, and the events of this as-of are not counted yet: their bucket keeps"
        f" them for 7 days; restore it, or take its key out of s3://{plan.state_bucket}/"
        f"{objects.manifest_key(plan.as_of)} to do without it",
        code=Code.EVENT_OBJECT,
    )


def fetch_parquet(s3: S3Hook, plan: EngagementPlan, folder: Path, *, up_to_as_of: bool) -> list[Path]:
    """Download the events of the other as-ofs within 62 days, or with `up_to_as_of` of this and the earlier ones."""
    there = list(keys(s3, plan.state_bucket, objects.PARQUET_FOLDER))
    own = objects.parquet_key(plan.as_of)
    wanted = objects.in_memory(there, plan.as_of)
    if up_to_as_of:
        wanted = [key for key in wanted if key < own] + [key for key in there if key == own]
    found = []
    for number, key in enumerate(wanted):
        path = folder / f"{number:04d}.parquet"
        if download(s3, plan.state_bucket, key, path) is not None:
            found.append(path)
    return found


def kept_counts(s3: S3Hook, plan: EngagementPlan) -> EventCounts | None:
    """Return the counts of an as-of that was read; they are written last."""
    found = get_json(s3, plan.state_bucket, objects.counts_key(plan.as_of))
    return EventCounts.model_validate(found[0]) if found else None


def keep(s3: S3Hook, plan: EngagementPlan, parquet: Path, feedback: Path, counts: EventCounts) -> None:
    """Write the events of an as-of, what they say of addresses, then their counts."""
    put_if(s3, plan.state_bucket, objects.parquet_key(plan.as_of), parquet)
    put_if(s3, plan.state_bucket, objects.feedback_key(plan.as_of), feedback)
    put_json(s3, plan.state_bucket, objects.counts_key(plan.as_of), counts.model_dump(mode="json"))


def newest_report(s3: S3Hook, bucket: str, until: datetime | None = None) -> EngagementReport | None:
    """Return the report of the newest as-of, or of the newest up to `until`; it has the launches of 62 days.

    None without one, and for one that another version of this package wrote in another form: what is shown of it stays
    as it was, until the next run of `engagement` writes a report.
    """
    as_ofs = (objects.report_as_of(key) for key in keys(s3, bucket, objects.REPORTS_FOLDER))
    newest = max((as_of for as_of in as_ofs if as_of and (until is None or as_of <= until)), default=None)
    found = get_json(s3, bucket, objects.report_key(newest)) if newest else None
    try:
        return EngagementReport.model_validate(found[0]) if found else None
    except ValidationError:
        return None


def launches_by_tag(s3: S3Hook, bucket: str) -> dict[str, str]:
    """Return the run names of all launches, by the tags of their mails."""
    return {launch_tag(name): name for name in folders(s3, bucket, _LAUNCHES)}


def campaign_ids(s3: S3Hook, bucket: str, names: Iterable[str]) -> dict[str, str]:
    """Return the campaigns that mail launches, by their run names; a launch by SES has none."""
    found = {}
    for name in names:
        record = get_json(s3, bucket, f"{_LAUNCHES}{name}/launch.json")
        if record and (campaign_id := record[0].get("campaign_id")):
            found[name] = str(campaign_id)
    return found


def player_ids(s3: S3Hook, bucket: str, name: str, number: int, attempt: int) -> list[str]:
    """Return the players of an attempt of a batch, by its intents; an erased player is an empty text."""
    found = get_json(s3, bucket, f"{_LAUNCHES}{name}/{number:06d}_{attempt}.intents.json")
    return list(found[0]["player_ids"]) if found else []


def rows_of_launch(s3: S3Hook, bucket: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield the row tag and playerId of each mail of a launch that may have been sent; an erased player is left out."""
    for key in keys(s3, bucket, f"{_LAUNCHES}{name}/"):
        if not key.endswith(".intents.json") or not (intents := get_json(s3, bucket, key)):
            continue
        number, attempt = map(int, key.rpartition("/")[2].partition(".")[0].split("_"))
        for index, player_id in enumerate(intents[0]["player_ids"]):
            if player_id:
                yield row_tag(number, attempt, index), player_id


def is_newest(s3: S3Hook, plan: EngagementPlan) -> bool:
    """Return whether no later as-of was read."""
    found = (objects.counts_as_of(key) for key in keys(s3, plan.state_bucket, objects.COUNTS_FOLDER))
    return all(as_of is None or as_of <= plan.as_of for as_of in found)


def written_names(s3: S3Hook, bucket: str) -> list[str]:
    """Return the names of the properties that this package has written to the graph, and not removed."""
    found = get_json(s3, bucket, objects.GRAPH_NAMES_KEY)
    return list(found[0]["names"]) if found else []


def put_written_names(s3: S3Hook, bucket: str, names: Iterable[str]) -> None:
    put_json(s3, bucket, objects.GRAPH_NAMES_KEY, {"names": sorted(set(names))})


def rows_in_doubt(s3: S3Hook, bucket: str, name: str) -> list[str]:
    """Return the tags of the rows of a launch whose mail may have been sent, by its records."""
    folder = f"{_LAUNCHES}{name}/"
    there = set(keys(s3, bucket, folder))
    if f"{folder}in_doubt.txt" not in there:
        return []
    found = []
    for key in sorted(there):
        if not key.endswith(".outcome.json"):
            continue
        outcome = get_json(s3, bucket, key)
        in_doubt = frozenset(outcome[0]["in_doubt"] if outcome else ())
        if not in_doubt or not (intents := get_json(s3, bucket, key.replace(".outcome.", ".intents."))):
            continue
        number, attempt = map(int, key.removeprefix(folder).partition(".")[0].split("_"))
        ids = intents[0]["player_ids"]
        found += [row_tag(number, attempt, index) for index, player_id in enumerate(ids) if player_id in in_doubt]
    return found


def fixed_links(s3: S3Hook, bucket: str, name: str) -> list[str]:
    """Return the links of a launch's template that are the same for all players, by its record."""
    found = get_json(s3, bucket, f"{_LAUNCHES}{name}/launch.json")
    links = found[0].get("links") if found else None
    return [str(link) for link in links] if isinstance(links, list) else []


def untracked(s3: S3Hook, bucket: str, name: str) -> int:
    """Return how many e-mails of a launch are not tracked, as their players have not agreed."""
    found = get_json(s3, bucket, f"{_LAUNCHES}{name}/{TRACKING_FILE}")
    return int(found[0]["untracked"]) if found else 0


def as_text(value: object) -> str:
    """Return a document as indented JSON, for a log."""
    return json.dumps(value, indent=2, sort_keys=True)
