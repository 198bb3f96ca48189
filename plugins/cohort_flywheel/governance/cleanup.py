"""The artifacts of runs, by their reports and results, and which of them are past their retention."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from cohort_flywheel.common.records import Record
from cohort_flywheel.common.table import format_table
from cohort_flywheel.config.cohorts import Direction
from cohort_flywheel.config.decimals import Number, is_number, parse_number
from cohort_flywheel.destinations.import_result import ImportedSegment
from cohort_flywheel.runs.names import from_instant, is_instant, run_name
from cohort_flywheel.runs.result import Result

#: The prefix of a dry run's keys, and of its name here.
DRY_RUN = "dry_run/"

_KEY = re.compile(
    rf"({DRY_RUN})?(?:"
    r"(?P<extract>export)/(?P<a>[^/]+)\.json"
    r"|(?P<segment_file>segments)/(?P<b>[^/]+)_[0-9a-f]{16}/.+"
    r"|(?P<import_file>contacts)/(?P<c>[^/]+)_[0-9a-f]{16}/.+"
    # the bucket's rule removes what graph loads have put there
    r"|(?P<staged_file>staged)/(?!graph_loads/)(?P<d>[^/]+)/.+"
    r"|(?P<staged_extract>staged)/(?P<e>[^/]+)\.json"
    r"|(?P<rejects>rejects)/(?P<f>[^/]+)/.+"
    r"|(?P<last_run>last_runs)/(?P<g>[^/]+)\.json"
    r")"
)


class RunArtifacts(NamedTuple):
    """The artifacts of the runs of one name: one cohort, threshold and as-of, or a `_live` or dry run of them.

    `last` is when the last of them was reported; `verified` whether it is a result; `imported` the output of
    `record_result` for each segment; `snapshots` the keys that they read or wrote.
    """

    name: str
    cohort: str
    threshold: int | float
    as_of: datetime
    last: datetime
    verified: bool = False
    imported: tuple[ImportedSegment, ...] = ()
    snapshots: frozenset[str] = frozenset()
    direction: Direction | None = None


class FiledPlan(Record):
    cohort: str
    threshold: int | float
    as_of: datetime
    direction: Direction


class FiledRun(Record):
    reported: datetime


class FiledExtract(Record):
    snapshot_key: str | None


class FiledReport(Record):
    """What cleanup reads of the report of a run, whichever version of this package wrote it."""

    run: FiledRun
    plan: FiledPlan | None
    extract: FiledExtract | None
    imported: ImportedSegment | None


class CleanupOutput(Record):
    """The output of CohortCleanupOperator: names of runs, and what is removed."""

    past_keep_by: int
    kept: int
    removed_before: int
    segments: int
    recipients: int
    objects: int
    bytes: int


class ResultKey(NamedTuple):
    """What the key of a result names."""

    cohort: str
    threshold: Number
    as_of: datetime


class InventoryRow(NamedTuple):
    """A row of the inventory: the number of objects of one kind at one place; `why` they are kept, empty if removed."""

    what: str
    place: str
    number: int
    bytes: int = 0
    why: str = ""


def of_report(key: str, report: FiledReport) -> RunArtifacts | None:
    """Return the artifacts of a run's report; None for a run that failed in its plan."""
    plan, extract, imported = report.plan, report.extract, report.imported
    if not plan:
        return None
    name = key.rpartition("/")[0].replace("reports/", "", 1)
    return RunArtifacts(
        name,
        plan.cohort,
        plan.threshold,
        plan.as_of,
        report.run.reported,
        imported=(imported,) if imported else (),
        snapshots=_named(extract.snapshot_key if extract else None),
        direction=plan.direction,
    )


def of_result(cohort: str, threshold: Number, result: Result) -> RunArtifacts:
    """Return the artifacts of a result; its run may have ended before its report."""
    name, as_of = run_name(cohort, threshold, result.as_of), result.as_of
    return RunArtifacts(name, cohort, threshold, as_of, as_of, True, (result.imported,), _named(result.snapshot))


def _named(snapshot: str | None) -> frozenset[str]:
    return frozenset([snapshot] if snapshot else [])


def by_name(artifacts: Iterable[RunArtifacts]) -> list[RunArtifacts]:
    """Merge the artifacts of each name; sorted by name."""
    found: dict[str, RunArtifacts] = {}
    for one in artifacts:
        other = found.get(one.name, one)
        segments = {each.segment_id: each for each in (*other.imported, *one.imported)}
        found[one.name] = one._replace(
            last=max(one.last, other.last),
            verified=one.verified or other.verified,
            imported=tuple(segments.values()),
            snapshots=one.snapshots | other.snapshots,
            direction=one.direction or other.direction,
        )
    return [found[name] for name in sorted(found)]


def expired(artifacts: Sequence[RunArtifacts], keep_by: datetime, cohort: str | None = None) -> list[RunArtifacts]:
    """Return the artifacts last reported before `keep_by`.

    The newest verified as-of of each cohort and threshold is kept. `cohort` None means all cohorts.
    """
    newest: dict[tuple[str, Number], datetime] = {}
    for one in artifacts:
        if one.verified:
            which = (one.cohort, one.threshold)
            newest[which] = max(one.as_of, newest.get(which, one.as_of))
    return [
        one
        for one in artifacts
        if one.last < keep_by
        and cohort in (None, one.cohort)
        and not (one.verified and one.as_of == newest[one.cohort, one.threshold])
    ]


def read_result_key(key: str) -> ResultKey | None:
    """Return what the key of a result names; None for another object below `results/`, or elsewhere."""
    found = re.fullmatch(r"results/([^/]+)/([^/]+)/([^/]+)\.json", key)
    if not found or not is_number(found[2]) or not is_instant(found[3]):
        return None
    return ResultKey(found[1], parse_number(found[2]), from_instant(found[3]))


def read_key(key: str) -> tuple[str, str] | None:
    """Return the kind of an object (`segment file`, …) and its run name; None for an object that cleanup ignores."""
    found = _KEY.fullmatch(key)
    if not found:
        return None
    (what, _), (_, name) = [(group, text) for group, text in found.groupdict().items() if text]
    return what.replace("_", " "), (found[1] or "") + name


def table(lines: Sequence[InventoryRow]) -> str:
    """Format the inventory as a table for a log."""
    cells = [("what", "where", "number", "bytes", "kept because")]
    cells += [(line.what, line.place, f"{line.number:,}", f"{line.bytes:,}", line.why) for line in lines]
    return format_table(cells, "<<>><")


def sums(lines: Sequence[InventoryRow]) -> dict[str, int]:
    """The sums of the rows that are removed."""
    removed = [line for line in lines if not line.why]
    files = [line for line in removed if line.what not in ("segment", "recipients")]
    return {
        "segments": sum(line.number for line in removed if line.what == "segment"),
        "recipients": sum(line.number for line in removed if line.what == "recipients"),
        "objects": sum(line.number for line in files),
        "bytes": sum(line.bytes for line in files),
    }
