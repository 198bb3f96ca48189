"""
### Compare thresholds over past days

1. **count_days**: for each day with a snapshot, counts the players beyond the threshold, and who joined and left since
   the day counted before; writes a CSV and a chart to `what_if/` of the state bucket, and a table to its log

It only reads the snapshots of the daily runs: no graph, no import. A day without a usable snapshot has a row with the
reason; `pending` marks a day that no run has accepted yet. The counts are of members: the do-not-contact list, consent
and addresses are applied by a real run only.

The file names are derived from cohort, threshold and dates, so the same request replaces its own files.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from cohort_flywheel.config.dag_defaults import DEFAULT_ARGS
from cohort_flywheel.config.decimals import number_text
from cohort_flywheel.config.include import include_folder
from cohort_flywheel.config.registry import Registry, read_registry
from cohort_flywheel.what_if.counts import DEFAULT_DAYS
from cohort_flywheel.what_if.operators import CohortWhatIfOperator

REGISTRY_PATH = include_folder(__file__) / "cohorts.yaml"


def cohort_what_if(registry: Registry) -> DAG:
    with DAG(
        "cohort_what_if",
        doc_md=__doc__,
        description="Counts the members that a threshold would have given on past days",
        schedule=None,
        # a manual run of a paused DAG stays queued, and this DAG has no schedule
        is_paused_upon_creation=False,
        tags=["cohort-flywheel", "what-if"],
        params=params(registry),
        default_args=DEFAULT_ARGS,
    ) as dag:
        CohortWhatIfOperator(
            task_id="count_days", registry=REGISTRY_PATH, schedule=registry.schedule, timezone=registry.timezone
        )
    return dag


def params(registry: Registry) -> dict[str, Param]:
    cohorts = registry.cohorts.values()
    return {
        "cohort": Param(
            registry.default_cohort,
            type="string",
            enum=registry.names,
            title="Cohort",
            description_md="The cohort of include/cohorts.yaml.\n\n"
            + "\n".join(f"- **{c.name}**: {c.description}" for c in cohorts),
            values_display={c.name: f"{c.name} ({c.direction} {number_text(c.thresholds()[-1])})" for c in cohorts},
        ),
        "threshold": Param(
            None,
            type=["null", "number"],
            title="Threshold",
            description_md="At most six decimals, for all days. Empty: the threshold of the registry on each day. It"
            " must not be looser than the floor of the snapshot.\n\n"
            "| cohort | score | today's | floor | allowed |\n|---|---|---|---|---|\n"
            + "\n".join(
                f"| {c.name} | {c.direction} | {number_text(c.thresholds()[-1])} | {number_text(c.snapshot_floor())} |"
                f" {number_text(c.threshold_range.min)} … {number_text(c.threshold_range.max)} |"
                for c in cohorts
            ),
        ),
        "from": Param(
            None,
            type=["null", "string"],
            format="date",
            title="From",
            description=f"The date of the first as-of ({registry.timezone}). Empty: {DEFAULT_DAYS} days earlier.",
        ),
        "to": Param(
            None,
            type=["null", "string"],
            format="date",
            title="To",
            description=f"The date of the last as-of ({registry.timezone}). Empty: the newest.",
        ),
    }


cohort_what_if(read_registry(REGISTRY_PATH))
