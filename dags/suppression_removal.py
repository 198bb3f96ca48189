"""
### Remove addresses and players from the suppression list

1. **remove**: removes the addresses and playerIds of `engagement/remove.txt` in the state bucket (one per line) from
   the suppression list, and the addresses from SES's account-level list; deletes the file

**Start with a dry run**, which is the default: it counts which of them are suppressed, and changes nothing.

They are in a file and not in a param, because params are stored and shown. A complaint or an unsubscribe suppresses
the address and the player: write both. Only with `engagement.read_events: true` in the registry.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from cohort_flywheel.config.dag_defaults import DEFAULT_ARGS
from cohort_flywheel.config.include import include_folder
from cohort_flywheel.config.registry import Registry, read_registry
from cohort_flywheel.engagement.suppressions_operator import RemoveSuppressionsOperator

REGISTRY_PATH = include_folder(__file__) / "cohorts.yaml"


def suppression_removal(registry: Registry) -> DAG:
    with DAG(
        "suppression_removal",
        doc_md=__doc__,
        description="Removes addresses and players from the suppression list",
        schedule=None,
        max_active_runs=1,
        is_paused_upon_creation=True,
        tags=["cohort-flywheel", "engagement"],
        params={
            "reason": Param(
                None,
                type=["null", "string"],
                maxLength=500,
                title="Reason",
                description="Why they may be mailed again; the list keeps it. Required unless it is a dry run. Do not"
                " name a player.",
            ),
            "dry_run": Param(
                True,
                type="boolean",
                title="Dry run",
                description="On: only count which of them are suppressed. Off: remove them.",
            ),
        },
        default_args=DEFAULT_ARGS | {"memory_mb": registry.tuning.memory_mb},
    ) as dag:
        RemoveSuppressionsOperator(task_id="remove", destination=registry.destination)
    return dag


_registry = read_registry(REGISTRY_PATH)
if _registry.engagement.read_events:
    suppression_removal(_registry)
