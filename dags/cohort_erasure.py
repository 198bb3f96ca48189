"""
### A player who asked to be forgotten

1. **erase**: takes the players of `erasure/players.txt` in the state bucket (a playerId a line) out of every version of
   every file in the three buckets, and out of the destination; leaves a tombstone each, by which every later run
   leaves them out; removes the list

**Start with a dry run**, which is the default: its log lists each place where one of them is, and nothing is changed.

The players are in a file and no param, because a run's params are kept and shown. While a run is at work, or an import
job of the destination has not ended, nothing is removed. `docs/how-to/cleanup.md` says what you remove yourself: from
the graph, the contacts table, the do-not-contact list.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from cohort_flywheel.config.include import include_folder
from cohort_flywheel.config.registry import Registry, read_registry
from cohort_flywheel.governance.erasure_operator import CohortErasureOperator

REGISTRY_PATH = include_folder(__file__) / "cohorts.yaml"


def cohort_erasure(registry: Registry) -> DAG:
    with DAG(
        "cohort_erasure",
        doc_md=__doc__,
        description="Erases players from every place where they rest",
        schedule=None,
        max_active_runs=1,
        is_paused_upon_creation=True,
        tags=["cohort-flywheel", "cleanup"],
        params={
            "dry_run": Param(
                True,
                type="boolean",
                title="Dry run",
                description="On: only list where the players are. Off: erase them, which nothing brings back.",
            ),
        },
        default_args={
            "retries": 2,
            "retry_delay": timedelta(minutes=1),
            "retry_exponential_backoff": True,
            "execution_timeout": timedelta(hours=6),
        },
    ) as dag:
        CohortErasureOperator(task_id="erase", destination=registry.destination)
    return dag


cohort_erasure(read_registry(REGISTRY_PATH))
