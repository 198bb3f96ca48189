"""Read the artifacts of runs from the reports and results of the state bucket, and keep of which names nothing is left.

These names are in `results/removed.json`: the next cleanup does not read their reports and results again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime

from pydantic import AwareDatetime, Field

from cohort_flywheel.common.records import Record, read_kept
from cohort_flywheel.governance.cleanup import DRY_RUN, FiledReport, RunArtifacts, of_report, of_result, read_result_key
from cohort_flywheel.hooks.s3 import ListedObject, S3Hook, get_json, objects, put_json
from cohort_flywheel.runs.names import run_name
from cohort_flywheel.runs.result import Result

REMOVED_KEY = "results/removed.json"
#: The reports and results of each run name.
type Listed = Mapping[str, Iterable[ListedObject]]


class RemovedNames(Record):
    """The run names of which nothing is left at a place, each with the time at which its newest report was written.

    A place is where segments are, as an application of Pinpoint. At another place a segment of the same name may be.
    """

    places: dict[str, dict[str, AwareDatetime]] = Field(default_factory=dict)


def list_reports_and_results(s3: S3Hook, bucket: str) -> Listed:
    """List the reports and results of each run name, without reading them."""
    found = defaultdict[str, list[ListedObject]](list)
    for folder in ("reports/", f"{DRY_RUN}reports/"):
        for each in objects(s3, bucket, folder):
            name, _, file = each.key.replace("reports/", "", 1).rpartition("/")
            # not the sample mail of a campaign, beside the report; nor a refused plan: its folder is the DAG's
            if file.endswith(".json") and not file.startswith(f"{name.removeprefix(DRY_RUN)}__"):
                found[name].append(each)
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


def read_removed(s3: S3Hook, bucket: str, place: str, listed: Listed) -> set[str]:
    """Return the names of which earlier cleanups have left nothing at a place, and nothing was reported since."""
    removed = _removed(s3, bucket).places.get(place, {})
    return {name for name in removed.keys() & listed.keys() if _newest(listed[name]) <= removed[name]}


def put_removed(s3: S3Hook, bucket: str, place: str, removed: Iterable[str], listed: Listed) -> None:
    """Write all names of which this cleanup and earlier ones have left nothing at a place.

    :param listed: as it was before the removal, so that a name which a run uses again meanwhile is read again.
    """
    now = {name: _newest(listed[name]) for name in sorted(set(removed) & listed.keys())}
    places = _removed(s3, bucket).places | {place: now}
    put_json(s3, bucket, REMOVED_KEY, RemovedNames(places=places).model_dump(mode="json"))


def _removed(s3: S3Hook, bucket: str) -> RemovedNames:
    found = get_json(s3, bucket, REMOVED_KEY)
    return read_kept(RemovedNames, found[0] if found else None) or RemovedNames()


def _newest(listed: Iterable[ListedObject]) -> datetime:
    return max(each.written for each in listed)
