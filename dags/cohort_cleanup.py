"""
### Delete what runs created, after its retention

1. **clean_up**: lists what runs created whose last report is more than *keep_days* before this run: segments,
   endpoints, extracts, segment files, staged files and rejects, in all versions. Logs a table. Deletes them if *dry
   run* is off

**Start with a dry run**, which is the default, and read its table. Deletion cannot be undone.

Only what this package's reports and results name is deleted. The newest verified as-of of each cohort and threshold,
snapshots, results and reports are kept. An endpoint is kept while a segment that is kept contains it, and if it has
opted out. Nothing is deleted while a run is active. An import job cannot be deleted.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from cohort_flywheel.config.dag_defaults import DEFAULT_ARGS
from cohort_flywheel.config.include import include_folder
from cohort_flywheel.config.registry import Registry, read_registry
from cohort_flywheel.governance.cleanup_operator import CohortCleanupOperator

REGISTRY_PATH = include_folder(__file__) / "cohorts.yaml"


def cohort_cleanup(registry: Registry) -> DAG:
    with DAG(
        "cohort_cleanup",
        doc_md=__doc__,
        description="Deletes segments, endpoints and files past their retention",
        schedule=None,
        max_active_runs=1,
        is_paused_upon_creation=True,
        tags=["cohort-flywheel", "cleanup"],
        params=params(registry),
        default_args=DEFAULT_ARGS | {"memory_mb": registry.tuning.memory_mb},
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
            description="Only what runs of this cohort created. Empty: all cohorts.",
        ),
        "keep_days": Param(
            90,
            type="integer",
            minimum=1,
            title="Days to keep",
            description="Delete what was last reported more than this number of days before this run.",
        ),
        "dry_run": Param(
            True,
            type="boolean",
            title="Dry run",
            description="On: only list what would be deleted. Off: delete it, which cannot be undone.",
        ),
    }


cohort_cleanup(read_registry(REGISTRY_PATH))
