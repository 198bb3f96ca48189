"""A run's params."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cohort_flywheel.errors import Code, FlywheelError

if TYPE_CHECKING:
    from airflow.sdk import Context


def refuse_unknown_params(context: Context) -> None:
    """Raise FlywheelError for a param that the DAG does not have: Airflow accepts it, and `dry_rum` would import."""
    known = list(context["dag"].params)
    if unknown := sorted(set(context["dag_run"].conf or {}) - set(known)):
        raise FlywheelError(
            f"this DAG has no param {', '.join(unknown)}: the params are {', '.join(known)}; correct the name",
            code=Code.PARAM,
        )
