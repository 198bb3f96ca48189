"""Wait in `cohort_to_segment` for the suppressions of its as-of, and in `engagement` for the snapshots of its own.

Both look at the state bucket, not at a task of the other DAG, whose runs may be cleared, triggered by hand or deleted.
Both end after a while, also without what they wait for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from cohort_flywheel.common.failures import describe_failure
from cohort_flywheel.common.records import Json
from cohort_flywheel.engagement.engagement_outputs import AwaitedSnapshots, EngagementPlan
from cohort_flywheel.engagement.suppressions import AwaitedSuppressions
from cohort_flywheel.engagement.suppressions_store import read_state
from cohort_flywheel.hooks.s3 import S3Hook
from cohort_flywheel.runs.lock_store import enum_value
from cohort_flywheel.runs.plan import Plan
from cohort_flywheel.runs.schedule import Clock, Schedule, utc_now
from cohort_flywheel.runs.state_store import State

if TYPE_CHECKING:
    from airflow.sdk import Context


class AsOfSensor(BaseSensorOperator):
    """Wait until the state bucket has something of an as-of, for a limited time; succeed also without it.

    A run of a past as-of does not wait. A scheduled run waits until `LONGEST` after its start, any other one until
    `LONGEST` after its as-of, so that a run that a user triggers in the afternoon does not wait. By default the worker
    is free between two looks (mode `reschedule`).

    :param plan: the output of the plan's operator. (templated)
    :param schedule: the DAG's cron.
    :param timezone: the schedule's time zone.
    :param aws_conn_id: the Airflow connection used for AWS credentials.
    :param clock: gives the time, with its zone.
    """

    template_fields = ("plan",)
    ui_color = "#d5c7f2"

    #: The longest wait.
    LONGEST: ClassVar[timedelta]

    def __init__(
        self,
        *,
        plan: Json,
        schedule: str,
        timezone: str = "UTC",
        aws_conn_id: str | None = "aws_default",
        clock: Clock = utc_now,
        mode: str = "reschedule",
        **kwargs: Any,
    ) -> None:
        # never reached: a deployment's [sensors] default_timeout may be shorter than the wait, and fails the run
        kwargs.setdefault("timeout", 2 * self.LONGEST)
        super().__init__(mode=mode, **kwargs)
        self.plan = plan
        self.schedule = schedule
        self.timezone = timezone
        self.aws_conn_id = aws_conn_id
        self.clock = clock

    def is_over(self, as_of: datetime, context: Context) -> bool:
        """Return whether the wait of an as-of ends, also without what it waits for."""
        run, now = context["dag_run"], self.clock()
        if as_of < Schedule(self.schedule, self.timezone).last(now):
            return True
        begin = as_of
        if enum_value(run.run_type) == "scheduled" and run.start_date:
            begin = max(begin, run.start_date)  # the scheduler was late, for both DAGs
        return now >= begin + self.LONGEST

    def poke(self, context: Context) -> PokeReturnValue:
        with describe_failure("Clearing this task is safe: it only reads."):
            return self.look(S3Hook(aws_conn_id=self.aws_conn_id), context)

    @abstractmethod
    def look(self, s3: S3Hook, context: Context) -> PokeReturnValue:
        """Return whether the wait has ended, and the output."""


class SuppressionsSensor(AsOfSensor):
    """Wait until the suppression list has the events of the as-of, for an hour at most.

    Returns an AwaitedSuppressions: the newest as-of that the list has, and whether that is this run's or a later one.
    Without them the run goes on, with the list as it is.
    """

    LONGEST = timedelta(hours=1)

    def look(self, s3: S3Hook, context: Context) -> PokeReturnValue:
        plan = Plan.model_validate(self.plan)
        found = read_state(s3, plan.state_bucket).as_of
        output = AwaitedSuppressions(as_of=found, in_time=found is not None and found >= plan.as_of)
        # an extract has no rows that could be suppressed
        if not output.in_time and not plan.extract_only and not self.is_over(plan.as_of, context):
            return PokeReturnValue(is_done=False)
        if not output.in_time:
            self.log.warning(
                "the suppression list does not have the events of this as-of: it has those up to %s; look at the DAG"
                " engagement",
                found.isoformat() if found else "none",
            )
        return PokeReturnValue(is_done=True, xcom_value=output.model_dump(mode="json"))


class FinalSnapshotsSensor(AsOfSensor):
    """Wait until the snapshots of the as-of are final, for three hours at most.

    So what is written to the graph afterwards is in the snapshots of the next as-of, and not in those of this one.
    Returns an AwaitedSnapshots.

    :param cohorts: the cohorts with a daily run.
    """

    LONGEST = timedelta(hours=3)

    def __init__(self, *, cohorts: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cohorts = list(cohorts)

    def look(self, s3: S3Hook, context: Context) -> PokeReturnValue:
        plan = EngagementPlan.model_validate(self.plan)
        state = State(s3, plan.state_bucket)
        missing = [cohort for cohort in self.cohorts if not state.has_final_snapshot(cohort, plan.as_of)]
        if missing and not self.is_over(plan.as_of, context):
            return PokeReturnValue(is_done=False)
        if missing:
            self.log.warning(
                "no final snapshot of this as-of: %s; what is written to the graph now may be in it", ", ".join(missing)
            )
        return PokeReturnValue(is_done=True, xcom_value=AwaitedSnapshots(not_final=missing).model_dump(mode="json"))
