"""
### Turn the players of one cohort beyond a threshold into a segment

1. **plan**: fixes the cohort, threshold, as-of and all names; fails for a run that must not start
2. **extract**: reads the members from the graph, or from the day's snapshot; writes the extract to the export bucket.
   With `extract_only` the run ends here
3. **enrich**: looks up the players in DynamoDB and writes the segment file; with `engagement.read_events: true`, after
   **wait_for_suppressions**, which waits up to an hour for the suppressions of the same as-of
4. **check_limits**: fails outside the cohort's limits; makes the snapshot final and copies the segment file to the
   import bucket. A dry run ends here, and so does a run without rows, unless the destination must remove
   former members
5. **create_import_job**, **wait_for_import_job**, **verify_segment**: import the segment into the destination
6. **record_result**: records the verified segment as the result of the day
7. **prepare_campaign**, **approve_campaign**, **launch_campaign**, **follow_campaign**: send the campaign, once an
   approver accepts exactly this segment and e-mail in Required Actions; only on the newest day's own run
8. **report**: counts what happened to each player; it runs after failures too. **end** fails a run with a failed task

The *as-of* of a run is the end of its data interval. Leave the logical date as the form shows it for the newest
complete day. You can clear each task: all names are deterministic. A past day is read from its snapshot.
"""

from __future__ import annotations

from typing import Any

import pendulum
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import (
    DAG,
    BaseOperator,
    CronDataIntervalTimetable,
    Param,
    TaskGroup,
    chain,
    get_parsing_context,
)

from cohort_flywheel.campaign.operators import CampaignApprovalOperator
from cohort_flywheel.config.cohorts import CAMPAIGN_MODES
from cohort_flywheel.config.dag_defaults import DEFAULT_ARGS
from cohort_flywheel.config.decimals import number_text
from cohort_flywheel.config.include import include_folder
from cohort_flywheel.config.registry import Registry, read_registry
from cohort_flywheel.destinations import get_destination
from cohort_flywheel.engagement.sensors import SuppressionsSensor
from cohort_flywheel.runs.lock_store import acquire_run_lock, acquire_run_lock_for_import
from cohort_flywheel.runs.notifications import on_failure
from cohort_flywheel.runs.plan_operator import CohortPlanOperator
from cohort_flywheel.runs.report_operator import LAUNCHES, CohortReportOperator
from cohort_flywheel.runs.result_operator import RESULTS, SEGMENTS, CohortResultOperator
from cohort_flywheel.segment.enrich_operator import DynamoDBEnrichOperator, enrich_arguments
from cohort_flywheel.segment.extract_operator import CohortExtractOperator
from cohort_flywheel.segment.limits_operator import CohortLimitsOperator
from cohort_flywheel.segment.source import SOURCES

REGISTRY_PATH = include_folder(__file__) / "cohorts.yaml"


def cohort_to_segment(dag_id: str, registry: Registry, default: str, cohort_names: list[str]) -> DAG:
    destination = get_destination(registry.destination)
    with DAG(
        dag_id,
        doc_md=__doc__,
        description=f"The players of {default}, every day, as a segment",
        schedule=CronDataIntervalTimetable(registry.schedule, timezone=registry.timezone),
        start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
        catchup=False,
        # A run that waits for approval is active; let others run.
        max_active_runs=16 if destination.has_campaigns else 2,
        is_paused_upon_creation=True,
        tags=["cohort-flywheel", registry.destination],
        params=params(registry, default, cohort_names, has_campaigns=destination.has_campaigns),
        default_args=DEFAULT_ARGS
        | {"on_failure_callback": on_failure(registry.notify), "memory_mb": registry.tuning.memory_mb},
    ) as dag:
        plan: Any = CohortPlanOperator(
            task_id="plan",
            registry=REGISTRY_PATH,
            schedule=registry.schedule,
            timezone=registry.timezone,
            destination=registry.destination,
        ).output
        extract: Any = CohortExtractOperator(
            task_id="extract", plan=plan, pre_execute=acquire_run_lock, pool=registry.graph_pool or "default_pool"
        ).output
        parts: Any = (
            DynamoDBEnrichOperator.partial(
                task_id="enrich",
                pre_execute=acquire_run_lock,
                map_index_template="{{ shard_label }}",
                in_flight=registry.tuning.lookups_in_flight,
                **enrich_arguments(plan, extract),
            )
            .expand(shard=extract)
            .output
        )
        checked: Any = CohortLimitsOperator(
            task_id="check_limits",
            plan=plan,
            extract=extract["facts"],
            shards=extract,
            parts=parts,
            handle_empty_segment=destination.handle_empty_segment,
            pre_execute=acquire_run_lock_for_import,
        ).output

        with TaskGroup("import_segment", prefix_group_id=False) as group:
            group.default_args |= poll(registry.tuning.import_poll_seconds)
            create_import_job = destination.create_import_job(plan, checked, pre_execute=acquire_run_lock_for_import)
            wait_for_import_job = destination.wait_for_import_job(plan, create_import_job.output)
            verify_segment: Any = destination.verify_segment(plan, checked, create_import_job.output)

        record_result: Any = CohortResultOperator(
            task_id="record_result",
            plan=plan,
            checked=checked,
            imported=verify_segment.output,
            pre_execute=acquire_run_lock_for_import,
            outlets=[RESULTS, SEGMENTS],
            # If two runs record the first segment of a cohort at once, both create its Asset, and Airflow fails one.
            max_active_tis_per_dag=1,
        )
        if registry.engagement.read_events:
            wait_for_suppressions = SuppressionsSensor(
                task_id="wait_for_suppressions", plan=plan, schedule=registry.schedule, timezone=registry.timezone
            )
            chain(wait_for_suppressions, parts)
        chain(plan, extract, parts, checked, *present(create_import_job, wait_for_import_job, verify_segment))
        chain(verify_segment, record_result)

        last = record_result
        if destination.has_campaigns:
            with TaskGroup("campaign", prefix_group_id=False) as group:
                group.default_args |= poll(registry.tuning.campaign_poll_seconds)
                prepare_campaign: Any = destination.prepare_campaign(
                    plan, checked, record_result.output, templates=REGISTRY_PATH.parent / "email"
                )
                approve_campaign = CampaignApprovalOperator(
                    task_id="approve_campaign",
                    plan=plan,
                    checked=checked,
                    verified=record_result.output,
                    prepared=prepare_campaign.output,
                    hours=registry.approval.hours,
                    notify=registry.notify,
                )
                launch_campaign: Any = destination.launch_campaign(
                    plan, checked, prepare_campaign.output, approval=registry.approval, pre_execute=acquire_run_lock
                )
                follow_campaign = destination.follow_campaign(launch_campaign.output)
            campaign = present(prepare_campaign, approve_campaign, launch_campaign, follow_campaign)
            chain(record_result, *campaign)
            last = campaign[-1]

        report = CohortReportOperator(task_id="report", notify=registry.notify, outlets=[LAUNCHES])
        report.as_teardown(on_failure_fail_dagrun=True)
        # The leaves decide the state of a run: with the report as the only leaf, a failed run would succeed.
        chain(last, [report, EmptyOperator(task_id="end")])
    return dag


def poll(seconds: int | None) -> dict[str, int]:
    """Return the default arguments of the sensors of a group; without any for their own interval."""
    return {} if seconds is None else {"poke_interval": seconds}


def present(*tasks: BaseOperator | None) -> list[BaseOperator]:
    """Return the tasks that the destination has."""
    return [task for task in tasks if task is not None]


def params(registry: Registry, default: str, cohort_names: list[str], *, has_campaigns: bool) -> dict[str, Param]:
    cohorts = [registry.cohorts[name] for name in cohort_names if name in registry.cohorts]
    ranges = "\n".join(
        f"| {c.name} | {c.direction} | {number_text(c.thresholds()[-1])} |"
        f" {number_text(c.threshold_range.min)} … {number_text(c.threshold_range.max)} |"
        for c in cohorts
    )
    # the range over all cohorts; the plan checks the range of the chosen cohort
    number: dict[str, Any] = {
        "minimum": min((c.threshold_range.min for c in cohorts), default=0),
        "maximum": max((c.threshold_range.max for c in cohorts), default=0),
    }
    return {
        "cohort": Param(
            default,
            type="string",
            enum=cohort_names,
            title="Cohort",
            description_md="The cohort of include/cohorts.yaml.\n\n"
            + "\n".join(f"- **{c.name}**: {c.description}" for c in cohorts),
            values_display={c.name: f"{c.name} ({c.direction} {number_text(c.thresholds()[-1])})" for c in cohorts},
        ),
        "threshold": Param(
            None,
            type=["null", "number"],
            **number,
            title="Threshold",
            description_md="At most six decimals. Empty: the threshold of the registry on the day of the run. The score"
            " of a member is strictly beyond it.\n\n| cohort | score | today's | allowed |\n|---|---|---|---|\n"
            + ranges,
        ),
        "source": Param(
            "auto",
            type="string",
            enum=list(SOURCES),
            title="Source",
            description_md="\n".join(f"- **{name}**: {meaning}" for name, meaning in SOURCES.items()),
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="On: run all steps but the import, and write to the state bucket only."
            " Off: import the segment.",
        ),
        "extract_only": Param(
            False,
            type="boolean",
            title="Extract only",
            description="On: end the run after the extract is in the export bucket, without lookup and import.",
        ),
        "extract_uri": Param(
            None,
            type=["null", "string"],
            pattern="^(s3://.+/dropped/.+)?$",
            maxLength=1024,
            title="Uploaded extract",
            description="s3://<export bucket>/dropped/<name>: read this extract instead of the graph or a snapshot."
            " Empty: read what the source names.",
        ),
        "override_limits": Param(
            False,
            type="boolean",
            title="Override the limits",
            description="On: allow this run outside the limits of its cohort, for the reason below. Not in a backfill.",
        ),
        "override_reason": Param(
            None,
            type=["null", "string"],
            maxLength=500,
            title="Reason for the override",
            description="Why the figures are right, for the report. Required with the override, and only then.",
        ),
    } | (
        {
            "campaign": Param(
                None,
                type=["null", "string"],
                enum=[None, *CAMPAIGN_MODES],
                title="Campaign",
                description_md="What to do with the verified segment. Empty: as set for the cohort in the registry.\n\n"
                + "\n".join(f"- **{name}**: {meaning}" for name, meaning in CAMPAIGN_MODES.items()),
                values_display={"null": "as set in the registry"},
            )
        }
        if has_campaigns
        else {}
    )


_registry = read_registry(REGISTRY_PATH)
_dags = {"cohort_to_segment": (_registry.default_cohort, _registry.names)}
_dags |= {f"cohort_to_segment__{each}": (each, [each]) for each in _registry.daily if each != _registry.default_cohort}
# While a task runs, Airflow names its DAG: the process of a task needs no other DAG.
_of_the_task = get_parsing_context().dag_id
for _dag_id, (_default, _names) in _dags.items():
    if _of_the_task in (None, _dag_id):
        cohort_to_segment(_dag_id, _registry, _default, _names)
