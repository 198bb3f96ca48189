"""
### The players of one cohort beyond one threshold become a segment

Every day, and whenever you trigger it:

1. **plan**: freezes the cohort, the threshold, the as-of and all names; refuses what must not run
2. **query_graph**: asks the Cohort Modeler's graph, and puts the extract in the export bucket
3. **enrich**: looks the players up in DynamoDB, and puts the segment file in the import bucket
4. **anything_to_import**: an empty cohort and a dry run end here, as a success
5. **create_import_job**, **wait_for_import_job**, **verify_segment**: the destination's own tasks
6. **report**: what happened to every player, counted; it runs whatever happened before. **end** does nothing, and
   fails the run with any task before it

A run's one date is its *as-of*: the end of its data interval. Leave the logical date as the form has it (now), or
empty, for the newest complete day. Every task can be cleared: names come from the run, so each step does the same
again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pendulum
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, CronDataIntervalTimetable, Param, chain, task

from cohort_flywheel.destinations import destination
from cohort_flywheel.include import include_folder
from cohort_flywheel.operators.dynamodb import DynamoDBEnrichOperator
from cohort_flywheel.operators.gremlin import GremlinToS3Operator
from cohort_flywheel.operators.plan import CohortPlanOperator
from cohort_flywheel.operators.report import CohortReportOperator
from cohort_flywheel.registry import Registry, read_registry

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
        max_active_runs=2,
        is_paused_upon_creation=True,
        tags=["cohort-flywheel", registry.destination],
        params=params(registry, default, choice),
        default_args={
            "retries": 2,
            "retry_delay": timedelta(minutes=1),
            "retry_exponential_backoff": True,
            "execution_timeout": timedelta(hours=6),
        },
    ) as dag:
        plan: Any = CohortPlanOperator(
            task_id="plan", registry=REGISTRY_PATH, schedule=registry.schedule, destination=registry.destination
        ).output
        extract: Any = GremlinToS3Operator(
            task_id="query_graph",
            property=plan["property"],
            direction=plan["direction"],
            threshold=plan["threshold"],
            s3_bucket=plan["extract_bucket"],
            s3_key=plan["extract_key"],
        ).output
        segment: Any = DynamoDBEnrichOperator(
            task_id="enrich",
            extract_bucket=extract["s3_bucket"],
            extract_key=extract["s3_key"],
            property=plan["property"],
            table_name=plan["contacts_table"],
            attributes=plan["attributes"],
            score_column=plan["score_column"],
            consent=plan["consent"],
            do_not_contact_key=plan["do_not_contact_key"],
            segment_bucket=plan["segment_bucket"],
            segment_folder=plan["segment_folder"],
            name=plan["name"],
            rejects_bucket=plan["state_bucket"],
            rejects_key=plan["rejects_key"],
            layout=where.LAYOUT,
        ).output

        @task.short_circuit(ignore_downstream_trigger_rules=False)
        def anything_to_import(plan: dict[str, Any], rows: int) -> bool:
            if not rows and not plan["dry_run"]:
                where.check_nobody_stays(plan)
            return rows > 0 and not plan["dry_run"]

        gate = anything_to_import(plan, segment["rows"])
        first, last = where.import_segment(plan, segment)
        report = CohortReportOperator(
            task_id="report", plan="plan", extract="query_graph", segment="enrich", imported=last.task_id
        ).as_teardown(on_failure_fail_dagrun=True)
        chain(plan, extract, segment, gate, first)
        # Airflow judges a run by its leaves: with the report as the only one, a failed run would end as a success
        chain(last, [report, EmptyOperator(task_id="end")])
    return dag


def params(registry: Registry, default: str, choice: list[str]) -> dict[str, Param]:
    cohorts = [registry.cohorts[name] for name in choice if name in registry.cohorts]
    ranges = "\n".join(
        f"| {c.name} | {c.direction} | {c.threshold} | {c.threshold_range.min} … {c.threshold_range.max} |"
        for c in cohorts
    )
    # over all of them; the plan holds the number against the range of the one that was chosen
    limits: dict[str, Any] = {
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
            values_display={c.name: f"{c.name} ({c.direction} {c.threshold})" for c in cohorts},
        ),
        "threshold": Param(
            None,
            type=["null", "integer"],
            **limits,
            title="Threshold",
            description_md="A whole number; empty means the registry's. A member's score is strictly beyond it.\n\n"
            "| cohort | score | default | allowed |\n|---|---|---|---|\n" + ranges,
        ),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="On: everything but the import, and written to the state bucket only."
            " Off: the segment is really imported.",
        ),
    }


_registry = read_registry(REGISTRY_PATH)
cohort_to_segment("cohort_to_segment", _registry, _registry.default_cohort, _registry.names)
for _cohort in _registry.daily:
    if _cohort != _registry.default_cohort:
        cohort_to_segment(f"cohort_to_segment__{_cohort}", _registry, _cohort, [_cohort])
