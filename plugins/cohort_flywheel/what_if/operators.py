"""Count the members for other thresholds over the snapshots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from airflow.sdk import BaseOperator

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.progress import Progress
from cohort_flywheel.common.records import Json
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.config.cohorts import Cohort
from cohort_flywheel.config.data_schema import DataSchema
from cohort_flywheel.config.decimals import Number
from cohort_flywheel.config.params import refuse_unknown_params
from cohort_flywheel.config.registry import read_registry
from cohort_flywheel.config.variables import StateSettings, read_settings
from cohort_flywheel.errors import Code, FlywheelError
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.schedule import Schedule
from cohort_flywheel.runs.state_store import State
from cohort_flywheel.segment.members import Members
from cohort_flywheel.segment.snapshot import select_snapshot
from cohort_flywheel.what_if import counts as what_if
from cohort_flywheel.what_if.counts import Day, WhatIfOutput

if TYPE_CHECKING:
    from airflow.sdk import Context

FOLDER = "what_if/"


class CohortWhatIfOperator(TemporaryFolderMixin, BaseOperator):
    """Count a cohort's members by the run's params on each day with a snapshot; write a CSV and an SVG.

    Reads snapshots, and writes below `what_if/` of the state bucket only. Returns (each also an XCom of its own)
    `csv_url`, `svg_url`, `days`, `counted`, and `lowest` and `highest` (members, or None where no day was counted).

    :param registry: the path of cohorts.yaml, read when the task runs.
    :param schedule: the cron of the daily runs.
    :param timezone: its time zone, whose dates those of the params and of a threshold's history are.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    """

    ui_color = "#c9e8c4"

    def __init__(
        self,
        *,
        registry: Path,
        schedule: str,
        timezone: str = "UTC",
        aws_conn_id: str | None = "aws_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(multiple_outputs=True, **kwargs)
        self.registry = registry
        self.schedule = schedule
        self.timezone = timezone
        self.aws_conn_id = aws_conn_id

    def execute(self, context: Context) -> Json:
        retry_note = "Clearing this task is safe: it reads the snapshots again, and writes the same two files."
        with describe_failure(retry_note) as side_effects, self.temporary_folder() as folder:
            refuse_unknown_params(context)
            params = context["params"]
            registry = read_registry(self.registry)
            cohort = registry.cohort(params["cohort"])
            requested = params["threshold"]
            threshold = None if requested is None else cohort.check_threshold(requested)
            # by the time of the run: if it is cleared on another day, the days are the same
            schedule, zone = Schedule(self.schedule, self.timezone), ZoneInfo(self.timezone)
            newest = schedule.last(context["dag_run"].run_after)
            first, last = what_if.period(params["from"], params["to"], newest.astimezone(zone))
            scheduled = what_if.instants(schedule.after, zone, first, last, newest)
            s3, bucket = S3Hook(aws_conn_id=self.aws_conn_id), str(read_settings(StateSettings)["state_bucket"])
            state = State(s3, bucket)
            kept = {
                as_of for as_of in state.snapshot_days(cohort.name) if first <= as_of.astimezone(zone).date() <= last
            }
            as_ofs = sorted(kept.union(scheduled))
            if not as_ofs:
                raise FlywheelError(
                    f"the schedule has no as-of from {first} to {last}: give dates that are further apart",
                    code=Code.WHAT_IF_DATES,
                )
            schema = cohort.schema_of(registry.data_schema)
            days = list(self._count(state, cohort, schema, threshold, as_ofs, zone, folder, registry.tuning.memory_mb))
            title = what_if.title(cohort, threshold, first, last)
            self.log.info("%s\n%s\n%s", title, what_if.table(days), what_if.summary(days))
            place = FOLDER + what_if.name(cohort.name, threshold, first, last)
            for key, kind, text in (
                (f"{place}.csv", "text/csv; charset=utf-8", what_if.csv_text(days)),
                (f"{place}.svg", "image/svg+xml", what_if.picture(title, days)),  # the type makes a browser show it
            ):
                s3.get_conn().put_object(Bucket=bucket, Key=key, Body=text.encode(), ContentType=kind)
                side_effects.append(f"s3://{bucket}/{key} was put")
        self.log.info("%s", "; ".join(side_effects))
        lowest, highest = (day.members for day in what_if.extremes(days) or (days[0], days[0]))
        return WhatIfOutput(
            csv_url=f"s3://{bucket}/{place}.csv",
            svg_url=f"s3://{bucket}/{place}.svg",
            days=len(days),
            counted=sum(day.members is not None for day in days),
            lowest=lowest,
            highest=highest,
        ).model_dump(mode="json")

    def _count(
        self,
        state: State,
        cohort: Cohort,
        schema: DataSchema,
        threshold: Number | None,
        as_ofs: Iterable[datetime],
        zone: tzinfo,
        folder: Path,
        memory_mb: int | None,
    ) -> Iterator[Day]:
        before = folder / "before.parquet"  # the members of the last counted day
        progress = Progress(self.log, "vertices read")
        for as_of in as_ofs:
            day = Day(as_of.astimezone(zone), threshold)
            try:
                number = cohort.threshold_at(as_of, zone) if threshold is None else threshold
                day = day._replace(threshold=number)
                snapshot = select_snapshot(state.snapshots(cohort.name, as_of))
                if snapshot is None:
                    yield day._replace(note="no snapshot")
                    continue
                day = day._replace(snapshot="final" if snapshot.final else "pending")
                if why_not := snapshot.header.incompatibility(
                    property=cohort.property,
                    direction=cohort.direction,
                    threshold=number,
                    required=cohort.where,
                    schema=schema,
                ):
                    yield day._replace(note=f"the snapshot {why_not}")
                    continue
                path = folder / "snapshot.parquet"
                state.fetch_snapshot(snapshot.key, path)
                with Members(
                    folder, direction=cohort.direction, threshold=number, where=cohort.where, memory_mb=memory_mb
                ) as members:
                    members.add_snapshot(path)
                    counts = members.counts()
                    members.write_player_ids(now := folder / "now.parquet")
                progress.add(counts.vertices_read)
                if before.exists():
                    joined, left = what_if.joined_and_left(folder, before, now, memory_mb)
                    day = day._replace(joined=joined, left=left)
                now.replace(before)
                yield day._replace(members=counts.members)
            except FlywheelError as error:  # the row of such a day has the reason, and the other days are counted
                if error.code is Code.WORKER_FULL:  # the fault is the worker's, not the day's
                    raise
                yield day._replace(note=str(error))
