"""
### Count the figures of the pages Cohorts and Campaigns

1. **count_figures**: counts, for each cohort with a new result, the members by day with who joined and left, by
   threshold, and in common with other cohorts; and reads the reports of launches

Airflow starts it after each verified segment and each launch. Trigger it by hand to count all cohorts again, for
example after you cleaned Airflow's database. It reads results, snapshots and reports of the state bucket: no graph, no
import. It writes counts only.
"""

from __future__ import annotations

from airflow.sdk import DAG

from cohort_flywheel.config.dag_defaults import DEFAULT_ARGS
from cohort_flywheel.config.include import include_folder
from cohort_flywheel.runs.result_operator import RESULTS
from cohort_flywheel.ui.figures_operator import CohortFiguresOperator

with DAG(
    "cohort_figures",
    doc_md=__doc__,
    description="Counts what the pages Cohorts and Campaigns show",
    schedule=[RESULTS],
    # One run at a time writes the figures; events that arrive meanwhile are one later run.
    max_active_runs=1,
    # it reads only, and without it the pages are empty
    is_paused_upon_creation=False,
    tags=["cohort-flywheel", "figures"],
    default_args=DEFAULT_ARGS,
):
    CohortFiguresOperator(task_id="count_figures", registry=include_folder(__file__) / "cohorts.yaml")
