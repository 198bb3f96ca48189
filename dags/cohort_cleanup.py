"""
### What runs left behind goes, once it is past its keep-by

1. **clean_up**: lists what runs left behind that were last reported more than *keep_days* before this run: segments,
   endpoints, and extracts, segment files, staged ones and rejects with all their versions; a table in its log. With
   *dry run* off it removes them

**Start with a dry run**, which is the default, and read its table. Nothing brings back what was removed.

Only what our own reports and results name goes. The newest verified as-of of each cohort and threshold stays, and so do
snapshots, results and reports. An endpoint stays while a segment that stays has its player, and where it has opted out.
While a run is at work nothing is removed. An import job cannot be deleted: it stays in the destination's list.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param

from cohort_flywheel.config.include import include_folder
from cohort_flywheel.config.registry import Registry, read_registry
from cohort_flywheel.governance.cleanup_operator import CohortCleanupOperator

REGISTRY_PATH = include_folder(__file__) / "cohorts.yaml"


def cohort_cleanup(registry: Registry) -> DAG:
    with DAG(
        "cohort_cleanup",
        doc_md=__doc__,
        description="Removes segments, endpoints and files past their keep-by",
        schedule=None,
        max_active_runs=1,
        is_paused_upon_creation=True,
        tags=["cohort-flywheel", "cleanup"],
        params=params(registry),
        default_args={
            "retries": 2,
            "retry_delay": timedelta(minutes=1),
            "retry_exponential_backoff": True,
            "execution_timeout": timedelta(hours=6),
        },
    ) as dag:
        CohortCleanupOperator(task_id="clean_up", destination=registry.destination)
    return dag


def params(registry: Registry) -> dict[str, Param]:
    return {
        "cohort": Param(
            None,
            type=["null", "string"],
            enum=[None, *registry.names],
            title="Cohort",
            description="What the runs of one cohort left behind; empty means of all.",
        ),
        "keep_days": Param(
            90,
            type="integer",
            minimum=1,
            title="Days to keep",
            description="What was last reported more days than these before this run is past its keep-by.",
        ),
        "dry_run": Param(
            True,
            type="boolean",
            title="Dry run",
            description="On: only list what would go. Off: remove it, which nothing brings back.",
        ),
    }


cohort_cleanup(read_registry(REGISTRY_PATH))
