"""
### What a threshold would have given, day by day

Before you change a threshold, look at what it would have done:

1. **count_days**: counts, on each day that has a snapshot, the players beyond the threshold, and who joined and left
   since the counted day before; puts a CSV and a picture under `what_if/` of the state bucket, and a table in its log

It reads the snapshots that the daily runs keep, and nothing else: it asks no graph, imports nothing and touches no
daily run. A day without a snapshot, or with one that does not hold what is asked for, has a row that says so; `pending`
marks a day whose figures no run has let pass yet. The players counted are members: the do-not-contact list, consent
and addresses are asked only by a real run.

The names of both files come from cohort, threshold and dates, so the same question puts its answer at the same place.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from cohort_flywheel.config.include import include_folder
from cohort_flywheel.config.registry import Registry, read_registry
from cohort_flywheel.what_if.counts import DEFAULT_DAYS
from cohort_flywheel.what_if.operators import CohortWhatIfOperator

REGISTRY_PATH = include_folder(__file__) / "cohorts.yaml"


def cohort_what_if(registry: Registry) -> DAG:
    with DAG(
        "cohort_what_if",
        doc_md=__doc__,
        description="How many players a threshold would have given, day by day",
        schedule=None,
        # a run of a paused DAG would wait for ever, and there is no schedule to hold back
        is_paused_upon_creation=False,
        tags=["cohort-flywheel", "what-if"],
        params=params(registry),
        default_args={
            "retries": 2,
            "retry_delay": timedelta(minutes=1),
            "retry_exponential_backoff": True,
            "execution_timeout": timedelta(hours=6),
        },
    ) as dag:
        CohortWhatIfOperator(task_id="count_days", registry=REGISTRY_PATH, schedule=registry.schedule)
    return dag


def params(registry: Registry) -> dict[str, Param]:
    cohorts = registry.cohorts.values()
    return {
        "cohort": Param(
            registry.default_cohort,
            type="string",
            enum=registry.names,
            title="Cohort",
            description_md="Which players: a cohort of include/cohorts.yaml.\n\n"
            + "\n".join(f"- **{c.name}**: {c.description}" for c in cohorts),
            values_display={c.name: f"{c.name} ({c.direction} {c.thresholds()[-1]})" for c in cohorts},
        ),
        "threshold": Param(
            None,
            type=["null", "integer"],
            title="Threshold",
            description_md="A whole number, for all days; empty means the registry's, of each day. A snapshot holds"
            " no milder one than its floor.\n\n| cohort | score | today's | floor | allowed |\n|---|---|---|---|---|\n"
            + "\n".join(
                f"| {c.name} | {c.direction} | {c.thresholds()[-1]} | {c.snapshot_floor()} |"
                f" {c.threshold_range.min} … {c.threshold_range.max} |"
                for c in cohorts
            ),
        ),
        "from": Param(
            None,
            type=["null", "string"],
            format="date",
            title="From",
            description=f"The first as-of's date (UTC); empty means {DEFAULT_DAYS} days before the last.",
        ),
        "to": Param(
            None,
            type=["null", "string"],
            format="date",
            title="To",
            description="The last as-of's date (UTC); empty means the newest.",
        ),
    }


cohort_what_if(read_registry(REGISTRY_PATH))
