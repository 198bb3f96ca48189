"""Read the artifacts of runs from the reports and results of the state bucket, and keep which of them were removed.

The names of the runs that a cleanup has removed are in `results/removed.json`: the next one does not read them again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime

from pydantic import Field

from cohort_flywheel.common.records import Record, read_kept
from cohort_flywheel.governance.cleanup import DRY_RUN, FiledReport, RunArtifacts, of_report, of_result, read_result_key
from cohort_flywheel.hooks.s3 import ListedObject, S3Hook, get_json, objects, put_json
from cohort_flywheel.runs.names import run_name
from cohort_flywheel.runs.result import Result

REMOVED_KEY = "results/removed.json"
#: The reports and results of each run name.
type Listed = Mapping[str, Iterable[ListedObject]]


class RemovedNames(Record):
    """By destination, each run name that was removed, and when the newest of its reports and results was written."""

    destinations: dict[str, dict[str, datetime]] = Field(default_factory=dict)


def list_reports_and_results(s3: S3Hook, bucket: str) -> Listed:
    """List the reports and results of each run name, without reading them."""
    found = defaultdict[str, list[ListedObject]](list)
    for folder in ("reports/", f"{DRY_RUN}reports/"):
        for each in objects(s3, bucket, folder):
            if each.key.endswith(".json"):  # not the sample mail of a campaign, beside the report
                found[each.key.rpartition("/")[0].replace("reports/", "", 1)].append(each)
    for each in objects(s3, bucket, "results/"):
        if of := read_result_key(each.key):
            found[run_name(*of)].append(each)
    return found


def read_artifacts(s3: S3Hook, bucket: str, key: str) -> RunArtifacts | None:
    """Read a report or a result; return None if it is gone, or its run failed in its plan."""
    if not (found := get_json(s3, bucket, key)):
        return None
    if of := read_result_key(key):
        return of_result(of.cohort, of.threshold, Result.model_validate(found[0]))
    return of_report(key, FiledReport.model_validate(found[0]))


def read_removed(s3: S3Hook, bucket: str, destination: str, listed: Listed) -> set[str]:
    """Return the names that earlier cleanups have removed, and of which nothing was reported since."""
    removed = _removed(s3, bucket).destinations.get(destination, {})
    return {name for name in removed.keys() & listed.keys() if _newest(listed[name]) <= removed[name]}


def put_removed(s3: S3Hook, bucket: str, destination: str, removed: Iterable[str], listed: Listed) -> None:
    """Write all names that this cleanup and earlier ones have removed.

    :param listed: as it was before the removal, so that a name which a run uses again meanwhile is read again.
    """
    now = {name: _newest(listed[name]) for name in sorted(set(removed) & listed.keys())}
    destinations = _removed(s3, bucket).destinations | {destination: now}
    put_json(s3, bucket, REMOVED_KEY, RemovedNames(destinations=destinations).model_dump(mode="json"))


def _removed(s3: S3Hook, bucket: str) -> RemovedNames:
    found = get_json(s3, bucket, REMOVED_KEY)
    return read_kept(RemovedNames, found[0] if found else None) or RemovedNames()


def _newest(listed: Iterable[ListedObject]) -> datetime:
    return max(each.written for each in listed)
