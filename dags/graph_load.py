"""
### Load CSV files into the graph with Neptune's bulk loader

1. **plan_load**: finds the files of the load in S3; fails if one is missing, or if its name begins the name of another
   file, which Neptune would load with it
2. **validate_files**: reads each file as Neptune would. Its log lists each finding with file, line and column, never a
   value. Fails if there are errors. A dry run ends here
3. **copy_files**: copies the vertex files, with the properties marked that have one value (`single` of the load)
4. **count_before**: counts vertices and edges by label
5. **load_files**: loads the files, one job after the other; adopts a job that an earlier attempt has started
6. **check_load**: compares the records and the counts by label; removes the copies

**Start with a dry run**, which is the default, and read the log of **validate_files**. A load cannot be undone, and it
removes nothing: a player who is not in the files stays in the graph. Which files may be loaded is in `graph_loads` of
`include/cohorts.yaml`.

You can clear each task: a file is loaded once in a run. When the run is ended by a user, the job is cancelled; what it
had loaded stays.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, chain

from cohort_flywheel.config.dag_defaults import DEFAULT_ARGS
from cohort_flywheel.config.include import include_folder
from cohort_flywheel.config.registry import Registry, read_registry
from cohort_flywheel.graph_load.check_load_operator import GraphLoadCheckOperator
from cohort_flywheel.graph_load.copy_files_operator import GraphFilesCopyOperator
from cohort_flywheel.graph_load.count_labels_operator import GraphCountLabelsOperator
from cohort_flywheel.graph_load.load_plan_operator import GraphLoadPlanOperator
from cohort_flywheel.graph_load.operators import NeptuneBulkLoadOperator
from cohort_flywheel.graph_load.validate_files_operator import GraphFilesValidateOperator

#: The connection of this DAG alone, whose role may load.
AWS_CONN_ID = "aws_graph_load"
REGISTRY_PATH = include_folder(__file__) / "cohorts.yaml"


def graph_load(registry: Registry) -> DAG:
    pool = registry.graph_pool or "default_pool"
    with DAG(
        "graph_load",
        doc_md=__doc__,
        description="Loads CSV files into the graph with Neptune's bulk loader",
        schedule=None,
        max_active_runs=1,
        is_paused_upon_creation=True,
        tags=["cohort-flywheel", "graph-load"],
        params=params(registry),
        default_args=DEFAULT_ARGS | {"aws_conn_id": AWS_CONN_ID, "memory_mb": registry.tuning.memory_mb},
    ) as dag:
        plan: Any = GraphLoadPlanOperator(task_id="plan_load", registry=REGISTRY_PATH).output
        validated: Any = GraphFilesValidateOperator(task_id="validate_files", plan=plan, pool=pool).output
        prepared: Any = GraphFilesCopyOperator(task_id="copy_files", plan=plan, files=validated["files"]).output
        before: Any = GraphCountLabelsOperator(task_id="count_before", pool=pool).output
        loaded: Any = NeptuneBulkLoadOperator(
            task_id="load_files",
            sources=prepared["sources"],
            iam_role_arn=plan["iam_role_arn"],
            s3_bucket_region=plan["region"],
            mode=plan["mode"],
            update_single_cardinality_properties=plan["single"],
            parallelism=plan["parallelism"],
            deferrable=True,
        ).output
        check_load = GraphLoadCheckOperator(
            task_id="check_load", plan=plan, files=prepared["files"], before=before, loaded=loaded, pool=pool
        )
        chain(plan, validated, prepared, before, loaded, check_load)
    return dag


def params(registry: Registry) -> dict[str, Param]:
    loads = registry.graph_loads.values()
    return {
        "load": Param(
            registry.load_names[0],
            type="string",
            enum=registry.load_names,
            title="Load",
            description_md="The load of include/cohorts.yaml.\n\n"
            + "\n".join(f"- **{each.name}**: {each.description}" for each in loads),
        ),
        "dry_run": Param(
            True,
            type="boolean",
            title="Dry run",
            description="On: only validate the files. Off: load them, which cannot be undone.",
        ),
    }


if (found := read_registry(REGISTRY_PATH)).load_names:
    graph_load(found)
