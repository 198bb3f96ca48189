"""Count the figures of the pages in Airflow's UI, and hand them on as XComs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.progress import Progress
from cohort_flywheel.common.records import Json
from cohort_flywheel.common.temporary_folder import TemporaryFolderMixin
from cohort_flywheel.config.registry import Registry, read_registry
from cohort_flywheel.config.variables import StateSettings, read_settings
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.schedule import Clock, Schedule, utc_now
from cohort_flywheel.ui.figures import LAUNCHES, OVERVIEW, CohortSummary, Overview, cohort_key, summarize
from cohort_flywheel.ui.figures_store import FiguresStore, KeptOverview

if TYPE_CHECKING:
    from airflow.sdk import Context

DAILY_DAG = "cohort_to_segment"


class CohortFiguresOperator(TemporaryFolderMixin, BaseOperator):
    """Count the figures of the cohorts whose results are new; of all cohorts in a run that was started by hand.

    Reads results, snapshots and reports, and writes below `results/` of the state bucket only. Pushes an XCom of counts
    for each of these cohorts (`figures.cohort_key`), and one each of all cohorts (`overview`) and of all launches
    (`launches`). Returns the names of the cohorts that were counted.

    :param registry: the path of cohorts.yaml, read when the task runs.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    :param clock: gives the time, with its zone.
    """

    ui_color = "#c9e8c4"

    def __init__(
        self, *, registry: Path, aws_conn_id: str | None = "aws_default", clock: Clock = utc_now, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.registry = registry
        self.aws_conn_id = aws_conn_id
        self.clock = clock

    def execute(self, context: Context) -> list[str]:
        retry_note = "Clearing this task is safe: it counts again what is new, and writes the same figures."
        with describe_failure(retry_note), self.temporary_folder() as folder:
            registry, ti = read_registry(self.registry), context["ti"]
            bucket = str(read_settings(StateSettings)["state_bucket"])
            s3, progress = S3Hook(aws_conn_id=self.aws_conn_id), Progress(self.log, "vertices read")
            store = FiguresStore(s3, bucket, registry, folder, progress)
            overview, counted = store.overview(), list[str]()
            entries, digests = dict(overview.cohorts), dict(overview.digests)
            # Airflow may start one run for results of which it names the first only: look at all cohorts.
            is_by_hand = not context.get("triggering_asset_events")
            for name, cohort in registry.cohorts.items():
                digest = store.digest(name)
                if not is_by_hand and digests.get(name) == digest:
                    continue
                others = {
                    other: (registry.cohorts[other], entry.day)
                    for other, entry in entries.items()
                    if other != name and other in registry.cohorts and entry.day
                }
                figures = store.count(cohort, others)
                entries[name] = summarize(
                    figures,
                    dag_id=_dag_id(registry, name),
                    counted=self.clock(),
                    figures_run=context["dag_run"].run_id,
                )
                digests[name] = digest
                counted.append(name)
                ti.xcom_push(key=cohort_key(name), value=figures.model_dump(mode="json"))
                self.log.info("%s: %s days", name, f"{len(figures.days):,}")
            store.put_overview(KeptOverview(cohorts=entries, digests=digests))
            ti.xcom_push(key=OVERVIEW, value=self._overview(registry, entries))
            ti.xcom_push(key=LAUNCHES, value=store.launches().model_dump(mode="json"))
        return counted

    def _overview(self, registry: Registry, entries: dict[str, CohortSummary]) -> Json:
        now, schedule = self.clock(), Schedule(registry.schedule, registry.timezone)
        cohorts = [
            entries.get(name)
            or CohortSummary(
                cohort=name,
                description=cohort.description,
                direction=cohort.direction,
                threshold=cohort.thresholds()[-1],
                dag_id=_dag_id(registry, name),
            )
            for name, cohort in registry.cohorts.items()
        ]
        return Overview(
            destination=registry.destination,
            schedule=f"{schedule.cron} {schedule.zone}",
            counted=now,
            newest_as_of=schedule.last(now),
            next_as_of=schedule.next(now),
            dag_ids=[DAILY_DAG, *(each.dag_id for each in cohorts if each.dag_id and each.dag_id != DAILY_DAG)],
            cohorts=cohorts,
            unreadable=[name for name in registry.names if name not in registry.cohorts],
        ).model_dump(mode="json")


def _dag_id(registry: Registry, name: str) -> str | None:
    """The DAG of a cohort's scheduled runs, as dags/cohort_to_segment.py names it; None without one."""
    if name == registry.default_cohort:
        return DAILY_DAG
    return f"{DAILY_DAG}__{name}" if name in registry.daily else None
