"""
### Erase players

1. **erase**: removes the players listed in `erasure/players.txt` of the state bucket (one playerId per line) from every
   version of every file in the three buckets, and from the destination; writes one tombstone for each, so that later
   runs exclude them; deletes the list

**Start with a dry run**, which is the default: it logs each place where a player was found, and changes nothing.

The players are in a file and not in a param, because params are stored and shown. Nothing is removed while a run is
active or an import job of the destination has not ended. With `engagement.write_graph: true` the players lose what this
package has written to their vertices. `docs/how-to/cleanup.md` lists what you remove yourself: the vertices, and the
entries of the contacts table and the do-not-contact list.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from cohort_flywheel.config.dag_defaults import DEFAULT_ARGS
from cohort_flywheel.config.include import include_folder
from cohort_flywheel.config.registry import Registry, read_registry
from cohort_flywheel.engagement.graph_values import GraphPlan
from cohort_flywheel.governance.erasure_operator import CohortErasureOperator

REGISTRY_PATH = include_folder(__file__) / "cohorts.yaml"


def cohort_erasure(registry: Registry) -> DAG:
    with DAG(
        "cohort_erasure",
        doc_md=__doc__,
        description="Erases players from all files and from the destination",
        schedule=None,
        max_active_runs=1,
        is_paused_upon_creation=True,
        tags=["cohort-flywheel", "cleanup"],
        params={
            "dry_run": Param(
                True,
                type="boolean",
                title="Dry run",
                description="On: only list where the players are. Off: erase them, which cannot be undone.",
            ),
        },
        default_args=DEFAULT_ARGS | {"memory_mb": registry.tuning.memory_mb},
    ) as dag:
        CohortErasureOperator(
            task_id="erase",
            destination=registry.destination,
            data_schema=registry.data_schema,
            reads_engagement=registry.engagement.read_events,
            graph=GraphPlan.of(registry),
        )
    return dag


cohort_erasure(read_registry(REGISTRY_PATH))
