"""Measure the effects of launches from the state bucket, and keep them there: counts, and no player."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from botocore.exceptions import ClientError

from cohort_flywheel.campaign.holdout import Holdout, LaunchFacts, due, facts_key, holdout_key, mailed_key
from cohort_flywheel.campaign.send_ledger import is_holdout, ledger_key, read_ledger, run_of_ledger
from cohort_flywheel.common.duckdb import hide_values
from cohort_flywheel.common.progress import Progress
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.engagement import event_objects as objects
from cohort_flywheel.engagement.effect import Effects, LaunchEffect, ReportedEffect, engagement_shares
from cohort_flywheel.engagement.effect_comparison import HOLDOUTS, LaunchRecord, effects, month_of, unmeasured
from cohort_flywheel.engagement.effect_outcomes import OutcomeTables, Scores
from cohort_flywheel.engagement.effect_table import write_effects
from cohort_flywheel.engagement.engagement_outputs import EngagementPlan
from cohort_flywheel.engagement.events_store import newest_report
from cohort_flywheel.hooks.s3 import S3Hook, get_json, keys, lines, put_if, put_json
from cohort_flywheel.runs.names import cohort_of
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.snapshot import Snapshot

#: How far back a report has launches: from the first day of the month of that date.
REPORTED = timedelta(days=190)
#: The launches of a cohort that the report of a run has, at most.
MAX_LAUNCHES = 30


class _Snapshots(NamedTuple):
    """The snapshot of a launch, the one that shows its outcomes, and the as-of of that one."""

    then: Snapshot
    now: Snapshot
    at: datetime


class EffectStore:
    """Measure the launches of which `effect_days` are over, each once.

    :param s3: the S3 hook.
    :param plan: the plan of the run; what is newer than its as-of counts as not there.
    :param folder: a folder for temporary files: a snapshot at a time, and lists of digests of playerIds.
    :param progress: counts the vertices that are read.
    :param memory_mb: the limit of DuckDB, in MiB; None for its default.
    """

    def __init__(
        self, s3: S3Hook, plan: EngagementPlan, folder: Path, progress: Progress, memory_mb: int | None = None
    ) -> None:
        self._s3 = s3
        self._bucket = plan.state_bucket
        self._as_of = plan.as_of
        self._state = State(s3, plan.state_bucket)
        self._folder = folder
        self._progress = progress
        self._memory_mb = memory_mb

    def measure(self) -> Effects:
        """Measure what is due and not measured yet, keep it, and return the effects of all launches."""
        launches, records, others = self._launches(), list[LaunchRecord](), list[LaunchEffect]()
        for facts in launches:
            key = objects.launch_effect_key(facts.launch)
            kept = get_json(self._s3, self._bucket, key)
            record = LaunchRecord.model_validate(kept[0]) if kept else None
            is_due = self._as_of >= due(facts)
            if record is None and is_due and (found := self._snapshots(facts)):
                record = self._measure(facts, found, launches)
                put_json(self._s3, self._bucket, key, record.model_dump(mode="json"))
            if record is None or record.measured_at > self._as_of:
                others.append(unmeasured(facts, is_due=is_due))
            else:
                records.append(record)
        return effects(records, others)

    def keep(self, effects: Effects) -> None:
        """Write the effects of the as-of, as JSON and as Parquet."""
        put_json(self._s3, self._bucket, objects.effect_report_key(self._as_of), effects.model_dump(mode="json"))
        path = self._folder / "effects.parquet"
        write_effects(path, effects, self._memory_mb)
        put_if(self._s3, self._bucket, objects.effects_key(self._as_of), path)

    def _launches(self) -> list[LaunchFacts]:
        """The launches with a holdout up to the as-of, in their order; a list without a send ledger is skipped."""
        there = [key.removeprefix("sends/").split("/") for key in keys(self._s3, self._bucket, "sends/")]
        found = list[LaunchFacts]()
        ledgers = {"/".join(parts) for parts in there}
        with_holdout = {(parts[0], run_of_ledger(parts[1])) for parts in there if len(parts) == 2 and _held(parts[1])}
        since = (self._as_of - REPORTED).replace(day=1) - timedelta(days=1)
        for template, name in sorted(with_holdout):
            facts = get_json(self._s3, self._bucket, facts_key(name))
            if not facts or ledger_key(template, name).removeprefix("sends/") not in ledgers:
                continue
            launch = LaunchFacts.model_validate(facts[0])
            if since <= launch.as_of <= self._as_of:
                found.append(launch)
        return sorted(found, key=_order)

    def _snapshots(self, facts: LaunchFacts) -> _Snapshots | None:
        """The final snapshots of the launch and of the first as-of after `effect_days`, None if either is missing.

        Also None if they cannot be compared, because the registry has another property, direction or floor since.
        """
        then = self._state.final_snapshot(facts.cohort, facts.as_of)
        for day in self._state.snapshot_days(facts.cohort):
            if due(facts) <= day <= self._as_of and (now := self._state.final_snapshot(facts.cohort, day)):
                fits = then and not any(self._incompatibility(facts, each) for each in (then, now))
                return _Snapshots(then, now, day) if then and fits else None
        return None

    def _incompatibility(self, facts: LaunchFacts, snapshot: Snapshot) -> str | None:
        return snapshot.header.incompatibility(
            property=facts.property,
            direction=facts.direction,
            threshold=facts.threshold,
            required=(),
            schema=DataSchema(vertex_label=facts.vertex_label, player_id=facts.player_id),
        )

    def _measure(self, facts: LaunchFacts, found: _Snapshots, launches: list[LaunchFacts]) -> LaunchRecord:
        floors = found.then.header.floor, found.now.header.floor
        floor = max(floors) if facts.direction == "above" else min(floors)  # what both snapshots have
        with (
            TemporaryDirectory(dir=self._folder) as folder,
            OutcomeTables(Path(folder), self._memory_mb) as tables,
            hide_values("compare the scores of a launch"),
        ):
            tables.add_group("mailed", self._mailed(facts))
            for holdout in HOLDOUTS:
                tables.add_group(holdout, self._held_out(facts, holdout))
            for other in launches:
                of_month = other.template == facts.template and month_of(other) == month_of(facts)
                if of_month and _order(other) < _order(facts):
                    tables.add_earlier(self._mailed(other))
                    for holdout in HOLDOUTS:
                        tables.add_earlier(self._held_out(other, holdout))
            path = Path(folder) / "snapshot.parquet"
            self._state.fetch_snapshot(found.then.key, path)
            self._progress.add(tables.add_scores("then", path, facts.direction))
            self._state.fetch_snapshot(found.now.key, path)
            self._progress.add(tables.add_scores("now", path, facts.direction))
            groups = tables.outcomes(Scores(facts.direction, facts.threshold, floor))
        return LaunchRecord(facts=facts, measured_at=found.at, floor=floor, groups=groups)

    def _mailed(self, facts: LaunchFacts) -> Iterator[str]:
        yield from (line.decode() for line in lines(self._s3, self._bucket, mailed_key(facts.launch)))

    def _held_out(self, facts: LaunchFacts, holdout: Holdout) -> Iterator[str]:
        percents: dict[Holdout, int] = {
            "launch_holdout": facts.holdout_percent,
            "global_holdout": facts.global_holdout_percent,
        }
        if percents[holdout]:
            key = holdout_key(facts.template, facts.launch, holdout)
            yield from read_ledger(lines(self._s3, self._bucket, key), f"s3://{self._bucket}/{key}")[1]


def read_effects(s3: S3Hook, plan: EngagementPlan) -> Effects:
    """Return the effects that the task measure_effect has kept; empty for a run without that task."""
    found = get_json(s3, plan.state_bucket, objects.effect_report_key(plan.as_of))
    return Effects.model_validate(found[0]) if found else Effects()


def effect_of_cohort(s3: S3Hook, plan: Plan) -> ReportedEffect | None:
    """Return what the newest report of `engagement` has of the launches of a plan's cohort.

    None without `engagement.read_events`, before the first report, if the role may not read it, and if it is of
    another version of this package.
    """
    if not plan.reads_engagement:
        return None
    try:
        report = newest_report(s3, plan.state_bucket, plan.as_of)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("AccessDenied", "403"):
            raise
        return None  # the report of a run is written in any case
    if not report:
        return None
    launches = [each for each in report.effects.launches if each.cohort == plan.cohort][:MAX_LAUNCHES]
    templates = {each.template for each in launches}
    counted = sorted((name for name in report.launches if cohort_of(name) == plan.cohort), reverse=True)[:MAX_LAUNCHES]
    return ReportedEffect(
        as_of=report.as_of,
        engagement={name: engagement_shares(report.launches[name]) for name in sorted(counted)},
        launches=launches,
        pooled=[each for each in report.effects.pooled if each.template in templates],
    )


def _held(file_name: str) -> bool:
    return is_holdout(f"/{file_name}")


def _order(facts: LaunchFacts) -> tuple[datetime, str]:
    return facts.as_of, facts.launch
