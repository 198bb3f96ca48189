"""
### Count the events of the e-mails that SES sent

1. **plan**: fixes the as-of; checks the buckets
2. **read_events**: reads the events of the 48 hours before the as-of that no other as-of has read; keeps each once, as
   Parquet without addresses, in `engagement/events/` of the state bucket
3. **update_suppressions**: adds bounced addresses, and players who complained or unsubscribed, to the suppression list,
   which every run and launch asks; reads SES's account-level list
4. **write_graph**, only with `engagement.write_graph: true`: sets the clicks and opens of the players' vertices, and
   writes the launches as campaigns. A run whose as-of is not the newest writes nothing. Before it,
   **wait_for_snapshots** waits up to three hours until the daily cohorts' snapshots of the as-of are final
5. **count_campaigns**, only with `engagement.campaign_counts: true`: reads what Amazon Connect counts of the campaigns
   of the last 30 days
6. **measure_effect**, beside these: compares the players that a launch mailed with those that it held out, after its
   `effect_days`; writes `engagement/effects/` as Parquet without players
7. **report**: counts what became of the messages of each launch of the last 62 days; writes `engagement/reports/`

Only with `engagement.read_events: true` in the registry. You can clear each task: the same events give the same files.
A backfill of this DAG reads a missed day, before the events expire after 7 days. It mails no player.
"""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.sdk import DAG, CronDataIntervalTimetable, chain

from cohort_flywheel.config.dag_defaults import DEFAULT_ARGS
from cohort_flywheel.config.include import include_folder
from cohort_flywheel.config.registry import Registry, read_registry
from cohort_flywheel.engagement.campaign_counts_operator import CountCampaignsOperator
from cohort_flywheel.engagement.effect_operator import MeasureEffectOperator
from cohort_flywheel.engagement.graph_operator import EngagementGraphOperator
from cohort_flywheel.engagement.graph_values import GraphPlan
from cohort_flywheel.engagement.operators import EngagementPlanOperator, EngagementReportOperator, ReadEventsOperator
from cohort_flywheel.engagement.sensors import FinalSnapshotsSensor
from cohort_flywheel.engagement.suppressions_operator import UpdateSuppressionsOperator
from cohort_flywheel.runs.notifications import on_failure
from cohort_flywheel.runs.result_operator import RESULTS

REGISTRY_PATH = include_folder(__file__) / "cohorts.yaml"


def engagement(registry: Registry) -> DAG:
    with DAG(
        "engagement",
        doc_md=__doc__,
        description="The events of e-mails, every day, counted for each launch",
        schedule=CronDataIntervalTimetable(registry.schedule, timezone=registry.timezone),
        start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
        catchup=False,
        max_active_runs=1,  # an as-of leaves out what the others have read
        is_paused_upon_creation=True,
        tags=["cohort-flywheel", "engagement"],
        default_args=DEFAULT_ARGS
        | {"on_failure_callback": on_failure(registry.notify), "memory_mb": registry.tuning.memory_mb},
    ) as dag:
        graph = GraphPlan.of(registry)
        plan: Any = EngagementPlanOperator(
            task_id="plan",
            schedule=registry.schedule,
            timezone=registry.timezone,
            graph=graph.model_dump() if graph else None,
        )
        read_events: Any = ReadEventsOperator(task_id="read_events", plan=plan.output)
        update_suppressions: Any = UpdateSuppressionsOperator(
            task_id="update_suppressions", plan=plan.output, destination=registry.destination
        )
        measure_effect: Any = MeasureEffectOperator(task_id="measure_effect", plan=plan.output)
        count_campaigns: Any = None
        if registry.engagement.campaign_counts:
            count_campaigns = CountCampaignsOperator(
                task_id="count_campaigns", plan=plan.output, destination=registry.destination
            )
        report = EngagementReportOperator(
            task_id="report",
            plan=plan.output,
            counts=read_events.output,
            suppressions=update_suppressions.output,
            campaigns=count_campaigns.output if count_campaigns else None,
            outlets=[RESULTS],  # cohort_figures shows the new counts
        )
        events: list[Any] = [plan, read_events, update_suppressions]
        if graph:
            wait_for_snapshots = FinalSnapshotsSensor(
                task_id="wait_for_snapshots",
                plan=plan.output,
                schedule=registry.schedule,
                timezone=registry.timezone,
                cohorts=sorted({registry.default_cohort, *registry.daily} & registry.cohorts.keys()),
            )
            write_graph = EngagementGraphOperator(
                task_id="write_graph", plan=plan.output, pool=registry.graph_pool or "default_pool"
            )
            events += [wait_for_snapshots, write_graph]
        chain(*events, report)
        chain(plan, measure_effect, report)
    return dag


_registry = read_registry(REGISTRY_PATH)
if _registry.engagement.read_events:
    engagement(_registry)
