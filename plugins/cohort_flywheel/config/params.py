"""The params of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from cohort_flywheel.errors import Code, FlywheelError

if TYPE_CHECKING:
    from airflow.sdk import Context


class RunParams(BaseModel):
    """The params of `cohort_to_segment`; Airflow has checked them against their JSON schema.

    `threshold` is what a user typed: `Cohort.check_threshold` says what is wrong with it.
    """

    model_config = ConfigDict(frozen=True)

    cohort: str
    threshold: object = None
    source: Literal["auto", "live", "snapshot"] = "auto"
    dry_run: bool = False
    extract_only: bool = False
    extract_uri: str | None = None
    override_limits: bool = False
    override_reason: str | None = None
    campaign: Literal["none", "draft", "test", "launch"] | None = None


def refuse_unknown_params(context: Context) -> None:
    """Raise FlywheelError for a param that the DAG does not have: Airflow accepts it, and `dry_rum` would import."""
    known = list(context["dag"].params)
    if unknown := sorted(set(context["dag_run"].conf or {}) - set(known)):
        raise FlywheelError(
            f"this DAG has no param {', '.join(unknown)}: the params are {', '.join(known)}; correct the name",
            code=Code.PARAM,
        )
