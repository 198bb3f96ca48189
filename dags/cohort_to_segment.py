"""
### The players of one cohort beyond one threshold become a segment

Every day, and whenever you trigger it:

1. **plan**: freezes the cohort, the threshold in force, the as-of and all names; refuses what must not run
2. **extract**: takes the members from the Cohort Modeler's graph, keeping a snapshot of the day, or from the snapshot
   that the day has; puts the extract in the export bucket. With `extract_only` a run ends here, as a success; with
   `extract_uri` it begins with an extract that somebody dropped
3. **enrich**: looks the players up in DynamoDB, and writes the segment file
4. **check_limits**: stops a run outside its cohort's limits; makes the day's snapshot final, and puts the segment file
   in the import bucket. A dry run ends here, as a success, and so does an empty cohort (with Customer Profiles it goes
   on, and sets everybody out)
5. **create_import_job**, **wait_for_import_job**, **verify_segment**: the destination's own tasks
6. **record_result**: notes the verified segment as the day's
7. **prepare_campaign**, **approve_campaign**, **launch_campaign** and, with Customer Profiles, **follow_campaign**:
   mail the segment, where `campaign` says so; a launch waits for an approver's yes to exactly that segment and mail, in
   Required Actions. Only the newest day's own run ever does, and never a backfill (Pinpoint has none of these)
8. **report**: what happened to every player, counted; it runs whatever happened before. **end** does nothing, and
   fails the run with any task before it

A run's one date is its *as-of*: the end of its data interval. Leave the logical date as the form has it (now), or
empty, for the newest complete day. Every task can be cleared: names come from the run, so each step does the same
again. The graph cannot say what it was: a day in the past is read from its snapshot.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pendulum
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, CronDataIntervalTimetable, Param, chain

from cohort_flywheel.campaign.operators import CampaignApprovalOperator
from cohort_flywheel.config.cohorts import CAMPAIGN_MODES
from cohort_flywheel.config.include import include_folder
from cohort_flywheel.config.registry import Registry, read_registry
from cohort_flywheel.destinations import destination, has_campaigns
from cohort_flywheel.runs.lock_store import acquire_run_lock, acquire_run_lock_for_import
from cohort_flywheel.runs.notifications import on_failure
from cohort_flywheel.runs.plan_operator import CohortPlanOperator
from cohort_flywheel.runs.report_operator import CohortReportOperator, ReportSources
from cohort_flywheel.runs.result_operator import CohortResultOperator
from cohort_flywheel.segment.enrich_operator import DynamoDBEnrichOperator, enrich_arguments
from cohort_flywheel.segment.extract_operator import CohortExtractOperator
from cohort_flywheel.segment.limits_operator import CohortLimitsOperator
from cohort_flywheel.segment.source import SOURCES

REGISTRY_PATH = include_folder(__file__) / "cohorts.yaml"


def cohort_to_segment(dag_id: str, registry: Registry, default: str, choice: list[str]) -> DAG:
    where = destination(registry.destination)
    with DAG(
        dag_id,
        doc_md=__doc__,
        description=f"The players of {default}, every day, as a segment",
        schedule=CronDataIntervalTimetable(registry.schedule, timezone="UTC"),
        start_date=pendulum.datetime(2024, 1, 1, tz="UTC"),
        catchup=False,
        # one that waits for an approval is active, and shall keep no other from running
        max_active_runs=16 if has_campaigns(registry.destination) else 2,
        is_paused_upon_creation=True,
        tags=["cohort-flywheel", registry.destination],
        params=params(registry, default, choice),
        default_args={
            "retries": 2,
            "retry_delay": timedelta(minutes=1),
            "retry_exponential_backoff": True,
            "execution_timeout": timedelta(hours=6),
            "on_failure_callback": on_failure(registry.notify),
        },
    ) as dag:
        plan: Any = CohortPlanOperator(
            task_id="plan", registry=REGISTRY_PATH, schedule=registry.schedule, destination=registry.destination
        ).output
        extract: Any = CohortExtractOperator(
            task_id="extract", plan=plan, pre_execute=acquire_run_lock, pool=registry.graph_pool or "default_pool"
        ).output
        parts: Any = (
            DynamoDBEnrichOperator.partial(
                task_id="enrich",
                pre_execute=acquire_run_lock,
                map_index_template="{{ shard_label }}",
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
            check_nobody_stays=where.check_nobody_stays,
            pre_execute=acquire_run_lock_for_import,
        ).output
        first, last = where.import_segment(plan, checked, before=acquire_run_lock_for_import)
        result = CohortResultOperator(
            task_id="record_result",
            plan=plan,
            checked=checked,
            imported=last.output,
            pre_execute=acquire_run_lock_for_import,
        )
        sources = ReportSources(plan="plan", extract="extract", checked="check_limits", imported="record_result")
        report = CohortReportOperator(task_id="report", sources=sources, notify=registry.notify)
        report.as_teardown(on_failure_fail_dagrun=True)
        chain(plan, extract, parts, checked, first)
        last.set_downstream(result)
        ended: Any = result
        if has_campaigns(registry.destination):
            approve = partial(
                CampaignApprovalOperator,
                task_id="approve_campaign",
                plan=plan,
                checked=checked,
                verified=result.output,
                sources=sources,
                hours=registry.approval.hours,
                notify=registry.notify,
            )
            prepare, ended = where.mail_segment(
                plan,
                checked,
                result.output,
                templates=REGISTRY_PATH.parent / "email",
                approval=registry.approval,
                approve=approve,
                before=acquire_run_lock,
            )
            result.set_downstream(prepare)
        # Airflow judges a run by its leaves: with the report as the only one, a failed run would end as a success
        chain(ended, [report, EmptyOperator(task_id="end")])
    return dag


def params(registry: Registry, default: str, choice: list[str]) -> dict[str, Param]:
    cohorts = [registry.cohorts[name] for name in choice if name in registry.cohorts]
    ranges = "\n".join(
        f"| {c.name} | {c.direction} | {c.thresholds()[-1]} | {c.threshold_range.min} … {c.threshold_range.max} |"
        for c in cohorts
    )
    # over all of them; the plan holds the number against the range of the one that was chosen
    number: dict[str, Any] = {
        "minimum": min((c.threshold_range.min for c in cohorts), default=0),
        "maximum": max((c.threshold_range.max for c in cohorts), default=0),
    }
    return {
        "cohort": Param(
            default,
            type="string",
            enum=choice,
            title="Cohort",
            description_md="Which players: a cohort of include/cohorts.yaml.\n\n"
            + "\n".join(f"- **{c.name}**: {c.description}" for c in cohorts),
            values_display={c.name: f"{c.name} ({c.direction} {c.thresholds()[-1]})" for c in cohorts},
        ),
        "threshold": Param(
            None,
            type=["null", "integer"],
            **number,
            title="Threshold",
            description_md="A whole number; empty means the registry's, as of the run's day. A member's score is"
            " strictly beyond it.\n\n| cohort | score | today's | allowed |\n|---|---|---|---|\n" + ranges,
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
            description="On: everything but the import, and written to the state bucket only."
            " Off: the segment is really imported.",
        ),
        "extract_only": Param(
            False,
            type="boolean",
            title="Extract only",
            description="On: the run ends at the extract in the export bucket; nobody is looked up or imported.",
        ),
        "extract_uri": Param(
            None,
            type=["null", "string"],
            pattern="^(s3://.+/dropped/.+)?$",
            maxLength=1024,
            title="Dropped extract",
            description="s3://<export bucket>/dropped/<name>: begin with this extract, under names of its own, instead"
            " of the graph or a snapshot. Empty: as the source says.",
        ),
        "override_limits": Param(
            False,
            type="boolean",
            title="Override the limits",
            description="On: this run may be outside its cohort's limits, for the reason below. A backfill may not.",
        ),
        "override_reason": Param(
            None,
            type=["null", "string"],
            maxLength=500,
            title="Reason for the override",
            description="Why the figures are right, for the report. Needed with the override, and only then.",
        ),
    } | (
        {
            "campaign": Param(
                None,
                type=["null", "string"],
                enum=[None, *CAMPAIGN_MODES],
                title="Campaign",
                description_md="What becomes of the segment. Empty: what the registry says for the cohort.\n\n"
                + "\n".join(f"- **{name}**: {meaning}" for name, meaning in CAMPAIGN_MODES.items()),
                values_display={"null": "what the registry says"},
            )
        }
        if has_campaigns(registry.destination)
        else {}
    )


_registry = read_registry(REGISTRY_PATH)
cohort_to_segment("cohort_to_segment", _registry, _registry.default_cohort, _registry.names)
for _cohort in _registry.daily:
    if _cohort != _registry.default_cohort:
        cohort_to_segment(f"cohort_to_segment__{_cohort}", _registry, _cohort, [_cohort])
